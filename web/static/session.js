// Who uses the page, and what they may do.
import { el } from "/static/dom.js";
import { ask, credentials } from "/static/feed.js";
import { openDialog } from "/static/dialog.js";

const NAME = "author";
export const session = { name: "", kind: "anonymous", role: "viewer", scopes: [], signing_in: false };

export const mayAct = () => session.scopes.includes("act");

// The name under which things are done; where nobody signs in, people say it themselves.
export const myName = () => (session.kind === "anonymous" ? localStorage.getItem(NAME) || "" : session.name);

export async function loadSession() {
  Object.assign(session, await ask("/api/v1/session"));
  credentials.csrf = session.csrf;
  named();
}

function named() {
  // A header carries ASCII alone.
  credentials.actor = session.kind === "anonymous" ? myName().normalize("NFKD").replace(/[^\x20-\x7e]/g, "") : "";
}

// The button in the header: one's name, and behind it another name, or the way out.
export function whoButton(changed) {
  const text = session.kind === "anonymous" ? myName() || "Say who you are" : session.name;
  const title = session.kind === "anonymous" ? "Your name, as it is written into timelines" : `Signed in as ${session.role}`;
  return el("button", { type: "button", class: "plain who", title, onclick: () => (session.kind === "anonymous" ? askName(changed) : offerOut()) }, text);
}

function askName(changed) {
  openDialog({
    title: "Who are you?", label: "Save",
    intro: "Nobody signs in here, so your name is taken as you write it.",
    fields: [{ name: "name", label: "Your name", value: myName(), required: true, maxlength: 200 }],
    submit: async ({ name }) => { localStorage.setItem(NAME, name); named(); changed(); },
  });
}

function offerOut() {
  openDialog({
    title: `You are ${session.name}`, label: "Sign out",
    intro: `Your role is ${session.role}.`,
    fields: [],
    instead: { label: "Change password", act: changePassword },
    submit: async () => { await ask("/api/v1/session", null, { method: "DELETE" }); location.assign("/login"); },
  });
}

function changePassword() {
  openDialog({
    title: "Change your password", label: "Change",
    intro: "Your other sessions end.",
    fields: [
      { name: "password", label: "Your password", type: "password", required: true, maxlength: 1024 },
      { name: "new_password", label: "The new one", type: "password", required: true, maxlength: 1024 }],
    submit: async (said) => {
      Object.assign(session, await ask("/api/v1/session/password", null, { method: "POST", body: said }));
      credentials.csrf = session.csrf;
    },
  });
}
