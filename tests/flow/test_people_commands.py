"""People work on incidents by the command line, against a running system."""

import asyncio
import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agents.__main__ import main
from tests.flow.world import System, alert

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


class Shell:
    """Commands against one system; each must end as it is expected to."""

    def __init__(self, system: System) -> None:
        self._env = {"GATEWAY_URL": system.url}

    async def __call__(self, *words: object, code: int = 0, stdin: str | None = None) -> Result:
        invoke = CliRunner().invoke
        result = await asyncio.to_thread(invoke, main, [str(word) for word in words], env=self._env, input=stdin)
        assert result.exit_code == code, result.output
        return result

    async def shown(self, incident: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((await self("show", incident, "--json")).stdout)
        return found


@pytest.fixture
def sh(system: System) -> Shell:
    return Shell(system)


async def fired(system: System, service: str, name: str = "RateLimited") -> str:
    """The beginning of the id of the incident that an alert of this name opens."""
    seen = {one["id"] for one in await system.incidents(service)}
    await system.post("/api/v1/alerts", alert(service, labels={"alertname": name, "service": service}))
    async with asyncio.timeout(60):
        while not (new := [one["id"] for one in await system.incidents(service) if one["id"] not in seen]):
            await asyncio.sleep(0.05)
    return str(new[0])[:12]


async def test_an_incident_is_worked_on_from_its_start_to_its_end(system: System, service: str, sh: Shell) -> None:
    incident = await fired(system, service)
    assert f"{incident[:8]}  acknowledged" in (await sh("ack", incident, "-m", "I look at it")).stdout
    assert "acknowledged already" in (await sh("ack", incident, code=1)).stderr
    assert f"{incident[:8]}  open" in (await sh("unack", incident)).stdout
    await sh("snooze", incident, code=2)
    await sh("snooze", incident, "--for", "soon", code=1)
    await sh("snooze", incident, "--for", "2h")
    assert "snoozed       until" in (await sh("show", incident)).stdout
    await sh("unsnooze", incident)
    await sh("assign", incident, "--to", "ada")
    assert (await sh.shown(incident))["assignee"] == "ada"
    await sh("assign", incident, "--nobody")
    assert (await sh.shown(incident))["assignee"] == ""
    await sh("comment", incident, "-m", "from the command line")
    await sh("comment", incident, stdin="and from a pipe\n")
    await sh("comment", incident, stdin="", code=2)
    timeline = [entry["detail"].get("text") for entry in (await sh.shown(incident))["timeline"]]
    assert {"I look at it", "from the command line", "and from a pipe"} <= set(timeline)
    done = json.loads((await sh("resolve", incident, "--json")).stdout)
    assert done["incident"]["status"] == "resolved"
    assert "it is resolved" in (await sh("snooze", incident, "--for", "1h", code=1)).stderr
    assert f"{incident[:8]}  open" in (await sh("reopen", incident)).stdout


async def test_what_an_incident_says_is_edited(system: System, service: str, sh: Shell) -> None:
    incident = await fired(system, service)
    await sh("edit", incident, code=2)
    await sh("edit", incident, "--title", f"{service} anew", "--severity", "critical", "-l", "ticket=1", "-l", "who=me")
    await sh("edit", incident, "-l", "who=")
    found = await sh.shown(incident)
    assert (found["incident"]["title"], found["incident"]["severity"]) == (f"{service} anew", "critical")
    assert (found["labels"], found["severity_by"]) == ({"ticket": "1"}, "person")
    await sh("edit", incident, "--severity", "auto")
    assert (await sh.shown(incident))["severity_by"] == "alerts"
    await sh("link", incident, "--to", "https://example.org/", "--title", "Dashboard")
    assert "link          Dashboard https://example.org/" in (await sh("show", incident)).stdout
    assert (await sh("link", incident, "--to", "ftp://example.org/", code=1)).stderr


async def test_several_at_once_and_one_of_them_unknown(system: System, service: str, sh: Shell) -> None:
    first, second = await fired(system, service, "One"), await fired(system, service, "Two")
    told = await sh("ack", first, "ffffffffffff", second, code=3)
    assert [line.split()[:2] for line in told.stdout.splitlines()] == [
        [first[:8], "acknowledged"],
        [second[:8], "acknowledged"],
    ]
    assert told.stderr.startswith("ffffffffffff: no incident")


async def test_one_speaks_for_another(system: System, service: str, sh: Shell) -> None:
    first, second = await fired(system, service, "One"), await fired(system, service, "Two")
    assert f"{first[:8]}  merged" in (await sh("merge", first, "--into", second)).stdout
    assert f"speaks for    {first[:8]}  merged" in (await sh("show", second)).stdout
    await sh("split", first)
    assert (await sh.shown(second))["children"] == []


async def test_what_a_rule_put_together_is_taken_apart(system: System, service: str, sh: Shell) -> None:
    found: dict[str, dict[str, Any]] = {}
    for name, severity in (("One", "critical"), ("Two", "error")):
        labels = {"alertname": name, "service": service, "rack": service}
        await system.post(
            "/api/v1/alerts", alert(service, labels=labels, severity=severity, summary=f"{service} {name}")
        )
    async with asyncio.timeout(60):
        while {one["status"] for one in found.values()} != {"open", "merged"}:
            found = {one["status"]: one for one in await system.incidents(service)}
            await asyncio.sleep(0.05)
    child = found["merged"]["id"][:12]
    told = (await sh("show", child)).stdout
    assert f"{found['open']['id'][:8]}  open  {service} One, by rule one rack" in told
    assert f"evidence: rack={service}, with {service} One, within 300 s" in told
    assert f"{child[:8]}  open" in (await sh("uncorrelate", child, "-m", "another rack")).stdout
    assert "not merged" in (await sh("uncorrelate", child, code=1)).stderr
    assert (await sh.shown(found["open"]["id"]))["children"] == []


async def test_one_is_opened_by_hand_and_blacked_out(service: str, sh: Shell) -> None:
    words = ("--severity", "critical", "--kind", "data_leak", "-d", "the key is hunter2", "-l", f"service={service}")
    incident = (await sh("open", f"{service} leaks", *words)).stdout.strip()
    found = await sh.shown(incident)
    assert (found["by_hand"], found["incident"]["kind"]) == (True, "data_leak")
    await sh("redact", incident, "--reason", "x", code=2)
    await sh("redact", incident, "--field", "description", "--reason", "a secret")
    told = (await sh("show", incident, "--json")).stdout
    assert "hunter2" not in told
    assert "a secret" in told
    await sh("resolve", incident)
