// Chat: streams, stops, tries again; conversations stay in this browser.
import { html, useEffect, useRef, useState } from "./vendor/preact-htm.mjs";
import { streamChat } from "./api.js";
import { fresh, load, save, titleOf } from "./conversations.js";
import { Explanation } from "./explanation.js";
import { renderMarkdown } from "./markdown.js";

const DEFAULTS = { temperature: 0, top_p: 1, max_tokens: 512 };

function Turn({ turn, isLast, isBusy, onRetry }) {
  const body = useRef(null);
  const [explained, setExplained] = useState(false);
  useEffect(() => {
    if (turn.role === "assistant") renderMarkdown(body.current, turn.content || "");
  }, [turn.content]);
  if (turn.role === "user") return html`<article class="user"><p>${turn.content}</p></article>`;
  const figures = turn.figures;
  return html`<article class="assistant" aria-busy=${isLast && isBusy}>
    <div class="text" ref=${body}></div>
    ${isLast && isBusy && !turn.content && html`<p class="wait">waiting…</p>`}
    ${turn.error && html`<p class="error" role="alert">${turn.error}</p>`}
    <footer>
      ${turn.stopped && html`<span>stopped</span>`}
      ${figures && html`<span>${figures.ttftMs.toFixed(0)} ms to first token</span>
        <span>${figures.tokensPerS.toFixed(1)} tokens/s</span><span>${figures.tokens} tokens</span>`}
      ${isLast && !isBusy && html`<button class="quiet" onClick=${onRetry}>Retry</button>`}
      ${turn.requestId && !(isLast && isBusy) && html`<button class="quiet"
        aria-expanded=${explained} onClick=${() => setExplained(!explained)}>Why so long?</button>`}
    </footer>
    ${explained && html`<${Explanation} requestId=${turn.requestId} />`}
  </article>`;
}

function Controls({ models, model, setModel, sampling, setSampling }) {
  const field = (name, step, min, max) => html`<label>${name.replace("_", " ")}
    <input type="number" name=${name} step=${step} min=${min} max=${max} value=${sampling[name]}
      onInput=${(event) => setSampling({ ...sampling, [name]: Number(event.target.value) })} />
  </label>`;
  return html`<details class="controls"><summary>Model and sampling</summary>
    <label>model <select value=${model} onChange=${(event) => setModel(event.target.value)}>
      ${models.map((name) => html`<option value=${name}>${name}</option>`)}
    </select></label>
    ${field("temperature", 0.1, 0, 2)} ${field("top_p", 0.05, 0, 1)} ${field("max_tokens", 1, 1, 8192)}
  </details>`;
}

export function Chat({ models }) {
  const [conversations, setConversations] = useState(load);
  const [currentId, setCurrentId] = useState(() => conversations[0].id);
  const [model, setModel] = useState("");
  const [sampling, setSampling] = useState(DEFAULTS);
  const [draft, setDraft] = useState("");
  const [busy, setBusy] = useState(null);
  const end = useRef(null);
  const current = conversations.find((one) => one.id === currentId) || conversations[0];

  useEffect(() => { if (!model && models.length) setModel(models[0]); }, [models]);
  useEffect(() => save(conversations), [conversations]);
  useEffect(() => end.current?.scrollIntoView({ block: "end" }), [current.turns]);

  const change = (id, update) => setConversations((all) =>
    all.map((one) => (one.id === id ? { ...one, ...update(one) } : one)));
  const changeLast = (id, update) => change(id, (one) => ({
    turns: [...one.turns.slice(0, -1), { ...one.turns.at(-1), ...update(one.turns.at(-1)) }],
  }));

  async function answer(id, history) {
    const control = new AbortController();
    setBusy(control);
    const began = performance.now();
    let firstAt = 0;
    change(id, () => ({ turns: [...history, { role: "assistant", content: "" }] }));
    try {
      const done = await streamChat({
        model, sampling, signal: control.signal,
        messages: history.filter((turn) => turn.content).map(({ role, content }) => ({ role, content })),
        onText: (text, requestId) => {
          firstAt ||= performance.now();
          changeLast(id, (turn) => ({ content: turn.content + text, requestId }));
        },
      });
      const tokens = done.usage?.completion_tokens || 0;
      const streamedS = (performance.now() - (firstAt || began)) / 1000;
      changeLast(id, () => ({
        requestId: done.requestId,
        figures: firstAt && {
          ttftMs: firstAt - began, tokens, tokensPerS: streamedS > 0 ? (tokens - 1) / streamedS : 0,
        },
      }));
    } catch (problem) {
      if (problem.name === "AbortError") changeLast(id, () => ({ stopped: true }));
      else changeLast(id, () => ({ error: kindly(problem) }));
    } finally {
      setBusy(null);
    }
  }

  function ask(event) {
    event?.preventDefault();
    const text = draft.trim();
    if (!text || busy) return;
    setDraft("");
    const turns = [...current.turns, { role: "user", content: text }];
    change(current.id, (one) => ({ turns, title: one.turns.length ? one.title : titleOf(text) }));
    answer(current.id, turns);
  }

  const retry = () => answer(current.id, current.turns.slice(0, -1));
  const begin = () => {
    const one = fresh();
    setConversations((all) => [one, ...all.filter((other) => other.turns.length)]);
    setCurrentId(one.id);
  };
  const remove = (id) => setConversations((all) => {
    const rest = all.filter((one) => one.id !== id);
    return rest.length ? rest : [fresh()];
  });
  const onKey = (event) => { if (event.key === "Enter" && !event.shiftKey) ask(event); };

  return html`<main class="chat">
    <aside>
      <button onClick=${begin} disabled=${busy}>New chat</button>
      <ul>${conversations.map((one) => html`<li key=${one.id}>
        <button class="quiet" aria-current=${one.id === current.id ? "true" : null} disabled=${busy}
          onClick=${() => setCurrentId(one.id)}>${one.title}</button>
        <button class="quiet remove" aria-label="Delete ${one.title}" disabled=${busy}
          onClick=${() => remove(one.id)}>×</button>
      </li>`)}</ul>
    </aside>
    <section>
      <div class="turns" aria-live="polite">
        ${current.turns.map((turn, idx) => html`<${Turn} key=${`${current.id}-${idx}`} turn=${turn}
          isLast=${idx === current.turns.length - 1} isBusy=${Boolean(busy)} onRetry=${retry} />`)}
        <div ref=${end}></div>
      </div>
      <form class="ask" onSubmit=${ask}>
        <${Controls} ...${{ models, model, setModel, sampling, setSampling }} />
        <textarea aria-label="Message" rows="2" placeholder="Ask something (Enter sends, Shift+Enter breaks the line)"
          value=${draft} onInput=${(event) => setDraft(event.target.value)} onKeyDown=${onKey}></textarea>
        ${busy
          ? html`<button type="button" onClick=${() => busy.abort()}>Stop</button>`
          : html`<button disabled=${!draft.trim() || !model}>Send</button>`}
      </form>
    </section>
  </main>`;
}

function kindly(problem) {
  const wait = problem.retryAfterS ? ` Try again in ${problem.retryAfterS} s.` : "";
  if (problem.status === 429) return `You have used your share for now: ${problem.message}.${wait}`;
  if (problem.status === 503) return `The system is full: ${problem.message}.${wait}`;
  if (problem instanceof TypeError) return "The gateway cannot be reached.";
  return problem.message;
}
