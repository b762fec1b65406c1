"""A silence is in the view of every worker within a second of its answer, and goes as fast."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from streams.records import Silence
from tests.flow.world import System, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]
WITHIN = 1.0


async def silenced(system: System, service: str) -> dict[str, Any]:
    answer = await system.post(
        "/api/v1/silences",
        {
            "matchers": [[{"name": "service", "value": service}]],
            "ends_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
            "created_by": "flow",
            "comment": "a story",
        },
    )
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def applied(system: System, silence_id: str) -> list[Silence]:
    """The silence as each partition has it."""
    rows = await system.sql("SELECT value FROM partition_rules WHERE key = $1", f"silence:{silence_id}")
    return [msgspec.msgpack.decode(row["value"], type=Silence) for row in rows]


async def test_every_partition_has_a_silence_within_a_second_and_its_end_too(system: System, service: str) -> None:
    partitions = (await system.sql("SELECT count(*) AS n FROM stream_progress WHERE topic = 'incident-inputs'"))[0]["n"]
    made = await silenced(system, service)
    began = time.monotonic()

    async def everywhere() -> list[Silence] | None:
        found = await applied(system, made["id"])
        return found if len(found) == partitions else None

    assert await until(everywhere, "the silence in every partition", within=10)
    assert time.monotonic() - began < WITHIN

    await system.post(f"/api/v1/silences/{made['id']}/expire", {})
    began = time.monotonic()

    async def nowhere() -> bool | None:
        return True if not await applied(system, made["id"]) else None

    assert await until(nowhere, "no partition keeps a silence that is over", within=10)
    assert time.monotonic() - began < WITHIN
