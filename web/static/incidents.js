// The list of incidents: filters, search, live rows, and what is done to those that are selected.
import { el, age, badge, compact, empty, number, redrawn, words } from "/static/dom.js";
import { ask } from "/static/feed.js";
import { KINDS, openByHand } from "/static/actions.js";
import { Selection } from "/static/selection.js";
import { mayAct, myName } from "/static/session.js";

const SEVERITIES = ["critical", "error", "warning", "info", "unknown"];
const STATUSES = { active: ["open", "acknowledged"], resolved: ["resolved", "merged"], all: [] };
const SORTS = { severity: "Worst first", updated: "Latest change", created: "Newest" };

export class Incidents {
  constructor(chart, go) {
    this.go = go;
    this.items = new Map();
    this.order = [];
    this.selection = new Selection({ items: this.items, done: (item) => this.changed([item]), drawn: () => this.draw() });
    const query = new URLSearchParams(location.search);
    this.wanted = {
      show: query.get("show") in STATUSES ? query.get("show") : "active",
      severity: new Set(query.getAll("severity").filter((value) => SEVERITIES.includes(value))),
      kind: KINDS.includes(query.get("kind")) ? query.get("kind") : "",
      q: query.get("q") || "",
      mine: query.has("assignee") && query.get("assignee") === myName(),
      sort: query.get("sort") in SORTS ? query.get("sort") : "severity",
    };
    this.body = el("tbody");
    this.table = el("table", { class: "incidents" },
      el("caption", { class: "hidden" }, "Incidents"),
      el("thead", {}, el("tr", {},
        mayAct() ? el("th", { scope: "col", class: "pick" }, this.selection.all(() => this.order)) : null,
        ["Severity", "Incident", "Kind", "Status"].map((name) => el("th", { scope: "col", class: name.toLowerCase() }, name)),
        ["Alerts", "Events", "Age"].map((name) => el("th", { scope: "col", class: "number" }, name)))),
      this.body);
    this.none = el("div");
    this.more = el("button", { type: "button", class: "more", hidden: true, onclick: () => this.load(true) }, "Show more");
    this.count = el("p", { class: "count", role: "status" });
    const open = mayAct() ? el("button", { type: "button", class: "plain", title: "Open an incident by hand (n)", onclick: () => this.openByHand() }, "New incident") : null;
    this.node = el("div", { class: "view" }, chart.node, this.filters(),
      el("div", { class: "over" }, this.count, open), this.selection.bar, this.table, this.none, this.more);
    this.load();
  }

  filters() {
    const search = el("input", {
      type: "search", placeholder: "Search titles and labels", "aria-label": "Search titles, descriptions and labels",
      value: this.wanted.q, maxlength: 200, id: "search",
      oninput: () => { clearTimeout(this.typing); this.typing = setTimeout(() => this.want({ q: search.value.trim() }), 200); },
    });
    this.chips = SEVERITIES.map((severity) => el("button", {
      type: "button", class: "chip", dataset: { value: severity }, "aria-pressed": String(this.wanted.severity.has(severity)),
      onclick: (event) => {
        const chosen = this.wanted.severity;
        if (!chosen.delete(severity)) chosen.add(severity);
        event.currentTarget.setAttribute("aria-pressed", String(chosen.has(severity)));
        this.want({});
      },
    }, el("i", { "aria-hidden": "true" }), severity, el("span", { class: "tally" })));
    return el("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
      search,
      select("Status", { active: "Active", resolved: "Resolved", all: "All" }, this.wanted.show, (show) => this.want({ show })),
      select("Kind", { "": "Every kind", ...Object.fromEntries(KINDS.map((kind) => [kind, words(kind)])) }, this.wanted.kind, (kind) => this.want({ kind })),
      select("Order", SORTS, this.wanted.sort, (sort) => this.want({ sort })),
      el("div", { class: "chips", role: "group", "aria-label": "Severity, and whose" }, this.chips, this.mine()));
  }

  // Only what one works on; for whoever has a name.
  mine() {
    if (!myName()) return null;
    return el("button", { type: "button", class: "chip", "aria-pressed": String(this.wanted.mine), onclick: (event) => {
      event.currentTarget.setAttribute("aria-pressed", String(!this.wanted.mine));
      this.want({ mine: !this.wanted.mine });
    } }, "mine");
  }

