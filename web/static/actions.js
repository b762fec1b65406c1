// What people can do to incidents: when it can be done, what it asks for, and what it sends.
import { el, number, words } from "/static/dom.js";
import { Failure, ask, onceKey, send } from "/static/feed.js";
import { openDialog } from "/static/dialog.js";
import { pickIncident } from "/static/pick.js";
import { myName } from "/static/session.js";

const PATH = "/api/v1/incidents";
const AT_ONCE = 6;
const ACTIVE = ["open", "acknowledged"];
const SEVERITIES = ["critical", "error", "warning", "info", "unknown"];
export const KINDS = [
  "provider_outage", "rate_limit", "latency", "cost", "drift", "eval_drop", "hallucination", "format_break",
  "prompt_injection", "data_leak", "runaway_agent", "stale_index", "infrastructure", "application", "security",
  "data", "other",
];
const SNOOZES = { "30m": "30 minutes", "1h": "1 hour", "2h": "2 hours", "4h": "4 hours", "8h": "8 hours", "24h": "1 day", "72h": "3 days", "168h": "1 week", until: "Until…" };
const COMMENT = { name: "comment", label: "Comment (optional)", kind: "area", maxlength: 4000 };
const under = (item) => item.status === "merged" || Boolean(item.parent_id);
const active = (item) => ACTIVE.includes(item.status);

// In the order they are shown. `many`: may be done to several at once. Without `form` it is done at once.
export const ACTIONS = {
  acknowledge: { label: "Acknowledge", key: "a", many: true, can: (item) => item.status === "open" },
  unacknowledge: { label: "Unacknowledge", key: "A", many: true, can: (item) => item.status === "acknowledged" },
  resolve: {
    label: "Resolve", key: "r", many: true, can: (item) => item.status !== "resolved",
    form: ([first, ...rest]) => ({
      intro: first.firing && !rest.length ? `${number(first.firing)} of its alerts still fire; what fires anew reopens it.` : "",
      fields: [COMMENT],
    }),
  },
  reopen: { label: "Reopen", key: "o", many: true, can: (item) => item.status === "resolved", form: () => ({ fields: [COMMENT] }) },
  snooze: {
    label: "Snooze", key: "s", many: true, can: active,
    form: () => ({
      intro: "Nobody is told of it until then.",
      fields: [
        { name: "length", label: "For", kind: "select", options: SNOOZES, value: "1h" },
        { name: "until", label: "Or until", type: "datetime-local" }, COMMENT],
    }),
    body: ({ length, until, comment }) => {
      if (length !== "until" && !until) return { for: length, comment };
      if (!until) throw new Failure(0, "", [{ field: "until", reason: "Say until when." }]);
      return { until: new Date(until).toISOString(), comment };
    },
  },
  unsnooze: { label: "End snooze", key: "S", many: true, can: (item) => active(item) && item.snoozed_until },
  assign: {
    label: "Assign", key: "i", many: true, can: () => true,
    form: ([first]) => ({
      intro: "Leave it empty for nobody.",
      fields: [{ name: "assignee", label: "To", value: first.assignee || myName(), known: [myName()].filter(Boolean), maxlength: 200 }, COMMENT],
    }),
  },
  comment: {
    label: "Comment", key: "c", many: true, path: "comments", can: () => true,
    form: () => ({ fields: [{ name: "text", label: "Comment", kind: "area", required: true, maxlength: 4000 }] }),
  },
  edit: {
    label: "Edit", key: "e", go: "Save", can: () => true,
    form: ([item]) => ({
      fields: [
        { name: "title", label: "Title", value: item.title, required: true, maxlength: 255 },
        { name: "description", label: "Description", kind: "area", value: item.description, maxlength: 20000 },
        { name: "severity", label: "Severity", kind: "select", options: { "": "As it is", auto: "What its alerts say", ...Object.fromEntries(SEVERITIES.map((one) => [one, one])) } },
        { name: "kind", label: "Kind", kind: "select", value: item.kind, options: Object.fromEntries(KINDS.map((one) => [one, words(one)])) },
        { name: "labels", label: "Labels", kind: "area", value: labelsText(item.labels), placeholder: "name=value, one a line", maxlength: 4000 }],
    }),
  },
  merge: {
    label: "Merge", key: "m", many: true, can: active,
    form: (items) => ({
      intro: "The other incident speaks for it from then on; Split undoes it.",
      fields: [{ name: "into", kind: "own", required: true, make: (common) => pickIncident(common, items) }, COMMENT],
    }),
  },
  split: { label: "Split", key: "p", many: true, can: (item) => under(item) && !item.rule },
  uncorrelate: {
    label: "Undo correlation", key: "p", can: (item) => under(item) && Boolean(item.rule),
    form: ([item]) => ({
      intro: `The rule “${item.rule}” put it under another incident. It will speak for itself again, and that rule leaves it and the next incidents of its group alone.`,
      fields: [COMMENT],
    }),
  },
  link: {
    label: "Add link", key: "l", path: "links", can: () => true,
    form: () => ({
      fields: [
        { name: "url", label: "Address", type: "url", required: true, placeholder: "https://", maxlength: 2000 },
        { name: "title", label: "Title", maxlength: 200 }],
    }),
  },
};

