// What happened to an incident, newest first, and the line in which people add to it.
import { el, age, empty, redrawn, time, words } from "/static/dom.js";
import { ask, onceKey, send } from "/static/feed.js";
import { redact } from "/static/actions.js";
import { mayAct } from "/static/session.js";

const EVENTS = {
  opened: "Opened", reopened: "Reopened", resolved: "Resolved", acknowledged: "Acknowledged", merged: "Merged",
  unacknowledged: "Acknowledgement taken back", snoozed: "Snoozed", "snooze ended": "Snooze ended", assigned: "Assigned",
  comment: "Comment", edited: "Edited", "link added": "Link added", split: "Split", redacted: "Redacted",
  severity: "Severity changed", "notice made": "Notice queued", "notice sent": "Notice delivered",
  "notice failed": "Notice failed", "child merged": "Speaks for another", "child split": "Speaks for it no more",
  "child fires": "One that it speaks for fires", "child ended": "One that it speaks for has ended",
};
const END = Number.MAX_SAFE_INTEGER;
const PAGE = 100;
const TEXTS = ["comment", "edited", "link added"];

export class Timeline {
  // `known()` maps identities of alerts, and ids of incidents, to their words; `undo(entry)` is what takes it back, if anything does;
  // `done(incident, detail)` has each new state.
  constructor(id, { known, undo, done }) {
    this.path = `/api/v1/incidents/${id}`;
    this.id = id;
    this.known = known;
    this.undo = undo;
    this.done = done;
    this.entries = [];
    this.list = el("div");
    this.node = el("section", { class: "panel" }, el("h2", {}, "Timeline"), mayAct() ? this.form() : null, this.list);
  }

  form() {
    const said = el("small", { class: "wrong", role: "alert" });
    const text = this.text = el("textarea", { id: "say", rows: 2, maxlength: 4000, "aria-label": "Comment", placeholder: "Write a comment" });
    const go = el("button", { type: "submit" }, "Comment");
    const form = el("form", { class: "say", onsubmit: async (event) => {
      event.preventDefault();
      if (!text.value.trim() || go.disabled) return;
      said.textContent = "";
      go.disabled = true;
      try {
        const { status, body } = await send(`${this.path}/comments`, { method: "POST", body: { text: text.value.trim() }, headers: onceKey() });
        text.value = "";
        if (status === 202) said.textContent = "It is taken, and shows here as soon as it is done."; else this.done(body.incident, body);
      } catch (error) { said.textContent = error.message; }
      go.disabled = false;
    } }, text, go, said);
    text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
    });
    return form;
  }

  // What came since the last time; everything anew when an old entry may have been blacked out.
  async load(signal, anew = false) {
    const last = anew ? 0 : this.entries.at(-1)?.seq;
    const added = await ask(`${this.path}/timeline?limit=${PAGE}&${last ? `after=${last}` : `before=${END}`}`, signal);
    if (!last) {
      this.earlier = added.length === PAGE;
      this.entries = [];
    }
    this.entries.push(...added);
    if (last && added.some((entry) => entry.event === "redacted")) await this.load(signal, true);
  }

  async loadEarlier() {
    const before = await ask(`${this.path}/timeline?limit=${PAGE}&before=${this.entries[0].seq}`);
    this.earlier = before.length === PAGE;
    this.entries.unshift(...before);
    this.draw();
  }

  draw() {
    const known = this.known();
    const entries = [...this.entries].reverse();
    const earlier = this.earlier ? el("button", { type: "button", class: "more", dataset: { focus: "earlier" }, onclick: () => this.loadEarlier().catch(() => {}) }, "Show earlier") : null;
    redrawn(this.list, () => this.list.replaceChildren(...[
      entries.length ? el("ol", { class: "timeline", reversed: true }, entries.map((entry) => el("li", { dataset: { event: entry.event } },
        el("p", {}, age(entry.at), el("b", {}, headline(entry))),
        el("p", { class: "detail" }, ...story(entry, known)), this.blackOut(entry), this.undo(entry)))) : empty("Nothing yet", "What happens is written here."),
      earlier].filter(Boolean)));
  }

  // What people wrote can be blacked out.
  blackOut(entry) {
    if (!mayAct() || !TEXTS.includes(entry.event) || entry.detail.redacted) return null;
    return el("button", {
      type: "button", class: "quiet", dataset: { focus: `redact:${entry.seq}` }, "aria-label": `Redact: ${headline(entry)}`,
      onclick: () => redact({ id: this.id }, { seq: entry.seq }, headline(entry).toLowerCase(), (item, detail) => this.done(item, detail, true)),
    }, "Redact");
  }
}

