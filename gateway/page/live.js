// The live view: what the cluster does now, asked each second.
import { html, useEffect, useRef, useState } from "./vendor/preact-htm.mjs";
import uPlot from "./vendor/uplot.mjs";
import { live } from "./api.js";

const PERIOD_MS = 1000;
const NUM_POINTS = 180;
const SERIES = [
  ["Tokens/s", (now) => now.tokens_per_s],
  ["Requests/s", (now) => now.requests_per_s],
  ["First token p50, ms", (now) => now.ttft_ms?.p50 ?? null],
  ["Between tokens p50, ms", (now) => now.itl_ms?.p50 ?? null],
  ["Running", (now) => now.running],
  ["Prompt tokens from cache, %", (now) => (now.hit_share == null ? null : 100 * now.hit_share)],
  ["Waiting", (now) => Object.values(now.waiting).reduce((sum, count) => sum + count, 0)],
];

function Chart({ title, xs, ys }) {
  const box = useRef(null);
  const plot = useRef(null);
  const latest = ys.at(-1);
  useEffect(() => {
    // Asked for at each drawing: the theme may change while the chart stands.
    const color = (name) => getComputedStyle(box.current).getPropertyValue(name).trim();
    const axis = { stroke: () => color("--dim"), grid: { show: false }, ticks: { show: false } };
    // Seconds before now: what a watcher asks for, and short enough for a small chart.
    const ago = (chart, splits) => splits.map((at) => `${Math.round(at - chart.scales.x.max)} s`);
    plot.current = new uPlot(
      {
        width: box.current.clientWidth, height: 110, legend: { show: false }, cursor: { show: false },
        scales: { y: { range: (_, low, high) => [0, Math.max(high, 1)] } },
        axes: [{ ...axis, size: 24, space: 70, values: ago }, { ...axis, size: 48 }],
        series: [{}, { stroke: () => color("--accent"), width: 2, fill: () => `${color("--accent")}22`, spanGaps: true, points: { show: false } }],
      },
      [xs, ys], box.current,
    );
    const follow = new ResizeObserver(() =>
      plot.current.setSize({ width: box.current.clientWidth, height: 110 }));
    follow.observe(box.current);
    return () => { follow.disconnect(); plot.current.destroy(); };
  }, []);
  useEffect(() => plot.current?.setData([xs, ys]), [xs]);
  return html`<figure><figcaption>${title}
    <output>${latest == null ? "–" : latest.toFixed(latest < 10 ? 1 : 0)}</output></figcaption>
    <div ref=${box}></div></figure>`;
}

const share = (part, whole) => (whole ? part / whole : 0);

function Workers({ workers }) {
  if (!workers.length) return html`<p>No worker has announced itself.</p>`;
  return html`<table class="workers">
    <thead><tr><th>worker</th><th>state</th><th>sequences</th><th>K/V blocks</th><th>to prefill</th></tr></thead>
    <tbody>${workers.map((one) => html`<tr key=${one.worker_id}>
      <th>${one.worker_id}</th><td class="state ${one.state}">${one.state}</td>
      <td><meter max="1" value=${share(one.running, one.max_requests)}></meter>
        ${one.running} of ${one.max_requests}${one.waiting ? `, ${one.waiting} wait` : ""}</td>
      <td><meter max="1" value=${share(one.kv_blocks_used, one.kv_blocks)}></meter>
        ${one.kv_blocks_used} of ${one.kv_blocks}</td>
      <td>${one.pending_prefill_tokens}</td></tr>`)}</tbody>
  </table>`;
}

// A sequence more or less in a worker's steps shows from one look to the next.
function Occupancy({ history, xs }) {
  const names = history.at(-1).workers.map((one) => one.worker_id);
  const running = (name) => history.map((look) => look.workers.find((one) => one.worker_id === name)?.running ?? null);
  return html`<div class="charts">${names.map((name) => html`<${Chart} key=${name}
    title="${name}: sequences in a step" xs=${xs} ys=${running(name)} />`)}</div>`;
}

const Processes = ({ processes }) => html`<ul class="processes">${processes.map((one) =>
  html`<li key=${one.name}>${one.name} <span class="state ${one.state}">${one.state}</span></li>`)}</ul>`;

const percentiles = (name, values) => html`<tr><th>${name}</th>
  ${["p50", "p90", "p99"].map((p) => html`<td>${values ? values[p].toFixed(1) : "–"}</td>`)}</tr>`;

export function Live() {
  const [history, setHistory] = useState([]);
  const [error, setError] = useState("");
  useEffect(() => {
    let timer = 0;
    let isGone = false;
    const look = async () => {
      try {
        const now = await live();
        if (isGone) return;
        setHistory((all) => [...all.slice(1 - NUM_POINTS), now]);
        setError("");
      } catch (problem) {
        if (!isGone) setError(problem.status === 403 ? "The live view needs a key with the scope admin." : problem.message);
      }
      if (!isGone) timer = setTimeout(look, PERIOD_MS);
    };
    look();
    return () => { isGone = true; clearTimeout(timer); };
  }, []);
  const now = history.at(-1);
  if (!now) return html`<main class="live"><p class=${error ? "error" : "wait"}>${error || "looking…"}</p></main>`;
  const xs = history.map((one) => one.unix_s);
  const waiting = Object.entries(now.waiting);
  return html`<main class="live">
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <p>${now.gateway}: ${now.reasons_against.length ? now.reasons_against.join(", ") : "ready"}.
      ${" "}${now.running} running, waiting: ${waiting.length ? waiting.map(([name, count]) => `${name} ${count}`).join(", ") : "none"}.
      ${" "}Figures of the last 30 s, of this gateway.</p>
    <div class="charts">${SERIES.map(([title, read]) => html`<${Chart} key=${title} title=${title} xs=${xs} ys=${history.map(read)} />`)}</div>
    <table><thead><tr><th>ms</th><th>p50</th><th>p90</th><th>p99</th></tr></thead><tbody>
      ${percentiles("first token", now.ttft_ms)} ${percentiles("between tokens", now.itl_ms)}
    </tbody></table>
    <h2>Processes</h2>
    <${Processes} processes=${now.processes} />
    <h2>Workers</h2>
    <${Workers} workers=${now.workers} />
    <${Occupancy} history=${history} xs=${xs} />
  </main>`;
}
