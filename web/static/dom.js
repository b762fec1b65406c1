// Building elements and wording values. Text always goes in as text, never as markup.

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const number = (value) => whole.format(value);
export const compact = (value) => (value < 10000 ? whole.format(value) : short.format(value));
export const time = (iso) => clock.format(new Date(iso));
export const words = (name) => name.replaceAll("_", " ");

export function bytes(value) {
  if (value < 1024) return `${value} B`;
  const units = ["KiB", "MiB", "GiB"];
  let unit = -1;
  let size = value;
  do { size /= 1024; unit += 1; } while (size >= 1024 && unit < units.length - 1);
  return `${size.toFixed(size < 10 ? 1 : 0)} ${units[unit]}`;
}

export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${Math.floor((s % 3600) / 60)}m`;
  return `${Math.floor(s / 86400)}d ${Math.floor((s % 86400) / 3600)}h`;
}

export const since = (iso) => duration((Date.now() - Date.parse(iso)) / 1000);

// A time that keeps saying how long ago it was; `tick` renews all of them.
export function age(iso, from = null) {
  const node = el("time", { datetime: iso, title: time(iso), class: "age" });
  if (from) node.textContent = duration((Date.parse(from) - Date.parse(iso)) / 1000);
  else { node.dataset.age = iso; node.textContent = since(iso); }
  return node;
}

// A time to come that keeps saying how far off it is.
export function until(iso) {
  const node = el("time", { datetime: iso, title: time(iso), class: "until", dataset: { until: iso } });
  node.textContent = ahead(iso);
  return node;
}

const ahead = (iso) => (Date.parse(iso) > Date.now() ? `in ${duration((Date.parse(iso) - Date.now()) / 1000)}` : "now");

export function tick(root = document) {
  for (const node of root.querySelectorAll("[data-until]")) node.textContent = ahead(node.dataset.until);
  for (const node of root.querySelectorAll("[data-age]")) {
    const text = since(node.dataset.age);
    if (node.textContent !== text) node.textContent = text;
  }
}

// A button that is drawn anew while it is pressed would never be clicked, so drawing waits until it is let go.
let pressed = false;
const waiting = new Map();
addEventListener("pointerdown", () => { pressed = true; }, true);
for (const name of ["pointerup", "pointercancel", "dragend", "blur", "keydown"]) addEventListener(name, letGo, true);
// The list of a select, or another window, may take the moment of letting go for itself.
addEventListener("pointermove", (event) => { if (!event.buttons) letGo(); }, true);

function letGo() {
  if (!pressed) return;
  pressed = false;
  setTimeout(() => { const draws = [...waiting]; waiting.clear(); for (const [root, draw] of draws) redrawn(root, draw); });
}

// Draws anew and gives the focus back to what had it, known by its data-focus; what is gone leaves it to the page.
export function redrawn(root, draw) {
  if (pressed) { waiting.set(root, draw); return; }
  const focused = document.activeElement;
  const had = root.contains(focused);
  const key = had ? focused.dataset.focus : null;
  draw();
  if (!had || root.contains(document.activeElement)) return;
  const again = key && root.querySelector(`[data-focus="${CSS.escape(key)}"]`);
  (again || document.getElementById("main")).focus({ preventScroll: true });
}

export const badge = (kind, value) => el("span", { class: `badge ${kind}`, dataset: { value } }, words(value));

// Only web addresses become links; anything else that a sender wrote stays text.
export function outside(href, text) {
  let url = null;
  try { url = new URL(href); } catch { /* not an address */ }
  if (!url || !["http:", "https:"].includes(url.protocol)) return el("span", {}, text || href);
  return el("a", { href: url.href, target: "_blank", rel: "noopener noreferrer" }, text || url.host);
}

export function labels(pairs, hidden = []) {
  const entries = Object.entries(pairs).filter(([name]) => !hidden.includes(name)).sort();
  return el("ul", { class: "labels" }, entries.map(([name, value]) =>
    el("li", {}, el("b", {}, name), el("span", {}, value))));
}

export function empty(title, text) {
  return el("div", { class: "empty" }, el("strong", {}, title), el("p", {}, text));
}
