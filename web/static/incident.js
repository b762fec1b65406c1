// One incident: what it is, its alerts, what happened, who was told.
import { el, age, badge, compact, empty, labels, number, outside, time, words } from "/static/dom.js";
import { ask } from "/static/feed.js";
import { written } from "/static/silences.js";
import { Story } from "/static/story.js";

const EVENTS = {
  opened: "Opened", reopened: "Reopened", resolved: "Resolved", acknowledged: "Acknowledged", merged: "Merged",
  severity: "Severity changed", "notice made": "Notice queued", "notice sent": "Notice delivered",
  "notice failed": "Notice failed",
};
const END = Number.MAX_SAFE_INTEGER;
const PAGE = 100;

export class Incident {
  constructor(id) {
    this.id = id;
    this.entries = [];
    this.opened = new Set();
    this.stories = new Map();
    this.node = el("div", { class: "view incident-view" }, el("p", { class: "loading" }, "Loading…"));
    this.load();
  }

  async load() {
    this.asking?.abort();
    const asking = this.asking = new AbortController();
    try {
      const last = this.entries.at(-1)?.seq;
      const path = `/api/v1/incidents/${this.id}`;
      const [detail, added] = await Promise.all([
        ask(path, asking.signal),
        ask(`${path}/timeline?limit=${PAGE}&${last ? `after=${last}` : `before=${END}`}`, asking.signal),
      ]);
      this.detail = detail;
      if (!last) this.earlier = added.length === PAGE;
      this.entries.push(...added);
      this.draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === 404) this.node.replaceChildren(back(), empty("No such incident", "It may have passed its retention."));
      else if (!this.detail) this.node.replaceChildren(back(), empty("This incident cannot be shown right now", `${error.message} This page keeps trying.`));
    }
  }

  async loadEarlier() {
    const before = await ask(`/api/v1/incidents/${this.id}/timeline?limit=${PAGE}&before=${this.entries[0].seq}`);
    this.earlier = before.length === PAGE;
    this.entries.unshift(...before);
    this.draw();
  }

  refresh() {
    if (this.waiting) return;
    this.waiting = setTimeout(() => { this.waiting = null; this.load(); }, 700);
  }

  changed(items) {
    if (!items.some((item) => item.id === this.id)) return;
    for (const story of this.stories.values()) story.load();
    this.refresh();
  }
  sample() { if (!this.detail) this.refresh(); }
  reset() { this.refresh(); }
  away() {}
  every15() { this.refresh(); }

  draw() {
    const { incident, alerts, notices } = this.detail;
    document.title = `${incident.title} · Incidents`;
    this.node.replaceChildren(back(), this.head(incident),
      el("div", { class: "columns" },
        el("div", {}, this.alerts(incident, alerts), this.notices(notices)),
        this.timeline()));
  }

  head(incident) {
    const facts = [
      ["Kind", words(incident.kind)],
      ["Team", incident.team],
      ["Alerts firing", `${number(incident.firing)} of ${number(incident.alerts)}`],
      ["Events", number(incident.events)],
      ["Opened", [age(incident.created_at), " ago"]],
      incident.resolved_at ? ["Open for", age(incident.created_at, incident.resolved_at)] : ["Last change", [age(incident.updated_at), " ago"]],
      ["Receiver", incident.receiver || "none"],
    ];
    if (incident.reopened) facts.push(["Reopened", `${incident.reopened}×`]);
    if (incident.predecessor_id) facts.push(["Before it", el("a", { href: `/incidents/${incident.predecessor_id}`, "data-link": true }, "earlier incident")]);
    return el("header", { class: "head", dataset: { severity: incident.severity } },
      el("p", { class: "badges" }, badge("severity", incident.severity), badge("status", incident.status)),
      el("h1", {}, incident.title),
      incident.description && incident.description !== incident.title ? el("p", { class: "description" }, incident.description) : null,
      el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
      labels(incident.group_labels), silenceThese(incident.group_labels));
  }

  why(fingerprint) {
    const redraw = () => this.draw();
    const story = this.stories.get(fingerprint);
    if (story) return story.node();
    return el("button", { type: "button", class: "plain", onclick: () => { this.stories.set(fingerprint, new Story(fingerprint, redraw)); redraw(); } }, "Why?");
  }

  alerts(incident, alerts) {
    const more = incident.alerts > alerts.length ? `the first ${number(alerts.length)} of ${number(incident.alerts)}` : number(alerts.length);
    const hidden = Object.keys(incident.group_labels);
    return el("section", { class: "panel" }, el("h2", {}, "Alerts ", el("small", {}, more)),
      alerts.length ? el("ul", { class: "alerts" }, alerts.map((alert) => this.alert(alert, hidden))) : empty("No alerts", "None is linked to this incident."));
  }

  alert(alert, hidden) {
    const key = `${alert.identity}/${alert.occurrence}`;
    const annotations = Object.entries(alert.annotations).filter(([, value]) => value);
    return el("li", { dataset: { status: alert.status, severity: alert.severity } },
      el("details", {
        open: this.opened.has(key),
        ontoggle: (event) => { if (event.target.open) this.opened.add(key); else this.opened.delete(key); },
      },
      el("summary", {},
        badge("alert", alert.status),
        el("span", { class: "what" }, alert.summary || alert.labels.alertname || alert.fingerprint),
        el("span", { class: "times" }, `${compact(alert.events)}×`),
        age(alert.starts_at, alert.ends_at)),
      alert.description && alert.description !== alert.summary ? el("p", {}, alert.description) : null,
      labels(alert.labels, hidden),
      annotations.length ? el("dl", { class: "facts" }, annotations.map(([name, value]) => el("div", {}, el("dt", {}, words(name)),
        el("dd", {}, /^https?:/.test(value) ? outside(value) : value)))) : null,
      el("p", { class: "meta" }, `${alert.source} · started ${time(alert.starts_at)}`,
        alert.ends_at ? ` · ended ${time(alert.ends_at)}` : "", ` · last seen ${time(alert.last_seen_at)} · ${alert.fingerprint}`),
      alert.links.length ? el("p", { class: "links" }, alert.links.map((link) => outside(link.href, link.text))) : null,
      this.why(alert.fingerprint)));
  }

  notices(notices) {
    return el("section", { class: "panel" }, el("h2", {}, "Notices ", el("small", {}, number(notices.length))),
      notices.length ? el("ul", { class: "notices" }, notices.map((notice) => el("li", {},
        badge("task", notice.state),
        el("span", { class: "what" }, `${notice.receiver} `, el("small", {}, `${notice.channel} → ${notice.target}`)),
        el("span", { class: "why" }, words(notice.reason), notice.attempts > 1 ? ` · ${notice.attempts} attempts` : "",
          notice.last_reason && notice.state !== "sent" ? ` · ${words(notice.last_reason)}` : ""),
        age(notice.finished_at || notice.created_at)))) : empty("Nobody told yet", "Notices appear when the group's wait is over."));
  }

  timeline() {
    const known = new Map(this.detail.alerts.map((alert) => [alert.identity, alert.summary || alert.labels.alertname]));
    const entries = [...this.entries].reverse();
    const earlier = this.earlier ? el("button", { type: "button", class: "more", onclick: () => this.loadEarlier().catch(() => {}) }, "Show earlier") : null;
    return el("section", { class: "panel" }, el("h2", {}, "Timeline"),
      entries.length ? el("ol", { class: "timeline", reversed: true }, entries.map((entry) => el("li", { dataset: { event: entry.event } },
        el("p", {}, age(entry.at), el("b", {}, headline(entry))),
        el("p", { class: "detail" }, story(entry, known))))) : empty("Nothing yet", "What happens is written here."), earlier);
  }
}