const sentence = (name) => { const text = words(name); return text.charAt(0).toUpperCase() + text.slice(1); };
const headline = (entry) => (entry.event === "flapping" ? `Flapping ×${entry.detail.times}` : EVENTS[entry.event] || sentence(entry.event));
const isId = (value) => /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/.test(value);
const isIdentity = (value) => /^[0-9a-f]{32}$/.test(value);

// What an entry says, with alerts by their words where they are known.
function story({ actor, event, detail }, known) {
  const parts = [];
  if (actor && !["system", "stream"].includes(actor)) parts.push(`by ${actor}`);
  for (const [name, value] of Object.entries(detail)) {
    if (value === null || value === "" || name === "action" || hidden(event, name)) continue;
    if (isIdentity(value)) {
      const words = detail.summary || known.get(value);
      parts.push(words ? words : `alert ${value.slice(0, 8)}`);
    } else if (name === "summary" && Object.values(detail).some(isIdentity)) continue;
    else if (name === "evidence") parts.push(evidence(value, known));
    else if (name === "step") parts.push(`step ${value}${detail.policy ? ` of ${detail.policy}` : ""}${detail.round > 1 ? `, round ${detail.round}` : ""}`);
    else if (name === "before" && event === "merged") parts.push(`it was ${words(value)}`);
    else if (name === "before" && "after" in detail) parts.push(`${worded(value)} → ${worded(detail.after)}`);
    else if (name === "after" && "before" in detail) { if (!detail.before) parts.push(`to ${worded(value)}`); }
    else if (name === "text") parts.push(value);
    else if (name === "by" && value === actor) continue;
    else if (name === "to") parts.push(`to ${String(value).replace(/\/0$/, "")}`);
    else if (name === "predecessor") parts.push("an earlier incident came before it");
    else if (name === "flapping") parts.push(value);
    else if (name === "times") parts.push(`${value}×`);
    else if (PLAIN.includes(name) && typeof value !== "object") parts.push(name === "by" ? `by ${value}` : words(String(value)));
    else if (isId(value)) parts.push(el("a", { href: `/incidents/${value}`, "data-link": true }, [name === "child" ? "" : words(name), known.get(value) || value.slice(0, 8)].join(" ").trim()));
    else parts.push(`${words(name)}: ${worded(value)}`);
  }
  return parts.flatMap((part, index) => [index ? (event === "comment" ? ": " : " · ") : "", el("bdi", {}, part)]);
}

// What another part of the same entry says already.
const hidden = (event, name) => (event === "escalated" && ["run", "round", "policy"].includes(name)) || (event === "merged" && name === "rule");

// Why a rule put it under another incident: what they share, and how soon after each other.
function evidence(text, known) {
  let seen = {};
  try { seen = JSON.parse(text); } catch { return text; }
  const shared = worded(seen.labels || {});
  const others = (seen.with || []).map((id) => known.get(id)).filter(Boolean);
  const more = (seen.with || []).length - 1;
  const whom = seen.title || others[0] || "another incident";
  return `${shared === "nothing" ? "met" : `shares ${shared} with`} “${whom}”${more > 0 ? ` and ${more} more` : ""} within ${seen.within}`
    + (seen.alerts > 1 ? `, ${seen.alerts} alerts` : "");
}

const PLAIN = ["by", "why", "reason", "severity"];

// A value in words: moments in the reader's zone, changes with an arrow, labels as people write them.
function worded(value) {
  if (value === null || value === undefined || value === "") return "nothing";
  if (typeof value === "string") return /^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(value) ? time(value) : value;
  if (Array.isArray(value)) return value.map(worded).join(", ");
  if (typeof value !== "object") return String(value);
  if ("before" in value && "after" in value) return `${worded(value.before)} → ${worded(value.after)}`;
  return Object.entries(value).map(([name, one]) => `${name}=${worded(one)}`).join(" ") || "nothing";
}
