// Jobs: when each runs next, how the last run went, all runs with their logs, and running, pausing and cancelling;
// exports, and the heartbeats that are watched.
import { el, age, badge, duration, empty, number, redrawn, time, until, words } from "/static/dom.js";
import { openDialog } from "/static/dialog.js";
import { ask, onceKey } from "/static/feed.js";
import { mayAct, session } from "/static/session.js";

const PATH = "/api/v1/jobs";
const RUNS = "/api/v1/job-runs";
const BEATS = "/api/v1/heartbeats";
const EXPORTS = { incidents: "Incidents", alerts: "Alerts" };
const FORMATS = { csv: "CSV", jsonl: "JSON, one object a line" };
const LIVE = ["due", "running"];

export class Jobs {
  constructor() {
    this.opened = new Map();
    this.logs = new Map();
    this.said = new Map();
    this.list = el("section", { class: "panel" }, el("p", { class: "loading" }, "Loading…"));
    this.work = el("div");
    this.beats = el("div");
    const give = mayAct() ? el("div", { class: "over" }, el("span"), el("button", { type: "button", class: "plain", dataset: { focus: "export" }, onclick: () => this.export() }, "Export…")) : null;
    this.node = el("div", { class: "view" }, ...[give, this.list, this.work, this.beats].filter(Boolean));
    this.load();
  }

  async load() {
    try {
      const [jobs, work, watched] = await Promise.all([ask(PATH), ask(`${RUNS}?limit=50`), ask(BEATS)]);
      this.jobs = jobs;
      this.watched = watched;
      this.asked = work.items.filter((run) => !run.job);
      // One that was open may be gone meanwhile.
      for (const name of this.opened.keys()) if (!jobs.some((job) => job.name === name)) this.opened.delete(name);
      await Promise.all([...this.opened.keys()].map((name) => this.loadRuns(name)));
      this.failed = null;
    } catch (error) { this.failed = error; }
    this.draw();
  }

  async loadRuns(name) { this.opened.set(name, (await ask(`${PATH}/${encodeURIComponent(name)}`)).runs); }

  changed() {}
  // What runs is looked at again every few seconds.
  sample() {
    this.beat = (this.beat || 0) + 1;
    const live = [...(this.jobs || []).map((job) => job.last), ...(this.asked || [])].some((run) => run && LIVE.includes(run.state));
    if (live && this.beat % 2 === 0 && !document.hidden) this.load();
  }
  reset() { this.load(); }
  away() {}
  every15() { this.load(); }

  draw() {
    if (this.failed) {
      this.list.replaceChildren(empty("Jobs cannot be shown right now", `${this.failed.message} This page keeps trying.`));
      return;
    }
    redrawn(this.list, () => this.list.replaceChildren(el("h2", {}, "Jobs ", el("small", {}, number(this.jobs.length))),
      this.jobs.length ? el("ul", { class: "jobs" }, this.jobs.map((job) => this.job(job))) : empty("No jobs", "The rules file and the API make them.")));
    redrawn(this.work, () => this.work.replaceChildren(...(this.asked.length ? [el("section", { class: "panel" }, el("h2", {}, "Background work"),
      el("ul", { class: "runs" }, this.asked.map((run) => this.run(run))))] : [])));
    redrawn(this.beats, () => this.beats.replaceChildren(...(this.watched.length ? [el("section", { class: "panel" }, el("h2", {}, "Heartbeats ", el("small", {}, number(this.watched.length))),
      el("ul", { class: "runs" }, this.watched.map((one) => this.heartbeat(one))))] : [])));
  }

  // A thing that is to be heard of: since when it was, and until when it must be again.
  heartbeat(one) {
    const missing = one.state === "missing";
    return el("li", { dataset: { heartbeat: one.name } },
      badge("task", one.state), el("b", {}, one.name),
      el("span", { class: "what" }, `every ${duration(one.interval_seconds)} · last heard of `, age(one.last_beat_at), " ago",
        ...(missing ? [] : [" · due ", until(one.due_at)])),
      mayAct() ? button("Watch no more", `beat:${one.team}/${one.name}`, () => this.forget(one), "quiet") : null,
      el("p", { class: "wrong", role: "alert" }, this.said.get(`beat:${one.name}`) || ""));
  }

  forget({ name }) {
    openDialog({
      title: `Watch ${name} no more?`, label: "Watch no more", danger: true, fields: [],
      intro: "If it is missing, its alert ends. Its next beat with an interval has it watched again.",
      submit: async () => { await ask(`${BEATS}/${encodeURIComponent(name)}`, null, { method: "DELETE" }); await this.load(); },
    });
  }

  export() {
    openDialog({
      title: "Export", label: "Export", intro: "It is written in the background; a link to it shows here when it is done.",
      fields: [
        { name: "what", label: "What", kind: "select", options: EXPORTS, value: "incidents" },
        { name: "format", label: "As", kind: "select", options: FORMATS, value: "csv" }],
      submit: async (chosen) => {
        await ask(RUNS, null, { method: "POST", headers: onceKey(), body: { action: "export", arguments: chosen } });
        await this.load();
      },
    });
  }