const sentence = (name) => { const text = words(name); return text.charAt(0).toUpperCase() + text.slice(1); };
const headline = (entry) => (entry.event === "flapping" ? `Flapping ×${entry.detail.times}` : EVENTS[entry.event] || sentence(entry.event));
const isIdentity = (value) => /^[0-9a-f]{32}$/.test(value);

// What an entry says, with alerts by their words where they are known.
function story({ actor, detail }, known) {
  const parts = [];
  if (actor && !["system", "stream"].includes(actor)) parts.push(`by ${actor}`);
  for (const [name, value] of Object.entries(detail)) {
    if (value === null || value === "") continue;
    if (isIdentity(value)) {
      const words = detail.summary || known.get(value);
      parts.push(words ? words : `alert ${value.slice(0, 8)}`);
    } else if (name === "summary" && Object.values(detail).some(isIdentity)) continue;
    else if (name === "before" && "after" in detail) parts.push(`${value} → ${detail.after}`);
    else if (name === "after" && "before" in detail) continue;
    else if (name === "to") parts.push(`to ${String(value).replace(/\/0$/, "")}`);
    else if (name === "predecessor") parts.push("an earlier incident came before it");
    else if (name === "flapping") parts.push(value);
    else if (name === "times") parts.push(`${value}×`);
    else if (name === "by" || name === "why" || name === "reason" || name === "severity") parts.push(name === "by" ? `by ${value}` : words(String(value)));
    else parts.push(`${words(name)}: ${typeof value === "object" ? JSON.stringify(value) : value}`);
  }
  return parts.join(" · ");
}

// The form of silences, filled in with the group's labels.
function silenceThese(pairs) {
  const matchers = Object.entries(pairs).filter(([, value]) => value).sort().map(([name, value]) => written({ name, op: "=", value }));
  if (!matchers.length) return null;
  return el("p", { class: "links" }, el("a", { href: `/silences?matchers=${encodeURIComponent(matchers.join(", "))}`, "data-link": true }, "Silence these alerts"));
}

const back = () => el("p", { class: "back" }, el("a", { href: "/", "data-link": true }, "← All incidents"));
