// The connection to the gateway: requests, and the stream of changes with its state.

// What every request that changes something is sent with; `session.js` fills it in.
export const credentials = { csrf: "", actor: "" };

// `errors` has what is wrong field by field, where the gateway says so.
export class Failure extends Error {
  constructor(status, message, errors = []) { super(message); this.status = status; this.errors = errors; }
}

// Reads, or with a method and body changes something.
export async function ask(path, signal, more) {
  return (await send(path, { signal, ...more })).body;
}

// The same, with the status and the version of what was answered.
export async function send(path, { signal, method = "GET", body, headers = {} } = {}) {
  const sent = { accept: "application/json", ...(body ? { "content-type": "application/json" } : {}), ...headers };
  if (method !== "GET" && credentials.csrf) sent["x-csrf-token"] = credentials.csrf;
  if (method !== "GET" && credentials.actor) sent["x-incidents-actor"] = credentials.actor;
  let answer;
  try {
    answer = await fetch(path, { signal, method, headers: sent, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "The gateway cannot be reached.");
  }
  if (answer.ok) {
    const text = await answer.text();
    return { status: answer.status, body: text ? JSON.parse(text) : null, etag: answer.headers.get("etag") };
  }
  if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  let said = {};
  try { said = await answer.json(); } catch { /* no body */ }
  throw new Failure(answer.status, said.detail || said.title || answer.statusText, said.errors);
}

// A key of one's own for one change, so that sending it again does not do it again.
export function onceKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return { "idempotency-key": [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("") };
}

// Calls `on[name](data)` for each event and `on.state(name)` when the connection changes.
// A page that is hidden lets go after a while: browsers allow few connections to one host.
export function follow(on) {
  let source = null;
  let quiet = null;
  let last = "";
  const state = (name) => { if (name !== last) { last = name; on.state(name); } };
  const watch = () => {
    clearTimeout(quiet);
    quiet = setTimeout(() => { state("connecting"); source?.close(); open(); }, 25000);
  };
  const open = () => {
    source = new EventSource("/api/v1/stream");
    source.onopen = () => { state("live"); watch(); };
    source.onerror = () => {
      state("connecting");
      if (source?.readyState === EventSource.CLOSED) setTimeout(open, 3000);
    };
    for (const name of ["hello", "changed", "sample", "away", "reset"]) {
      source.addEventListener(name, (message) => {
        watch();
        state(name === "away" ? "away" : name === "hello" ? last : "live");
        on[name]?.(JSON.parse(message.data));
      });
    }
  };
  let hidden = null;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hidden);
    if (document.hidden) {
      hidden = setTimeout(() => { clearTimeout(quiet); source.close(); source = null; state("connecting"); }, 60000);
    } else if (!source) {
      open();
      on.reset({ reason: "seen again" });
    }
  });
  open();
}
