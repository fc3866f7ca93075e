// Conversations, kept in this browser.

const KEY = "conversations";
const MAX_KEPT = 50;

export const fresh = () => ({ id: crypto.randomUUID(), title: "New chat", turns: [] });

export function load() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY)) || [];
    return kept.length ? kept : [fresh()];
  } catch {
    return [fresh()];
  }
}

export function save(conversations) {
  try {
    localStorage.setItem(KEY, JSON.stringify(conversations.slice(0, MAX_KEPT)));
  } catch {
    // The browser's store is full or forbidden: the conversation lives until the tab closes.
  }
}

export const titleOf = (text) => (text.length > 40 ? `${text.slice(0, 40)}…` : text);
