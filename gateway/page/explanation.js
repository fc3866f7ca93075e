// Where the time of one request went.
import { html, useEffect, useState } from "./vendor/preact-htm.mjs";
import { explain } from "./api.js";

const ms = (value) => (value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${value.toFixed(1)} ms`);

function Budget({ title, total, parts, unattributed }) {
  const rows = Object.entries(parts);
  if (unattributed > 0) rows.push(["not attributed", unattributed]);
  return html`<table class="budget"><caption>${title}: ${ms(total)}</caption><tbody>
    ${rows.map(([part, value]) => html`<tr><th>${part.replaceAll("_", " ")}</th>
      <td><meter min="0" max=${total} value=${value}></meter></td><td>${ms(value)}</td></tr>`)}
  </tbody></table>`;
}

export function Explanation({ requestId }) {
  const [told, setTold] = useState(null);
  const [error, setError] = useState("");
  useEffect(() => { explain(requestId).then(setTold, (problem) => setError(problem.message)); }, [requestId]);
  if (error) return html`<p class="error">${error}</p>`;
  if (!told) return html`<p class="wait">reading the trace…</p>`;
  const worst = told.slow_gaps[0];
  return html`<div class="explanation">
    ${told.ttft_ms !== null && html`<${Budget} title="First token" total=${told.ttft_ms}
      parts=${told.ttft_parts_ms} unattributed=${told.ttft_unattributed_ms} />`}
    <${Budget} title="Whole answer" total=${told.latency_ms} parts=${told.parts_ms}
      unattributed=${told.unattributed_ms} />
    ${worst && html`<${Budget} title="Longest gap" total=${worst.ms} parts=${worst.parts_ms}
      unattributed=${worst.unattributed_ms} />`}
    <small>${requestId} · tokenmill explain ${requestId}</small>
  </div>`;
}
