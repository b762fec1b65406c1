// Silences: what is muted and until when, a form with a preview, and who changed what.
import { el, badge, empty, number, redrawn, time, words } from "/static/dom.js";
import { Failure, ask, send } from "/static/feed.js";
import { openDialog } from "/static/dialog.js";
import { mayAct, myName, session } from "/static/session.js";

const LENGTHS = { "30": "30 minutes", "60": "1 hour", "240": "4 hours", "480": "8 hours", "1440": "1 day", "10080": "1 week" };
const SEVERITIES = ["critical", "error", "warning", "info", "unknown"];
const SHOWN = 20;
const PATH = "/api/v1/silences";
const MATCHER = /^\s*([^\s=!~"]+)\s*(=~|!~|!=|=)\s*(.*?)\s*$/s;

// `service=chat, alertname=~"Cost.*"` as the API takes it; throws what is wrong.
export function conditions(text) {
  const parts = text.match(/(?:"(?:[^"\\]|\\.)*"|[^,"])+/g) || [];
  return parts.filter((part) => part.trim()).map((part) => {
    const found = MATCHER.exec(part);
    if (!found) throw new Error(`“${part.trim()}” is not a condition: write it like service=chat`);
    const [, name, op, raw] = found;
    const quoted = /^"(.*)"$/s.exec(raw);
    return { name, op, value: quoted ? quoted[1].replace(/\\(["\\])/g, "$1") : raw };
  });
}

export const written = ({ name, op, value }) => `${name}${op}"${value.replace(/(["\\])/g, "\\$1")}"`;

export class Silences {
  constructor() {
    this.opened = new Map();
    this.said = el("div", { class: "said", role: "status", "aria-live": "polite" });
    this.list = el("section", { class: "panel" }, el("p", { class: "loading" }, "Loading…"));
    this.node = el("div", { class: "view" }, mayAct() ? this.form() : this.said, this.list);
    this.load();
  }

  form() {
    const query = new URLSearchParams(location.search);
    this.matchers = field("matchers", { placeholder: 'service=chat, alertname=~"Cost.*"', value: query.get("matchers") || "", required: true, maxlength: 2000, spellcheck: "false" });
    this.comment = field("comment", { placeholder: "Why", required: true, maxlength: 1000 });
    this.author = field("author", { placeholder: "Your name", required: true, maxlength: 200, value: myName(), disabled: session.kind !== "anonymous" });
    this.length = el("select", { id: "length" }, Object.entries(LENGTHS).map(([value, text]) => el("option", { value, selected: value === "60" }, text)));
    return el("form", { class: "panel silence-form", onsubmit: (event) => { event.preventDefault(); this.create(); } },
      el("h2", {}, "New silence"),
      el("div", { class: "fields" },
        labelled("Alerts that meet all of", this.matchers), labelled("For", this.length),
        labelled("Comment", this.comment), labelled("Created by", this.author),
        el("p", { class: "buttons" },
          el("button", { type: "button", onclick: () => this.preview() }, "Preview"),
          el("button", { type: "submit", class: "primary" }, "Silence"))),
      this.said);
  }

  body() {
    const ends = new Date(Date.now() + Number(this.length.value) * 60000);
    return {
      matchers: [conditions(this.matchers.value)], ends_at: ends.toISOString(),
      created_by: this.author.value.trim() || myName(), comment: this.comment.value.trim(),
    };
  }

  async preview() {
    try {
      this.shown(await ask(`${PATH}/preview`, null, { method: "POST", body: this.body() }));
    } catch (error) { this.complain(error); }
  }

  shown(found) {
    const incidents = [...found.incidents].sort((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity));
    const alerts = found.alerts.slice(0, SHOWN);
    const more = Math.max(found.incident_count - SHOWN, 0) + Math.max(found.alert_count - SHOWN, 0);
    this.said.replaceChildren(
      el("p", {}, `It would mute ${count(found.alert_count, "firing alert")} of ${count(found.incident_count, "open incident")}.`),
      el("ul", { class: "hits" },
        incidents.slice(0, SHOWN).map((one) => el("li", {}, badge("severity", one.severity),
          el("a", { href: `/incidents/${one.id}`, "data-link": true }, one.title),
          el("small", {}, `${number(one.muted)} of ${number(one.firing)} alerts`))),
        alerts.map((one) => el("li", {}, badge("alert", "firing"), el("span", {}, one.summary || one.labels.alertname),
          el("small", {}, Object.entries(one.labels).map(([name, value]) => `${name}=${value}`).join(" ")))),
        more ? el("li", {}, el("small", {}, `and ${number(more)} more`)) : null));
  }

  async create() {
    try {
      const made = await ask(PATH, null, { method: "POST", body: this.body() });
      if (session.kind === "anonymous") localStorage.setItem("author", made.created_by);
      this.said.replaceChildren(el("p", {}, `Silenced until ${time(made.ends_at)}.`));
      this.comment.value = "";
      await this.load();
    } catch (error) { this.complain(error); }
  }

  complain(error) { this.said.replaceChildren(el("p", { class: "wrong" }, error.message)); }

  async expire(id) {
    const by = encodeURIComponent(this.author.value.trim() || "page");
    try { await ask(`${PATH}/${id}/expire?by=${by}`, null, { method: "POST", body: {} }); } catch (error) { this.complain(error); }
    await this.load();
  }

  // Another end, or another comment: it stays the same silence.
  change(one) {
    openDialog({
      title: `Change the silence of ${one.matchers.map((each) => each.map(written).join(", ")).join(" or ")}`,
      fields: [
        { name: "length", label: "Ends", kind: "select", options: { "": `As it is: ${time(one.ends_at)}`, ...Object.fromEntries(Object.entries(LENGTHS).map(([value, text]) => [value, `${text} from now`])) } },
        { name: "comment", label: "Comment", value: one.comment, required: true, maxlength: 1000 }],
      submit: async ({ length, comment }) => {
        const { matchers, starts_at, annotations, remind_before, remind_to } = one;
        const { body: now, etag } = await send(`${PATH}/${one.id}`);
        if (now.updated_at !== one.updated_at) throw new Failure(412, "Somebody changed it meanwhile. Close this, look at it, and try again.");
        const ends_at = length ? new Date(Date.now() + Number(length) * 60000).toISOString() : one.ends_at;
        await ask(`${PATH}/${one.id}`, null, { method: "PUT", headers: etag ? { "if-match": etag } : {}, body: {
          matchers, starts_at, ends_at, annotations, remind_before, remind_to, comment, team: one.team || null,
          created_by: this.author.value.trim() || myName() || one.created_by } });
        await this.load();
      },
    });
  }

  async audit(id, open) {
    if (!open) { this.opened.delete(id); return; }
    if (this.opened.has(id)) return;
    this.opened.set(id, []);
    try { this.opened.set(id, await ask(`${PATH}/${id}/audit`)); } catch { this.opened.delete(id); }
    this.draw();
  }

  async load() {
    try { this.silences = await ask(PATH); this.failed = null; } catch (error) { this.failed = error; }
    this.draw();
  }

  changed() {}
  sample() {}
  reset() { this.load(); }
  away() {}
  every15() { this.load(); }

  draw() {
    if (this.failed) { this.list.replaceChildren(empty("Silences cannot be shown right now", `${this.failed.message} This page keeps trying.`)); return; }
    const order = ["active", "pending", "expired"];
    const sorted = [...this.silences].sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state) || Date.parse(a.ends_at) - Date.parse(b.ends_at));
    const on = sorted.filter((one) => one.state !== "expired").length;
    redrawn(this.list, () => this.list.replaceChildren(el("h2", {}, "Silences ", el("small", {}, `${number(on)} on or to come`)),
      sorted.length ? el("ul", { class: "silences" }, sorted.map((one) => this.row(one)))
        : empty("Nothing is silenced", "Everybody is told of everything.")));
  }

  row(one) {
    const alternatives = one.matchers.map((each) => each.map(written).join(", ")).join("  or  ");
    const times = one.state === "pending" ? `from ${time(one.starts_at)}` : one.state === "active" ? `until ${time(one.ends_at)}` : `ended ${time(one.ends_at)}`;
    const back = one.recurrence ? ` · comes back: ${one.recurrence.rule} until ${time(one.over_at)}` : "";
    return el("li", { dataset: { state: one.state } },
      badge("silence", one.state),
      el("div", { class: "what" }, el("code", {}, alternatives), el("p", {}, `${one.comment} — ${one.created_by}, ${times}${back}`),
        el("details", { open: this.opened.has(one.id), ontoggle: (event) => this.audit(one.id, event.target.open) },
          el("summary", { dataset: { focus: `audit:${one.id}` } }, "Who changed it"),
          el("ul", {}, (this.opened.get(one.id) || []).map((entry) => el("li", {}, `${time(entry.at)}: ${words(entry.action)} by ${entry.actor}`))))),
      one.state === "expired" || !mayAct() ? null : el("div", { class: "actions" },
        one.recurrence ? null : el("button", { type: "button", dataset: { focus: `change:${one.id}` }, onclick: () => this.change(one) }, "Change"),
        el("button", { type: "button", dataset: { focus: `expire:${one.id}` }, onclick: () => this.expire(one.id) }, "Expire")));
  }
}

const field = (id, more) => el("input", { id, name: id, type: "text", autocomplete: "off", ...more });
const labelled = (name, input) => el("label", {}, el("span", {}, name), input);
const count = (value, word) => `${number(value)} ${word}${value === 1 ? "" : "s"}`;
