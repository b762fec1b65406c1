"""Processes die without warning while alerts come in: nothing is lost, nothing counted twice, all come back."""

import asyncio
import json
import secrets
from typing import Any

import asyncpg
import msgspec
import pytest

from embedded.unit import Role
from loadtests.feed import feed
from loadtests.ledger import Verification, verify_when_flushed
from loadtests.ledger_file import Entry, Outcome
from loadtests.mixes import SAMPLE, Event, Mix
from loadtests.plan import Endpoints
from tests.flow.world import System, alert, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


def storm(run: str, count: int) -> list[Event]:
    mix = Mix(run, 7, SAMPLE)
    return [mix.next() for _ in range(count)]


async def test_each_role_is_killed_while_alerts_come_in(system: System) -> None:
    run, web = f"kill{secrets.token_hex(3)}a", f"kill{secrets.token_hex(3)}h"
    over_amqp = msgspec.convert(system.stack.endpoints, Endpoints)
    over_http = msgspec.structs.replace(over_amqp, amqp=None)
    victims = {400: Role.WORKER, 800: Role.BRIDGE, 1200: Role.GATEWAY, 1600: Role.DELIVERY}
    killed: dict[Role, int] = {}

    def told(done: int) -> None:
        if done in victims:
            killed[victims[done]] = system.stack.kill(victims[done])

    entries, http_entries = await asyncio.gather(
        feed(over_amqp, storm(run, 2000), told), feed(over_http, storm(web, 200), lambda _: None)
    )
    assert set(killed) == set(victims.values())
    assert all(entry.outcome is Outcome.CONFIRMED for entry in entries)

    await all_run_again(system, set(killed.values()))
    for mine, prefix in ((entries, run), (http_entries, web)):
        verification = await settled(system, mine, prefix)
        assert verification.holds, [finding for finding in verification.findings if not finding.holds]
    await notices_are_whole(system)


async def test_one_of_two_workers_is_killed_and_the_other_takes_over(system: System) -> None:
    run = f"pair{secrets.token_hex(3)}"
    endpoints = msgspec.convert(system.stack.endpoints, Endpoints)
    owners = await epochs(system)
    killed: set[int] = set()

    def told(done: int) -> None:
        if done == 200:
            killed.add(system.stack.kill(Role.WORKER, index=1))

    entries = await feed(endpoints, storm(run, 600), told)
    await all_run_again(system, killed)
    verification = await settled(system, entries, run)
    assert verification.holds, [finding for finding in verification.findings if not finding.holds]
    moved = {key for key, epoch in (await epochs(system)).items() if epoch > owners[key]}
    assert moved


async def epochs(system: System) -> dict[tuple[str, int], int]:
    rows = await system.sql("SELECT topic, partition, epoch FROM stream_progress")
    return {(row["topic"], row["partition"]): row["epoch"] for row in rows}


async def all_run_again(system: System, killed: set[int]) -> None:
    """The supervisor has started a new process for each that was killed, and every role is ready."""
    published = system.stack.data_dir / "endpoints.json"

    async def back() -> bool:
        processes = json.loads(published.read_text(encoding="utf-8"))["processes"]
        roles = sorted(process["role"] for process in processes)
        if killed & {process["pid"] for process in processes}:
            return False
        if roles != sorted([*Role, Role.WORKER]):
            return False
        for unit in system.stack.units[:5]:
            try:
                await unit.probe()
            except Exception:  # noqa: BLE001 - any failure to answer means not ready yet
                return False
        return True

    await until(back, "every process runs again and is ready", within=60)


async def settled(system: System, entries: list[Entry], prefix: str) -> Verification:
    """Wait until every confirmed event has its verdict, then check every law."""
    confirmed = {entry.event_id for entry in entries if entry.outcome is Outcome.CONFIRMED}
    connection = await asyncpg.connect(system.stack.endpoints["postgres"])
    try:

        async def decided() -> bool:
            found: int = await connection.fetchval(
                "SELECT count(DISTINCT id) FROM verdicts, unnest(event_ids) AS id WHERE id = ANY($1)", list(confirmed)
            )
            return found == len(confirmed)

        await until(decided, f"a verdict for each of {len(confirmed)} events of {prefix}", within=90)
        return await verify_when_flushed(connection, entries, prefix, within=30)
    finally:
        await connection.close()


async def notices_are_whole(system: System) -> None:
    """Every task over HTTP ends as sent; what was told twice was told with the same key and the same bytes."""

    async def finished() -> list[dict[str, Any]] | None:
        rows = await system.sql("SELECT id::text, state, told_group FROM notification_tasks WHERE channel = 'webhook'")
        return rows if rows and all(row["state"] == "sent" and row["told_group"] for row in rows) else None

    rows = await until(finished, "every notice is sent and its group knows", within=60)
    told: dict[str, set[bytes]] = {}
    for one in system.desk.received:
        told.setdefault(one.key, set()).add(one.raw)
    assert told.keys() == {row["id"] for row in rows}
    assert all(len(bodies) == 1 for bodies in told.values())


async def test_after_all_that_the_path_is_as_before(system: System, service: str) -> None:
    assert (await system.post("/api/v1/alerts", alert(service))).status_code == 202
    await system.one_incident(service, "open")
    assert (await system.post("/api/v1/alerts", alert(service, "resolved"))).status_code == 202
    await system.one_incident(service, "resolved")
    totals = await system.totals()
    parts = ("new", "changed", "resolved", "duplicate", "late", "rejected", "redelivered")
    assert totals["received"] == sum(totals[name] for name in parts)
