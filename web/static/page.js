// The page: which view is shown, the connection's state, the keys, and what the stream says.
import { compact, number, tick } from "/static/dom.js";
import { follow } from "/static/feed.js";
import { Chart } from "/static/chart.js";
import { Incidents } from "/static/incidents.js";
import { Incident } from "/static/incident.js";
import { Silences } from "/static/silences.js";
import { Jobs } from "/static/jobs.js";
import { Tables } from "/static/tables.js";
import { listen, showKeys } from "/static/keys.js";
import { loadSession, whoButton } from "/static/session.js";

const STATES = {
  live: "Live", connecting: "Reconnecting", away: "Database away",
};
const LETTERS = "dead letters";
const main = document.getElementById("main");
const connection = document.getElementById("connection");
const notice = document.getElementById("notice");
const sums = document.getElementById("sums");
const chart = new Chart();
let view = null;
let lastSample = null;
let link = "connecting";
let away = [];

function go(path) {
  history.pushState(null, "", path);
  show(true);
}

function show(moved) {
  const [, name, id] = location.pathname.split("/");
  document.title = "Incidents";
  if (name === "incidents" && id) view = new Incident(id, go);
  else if (name === "silences") view = new Silences();
  else if (name === "jobs") view = new Jobs();
  else if (name === "tables") view = new Tables();
  else view = new Incidents(chart, go);
  main.replaceChildren(view.node);
  if (lastSample) view.sample(lastSample);
  for (const link of document.querySelectorAll("nav [data-view]")) {
    if (link.dataset.view === (["silences", "jobs", "tables"].includes(name) ? name : "incidents")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (moved) { scrollTo(0, 0); main.focus({ preventScroll: true }); }
}

function said(sample) {
  lastSample = sample;
  const { totals } = sample;
  sums.textContent = `${number(totals.received)} events received · ${compact(totals.new)} new · ${compact(totals.duplicate)} folded · ${compact(totals.resolved)} resolved · ${compact(totals.rejected)} rejected`;
  notice.hidden = true;
  away = sample.away;
  status();
  view.sample(sample);
}

function status() {
  const gone = away.filter((name) => name !== LETTERS);
  const without = link !== "live" ? "" : gone.length ? `${gone.join(", ")} away` : away.length ? `${LETTERS} wait` : "";
  const text = without ? `Live, but ${without}` : STATES[link];
  const state = without ? "degraded" : link;
  if (connection.dataset.state !== state) connection.dataset.state = state;
  const said = connection.querySelector("span");
  if (said.textContent !== text) { said.textContent = text; connection.title = text; }
}

const begin = () => follow({
  state(name) { link = name; status(); },
  hello({ history: points, sample }) {
    if (!entered) enter();
    chart.reset(points);
    if (sample) said(sample);
  },
  sample(sample) {
    if (sample.point) chart.add(sample.point);
    said(sample);
  },
  changed(items) { view.changed(items); },
  reset() { view.reset(); },
  away({ reason }) {
    notice.textContent = `${reason}. What you see may be old; alerts are still taken in, and this page goes on by itself.`;
    notice.hidden = false;
    view.away();
  },
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-link]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
const keys = {
  "/": ["Search", () => document.getElementById("search")?.focus()],
  "?": ["These keys", () => showKeys(keys, view?.keys?.() || {})],
};
listen(keys, () => view?.keys?.() || {});
document.addEventListener("focusin", () => view?.focused?.());
document.getElementById("keys").addEventListener("click", () => keys["?"][1]());

let entered = false;
async function enter() {
  try { await loadSession(); } catch { return; }
  entered = true;
  drawWho();
  show(false);
}

function drawWho() { document.getElementById("who").replaceChildren(whoButton(() => { drawWho(); show(false); })); }
addEventListener("popstate", () => show(true));
setInterval(tick, 1000);
setInterval(() => { if (!document.hidden) view.every15(); }, 15000);
await enter();
if (!entered) show(false);
begin();
