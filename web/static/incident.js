// One incident: what it is and can be done to it, its alerts, what happened, who was told and who is next.
import { el, age, badge, compact, empty, labels, number, outside, redrawn, time, until, words } from "/static/dom.js";
import { ask } from "/static/feed.js";
import { ACTIONS, buttons, perform, redact } from "/static/actions.js";
import { mayAct } from "/static/session.js";
import { written } from "/static/silences.js";
import { Story } from "/static/story.js";
import { Timeline } from "/static/timeline.js";

export class Incident {
  constructor(id, go) {
    this.id = id;
    this.go = go;
    this.opened = new Set();
    this.stories = new Map();
    this.timeline = new Timeline(id, { known: () => this.wordsOfAlerts(), undo: (entry) => this.undo(entry), done: (item, detail, anew) => this.took(detail, anew) });
    this.head = el("div");
    this.said = el("p", { class: "said wrong", role: "alert" });
    this.side = el("div");
    this.people = el("div");
    this.node = el("div", { class: "view incident-view" }, el("p", { class: "loading" }, "Loading…"));
    this.load();
  }

  async load(anew = false) {
    this.asking?.abort();
    const asking = this.asking = new AbortController();
    try {
      const [detail] = await Promise.all([
        ask(`/api/v1/incidents/${this.id}`, asking.signal), this.timeline.load(asking.signal, anew),
      ]);
      this.detail = detail;
      this.draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === 404) this.node.replaceChildren(back(), empty("No such incident", "It may have passed its retention."));
      else if (!this.detail) this.node.replaceChildren(back(), empty("This incident cannot be shown right now", `${error.message} This page keeps trying.`));
    }
  }

  // A new state, as the gateway answered it.
  took(detail, anew = false) {
    if (detail?.incident?.id === this.id) { this.detail = detail; this.draw(); }
    this.load(anew);
  }

  keys() {
    const keys = { u: ["All incidents", () => this.go("/")] };
    if (!mayAct()) return keys;
    const all = Object.entries(ACTIONS).filter(([, action]) => action.key !== ACTIONS.split.key)
      .map(([name, action]) => [action.key, [action.label, () => this.act(name)]]);
    return { ...keys, ...Object.fromEntries(all), c: ["Comment", () => this.timeline.text.focus()],
      p: ["Split, or undo what a rule did", () => this.act(this.detail?.rule ? "uncorrelate" : "split")] };
  }

  act(name) {
    if (!this.detail) return;
    if (name === "comment") { this.timeline.text.focus(); return; }
    perform(name, [this.item], {
      done: (item, detail) => this.took(detail), said: (text) => { this.said.textContent = text; },
    });
  }

  // The incident with what actions ask of it.
  get item() {
    const { incident, labels: own, snoozed_until, rule } = this.detail;
    return { ...incident, labels: own, snoozed_until, rule };
  }

  wordsOfAlerts() {
    const { alerts = [], children = [], parent = null } = this.detail || {};
    return new Map([
      ...alerts.map((alert) => [alert.identity, alert.summary || alert.labels.alertname]),
      ...[...children, parent].filter(Boolean).map((one) => [one.id, one.title])]);
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
    if (!this.head.isConnected) {
      this.node.replaceChildren(back(), this.head, el("div", { class: "columns" }, this.side, el("div", {}, this.people, this.timeline.node)));
    }
    redrawn(this.head, () => this.head.replaceChildren(this.summary(incident)));
    redrawn(this.side, () => this.side.replaceChildren(...[this.children(), this.alerts(incident, alerts), this.notices(incident, notices)].filter(Boolean)));
    redrawn(this.people, () => this.people.replaceChildren(...[escalation(this.detail.escalation)].filter(Boolean)));
    this.timeline.draw();
  }

  summary(incident) {
    const facts = [
      ["Assignee", incident.assignee || "nobody"],
      ["Kind", words(incident.kind)],
      ["Team", incident.team],
      ["Alerts firing", `${number(incident.firing)} of ${number(incident.alerts)}`],
      ["Events", number(incident.events)],
      ["Opened", [age(incident.created_at), " ago"]],
      incident.resolved_at ? ["Open for", age(incident.created_at, incident.resolved_at)] : ["Last change", [age(incident.updated_at), " ago"]],
      ["Receiver", incident.receiver || "none"],
    ];
    if (this.detail.snoozed_until) facts.push(["Snoozed", until(this.detail.snoozed_until)]);
    if (this.detail.acknowledged_by) facts.push(["Acknowledged by", this.detail.acknowledged_by]);
    if (this.detail.resolved_by) facts.push(["Resolved by", this.detail.resolved_by]);
    if (this.detail.severity_by === "person") facts.push(["Severity", "set by a person"]);
    if (incident.reopened) facts.push(["Reopened", `${incident.reopened}×`]);
    if (incident.predecessor_id) facts.push(["Before it", el("a", { href: `/incidents/${incident.predecessor_id}`, "data-link": true }, "earlier incident")]);
    if (incident.parent_id) facts.push(["Under", el("a", { href: `/incidents/${incident.parent_id}`, "data-link": true }, this.detail.parent?.title || "another incident"),
      this.detail.rule ? ` by the rule “${this.detail.rule}”` : ""]);
    const links = this.detail.links || [];
    return el("header", { class: "head", dataset: { severity: incident.severity } },
      el("p", { class: "badges" }, badge("severity", incident.severity), badge("status", incident.status),
        this.detail.snoozed_until ? badge("status", "snoozed") : null,
        incident.flapping ? badge("status", `flapping ×${number(incident.flapping)}`) : null),
      el("h1", {}, incident.title),
      incident.description && incident.description !== incident.title ? el("p", { class: "description" }, incident.description) : null,
      el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
      labels({ ...incident.group_labels, ...this.detail.labels }),
      links.length ? el("p", { class: "links" }, links.map((link) => outside(link.url, link.title))) : null,
      this.actions(incident), this.said);
  }

  actions(incident) {
    if (!mayAct()) return null;
    return el("div", { class: "actions", role: "group", "aria-label": "Actions" },
      buttons([this.item], (name) => this.act(name)), silenceThese(incident.group_labels),
      el("button", { type: "button", class: "quiet", dataset: { focus: "redact" }, onclick: () => this.blackOut(incident) }, "Redact…"));
  }

  blackOut(incident) {
    const what = incident.description && incident.description !== incident.title ? "description" : "title";
    redact(incident, { field: what }, `the ${what}`, (item, detail) => this.took(detail, true));
  }

  // Incidents that this one speaks for.
  children() {
    const children = this.detail.children || [];
    if (!children.length) return null;
    return el("section", { class: "panel" }, el("h2", {}, "Speaks for ", el("small", {}, number(children.length))),
      el("ul", { class: "children" }, children.map((child) => el("li", {},
        badge("severity", child.severity), badge("status", child.status),
        el("a", { class: "what", href: `/incidents/${child.id}`, "data-link": true, dataset: { focus: `child:${child.id}` } }, child.title),
        child.rule ? el("small", {}, `rule “${child.rule}”`) : null,
        mayAct() ? this.apart(child, "split") : null))));
  }

  // Takes a child out again; what a rule did is undone for good.
  apart(child, place) {
    const name = child.rule ? "uncorrelate" : "split";
    const { label } = ACTIONS[name];
    return el("button", { type: "button", class: "quiet", dataset: { focus: `${place}:${child.id}` }, "aria-label": `${label}: ${child.title}`, onclick: () => {
      perform(name, [{ ...child, parent_id: this.id }], { done: () => this.load(), said: (text) => { this.said.textContent = text; } });
    } }, label);
  }

  // Beside the evidence in the timeline of what a rule did, while it is so: the way to undo it.
  undo({ event, seq, detail }) {
    if (!mayAct() || !detail.rule || !this.detail) return null;
    const child = event === "child merged" ? this.detail.children.find((one) => one.id === detail.child && one.rule) : null;
    if (child) return this.apart(child, `undo:${seq}`);
    if (event !== "merged" || this.detail.rule !== detail.rule || this.detail.incident.parent_id !== detail.into) return null;
    return el("button", { type: "button", class: "quiet", dataset: { focus: `undo:${seq}` }, onclick: () => this.act("uncorrelate") }, ACTIONS.uncorrelate.label);
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
    const apart = differing(alerts, hidden);
    return el("section", { class: "panel" }, el("h2", {}, "Alerts ", el("small", {}, more)),
      alerts.length ? el("ul", { class: "alerts" }, alerts.map((alert) => this.alert(alert, hidden, apart))) : empty("No alerts", "None is linked to this incident."));
  }

  alert(alert, hidden, apart) {
    const key = `${alert.identity}/${alert.occurrence}`;
    const annotations = Object.entries(alert.annotations).filter(([, value]) => value);
    return el("li", { dataset: { status: alert.status, severity: alert.severity } },
      el("details", {
        open: this.opened.has(key),
        ontoggle: (event) => { if (event.target.open) this.opened.add(key); else this.opened.delete(key); },
      },
      el("summary", {},
        badge("alert", alert.status),
        el("span", { class: "what" }, alert.summary || alert.labels.alertname || alert.fingerprint, " ",
          el("small", {}, apart.filter((name) => alert.labels[name]).map((name) => `${name}=${alert.labels[name]}`).join("  "))),
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

  notices(incident, notices) {
    const why = incident.status === "merged" ? "The incident that it is under speaks for it." : "Notices appear when the group's wait is over.";
    return el("section", { class: "panel" }, el("h2", {}, "Notices ", el("small", {}, number(notices.length))),
      notices.length ? el("ul", { class: "notices" }, notices.map((notice) => el("li", {},
        badge("task", notice.state),
        el("span", { class: "what" }, `${notice.receiver} `, el("small", {}, `${notice.channel} → ${notice.target}`)),
        el("span", { class: "why" }, words(notice.reason), notice.attempts > 1 ? ` · ${notice.attempts} attempts` : "",
          notice.last_reason && notice.state !== "sent" ? ` · ${words(notice.last_reason)}` : ""),
        age(notice.finished_at || notice.created_at)))) : empty("Nobody told yet", why));
  }
}

// The labels by which the alerts of one list differ: at most three of them.
function differing(alerts, hidden) {
  const names = new Set(alerts.flatMap((alert) => Object.keys(alert.labels)));
  return [...names].filter((name) => !hidden.includes(name) && new Set(alerts.map((alert) => alert.labels[name])).size > 1).sort().slice(0, 3);
}

// Who is told next, and when, if nobody acknowledges.
const HALTED = {
  stopped: "It is stopped: somebody acknowledged, snoozed or merged it.", done: "Everybody was told.", ended: "It is over.",
};
function escalation(state) {
  if (!state) return null;
  const next = state.next_targets.join(", ");
  const round = state.round > 1 ? `, round ${number(state.round)}` : "";
  return el("section", { class: "panel escalation" }, el("h2", {}, "Escalation ", el("small", {}, state.policy)),
    el("p", {}, ...(state.next_at && state.state === "running"
      ? [`Step ${number(state.step)}${round}: `, el("b", {}, next || "nobody"), " is told ", until(state.next_at), " unless somebody acknowledges."]
      : [HALTED[state.state] || "Nobody else is told."])),
    state.held ? el("p", { class: "why" }, `Held: ${words(state.held)}`) : null,
    state.told.length ? el("p", { class: "why" }, `Told: ${state.told.join(", ")}`) : null);
}

// The form of silences, filled in with the group's labels.
function silenceThese(pairs) {
  const matchers = Object.entries(pairs).filter(([, value]) => value).sort().map(([name, value]) => written({ name, op: "=", value }));
  if (!matchers.length) return null;
  return el("a", { class: "plain", dataset: { focus: "silence" }, href: `/silences?matchers=${encodeURIComponent(matchers.join(", "))}`, "data-link": true }, "Silence these alerts");
}

const back = () => el("p", { class: "back" }, el("a", { href: "/", "data-link": true }, "← All incidents"));
