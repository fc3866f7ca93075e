// Markdown to elements. A model's text is never trusted: what could load or run is left out.
import { marked } from "./vendor/marked.mjs";
import DOMPurify from "./vendor/purify.mjs";

const ALLOWED = {
  ALLOWED_TAGS: [
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p",
    "pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["href", "start", "align"],
  ALLOWED_URI_REGEXP: /^https?:/i,
  RETURN_DOM_FRAGMENT: true,
};

// Markup in a model's answer is shown, not obeyed; what DOMPurify then sees is Markdown's own.
const escaped = (text) => text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
marked.use({ renderer: { html: ({ text }) => escaped(text) } });

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
});

export function renderMarkdown(element, text) {
  const fragment = DOMPurify.sanitize(marked.parse(text, { breaks: true }), ALLOWED);
  for (const block of fragment.querySelectorAll("pre")) {
    const button = document.createElement("button");
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.querySelector("code")?.textContent ?? "");
      button.textContent = "Copied";
    });
    block.prepend(button);
  }
  element.replaceChildren(fragment);
}
