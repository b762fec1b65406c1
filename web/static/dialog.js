// A form in a dialog: fields with labels, what is wrong beside the field it is about, and the focus back afterwards.
import { el } from "/static/dom.js";

// Shows a dialog over the page. When it is closed, at that very moment it is gone and the focus is back,
// so that the next key is one for the page: the browser's own event of that comes a while later.
export function overlay(dialog, gone = () => {}) {
  const before = document.activeElement;
  const beforeKey = before?.dataset?.focus;
  let over = false;
  const shut = () => {
    if (over) return;
    over = true;
    dialog.close();
    dialog.remove();
    gone();
    const focused = document.activeElement;
    if (focused && focused !== document.body) return;
    // What had the focus may have been drawn anew meanwhile.
    const again = before !== document.body && before?.isConnected ? before : beforeKey && document.querySelector(`[data-focus="${CSS.escape(beforeKey)}"]`);
    (again || document.getElementById("main")).focus({ preventScroll: true });
  };
  dialog.addEventListener("cancel", (event) => { event.preventDefault(); shut(); });
  dialog.addEventListener("close", shut);
  document.body.append(dialog);
  dialog.showModal();
  return shut;
}

// `submit(values)` does it and throws what is wrong; the dialog stays open then. Gives whether it was done.
// `instead` is another way out: { label, act }.
export function openDialog({ title, intro, fields, submit, instead = null, label = "Save", danger = false }) {
  const said = el("p", { class: "wrong", role: "alert" });
  const rows = fields.map((field) => row(field));
  const go = el("button", { type: "submit", class: danger ? "primary danger" : "primary" }, label);
  const form = el("form", { method: "dialog", novalidate: true },
    el("h2", { id: "dialog-title" }, title),
    intro ? el("p", { class: "intro" }, intro) : null,
    rows.map(({ node }) => node), said,
    el("p", { class: "buttons" }, go,
      instead ? el("button", { type: "button", onclick: () => { shut(); instead.act(); } }, instead.label) : null,
      el("button", { type: "button", onclick: () => shut() }, "Cancel")));
  const dialog = el("dialog", { "aria-labelledby": "dialog-title" }, form);

  let shut;
  return new Promise((done) => {
    let did = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (go.disabled) return;
      said.replaceChildren();
      for (const one of rows) one.complain("");
      const missing = rows.find(({ field, value }) => field.required && !value());
      if (missing) { missing.complain("Please fill this in."); missing.focus(); return; }
      const values = Object.fromEntries(rows.map(({ field, value }) => [field.name, value()]));
      go.disabled = true;
      go.setAttribute("aria-busy", "true");
      try {
        await submit(values);
        did = true;
        shut();
      } catch (error) { show(error, rows, said); }
      go.disabled = false;
      go.removeAttribute("aria-busy");
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
    });
    shut = overlay(dialog, () => done(did));
    (rows[0]?.focus ?? (() => go.focus()))();
  });
}

function show(error, rows, said) {
  const rest = [];
  for (const { field, reason } of error.errors || []) {
    const about = rows.find((one) => field && (one.field.name === field || one.field.sent === field));
    if (about) { about.complain(reason); about.focus(); } else rest.push(reason);
  }
  if (!error.errors?.length) rest.push(error.message);
  said.replaceChildren(...rest.flatMap((text) => text.split("\n")).map((text) => el("span", {}, text)));
}

// One field: its node, its value, how it complains.
function row(field) {
  const id = `field-${field.name}`;
  const wrong = el("small", { class: "wrong", id: `${id}-wrong` });
  const common = {
    id, name: field.name, "aria-describedby": `${id}-wrong`, "aria-required": field.required ? "true" : null,
    maxlength: field.maxlength, placeholder: field.placeholder,
  };
  const { input, value } = (KINDS[field.kind] || KINDS.text)(field, common);
  return {
    field, value, focus: () => (input.matches("fieldset") ? input.querySelector("input")?.focus() : input.focus()),
    complain(text) {
      wrong.textContent = text;
      if (text) input.setAttribute("aria-invalid", "true"); else input.removeAttribute("aria-invalid");
    },
    node: input.matches("fieldset")
      ? el("div", { class: "field" }, input, wrong)
      : el("div", { class: "field" }, el("label", { for: id }, field.label), input, field.help ? el("small", {}, field.help) : null, wrong),
  };
}

const KINDS = {
  text(field, common) {
    const known = field.known?.length ? el("datalist", { id: `${common.id}-known` }, field.known.map((value) => el("option", { value }))) : null;
    const input = el("input", { type: field.type || "text", autocomplete: "off", value: field.value || null, list: known ? known.id : null, ...common });
    if (known) queueMicrotask(() => input.after(known));
    return { input, value: () => (field.type === "password" ? input.value : input.value.trim()) };
  },
  area(field, common) {
    const input = el("textarea", { rows: 4, ...common }, field.value || "");
    return { input, value: () => input.value.trim() };
  },
  select(field, common) {
    const input = el("select", common, Object.entries(field.options).map(([value, text]) => el("option", { value, selected: value === (field.value || "") }, text)));
    return { input, value: () => input.value };
  },
  // A thing that draws itself: `field.make(common)` gives { input, value }.
  own(field, common) { return field.make(common); },
};
