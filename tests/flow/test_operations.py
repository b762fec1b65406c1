"""A system whose roles may do no more than they need: seen by the doctor, restarted under load, backed up, restored."""

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from agents import backup
from agents.doctor import visit
from agents.doctor.findings import Finding, Level
from agents.here import found_here
from embedded.ports import free_port
from embedded.postgres import Postgres
from embedded.stack import Stack
from loadtests.load import load
from loadtests.plan import Endpoints, LoadPlan, Via
from loadtests.rolling import Rolling
from sinks.migrate import migrate
from streams.settings import PREFIX, Settings
from tests.conftest import Broker, _execute, _other_database
from tests.flow.world import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.kafka,
    pytest.mark.timeout(400),
]

RULES = """\
route:
  receiver: nobody
  group_by: [alertname, service]
  routes: [{{receiver: doctor, matchers: ['alertname="IncidentsDoctor"'], group_wait: 100ms}}]
receivers:
  - name: nobody
  - name: doctor
    webhook_configs: [{{url: "http://127.0.0.1:{port}/doctor"}}]
"""
AFTER = 30
# Everything that was decided, as far as it does not say when it was written.
DECIDED = """
SELECT identity, occurrence, verdict, "offset", events, event_ids, decided_at FROM verdicts
ORDER BY partition, "offset", verdict, identity, event_ids
"""
INCIDENTS = """
SELECT id, title, severity, status, created_at, updated_at, reopened, revision FROM incidents ORDER BY id
"""


@pytest.fixture
async def restored_url(postgres: Postgres, logins: dict[str, str]) -> AsyncIterator[str]:
    """The address of a database that does not exist yet; it goes before the roles do."""
    name = f"{logins['app'].rpartition('/')[2]}_restored"
    yield _other_database(postgres.url, name)
    await _execute(postgres.url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def installation(
    app_prefix: str, tmp_path: Path, logins: dict[str, str], redis_url: str, apache_kafka: Broker, amqp_url: str
) -> dict[str, Any]:
    """Settings of the roles: services that others use too, and the login that may do least."""
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES.format(port=free_port()), encoding="utf-8")
    return {
        "app_prefix": app_prefix, "database_url": logins["app"], "redis_url": redis_url, "amqp_url": amqp_url,
        "kafka_url": apache_kafka.url, "amqp_exchange": f"{app_prefix}-alerts", "amqp_queue": f"{app_prefix}-alerts.in",
        "config": rules, "partitions": 4, "row_interval": 1,
    }  # fmt: skip


async def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row.values()) for row in await connection.fetch(query)]
    finally:
        await connection.close()


def settings_of(stack: Stack) -> Settings:
    return Settings.from_environ({name: value for name, value in stack.settings.items() if name.startswith(PREFIX)})


async def seen_by_the_doctor(stack: Stack) -> list[Finding]:
    settings, here = found_here(settings_of(stack), os.environ)
    found: list[Finding] = []
    await visit.visit(settings, visit.where(settings, here, (), "", canary=True), found.append)
    return found


async def restarted_under_load(stack: Stack, report: Path) -> dict[str, Any]:
    plan = LoadPlan(rate=100, seconds=20, via=Via.BOTH)
    await load(plan, msgspec.convert(stack.endpoints, Endpoints), rolling=Rolling(stack), report=str(report))
    figures: dict[str, Any] = msgspec.json.decode(await asyncio.to_thread(report.read_bytes))
    return figures


async def sent_more(stack: Stack, name: str) -> None:
    alerts = [
        {"source": "later", "status": status, "summary": "later", "event_id": f"{name}-{status}-{n}",
         "labels": {"alertname": "Later", "service": f"{name}-{n % 5}", "instance": str(n)}}
        for n in range(AFTER) for status in ("firing", "resolved")
    ]  # fmt: skip
    async with httpx.AsyncClient(base_url=stack.endpoints["http"], trust_env=False, timeout=60) as client:
        assert (await client.post("/api/v1/alerts", json=alerts)).status_code == 202


async def test_what_runs_with_least_rights_is_well_and_outlives_restarts_and_a_restored_postgres(
    installation: dict[str, Any], tmp_path: Path, logins: dict[str, str], restored_url: str, role_prefix: str
) -> None:
    old, new, file = logins["migrate"], restored_url, tmp_path / "incidents.dump"
    async with Stack(tmp_path / "one", installation, workers=2) as stack:
        found = await seen_by_the_doctor(stack)
        assert not [one for one in found if one.level is Level.FAIL]
        said = "\n".join(f"{one.level} {one.part} {one.said}" for one in found)
        for words in ("may do what the roles need", "its notice came out", "from RabbitMQ to its verdict"):
            assert words in said

        loaded = await restarted_under_load(stack, tmp_path / "load.json")
        assert (loaded["lost"], loaded["doubled"]) == (0, 0)
        assert loaded["rolling"]["restarts"]

        owner = dataclasses.replace(settings_of(stack), database_url=old)
        await backup.backup(owner, file, lambda _: None)
        before = len(await rows(old, DECIDED))
        await sent_more(stack, "later")

        async def all_later() -> bool:
            return len(await rows(old, DECIDED)) >= before + 2 * AFTER

        await until(all_later, "what came after the backup is decided", within=60)
    decided, incidents = await rows(old, DECIDED), await rows(old, INCIDENTS)

    told: list[str] = []
    await backup.restore(dataclasses.replace(owner, database_url=new), file, told.append)
    assert "Kafka holds all that came since" in told[-1], told
    with pytest.raises(backup.BackupError, match="not empty"):
        await backup.restore(dataclasses.replace(owner, database_url=new), file, told.append)
    assert len(await rows(new, DECIDED)) < len(decided)
    await migrate(new, lambda _: None, roles=role_prefix)
    app = _other_database(logins["app"], new.rpartition("/")[2])
    async with Stack(tmp_path / "two", {**installation, "database_url": app}, workers=1):

        async def all_again() -> bool:
            return len(await rows(new, DECIDED)) >= len(decided)

        await until(all_again, "it is decided again", within=60)
        assert await rows(new, DECIDED) == decided
        assert await rows(new, INCIDENTS) == incidents