  want(change) {
    Object.assign(this.wanted, change);
    const query = this.query();
    query.delete("status");
    query.delete("limit");
    if (this.wanted.show !== "active") query.set("show", this.wanted.show);
    if (this.wanted.sort === "severity") query.delete("sort");
    const text = query.toString();
    history.replaceState(null, "", text ? `/?${text}` : "/");
    this.load();
  }

  query() {
    const query = new URLSearchParams();
    for (const status of STATUSES[this.wanted.show]) query.append("status", status);
    for (const severity of this.wanted.severity) query.append("severity", severity);
    if (this.wanted.kind) query.set("kind", this.wanted.kind);
    if (this.wanted.mine) query.set("assignee", myName());
    if (this.wanted.q) query.set("q", this.wanted.q);
    query.set("sort", this.wanted.sort);
    return query;
  }

  async load(further = false) {
    this.asking?.abort();
    const asking = this.asking = new AbortController();
    const query = this.query();
    const size = further ? 100 : Math.min(200, Math.max(100, this.order.length));
    query.set("limit", size);
    if (further && this.next) query.set("cursor", this.next);
    try {
      const page = await ask(`/api/v1/incidents?${query}`, asking.signal);
      if (!further) { this.items.clear(); this.order = []; }
      for (const item of page.items) { this.items.set(item.id, item); this.order.push(item.id); }
      this.order = [...new Set(this.order)];
      this.next = page.next;
      this.failed = null;
    } catch (error) {
      if (error.name === "AbortError") return;
      this.failed = error;
    }
    this.loaded = true;
    this.draw();
  }

  // Reload soon, but never more often than every two seconds.
  refresh() {
    if (this.waiting) return;
    const wait = Math.max(0, 2000 - (Date.now() - (this.refreshed || 0))) + Math.random() * 300;
    this.waiting = setTimeout(() => { this.waiting = null; this.refreshed = Date.now(); this.load(); }, wait);
  }

  changed(items) {
    for (const item of items) {
      const known = this.items.get(item.id);
      const fits = this.fits(item);
      if (known && fits) { this.items.set(item.id, item); this.flash = (this.flash || new Set()).add(item.id); }
      else if (known) { this.items.delete(item.id); this.order = this.order.filter((id) => id !== item.id); }
      else if (fits && !this.wanted.q && this.order.length < 200) {
        this.items.set(item.id, item);
        this.order.push(item.id);
        this.flash = (this.flash || new Set()).add(item.id);
      } else if (fits) this.refresh();
    }
    this.order.sort((a, b) => this.compare(this.items.get(a), this.items.get(b)));
    if (this.loaded && !this.failed) this.draw();
  }

  fits(item) {
    const { show, severity, kind, mine } = this.wanted;
    return (!mine || item.assignee === myName())
      && (!STATUSES[show].length || STATUSES[show].includes(item.status))
      && (!severity.size || severity.has(item.severity)) && (!kind || kind === item.kind);
  }

