// The connection to the gateway: requests, and the stream of changes with its state.

export class Failure extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

// Reads, or with a method and body changes something.
export async function ask(path, signal, { method = "GET", body } = {}) {
  const headers = { accept: "application/json", ...(body ? { "content-type": "application/json" } : {}) };
  let answer;
  try {
    answer = await fetch(path, { signal, method, headers, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "The gateway cannot be reached.");
  }
  if (answer.ok) return answer.json();
  let said = answer.statusText;
  try { said = (await answer.json()).detail || said; } catch { /* no body */ }
  throw new Failure(answer.status, said);
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
