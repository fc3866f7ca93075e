"""The workers as their heartbeats, events and answers tell."""
