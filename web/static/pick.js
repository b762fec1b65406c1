// Choosing one incident: those that were selected, and those that a search finds.
import { badge, el } from "/static/dom.js";
import { ask } from "/static/feed.js";

const SHOWN = 20;

// `items` are what shall be merged; with several of them, one may be the one that the others go into.
export function pickIncident(common, items) {
  const own = items.length > 1 ? items : [];
  const out = new Set(items.length === 1 ? [items[0].id] : []);
  const list = el("div", { class: "picks" });
  const legend = el("legend", {}, "Into");
  const search = el("input", { type: "search", placeholder: "Search incidents", "aria-label": "Search incidents to merge into", maxlength: 200 });
  const fieldset = el("fieldset", { id: common.id, "aria-describedby": common["aria-describedby"] }, legend, search, list);
  let chosen = "";
  let typing = null;
  let asking = null;

  const option = (item) => el("label", { class: "pick" },
    el("input", { type: "radio", name: "into", value: item.id, checked: item.id === chosen, onchange: () => { chosen = item.id; } }),
    badge("severity", item.severity), el("span", {}, item.title));
  const find = async () => {
    asking?.abort();
    asking = new AbortController();
    const query = new URLSearchParams({ q: search.value.trim(), sort: "severity", limit: SHOWN });
    for (const status of ["open", "acknowledged"]) query.append("status", status);
    try {
      const { items: found } = await ask(`/api/v1/incidents?${query}`, asking.signal);
      const others = found.filter((item) => !out.has(item.id) && !own.some((mine) => mine.id === item.id));
      const all = [...(search.value.trim() ? [] : own), ...others];
      list.replaceChildren(...(all.length ? all.map(option) : [el("p", {}, "No other incident is open.")]));
    } catch (error) {
      if (error.name !== "AbortError") list.replaceChildren(el("p", { class: "wrong" }, error.message));
    }
  };
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(find, 200); });
  search.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
  find();
  return { input: fieldset, value: () => chosen };
}
