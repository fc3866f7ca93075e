// The frame: tabs, theme, API key.
import { html, render, useEffect, useState } from "./vendor/preact-htm.mjs";
import { apiKey, listModels, setApiKey } from "./api.js";
import { Chat } from "./chat.js";
import { Live } from "./live.js";

const THEMES = ["auto", "light", "dark"];

function useHashTab() {
  const read = () => (location.hash === "#live" ? "live" : "chat");
  const [tab, setTab] = useState(read());
  useEffect(() => {
    const follow = () => setTab(read());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return tab;
}

function useTheme() {
  const [theme, setTheme] = useState(localStorage.getItem("theme") || "auto");
  useEffect(() => {
    localStorage.setItem("theme", theme);
    document.documentElement.dataset.theme = theme;
  }, [theme]);
  const next = () => setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
  return [theme, next];
}

function KeyEntry({ why, onDone }) {
  const [text, setText] = useState(apiKey());
  const save = (event) => {
    event.preventDefault();
    setApiKey(text.trim());
    onDone();
  };
  return html`<form class="key" onSubmit=${save}>
    <label for="key">${why || "API key"}</label>
    <input id="key" type="password" autocomplete="off" placeholder="tm-..." value=${text}
      onInput=${(event) => setText(event.target.value)} />
    <button>Use</button>
    <small>Kept in this tab until it is closed.</small>
  </form>`;
}

function App() {
  const tab = useHashTab();
  const [theme, nextTheme] = useTheme();
  const [models, setModels] = useState([]);
  const [keyWanted, setKeyWanted] = useState("");
  const [error, setError] = useState("");
  const load = async () => {
    try {
      setModels(await listModels());
      setKeyWanted("");
      setError("");
    } catch (problem) {
      if (problem.status === 401) setKeyWanted("This gateway asks for an API key.");
      else setError(problem.message);
    }
  };
  useEffect(() => { load(); }, []);
  return html`
    <header>
      <img src="/ui/icon.svg" alt="" width="26" height="26" />
      <strong>Tokenmill</strong>
      <nav>
        <a href="#chat" aria-current=${tab === "chat" ? "page" : null}>Chat</a>
        <a href="#live" aria-current=${tab === "live" ? "page" : null}>Live</a>
      </nav>
      <span class="space"></span>
      <button class="quiet" onClick=${() => setKeyWanted(keyWanted ? "" : "API key")}>Key</button>
      <button class="quiet" onClick=${nextTheme} aria-label="Theme: ${theme}">${theme}</button>
    </header>
    ${keyWanted && html`<${KeyEntry} why=${keyWanted} onDone=${load} />`}
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${tab === "chat" ? html`<${Chat} models=${models} />` : html`<${Live} />`}
  `;
}

render(html`<${App} />`, document.body);
