"""A refused event that a person has judged again opens its incident, and counts once."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.flow.world import System, alert, until
from web.measures import GROWTH

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def command(system: System, *words: str, **settings: str) -> tuple[int, str]:
    """Exit code and output of `incidents dlq ...`."""
    environ = {**os.environ, **system.stack.settings, **settings}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agents", "dlq", *words, env=environ, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def sums(system: System) -> dict[str, int]:
    """Events received, new and refused so far."""
    [row] = await system.sql(
        "SELECT sum(received)::int AS received, sum(new)::int AS new, sum(rejected)::int AS rejected"
        " FROM stream_progress WHERE topic = 'alerts'"
    )
    return row


async def refused(system: System, event_id: str, **more: Any) -> None:
    """Send an event that is refused, and wait for its dead letter."""
    service = event_id.rpartition("-")[0]
    answer = await system.post("/api/v1/alerts", alert(service, event_id=event_id, **more))
    assert answer.status_code == 400

    async def buried() -> object:
        return await system.sql("SELECT 1 FROM dead_letters WHERE event_id = $1", event_id)

    await until(buried, "a dead letter")


async def test_a_raised_limit_lets_a_refused_event_in(system: System, service: str) -> None:
    labels = {"alertname": "Slow", "service": service, **{f"l{n}": "x" for n in range(70)}}
    event_id = f"{service}-1"
    await refused(system, event_id, labels=labels)
    before = await sums(system)
    code, said = await command(system, "replay", event_id)
    assert (code, "at most 64 are taken" in said) == (1, True)
    code, said = await command(system, "replay", event_id, "--direct", INCIDENTS_MAX_LABELS="80")
    assert (code, said.split()) == (0, ["replayed", event_id, "new", "1", "replayed"])
    await system.one_incident(service, "open")
    for more in ((), ("--direct",)):
        code, _ = await command(system, "replay", event_id, *more)
        assert code == 1
    assert (await command(system, "show", f"{event_id}-none"))[0] == 3

    assert await sums(system) == {**before, "new": before["new"] + 1, "rejected": before["rejected"] - 1}
    rows = await system.sql("SELECT verdict FROM verdicts WHERE event_ids @> ARRAY[$1]", event_id)
    assert rows == [{"verdict": "new"}]


async def test_a_mended_body_is_replayed_and_what_is_left_is_dropped(
    system: System, service: str, tmp_path: Path
) -> None:
    first, second = f"{service}-1", f"{service}-2"
    await refused(system, first, status="odd")
    await refused(system, second, status="odd")
    _, body = await command(system, "show", first, "--raw")
    mended = tmp_path / "mended.json"
    mended.write_text(json.dumps({**json.loads(body), "status": "firing"}), encoding="utf-8")
    assert (await command(system, "replay", first, "--body", str(mended)))[0] == 0
    await system.one_incident(service, "open")
    assert (await command(system, "drop", second, "--yes")) == (0, "1 dropped\n")
    _, listed = await command(system, "list", "--state", "all", "--json", "--limit", "1000")
    assert {row["event_id"]: row["state"] for row in json.loads(listed) if row["event_id"] in {first, second}} == {
        first: "replayed",
        second: "dropped",
    }


async def test_letters_that_grow_degrade_the_gateway_until_they_are_seen_to(system: System, service: str) -> None:
    names = [f"{service}-{number}" for number in range(GROWTH + 1)]
    answer = await system.post("/api/v1/alerts", [alert(service, event_id=name, status="odd") for name in names])
    assert answer.status_code == 400

    async def said(*, well: bool) -> dict[str, Any] | None:
        answer = await system.http.get(f"{system.url}/readyz")
        part: dict[str, Any] = answer.json()["parts"].get("dead letters", {})
        return part if answer.status_code == 200 and part.get("ok") is well else None

    part = await until(lambda: said(well=False), "a gateway that is degraded", within=60)
    assert part["required"] is False
    assert "more within 10 minutes" in part["detail"]
    assert (await command(system, "drop", "--all", "--yes"))[0] == 0
    await until(lambda: said(well=True), "a gateway that is well", within=60)
