// The stream tables: entries and size of each table, partition by partition.
import { el, svg, age, bytes, empty, number } from "/static/dom.js";
import { ask } from "/static/feed.js";

const MEANING = {
  alerts: "what each alert is", pulses: "what changes with every event", recent: "event ids seen lately",
  groups: "group headers and timers", members: "alerts of each group", rules: "configuration applied",
};

export class Tables {
  constructor() {
    this.sizes = el("div", {}, el("p", { class: "loading" }, "Loading…"));
    this.node = el("div", { class: "view" }, this.search(), this.sizes);
    this.load();
  }

  async load() {
    if (this.asking) return;
    this.asking = true;
    try {
      const [view, sums] = await Promise.all([ask("/api/v1/tables"), ask("/api/v1/totals").catch(() => null)]);
      this.draw(view, sums);
    } catch (error) {
      this.sizes.replaceChildren(empty("Table sizes cannot be read right now", `${error.message} This page keeps trying.`));
    }
    this.asking = false;
  }

  changed() {}
  sample() { this.beat = (this.beat || 0) + 1; if (this.beat % 2 === 0 && !document.hidden) this.load(); }
  reset() { this.load(); }
  away() {}
  every15() { this.load(); }

  draw(view, sums) {
    const applied = new Map((sums?.partitions || []).map((row) => [`${row.topic}/${row.partition}`, row]));
    const scrolled = [...this.sizes.querySelectorAll(".scroll")].map((part) => part.scrollLeft);
    this.sizes.replaceChildren(
      el("p", { class: "lead" }, "The live state of the stream, kept in Redis beside the offset that led to it. One row is one partition; its owner's epoch grows each time it moves to another worker."),
      ...view.topics.map((topic) => this.topic(topic, applied)));
    this.sizes.querySelectorAll(".scroll").forEach((part, index) => { part.scrollLeft = scrolled[index] || 0; });
  }

  search() {
    const table = el("select", { name: "table", "aria-label": "Table" },
      Object.keys(MEANING).map((name) => el("option", { value: name }, name)));
    const key = el("input", { name: "key", type: "search", required: true, maxlength: 400, autocomplete: "off",
      placeholder: "Key: an alert's identity, a group", "aria-label": "Key" });
    const found = el("div", { class: "found", role: "status" });
    const look = async (event) => {
      event.preventDefault();
      try {
        const entries = await ask(`/api/v1/tables/${table.value}/${encodeURIComponent(key.value.trim())}`);
        found.replaceChildren(...entries.map((entry) => el("section", { class: "panel" },
          el("h2", {}, `Partition ${entry.partition} `, el("small", {}, `version ${entry.version} · ${bytes(entry.bytes)}`)),
          el("pre", {}, JSON.stringify(entry.value, null, 2)))));
      } catch (error) {
        found.replaceChildren(empty("Not found", error.message));
      }
    };
    return el("div", {}, el("form", { class: "look-up", onsubmit: look }, table, key, el("button", {}, "Look up")), found);
  }

  topic(topic, applied) {
    const names = Object.keys(topic.totals);
    const most = Object.fromEntries(names.map((name) => [name, Math.max(1, ...topic.partitions.map((row) => row.tables[name].entries))]));
    return el("section", { class: "panel" },
      el("h2", {}, topic.topic, " ", el("small", {}, `${topic.partitions.length} partitions`)),
      el("div", { class: "tiles" }, names.map((name) => el("div", { class: "tile" },
        el("span", {}, name), el("b", {}, number(topic.totals[name].entries)),
        el("small", {}, `${bytes(topic.totals[name].bytes)} · ${MEANING[name] || "entries"}`)))),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Partitions of ${topic.topic}` },
        el("table", { class: "partitions" },
          el("thead", {}, el("tr", {}, ["Partition", ...names, "Size", "Epoch", "Saved offset", "Applied", "Saved"].map((name, index) =>
            el("th", { scope: "col", class: index ? "number" : null }, name)))),
          el("tbody", {}, topic.partitions.map((row) => el("tr", {},
            el("th", { scope: "row" }, row.partition),
            names.map((name) => el("td", { class: "number" },
              share(row.tables[name].entries / most[name]),
              number(row.tables[name].entries))),
            el("td", { class: "number" }, bytes(names.reduce((sum, name) => sum + row.tables[name].bytes, 0))),
            el("td", { class: "number" }, row.epoch ? number(row.epoch) : "–"),
            el("td", { class: "number" }, row.offset < 0 ? "–" : number(row.offset)),
            el("td", { class: "number" }, offset(applied.get(`${topic.topic}/${row.partition}`))),
            el("td", { class: "number" }, row.saved_at ? age(row.saved_at) : "–")))))));
  }
}

const share = (part) => svg("svg", { viewBox: "0 0 56 6", "aria-hidden": "true" },
  svg("rect", { class: "track", width: 56, height: 6, rx: 3 }),
  svg("rect", { class: "fill", width: (56 * part).toFixed(1), height: 6, rx: 3 }));
const offset = (row) => (row && row.applied >= 0 ? number(row.applied) : "–");
