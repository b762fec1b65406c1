"""B6: a storm of groups at one receiver that hangs. The real Alertmanager asks it for all of them at once, and no
series of its own tells that they wait; we ask for a few, and the metrics tell how many wait, and how long.
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import ClientSession, web
from prometheus_client.parser import text_string_to_metric_families

from agents.targets import PER_TARGET
from embedded.unit import Role
from tests.differential import oracle, ours
from tests.listener import Listener

pytestmark = [pytest.mark.alertmanager, pytest.mark.slow, pytest.mark.timeout(400)]

GROUPS: Final = 300
STANDS: Final = 3.0
"""Seconds that the storm stands still between two looks at the metrics, by our own gauge."""
RULES: Final = """
route:
  receiver: desk
  group_by: [alertname, group]
  group_wait: 1s
  group_interval: 10m
  repeat_interval: 4h
  routes: [{{receiver: other, matchers: [alertname="Other"]}}]
receivers:
  - {{name: desk, webhook_configs: [{{url: "{url}/desk"}}]}}
  - {{name: other, webhook_configs: [{{url: "{url}/other"}}]}}
"""
ITS_OWN: Final = ("alertmanager_http_", "alertmanager_silences_quer")
"""Series that move because somebody asks for the metrics."""


class Hanging(Listener):
    """The receiver `desk` does not answer before it is well; `other` does."""

    def __init__(self) -> None:
        super().__init__("/{name}")
        self.well = asyncio.Event()
        self.open = 0
        self.asked: list[str] = []
        self.others = 0

    async def take(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        if request.match_info["name"] == "other":
            self.others += 1
            return web.Response()
        self.asked.append(body["groupLabels"]["group"])
        self.open += 1
        await self.well.wait()
        self.open -= 1
        return web.Response()


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.redis
async def test_b6_a_storm_of_groups_that_stands_still_shows_as_a_metric_and_is_not_let_loose_at_once(
    tmp_path: Path, amtool: str
) -> None:
    (tmp_path / "ours").mkdir()
    async with Hanging() as theirs, Hanging() as mine:
        (tmp_path / "alertmanager.yml").write_text(RULES.format(url=theirs.url), encoding="utf-8")
        async with (
            ours.running(tmp_path / "ours", RULES.format(url=mine.url), delivery_timeout=300) as stack,
            oracle.alertmanager(tmp_path) as alertmanager,
        ):
            url = str(stack.endpoints["http"])
            [delivery] = [role.address for role in stack.roles if role.role is Role.DELIVERY]
            storm = [{"labels": {"alertname": "Storm", "group": str(number)}} for number in range(GROUPS)]
            await posted(alertmanager, storm)
            await posted(url, storm)
            await until(lambda: theirs.open == GROUPS)
            await until_waiting(delivery, due=GROUPS)

            before, since = await series(alertmanager), await waiting_longest(delivery)
            await until_waiting(delivery, due=GROUPS, oldest=since + STANDS)
            after = await series(alertmanager)
            assert moved(before, after) == {}
            assert mine.open == PER_TARGET

            # What comes in meanwhile is taken, and told to whoever does answer.
            other = [{"labels": {"alertname": "Other"}}]
            await posted(url, other)
            await until(lambda: mine.others == 1)

            for desk in (theirs, mine):
                desk.well.set()
            await until(lambda: len(mine.asked) >= GROUPS and not mine.open)
            await until_waiting(delivery, due=0)
            await until(lambda: not theirs.open)
            assert moved(before, await series(alertmanager)), "its series move when the storm does"
    assert sorted(mine.asked) == sorted(str(number) for number in range(GROUPS))


def moved(before: dict[str, float], after: dict[str, float]) -> dict[str, tuple[float | None, float]]:
    """What Alertmanager's series say of alerts, groups and notices now, and did not say before."""
    return {
        name: (before.get(name), value)
        for name, value in after.items()
        if name.startswith("alertmanager_") and not name.startswith(ITS_OWN) and before.get(name) != value
    }


async def series(url: str) -> dict[str, float]:
    """Each series of a process, by name and labels."""
    async with ClientSession(raise_for_status=True) as client, client.get(f"{url}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    return {f"{one.name} {sorted(one.labels.items())}": one.value for family in families for one in family.samples}


async def waiting_longest(delivery: str) -> float:
    return (await series(delivery))["incidents_notifications_oldest_seconds []"]


async def until_waiting(delivery: str, *, due: int, oldest: float = 0.0) -> None:
    """Wait until the metrics say that so many notices are due, the oldest for at least so many seconds."""
    async with asyncio.timeout(120):
        while True:
            found = await series(delivery)
            waits = found["incidents_notifications_due []"], found["incidents_notifications_oldest_seconds []"]
            if waits[0] == due and waits[1] >= oldest:
                return
            await asyncio.sleep(0.2)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not holds():
            await asyncio.sleep(0.1)


async def posted(url: str, alerts: list[dict[str, Any]]) -> None:
    async with ClientSession(raise_for_status=True) as client:
        (await client.post(f"{url}/api/v2/alerts", json=alerts)).release()
