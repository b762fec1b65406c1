"""Jobs on a running system: what they raise becomes an incident, and slots run once with two workers."""

import json

import pytest

from tests.flow.world import System, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def test_a_job_raises_its_alert_once_each_minute_with_two_workers(system: System, service: str) -> None:
    await system.sql(
        """INSERT INTO jobs (name, action, arguments, schedule, origin, next_at)
        VALUES ($1, 'alert', $2::text::jsonb, '* * * * *', 'api', clock_timestamp() - interval '1 s') RETURNING 1""",
        service, json.dumps({"summary": "from a job", "labels": {"service": service}}),
    )  # fmt: skip
    found = await system.one_incident(service, "open", within=90)
    assert found["title"]
    rows = await system.sql("SELECT state, attempt, slot_at FROM job_runs WHERE job = $1", service)
    await system.sql("DELETE FROM jobs WHERE name = $1 RETURNING 1", service)
    assert [(row["state"], row["attempt"]) for row in rows if row["state"] != "due"] in (
        [("succeeded", 1)],
        [("running", 1)],
    )

    async def applied() -> bool:
        return bool(await system.sql("SELECT 1 FROM jobs WHERE name = 'retention' AND origin = 'built-in'"))

    await until(applied, "the built-in jobs are there")
