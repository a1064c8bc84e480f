"use strict";
// What all pages share: elements, numbers, the theme, and events of a page's server.

// Texts of a run are always text, never markup.
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
const text = (tag, content, kind) => element(tag, kind ? { class: kind } : null, content);
const grouped = (value) => Math.round(value).toLocaleString("en-US");

// Dark or light as the system has it, and as the button says.
// - changed: called after each change.
function follow_theme(changed) {
  const root = document.documentElement;
  const prefers_dark = matchMedia("(prefers-color-scheme: dark)");
  const set = (is_dark) => { root.dataset.theme = is_dark ? "dark" : "light"; };
  const change = (is_dark) => { set(is_dark); changed(); };
  set(prefers_dark.matches);
  prefers_dark.addEventListener("change", (event) => change(event.matches));
  document.getElementById("theme").addEventListener("click", () => change(root.dataset.theme !== "dark"));
}

// What the page's server sends, and a sign of whether it is there.
function follow_events(address, kind, take) {
  const state = text("span", "live", "live");
  document.getElementById("theme").before(state);
  const events = new EventSource(address);
  events.addEventListener("open", () => { state.textContent = "live"; state.className = "live"; });
  events.addEventListener("error", () => { state.textContent = "not connected"; state.className = "live lost"; });
  events.addEventListener(kind, (event) => take(JSON.parse(event.data)));
}
