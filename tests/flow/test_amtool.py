"""The real amtool, unchanged, takes us for Alertmanager: a transcript of every command it has for a server."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.flow.world import System, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300), pytest.mark.alertmanager]
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Amtool:
    """The program, pointed at the running system."""

    def __init__(self, program: str, url: str, home: Path) -> None:
        self._command = (program, f"--alertmanager.url={url}")
        self._environ = {"HOME": str(home), "PATH": "/usr/bin:/bin", "USER": "ada"}

    async def __call__(self, *arguments: str, code: int = 0, stdin: str = "") -> str:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *arguments,
            env=self._environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, complaint = await asyncio.wait_for(process.communicate(stdin.encode()), 30)
        assert process.returncode == code, f"{arguments}: {output.decode()}{complaint.decode()}"
        return output.decode() if not code else complaint.decode()

    async def json(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(await self(*arguments, "-o", "json"))
        return found


@pytest.fixture
def am(system: System, amtool: str, tmp_path: Path) -> Amtool:
    return Amtool(amtool, system.url, tmp_path)


async def listed(am: Amtool, service: str, *flags: str) -> list[dict[str, Any]]:
    """Wait until `alert query` lists one."""

    async def found() -> list[dict[str, Any]] | None:
        alerts = await am.json("alert", "query", *flags, f"service={service}")
        return alerts if len(alerts) == 1 else None

    return await until(found, f"an alert of {service} with {flags}")


async def test_alerts_are_added_and_queried(am: Amtool, service: str) -> None:
    await am("alert", "add", "TokensBurn", f"service={service}", "severity=warning", "--annotation=summary=burning",
             "--generator-url=http://origin.example.org/1")  # fmt: skip
    [alert] = await listed(am, service)
    assert alert["labels"] == {"alertname": "TokensBurn", "service": service, "severity": "warning"}
    assert alert["annotations"] == {"summary": "burning"}
    assert alert["generatorURL"] == "http://origin.example.org/1"
    assert alert["status"]["state"] == "active"
    assert alert["receivers"] == [{"name": "desk"}]
    shown = await am("alert", "query", f"service={service}")
    assert "TokensBurn" in shown
    assert "burning" in shown
    assert await am.json("alert", "query", "severity=~crit.*", f"service={service}") == []
    assert "getAlertsBadRequest" in await am("alert", "query", 'service=~"("', code=1)


async def test_a_silence_is_added_queried_updated_and_expired(am: Amtool, system: System, service: str) -> None:
    await am("alert", "add", "TokensBurn", f"service={service}")
    await listed(am, service)
    before = len(await system.notices(service, 1))
    made = (
        await am("silence", "add", f"service={service}", "alertname=~Tok.*", "-a", "ada", "-c", "deploying", "-d", "1h")
    ).strip()
    assert ID.fullmatch(made)
    [alert] = await listed(am, service, "--silenced")
    assert alert["status"] == {"state": "suppressed", "silencedBy": [made], "inhibitedBy": [], **_muted(alert)}
    assert await am.json("alert", "query", "--active", f"service={service}") == []

    [silence] = await am.json("silence", "query", f"service={service}")
    assert (silence["id"], silence["createdBy"], silence["comment"]) == (made, "ada", "deploying")
    assert {(one["name"], one["isRegex"]) for one in silence["matchers"]} == {("service", False), ("alertname", True)}
    assert made in await am("silence", "query", "--created-by=ada", "-q", f"service={service}")
    assert made not in await am("silence", "query", "--expired", "-q", f"service={service}")

    updated = await am("silence", "update", "-d", "3h", "-c", "longer", made)
    assert made in updated
    [silence] = await am.json("silence", "query", f"service={service}")
    assert (silence["id"], silence["comment"]) == (made, "longer")

    await am("silence", "expire", made)
    await am("silence", "expire", made)
    assert await am.json("silence", "query", f"service={service}") == []
    assert made in await am("silence", "query", "--expired", "-q", f"service={service}")
    await listed(am, service, "--active")
    assert len(system.desk.about(service)) == before, "nobody was told anything new"


def _muted(alert: dict[str, Any]) -> dict[str, Any]:
    return {"mutedBy": []} if "mutedBy" in alert["status"] else {}


async def test_silences_are_exported_and_imported(am: Amtool, service: str) -> None:
    await am("silence", "add", f"service={service}", "-c", "first", "-d", "1h")
    await am("silence", "add", f"service={service}", "zone!=eu", "-c", "second", "-d", "1h")
    exported = await am("silence", "query", "-o", "json", f"service={service}")
    old = {one["id"] for one in json.loads(exported)}
    for made in old:
        await am("silence", "expire", made)
    fresh = json.dumps([{key: value for key, value in one.items() if key != "id"} for one in json.loads(exported)])
    await am("silence", "import", stdin=fresh)
    found = await am.json("silence", "query", f"service={service}")
    assert sorted(one["comment"] for one in found) == ["first", "second"]
    assert old.isdisjoint(one["id"] for one in found)


async def test_the_configuration_is_shown_and_its_routes_are_tested(am: Amtool) -> None:
    shown = await am("config", "show")
    assert "receiver: desk" in shown
    assert (await am("config", "routes", "test", "alertname=X", "service=chat")).strip() == "desk"
    assert "desk" in await am("config", "routes", "show")


async def test_what_cannot_be_is_said_and_not_stored(am: Amtool, service: str) -> None:
    refused = await am("silence", "add", f"service=~{service}|", "-c", "everything", "-d", "1h", code=1)
    assert "must not match the empty string" in refused
    assert "404" in await am("silence", "expire", "00000000-0000-4000-8000-000000000000", code=1)
    assert await am.json("silence", "query", f"service=~{service}.*") == []


async def test_what_amtool_shows_of_a_server_is_a_file_it_accepts(am: Amtool, tmp_path: Path) -> None:
    file = tmp_path / "shown.yml"
    file.write_text(await am("config", "show"), encoding="utf-8")
    assert "SUCCESS" in await am("check-config", str(file))


GRAFANA: tuple[tuple[str, str], ...] = (
    ("GET", "/api/v2/status"),
    ("GET", "/api/v2/alerts/groups"),
    ("GET", "/api/v2/alerts?active=true&silenced=true&inhibited=true"),
    ("GET", "/api/v2/silences"),
    ("GET", "/api/v2/receivers"),
)


async def test_what_a_dashboard_asks_in_turn_is_answered(system: System, am: Amtool, service: str) -> None:
    await am("alert", "add", "TokensBurn", f"service={service}")
    await listed(am, service)
    for method, path in GRAFANA:
        answer = await system.http.request(method, system.url + path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"] == "application/json"
    groups = (await system.http.get(f"{system.url}/api/v2/alerts/groups")).json()
    [group] = [one for one in groups if one["labels"].get("service") == service]
    assert (group["receiver"], group["labels"]["alertname"]) == ({"name": "desk"}, "TokensBurn")
    fingerprint = group["alerts"][0]["fingerprint"]
    ends = {"startsAt": "2000-01-01T00:00:00.000Z", "endsAt": "2100-01-01T00:00:00.000Z"}
    matchers = [{"name": "service", "value": service, "isEqual": True, "isRegex": False}]
    body = {"comment": "from a panel", "createdBy": "grafana", "matchers": matchers, **ends}
    made = (await system.post("/api/v2/silences", body)).json()["silenceID"]
    [alert] = (await system.http.get(f"{system.url}/api/v2/alerts", params={"filter": f"service={service}"})).json()
    assert (alert["fingerprint"], alert["status"]["silencedBy"]) == (fingerprint, [made])
    assert (await system.http.delete(f"{system.url}/api/v2/silence/{made}")).status_code == 200
    one = (await system.http.get(f"{system.url}/api/v2/silence/{made}")).json()
    assert one["status"]["state"] == "expired"
    for probe in ("/-/healthy", "/-/ready"):
        assert (await system.http.get(system.url + probe)).status_code == 200
