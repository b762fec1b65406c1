"""Incidents of different groups that a rule puts together, over real Kafka, with two workers and with one."""

import json
import signal
from collections.abc import Awaitable, Callable

import pytest

from embedded.unit import Role
from tests.flow.test_kills import all_run_again
from tests.flow.test_people import done, timeline
from tests.flow.world import System, alert, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def fire(system: System, service: str, rack: str, **labels: str) -> None:
    said = {"alertname": "RateLimited", "service": service, "rack": rack, **labels}
    assert (await system.post("/api/v1/alerts", alert(service, labels=said))).status_code == 202


async def standing(system: System, service: str) -> tuple[str, str]:
    """An incident's status, and the service of the one that speaks for it."""
    [row] = await system.sql(
        "SELECT mine.status, coalesce(other.group_labels ->> 'service', '') AS parent FROM incidents mine"
        " LEFT JOIN incidents other ON other.id = mine.parent_id WHERE mine.group_labels ->> 'service' = $1", service,
    )  # fmt: skip
    return row["status"], row["parent"]


async def story(system: System, name: str, disturb: Callable[[], Awaitable[None]]) -> None:
    """Of three that share a label the oldest speaks; the one that a person took out stays out, whatever happens."""
    first, second, third = (f"{name}-{which}" for which in "abc")
    await fire(system, first, name)
    parent = (await system.one_incident(first, "open", within=60))["id"]
    await fire(system, second, name)
    child = (await system.one_incident(second, "merged", within=60))["id"]
    [line] = [line for line in await timeline(system, child) if line["event"] == "merged"]
    evidence = json.loads(line["detail"]["evidence"])
    assert (line["actor"], line["detail"]["into"]) == ("rule one rack", parent)
    assert (evidence["labels"], evidence["with"]) == ({"rack": name}, [parent])

    await done(system, child, "uncorrelate", {"comment": "another cause"})
    await disturb()
    await fire(system, second, name, host="2")

    async def joined() -> bool:
        rows = await system.sql("SELECT FROM incident_alerts WHERE incident_id = $1::text::uuid AND firing", child)
        return len(rows) == len({"the first", "host 2"})

    await until(joined, "the second alert of the one that was taken out", within=60)
    await fire(system, third, name)
    await system.one_incident(third, "merged", within=60)
    found = {which: await standing(system, which) for which in (first, second, third)}
    assert found == {first: ("open", ""), second: ("open", ""), third: ("merged", first)}


async def test_what_a_person_undid_stays_undone_when_a_worker_dies(system: System, service: str) -> None:
    killed: set[int] = set()

    async def kill() -> None:
        killed.update(system.stack.kill(Role.WORKER, index=index) for index in (0, 1))

    await story(system, service, kill)
    await all_run_again(system, killed)


async def test_it_is_the_same_on_one_worker_while_the_other_sleeps(system: System, service: str) -> None:
    asleep = system.stack.kill(Role.WORKER, signal.SIGSTOP, index=1)

    async def nothing() -> None:
        return None

    try:
        await story(system, service, nothing)
    finally:
        system.stack.kill(Role.WORKER, index=1)
    await all_run_again(system, {asleep})