// Does it to every one of the items that it can be done to. `done(incident, detail)` has each new state,
// `said(text)` what to tell beside the button.
export async function perform(name, items, { done, said }) {
  const action = ACTIONS[name];
  const able = items.filter((item) => action.can(item));
  if (!able.length) return said(`${action.label}: this cannot be done to ${items.length === 1 ? "it" : "any of them"}.`);
  if (!action.form) return attempt(name, able, {}, done).then(said, (error) => said(error.message));
  const { intro, fields } = action.form(able);
  const title = `${action.label}: ${able.length === 1 ? able[0].title : `${number(able.length)} incidents`}`;
  let left = able;
  await openDialog({
    title, intro, fields, label: action.go || action.label,
    submit: async (values) => {
      const failed = [];
      const text = await attempt(name, left, values, done, failed);
      if (failed.length) {
        left = failed.map(({ item }) => item);
        throw failed.length === 1 && able.length === 1 ? failed[0].error : new Failure(0, failed.map(({ item, error }) => `${item.title}: ${error.message}`).join("\n"));
      }
      said(text);
    },
  });
  return undefined;
}

// Sends it for all, a few at a time; what to say of it. Throws, or fills `failed`, where it could not be done.
async function attempt(name, items, values, done, failed = null) {
  const action = ACTIONS[name];
  const queue = [...items];
  const wrong = failed || [];
  let waiting = 0;
  const worker = async () => {
    for (let item = queue.shift(); item; item = queue.shift()) {
      try {
        const { status, body } = await submit(action, name, item, values);
        if (status === 202) waiting += 1; else if (body) done(body.incident, body);
      } catch (error) { wrong.push({ item, error }); }
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, worker));
  if (wrong.length && !failed) throw new Failure(wrong[0].error.status, wrong.map(({ item, error }) => (items.length > 1 ? `${item.title}: ${error.message}` : error.message)).join(" "));
  return waiting ? "It is taken, and shows here as soon as it is done." : "";
}

async function submit(action, name, item, values) {
  if (name === "edit") return edit(item, values);
  const body = clean(action.body ? action.body(values) : values, name === "assign" ? ["assignee"] : []);
  if (name === "merge" && body.into === item.id) return { status: 200, body: null };
  const path = `${PATH}/${item.id}/${action.path || name}`;
  const headers = onceKey();
  try {
    return await send(path, { method: "POST", body, headers });
  } catch (error) {
    if (error.status) throw error;
    return send(path, { method: "POST", body, headers });
  }
}