  // Only what the API made can be dropped; the rest is in the rules file.
  drop({ name }) {
    openDialog({
      title: `Drop the job ${name}?`, label: "Drop", danger: true, fields: [], intro: "Its runs are kept for a while.",
      submit: async () => { await ask(`${PATH}/${encodeURIComponent(name)}`, null, { method: "DELETE" }); await this.load(); },
    });
  }

  job(job) {
    const path = `${PATH}/${encodeURIComponent(job.name)}`;
    const runs = this.opened.get(job.name);
    const next = job.paused ? `paused${job.paused_by ? ` by ${job.paused_by}` : ""}` : job.next_at ? ["next ", until(job.next_at)] : "runs when asked";
    return el("li", { dataset: { job: job.name } },
      el("div", { class: "job" },
        el("div", { class: "what" }, el("b", {}, job.name), " ", el("small", {}, words(job.action)),
          el("p", {}, job.schedule ? el("code", {}, job.schedule) : null, job.schedule ? ` ${job.zone} · ` : "", next,
            job.last ? [" · last ", badge("task", job.last.state), " ", age(job.last.finished_at || job.last.started_at || job.last.created_at), " ago"] : " · never ran")),
        mayAct() ? el("div", { class: "actions" },
          button("Run now", `run:${job.name}`, () => this.change(job.name, `${path}/run`)),
          job.paused ? button("Resume", `pause:${job.name}`, () => this.change(job.name, `${path}/resume`))
            : job.schedule ? button("Pause", `pause:${job.name}`, () => this.change(job.name, `${path}/pause`)) : null,
          job.origin === "api" && session.scopes.includes("admin") ? button("Drop", `drop:${job.name}`, () => this.drop(job)) : null) : null),
      el("p", { class: "wrong", role: "alert" }, this.said.get(job.name) || ""),
      el("details", { open: Boolean(runs), ontoggle: (event) => this.toggle(job.name, event.target.open) },
        el("summary", { dataset: { focus: `runs:${job.name}` } }, "Runs"),
        runs ? el("ul", { class: "runs" }, runs.length ? runs.map((run) => this.run(run)) : el("li", {}, "It never ran.")) : null));
  }

  run(run) {
    const log = this.logs.get(run.id);
    const facts = [run.slot_at ? `slot of ${time(run.slot_at)}` : `asked for by ${run.asked_by}`];
    if (run.seconds !== null) facts.push(run.seconds < 60 ? `${run.seconds.toFixed(1)} s` : duration(run.seconds));
    if (run.attempt > 1) facts.push(`attempt ${run.attempt} of ${run.max_attempts}`);
    if (run.deaths) facts.push(`its worker died ${run.deaths}×`);
    if (run.missed > 1) facts.push(`for ${run.missed} missed slots`);
    if (run.error) facts.push(run.error);
    return el("li", {},
      badge("task", run.state), run.job ? null : el("b", {}, words(run.action)), el("span", { class: "what" }, facts.join(" · ")),
      run.total ? el("progress", { max: run.total, value: run.done, "aria-label": `${number(run.done)} of ${number(run.total)}` }) : null,
      age(run.created_at),
      run.action === "export" && run.state === "succeeded" ? el("a", { href: `${RUNS}/${run.id}/file`, download: true }, "Download") : null,
      button("Log", `log:${run.id}`, () => this.log(run.id), "quiet"),
      mayAct() && LIVE.includes(run.state) ? button("Cancel", `cancel:${run.id}`, () => this.change(run.job || run.id, `${RUNS}/${run.id}/cancel`), "quiet") : null,
      run.job ? null : el("p", { class: "wrong", role: "alert" }, this.said.get(run.id) || ""),
      log ? el("pre", {}, log.map((line) => `${time(line.at)}  ${line.line}`).join("\n") || "It said nothing.") : null);
  }

  async toggle(name, open) {
    if (open === this.opened.has(name)) return;
    if (!open) { this.opened.delete(name); return; }
    try { await this.loadRuns(name); } catch (error) { this.said.set(name, error.message); }
    this.draw();
  }

  async log(id) {
    if (this.logs.has(id)) this.logs.delete(id);
    else {
      try { this.logs.set(id, (await ask(`${RUNS}/${id}`)).log); } catch (error) { this.logs.set(id, [{ at: new Date().toISOString(), line: error.message }]); }
    }
    this.draw();
  }

  async change(about, path) {
    this.said.delete(about);
    try { await ask(path, null, { method: "POST", headers: onceKey() }); } catch (error) { this.said.set(about, error.message); }
    this.load();
  }
}

const button = (text, focus, onclick, kind = null) => el("button", { type: "button", class: kind, dataset: { focus }, onclick }, text);