  compare(a, b) {
    const by = this.wanted.sort;
    const rank = by === "severity" ? SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity) : 0;
    const at = by === "created" ? "created_at" : "updated_at";
    return rank || Date.parse(b[at]) - Date.parse(a[at]) || (a.id < b.id ? -1 : 1);
  }

  sample({ open }) {
    for (const chip of this.chips) {
      const count = open[chip.dataset.value];
      chip.querySelector(".tally").textContent = count ? compact(count) : "";
    }
  }

  openByHand() { openByHand(this.go); }

  // The row that the keys are about: the one that has the focus, or had it last while nothing else has.
  get current() {
    const focused = document.activeElement;
    const id = focused?.closest?.("table.incidents tr[data-id]")?.dataset.id;
    if (id) return id;
    return [null, document.body, document.getElementById("main")].includes(focused) && this.items.has(this.at) ? this.at : undefined;
  }

  // Marks that row, so that one sees what a key would be about.
  focused() {
    const { current } = this;
    if (current) this.at = current;
    for (const row of this.body.children) row.classList.toggle("current", row.dataset.id === current);
  }

  keys() {
    const keys = {
      j: ["Next incident", () => this.step(1)], k: ["Previous incident", () => this.step(-1)],
    };
    if (!mayAct()) return keys;
    return {
      ...keys,
      x: ["Select", () => { if (this.current) this.selection.toggle(this.current); }],
      n: ["Open an incident by hand", () => this.openByHand()],
      ...this.selection.keys(() => this.current),
      Escape: ["Select nothing", () => this.selection.clear()],
    };
  }

  step(by) {
    const at = this.order.indexOf(this.current);
    const next = at < 0 ? Math.min(this.cursor ?? 0, this.order.length - 1) : Math.min(this.order.length - 1, Math.max(0, at + by));
    const row = this.body.children[next];
    if (!row) return;
    this.selection.hush();
    row.querySelector("td.incident a").focus();
    row.scrollIntoView({ block: "nearest" });
  }

  reset() { this.refresh(); }
  away() { if (!this.failed) this.draw(); }
  every15() { this.refresh(); }

  draw() {
    const at = this.body.contains(document.activeElement) ? [...this.body.children].indexOf(document.activeElement.closest("tr")) : -1;
    redrawn(this.body, () => this.body.replaceChildren(...this.order.map((id) => this.row(this.items.get(id)))));
    if (at >= 0) this.cursor = at;
    this.focused();
    this.selection.draw(this.order);
    this.flash = null;
    this.table.hidden = !this.order.length;
    this.more.hidden = !this.next;
    this.count.textContent = this.order.length ? `${number(this.order.length)}${this.next ? "+" : ""} ${this.order.length === 1 ? "incident" : "incidents"}` : "";
    this.none.replaceChildren(...(this.order.length ? [] : [this.reason()]));
  }

  reason() {
    const { q, severity, kind, show, mine } = this.wanted;
    if (this.failed) return empty("Incidents cannot be shown right now", `${this.failed.message} This page keeps trying.`);
    if (q || severity.size || kind || mine) return empty("Nothing matches these filters", "Take a word or a filter away to see more.");
    if (show === "active") return empty("All quiet", "No incident is open. New ones appear here by themselves.");
    return empty("Nothing yet", "Incidents appear here as soon as the first alert arrives.");
  }

  row(item) {
    const path = `/incidents/${item.id}`;
    const hint = Object.entries(item.group_labels).map(([name, value]) => `${name}=${value}`).join("  ");
    const changing = this.flash?.has(item.id);
    return el("tr", {
      dataset: { id: item.id, severity: item.severity, status: item.status }, class: changing ? "flash" : null,
      onclick: (event) => { if (!event.target.closest("a, .pick") && !String(getSelection())) this.go(path); },
    },
    mayAct() ? el("td", { class: "pick" }, this.selection.box(item, () => this.order)) : null,
    el("td", { class: "severity" }, badge("severity", item.severity)),
    el("td", { class: "incident" },
      el("a", { href: path, "data-link": true, dataset: { focus: `row:${item.id}` } }, item.title),
      el("small", {}, hint)),
    el("td", { class: "kind" }, words(item.kind)),
    el("td", { class: "status" }, badge("status", item.status), standing(item)),
    el("td", { class: "number alerts", "data-name": "alerts" }, el("b", {}, number(item.firing)), item.alerts > item.firing ? el("small", {}, ` / ${number(item.alerts)}`) : null),
    el("td", { class: "number events", "data-name": "events" }, compact(item.events)),
    el("td", { class: "number" }, age(item.created_at, item.resolved_at)));
  }
}

// What else there is to know of where it stands.
function standing(item) {
  const said = [];
  if (item.snoozed_until) said.push("snoozed");
  if (item.flapping) said.push(`flapping ×${item.flapping}`);
  if (item.reopened) said.push(`reopened ${item.reopened}×`);
  if (item.assignee) said.push(item.assignee);
  return said.length ? el("small", {}, ` ${said.join(" · ")}`) : null;
}

function select(name, options, chosen, choose) {
  return el("label", { class: "choice" }, el("span", { class: "hidden" }, name),
    el("select", { name: name.toLowerCase(), onchange: (event) => choose(event.target.value) },
      Object.entries(options).map(([value, text]) => el("option", { value, selected: value === chosen }, text))));
}