// Only what was changed, against the version that was shown: alerts may have changed what a person did not.
async function edit(item, values) {
  const body = {};
  if (values.title !== item.title) body.title = values.title;
  if (values.description !== (item.description || "")) body.description = values.description;
  if (values.kind !== item.kind) body.kind = values.kind;
  if (values.severity) body.severity = values.severity === "auto" ? null : values.severity;
  const labels = labelsOf(values.labels);
  if (labelsText(labels) !== labelsText(item.labels)) body.labels = labels;
  if (!Object.keys(body).length) throw new Failure(0, "Nothing is changed.");
  const path = `${PATH}/${item.id}`;
  let { revision } = item;
  for (let left = 5; ; left -= 1) {
    try {
      return await send(path, { method: "PATCH", body, headers: { "if-match": `"${revision}"` } });
    } catch (error) {
      if (error.status !== 412) throw error;
      const { incident, labels: now } = await ask(path);
      const same = incident.title === item.title && incident.kind === item.kind && incident.description === item.description && labelsText(now) === labelsText(item.labels);
      if (!same || !left) throw new Failure(412, "Somebody changed it meanwhile. Close this, look at it, and try again.");
      revision = incident.revision;
    }
  }
}

const clean = (values, kept) => Object.fromEntries(Object.entries(values).filter(([name, value]) => value !== "" || kept.includes(name)));
const labelsText = (pairs) => Object.entries(pairs || {}).sort().map(([name, value]) => `${name}=${value}`).join("\n");

function labelsOf(text) {
  return Object.fromEntries(text.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
    const at = line.indexOf("=");
    if (at < 1) throw new Failure(0, "", [{ field: "labels", reason: `“${line}” is not a label: write it like service=chat` }]);
    return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
  }));
}

// Black out the title, the description, or one entry of the timeline.
export function redact(item, what, name, done) {
  return openDialog({
    title: `Redact ${name}`, label: "Redact", danger: true,
    intro: "Its text is blacked out for good. That it was done, by whom and why, stays in the timeline.",
    fields: [{ name: "reason", label: "Why", required: true, maxlength: 1000 }],
    submit: async ({ reason }) => {
      const { body } = await send(`${PATH}/${item.id}/redact`, { method: "POST", body: { ...what, reason }, headers: onceKey() });
      if (body?.incident) done(body.incident, body);
    },
  });
}

// An incident by hand; `go` shows it.
export function openByHand(go) {
  return openDialog({
    title: "Open an incident", label: "Open",
    fields: [
      { name: "title", label: "What is wrong", required: true, maxlength: 255 },
      { name: "severity", label: "Severity", kind: "select", value: "error", options: Object.fromEntries(SEVERITIES.map((one) => [one, one])) },
      { name: "kind", label: "Kind", kind: "select", value: "other", options: Object.fromEntries(KINDS.map((one) => [one, words(one)])) },
      { name: "description", label: "Description", kind: "area", maxlength: 20000 },
      { name: "labels", label: "Labels", kind: "area", placeholder: "service=chat, one a line", help: "They choose the route, and so who is told." }],
    submit: async ({ labels, ...values }) => {
      const pairs = labelsOf(labels);
      const body = { ...clean(values, []), ...(Object.keys(pairs).length ? { labels: pairs } : {}) };
      const { status, body: made } = await send(PATH, { method: "POST", body, headers: onceKey() });
      if (status !== 202) go(`/incidents/${made.incident.id}`);
    },
  });
}

// Buttons for what can be done to an item now; `data-focus` finds a button again that was drawn anew.
export function buttons(items, act, many = false) {
  return Object.entries(ACTIONS).filter(([, action]) => (!many || action.many) && items.some((item) => action.can(item)))
    .map(([name, action]) => el("button", {
      type: "button", class: name === "acknowledge" ? "primary" : null, dataset: { action: name, focus: `action:${name}` },
      "aria-keyshortcuts": action.key, title: `${action.label} (${action.key})`, onclick: () => act(name),
    }, action.label));
}
