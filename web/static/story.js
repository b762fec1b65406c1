// Why: one alert's story as the API tells it, under the alert.
import { el, time, words } from "/static/dom.js";
import { ask } from "/static/feed.js";

export class Story {
  constructor(fingerprint, redraw) {
    this.path = `/api/v1/alerts/${fingerprint}/explain`;
    this.redraw = redraw;
    this.load();
  }

  async load() {
    try { this.told = await ask(this.path); this.failed = null; } catch (error) { this.failed = error; }
    this.redraw();
  }

  node() {
    if (this.failed) return el("p", { class: "story" }, this.failed.message);
    if (!this.told) return el("p", { class: "loading" }, "Loading…");
    const { lines, next, receivers, standing } = this.told;
    return el("section", { class: "story", "aria-label": "Why" },
      el("p", {}, `It is ${words(standing.state)}${receivers.length ? `; it goes to ${receivers.join(", ")}` : ""}.`),
      el("ol", {}, lines.map((line) => el("li", { dataset: { kind: line.kind }, title: line.by || null },
        el("time", { datetime: line.at }, time(line.at)), el("span", {}, line.text)))),
      el("h3", {}, "Next"),
      el("ul", {}, next.map((one) => el("li", {}, one.at ? el("time", { datetime: one.at }, time(one.at)) : el("time", {}, "–"), el("span", {}, one.text)))));
  }
}
