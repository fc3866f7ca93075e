"""OpenAI's Responses API: /v1/responses, kept for a while, continued, retrieved, cancelled."""
