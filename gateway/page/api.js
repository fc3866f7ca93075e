// The gateway's HTTP API. Errors bear what a person should be told.

export const apiKey = () => sessionStorage.getItem("api_key") || "";
export const setApiKey = (key) => sessionStorage.setItem("api_key", key);

const headers = () => (apiKey() ? { authorization: `Bearer ${apiKey()}` } : {});

export class ApiError extends Error {
  constructor(status, message, retryAfterS) {
    super(message);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

async function errorOf(reply) {
  let message = `the gateway answered ${reply.status}`;
  try {
    message = (await reply.json()).error.message;
  } catch {
    // Not ours, or cut off: the status has to do.
  }
  return new ApiError(reply.status, message, Number(reply.headers.get("retry-after")) || 0);
}

async function getJson(path) {
  const reply = await fetch(path, { headers: headers() });
  if (!reply.ok) throw await errorOf(reply);
  return reply.json();
}

export const listModels = async () => (await getJson("/v1/models")).data.map((model) => model.id);
export const live = () => getJson("/api/v1/live");
export const explain = (requestId) => getJson(`/api/v1/explain/${encodeURIComponent(requestId)}`);

// Streams a chat completion; calls onText with each piece. Returns { requestId, usage }.
export async function streamChat({ model, messages, sampling, signal, onText }) {
  const reply = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json", ...headers() },
    body: JSON.stringify({
      model, messages, ...sampling, stream: true, stream_options: { include_usage: true },
    }),
    signal,
  });
  if (!reply.ok) throw await errorOf(reply);
  const answer = { requestId: reply.headers.get("x-request-id"), usage: null };
  for await (const event of events(reply.body)) {
    if (event === "[DONE]") break;
    const chunk = JSON.parse(event);
    if (chunk.error) throw new ApiError(0, chunk.error.message, 0);
    if (chunk.usage) answer.usage = chunk.usage;
    const text = chunk.choices?.[0]?.delta?.content;
    if (text) onText(text, answer.requestId);
  }
  return answer;
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      for (const line of block.split("\n")) {
        if (line.startsWith("data: ")) yield line.slice(6);
      }
    }
  }
}
