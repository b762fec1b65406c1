// The page: which view is shown, the connection's state, and what the stream says.
import { compact, number, tick } from "/static/dom.js";
import { follow } from "/static/feed.js";
import { Chart } from "/static/chart.js";
import { Incidents } from "/static/incidents.js";
import { Incident } from "/static/incident.js";
import { Silences } from "/static/silences.js";
import { Tables } from "/static/tables.js";

const STATES = {
  live: "Live", connecting: "Reconnecting", away: "Database away",
};
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
  if (name === "incidents" && id) view = new Incident(id);
  else if (name === "silences") view = new Silences();
  else if (name === "tables") view = new Tables();
  else view = new Incidents(chart, go);
  main.replaceChildren(view.node);
  if (lastSample) view.sample(lastSample);
  for (const link of document.querySelectorAll("nav [data-view]")) {
    if (link.dataset.view === (["silences", "tables"].includes(name) ? name : "incidents")) link.setAttribute("aria-current", "page");
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
  const without = link === "live" && away.length ? away.join(", ") : "";
  const text = without ? `Live, but ${without} away` : STATES[link];
  const state = without ? "degraded" : link;
  if (connection.dataset.state !== state) connection.dataset.state = state;
  const said = connection.querySelector("span");
  if (said.textContent !== text) { said.textContent = text; connection.title = text; }
}

follow({
  state(name) { link = name; status(); },
  hello({ history: points, sample }) {
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
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input, select, textarea")) {
    const search = document.getElementById("search");
    if (search) { event.preventDefault(); search.focus(); }
  }
});
addEventListener("popstate", () => show(true));
setInterval(tick, 1000);
setInterval(() => { if (!document.hidden) view.every15(); }, 15000);
show(false);
