// Which incidents of the list are selected, and the bar with what can be done to all of them.
import { el, number, redrawn } from "/static/dom.js";
import { ACTIONS, buttons, perform } from "/static/actions.js";

export class Selection {
  // `items` maps ids to incidents; `done(incident)` has each new state; `drawn()` draws the list anew.
  constructor({ items, done, drawn }) {
    this.items = items;
    this.done = done;
    this.drawn = drawn;
    this.chosen = new Set();
    this.said = el("p", { class: "said", role: "alert" });
    this.row = el("div", { class: "row" });
    this.bar = el("div", { class: "selection", role: "region", "aria-label": "Selected incidents", hidden: true }, this.row, this.said);
  }

  get selected() { return [...this.chosen].map((id) => this.items.get(id)).filter(Boolean); }

  toggle(id, to = !this.chosen.has(id)) {
    if (to) this.chosen.add(id); else this.chosen.delete(id);
    this.last = id;
    this.said.textContent = "";
    this.drawn();
  }

  clear() {
    this.chosen.clear();
    this.said.textContent = "";
    this.drawn();
  }

  // What was said is read once one walks on.
  hush() {
    this.said.textContent = "";
    this.bar.hidden = !this.chosen.size;
  }

  // The box of one row; with shift, everything from the last one on.
  box(item, order) {
    return el("input", {
      type: "checkbox", "aria-label": `Select ${item.title}`, checked: this.chosen.has(item.id), dataset: { focus: `pick:${item.id}` },
      onclick: (event) => {
        const ids = order();
        const [from, to] = [ids.indexOf(this.last), ids.indexOf(item.id)].sort((a, b) => a - b);
        if (event.shiftKey && from >= 0) for (const id of ids.slice(from, to + 1)) this.chosen[event.target.checked ? "add" : "delete"](id);
        this.toggle(item.id, event.target.checked);
      },
    });
  }

  all(order) {
    this.every = el("input", {
      type: "checkbox", "aria-label": "Select all that are shown",
      onclick: (event) => { this.chosen = new Set(event.target.checked ? order() : []); this.drawn(); },
    });
    return this.every;
  }

  // The keys of all actions; `current()` is what they are about when nothing is selected.
  keys(current) {
    return Object.fromEntries(Object.entries(ACTIONS).filter(([, action]) => action.many)
      .map(([name, action]) => [action.key, [action.label, () => this.act(name, this.chosen.size ? this.selected : [this.items.get(current())].filter(Boolean))]]));
  }

  act(name, items = this.selected) {
    if (!items.length) {
      this.said.textContent = "Which one? j and k walk through the list, x selects.";
      this.bar.hidden = false;
      return;
    }
    const many = this.chosen.size > 0;
    perform(name, items, {
      done: (item) => { if (!many) this.last = item.id; this.done(item); },
      said: (text) => { this.said.textContent = text; this.bar.hidden = !text && !this.chosen.size; },
    });
  }

  draw(order) {
    for (const id of this.chosen) if (!this.items.has(id)) this.chosen.delete(id);
    const count = this.chosen.size;
    this.bar.hidden = !count && !this.said.textContent;
    redrawn(this.row, () => this.row.replaceChildren(...(count ? [
      el("b", {}, `${number(count)} selected`), ...buttons(this.selected, (name) => this.act(name), true),
      el("button", { type: "button", class: "plain", dataset: { focus: "clear" }, onclick: () => this.clear() }, "Select none")] : [])));
    if (!this.every) return;
    this.every.checked = count > 0 && count === order.length;
    this.every.indeterminate = count > 0 && count < order.length;
  }
}
