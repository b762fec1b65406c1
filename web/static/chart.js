// The chart of the last minutes: events in and duplicates folded (left scale), incidents open (right scale).
import { el, svg, compact, number } from "/static/dom.js";

const MINUTES = 15;
const TOP = 10;
const BOTTOM = 18;
const LEFT = 38;
const RIGHT = 34;
const GAP = 5;

// The least round number that is not below `value` and whose half is whole.
const nice = (value) => {
  const unit = 10 ** Math.floor(Math.log10(value));
  const steps = unit >= 100 ? [1, 1.5, 2, 3, 4, 5, 6, 8, 10] : [1, 2, 3, 4, 6, 8, 10];
  return steps.map((step) => step * unit).find((top) => top >= value && Number.isInteger(top / 2));
};

export class Chart {
  constructor() {
    this.points = [];
    this.minutes = 5;
    this.picture = svg("svg", { class: "chart", role: "img" });
    this.caption = svg("title");
    this.reading = el("p", { class: "reading", "aria-live": "off" });
    this.picture.addEventListener("pointermove", (event) => this.point(event));
    this.picture.addEventListener("pointerleave", () => { this.at = null; this.draw(); });
    const choices = [2, 5, 15].map((minutes) => el("button", {
      type: "button", "aria-pressed": String(minutes === this.minutes),
      onclick: (event) => {
        this.minutes = minutes;
        for (const other of event.target.parentNode.children) other.setAttribute("aria-pressed", String(other === event.target));
        this.draw();
      },
    }, `${minutes} min`));
    this.values = { received: el("b", {}, "–"), folded: el("b", {}, "–"), open: el("b", {}, "–") };
    this.node = el("section", { class: "panel flow", "aria-label": "Flow of the last minutes" },
      el("div", { class: "legend" },
        el("span", { class: "key in" }, "alerts in ", this.values.received, el("small", {}, "/s")),
        el("span", { class: "key folded" }, "duplicates folded ", this.values.folded, el("small", {}, "/s")),
        el("span", { class: "key open" }, "incidents open ", this.values.open),
        el("span", { class: "choices", role: "group", "aria-label": "Time shown" }, choices)),
      this.picture);
    new ResizeObserver(() => this.draw()).observe(this.picture);
  }

  reset(points) { this.points = points; this.draw(); }

  add(point) {
    this.points.push(point);
    const oldest = point[0] - MINUTES * 60;
    while (this.points.length && this.points[0][0] < oldest) this.points.shift();
    this.draw();
  }

  point(event) {
    this.at = event.clientX - this.picture.getBoundingClientRect().left;
    this.draw();
  }

  draw() {
    const { width, height } = this.picture.getBoundingClientRect();
    if (!width || !height) return;
    const now = this.points.length ? this.points.at(-1)[0] : Date.now() / 1000;
    const from = now - this.minutes * 60;
    const shown = this.points.filter((point) => point[0] >= from - 1);
    const rate = nice(Math.max(4, ...shown.map((point) => Math.max(point[1], point[2]))));
    const most = nice(Math.max(4, ...shown.map((point) => point[3])));
    const x = (at) => LEFT + ((at - from) / (now - from)) * (width - LEFT - RIGHT);
    const y = (share) => TOP + (1 - share) * (height - TOP - BOTTOM);
    const parts = [this.caption];
    for (const share of [0, 0.5, 1]) {
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(share), y2: y(share) }));
      parts.push(label(LEFT - 6, y(share) + 3.5, compact(rate * share), "end"));
      parts.push(label(width - RIGHT + 6, y(share) + 3.5, compact(most * share), "start"));
    }
    for (let step = 0; step <= this.minutes; step += this.minutes > 5 ? 3 : 1) {
      const anchor = step === 0 ? "end" : "middle";
      parts.push(label(x(now - step * 60), height - 3, step ? `-${step} min` : "now", anchor));
    }
    for (const run of runs(shown)) {
      const line = (index, top) => run.map((point) => `${x(point[0]).toFixed(1)},${y(Math.min(1, point[index] / top)).toFixed(1)}`).join(" ");
      const [first, last] = [x(run[0][0]).toFixed(1), x(run.at(-1)[0]).toFixed(1)];
      parts.push(svg("polygon", { class: "area in", points: `${first},${y(0)} ${line(1, rate)} ${last},${y(0)}` }));
      parts.push(svg("polyline", { class: "line in", points: line(1, rate) }));
      parts.push(svg("polyline", { class: "line folded", points: line(2, rate) }));
      parts.push(svg("polyline", { class: "line open", points: line(3, most) }));
    }
    const latest = this.points.at(-1);
    let told = latest;
    if (this.at !== undefined && this.at !== null && shown.length) {
      const wanted = from + ((this.at - LEFT) / (width - LEFT - RIGHT)) * (now - from);
      told = shown.reduce((best, point) => (Math.abs(point[0] - wanted) < Math.abs(best[0] - wanted) ? point : best));
      parts.push(svg("line", { class: "cursor", x1: x(told[0]), x2: x(told[0]), y1: TOP, y2: height - BOTTOM }));
    }
    if (!shown.length) parts.push(label((LEFT + width - RIGHT) / 2, height / 2, "Waiting for the first seconds", "middle"));
    this.picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.picture.replaceChildren(...parts);
    if (told) {
      this.values.received.textContent = compact(told[1]);
      this.values.folded.textContent = compact(told[2]);
      this.values.open.textContent = number(told[3]);
    }
    if (latest) this.caption.textContent = `${compact(latest[1])} alerts in a second, ${compact(latest[2])} of them duplicates, ${latest[3]} incidents open`;
  }
}

const label = (x, y, text, anchor) => {
  const node = svg("text", { x, y, "text-anchor": anchor });
  node.textContent = text;
  return node;
};

// Stretches without a hole: a gap in the samples is a gap in the lines.
function runs(points) {
  const found = [];
  for (const point of points) {
    const run = found.at(-1);
    if (run && point[0] - run.at(-1)[0] < GAP) run.push(point);
    else found.push([point]);
  }
  return found;
}
