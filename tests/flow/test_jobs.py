"""Jobs and heartbeats on a running system with two workers, by the command line and over the API."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.flow.world import System, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def incidents(system: System, *arguments: str) -> tuple[int, str]:
    """What a command said, and its exit code."""
    program = Path(sys.executable).with_name("incidents")
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "GATEWAY_URL": system.url, "NO_COLOR": "1"},
    )  # fmt: skip
    async with asyncio.timeout(120):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_a_job_made_on_the_command_line_raises_an_incident_once(system: System, service: str) -> None:
    code, said = await incidents(
        system, "jobs", "add", service, "alert", "--schedule", "0 0 1 1 *", "--zone", "Europe/Berlin",
        "--with", "summary=from a job", "--with", json.dumps({"service": service}).join(["labels=", ""]),
    )  # fmt: skip
    assert code == 0, said
    # Its slot comes, as it would at the turn of the year.
    await system.sql("UPDATE jobs SET next_at = clock_timestamp() - interval '1 s' WHERE name = $1", service)
    await system.one_incident(service, "open", within=60)

    async def over() -> dict[str, Any] | None:
        found = (await system.http.get(f"{system.url}/api/v1/jobs/{service}")).json()["runs"]
        return found[0] if found and found[0]["state"] == "succeeded" else None

    run = await until(over, "the slot's run is over", within=60)
    assert (run["attempt"], run["deaths"], run["asked_by"]) == (1, 0, "")
    code, said = await incidents(system, "jobs", "run", service)
    assert (code, "succeeded" in said) == (0, True), said
    code, said = await incidents(system, "jobs", "list")
    assert (code, service in said, "retention" in said) == (0, True, True), said
    for command in (("pause", service), ("resume", service), ("show", service), ("runs", service), ("delete", service)):
        code, said = await incidents(system, "jobs", *command)
        assert code == 0, said
    assert (await incidents(system, "jobs", "show", service))[0] == 3


async def test_a_heartbeat_that_falls_silent_is_an_incident_until_it_returns(system: System, service: str) -> None:
    code, said = await incidents(
        system, "heartbeat", "send", service, "--interval", "1s", "--grace", "1s", "-l", f"service={service}"
    )
    assert code == 0, said
    await system.one_incident(service, "open", within=90)
    code, said = await incidents(system, "heartbeat", "list")
    assert (code, "missing" in said) == (0, True), said
    answer = await system.http.post(f"{system.url}/api/v1/heartbeats/{service}", params={"interval": "1h"})
    assert answer.status_code == 200
    await system.one_incident(service, "resolved", within=90)
    assert system.desk.about(service)[0].body["status"] == "firing"
    assert (await incidents(system, "heartbeat", "delete", service))[0] == 0


async def test_background_work_is_followed_to_its_end(system: System, service: str, tmp_path: Path) -> None:
    labels = {"alertname": "Exported", "service": service}
    body = {"source": "flow", "status": "firing", "summary": "x", "labels": labels}
    await system.post("/api/v1/alerts", body)
    opened = await system.one_incident(service, "open", within=60)
    file = tmp_path / "incidents.jsonl"
    code, said = await incidents(system, "jobs", "start", "export", "--with", "what=incidents", "-o", str(file))
    assert code == 0, said
    assert opened["id"] in {json.loads(line)["id"] for line in file.read_text().splitlines()}
    code, said = await incidents(system, "jobs", "start", "rebuild", "--with", "topic=incident-inputs")
    assert (code, "succeeded" in said) == (0, True), said
    await system.post("/api/v1/alerts", {**body, "status": "resolved"})
    assert (await system.one_incident(service, "resolved", within=60))["id"] == opened["id"]
    await system.post("/api/v1/alerts", {"source": service, "status": "odd"})
    waiting = "SELECT state FROM dead_letters WHERE source = $1"
    await until(lambda: system.sql(waiting, service), "the dead letter is there", within=60)
    code, said = await incidents(system, "jobs", "start", "replay", "--with", f"source={service}")
    assert (code, '"refused": 1' in said) == (0, True), said


async def asked(system: System, action: str, **arguments: Any) -> dict[str, Any]:
    """A run of a built-in action, over: its row."""
    [made] = await system.sql(
        """INSERT INTO job_runs (id, team, action, arguments, max_attempts)
        VALUES (gen_random_uuid(), 'default', $1, $2::text::jsonb, 1) RETURNING id""", action, json.dumps(arguments),
    )  # fmt: skip

    async def over() -> list[dict[str, Any]]:
        return await system.sql("SELECT * FROM job_runs WHERE id = $1 AND finished_at IS NOT NULL", made["id"])

    return (await until(over, f"{action} is over", within=120))[0]


async def test_the_canary_goes_the_whole_way_and_reaches_nobody(system: System) -> None:
    told = len(system.desk.received)
    run = await asked(system, "canary", within="60s")
    assert run["state"] == "succeeded", run["error"]
    times = json.loads(run["result"])
    assert 0 < times["incident_seconds"] < 60
    assert 0 < times["told_seconds"] < 60
    name = str(run["id"])
    [incident] = await system.sql("SELECT id FROM incidents WHERE group_labels ->> 'canary' = $1", name)
    listed = (await system.http.get(f"{system.url}/api/v1/incidents", params={"limit": 200})).json()["items"]
    assert str(incident["id"]) not in {item["id"] for item in listed}
    alerts = (await system.http.get(f"{system.url}/api/v1/alerts", params={"q": str(run["id"])})).json()["items"]
    assert alerts == []
    assert not [one for one in system.desk.received[told:] if "canary" in one.raw.decode()]
    ended = "SELECT 1 FROM incidents WHERE id = $1 AND status = 'resolved'"
    await until(lambda: system.sql(ended, incident["id"]), "the canary's incident ends", within=60)
    run = await asked(system, "retention", canaries="1ms")
    assert run["state"] == "succeeded", run["error"]
    assert await system.sql(ended, incident["id"]), "what its group's owner still holds stays"
