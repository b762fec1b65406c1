// Asks who it is, and goes on to where somebody wanted to go.
const form = document.getElementById("login");
const said = document.getElementById("said");
const button = form.querySelector("button");

// Only a path of this site: anything else leads to the start.
function target() {
  const wanted = new URLSearchParams(location.search).get("next") || "/";
  const url = new URL(wanted, location.origin);
  return url.origin === location.origin && wanted.startsWith("/") ? url.pathname + url.search : "/";
}

function tell(text) {
  said.textContent = text;
  said.hidden = false;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  said.hidden = true;
  button.disabled = true;
  const body = { name: form.elements.name.value, password: form.elements.password.value };
  try {
    const answer = await fetch("/api/v1/session", {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
    });
    if (answer.ok) {
      location.replace(target());
      return;
    }
    const wait = answer.status === 429 ? ` Wait ${answer.headers.get("retry-after")} s.` : "";
    tell((await answer.json()).detail + "." + wait);
    form.elements.password.select();
  } catch {
    tell("The gateway cannot be reached.");
  } finally {
    button.disabled = false;
  }
});
