// The keyboard: what each key does in the view that is shown, and the list of them.
import { overlay } from "/static/dialog.js";
import { el } from "/static/dom.js";

const TYPING = "input:not([type=checkbox]):not([type=radio]), select, textarea, [contenteditable]";

// `everywhere` and what `view()` gives map a key to [what it does, how].
export function listen(everywhere, view) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const typing = event.target.closest?.(TYPING);
    if (typing) {
      // Only out of it: what was searched for stays, though browsers would empty the field.
      if (event.key === "Escape") { event.preventDefault(); typing.blur(); }
      return;
    }
    const found = { ...everywhere, ...view() }[event.key];
    if (!found) return;
    event.preventDefault();
    found[1]();
  });
}

export function showKeys(everywhere, here) {
  const rows = Object.entries({ ...here, ...everywhere });
  let shut;
  const close = el("button", { type: "button", class: "primary", onclick: () => shut() }, "Close");
  const dialog = el("dialog", { "aria-labelledby": "keys-title", class: "keys" },
    el("div", {}, el("h2", { id: "keys-title" }, "Keys"),
      el("dl", {}, rows.map(([key, [text]]) => el("div", {}, el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)))),
      el("p", { class: "buttons" }, close)));
  shut = overlay(dialog);
  close.focus();
}
