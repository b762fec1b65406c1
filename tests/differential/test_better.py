"""Where we are better on purpose: what is wanted fails on the real Alertmanager and holds for us (B1 to B5, B7).

B6, a storm of groups, is in `test_better_storm.py`: at a receiver that hangs, only our metrics tell that notices wait,
and how long. How quick intake stays meanwhile is measured, for both: `loadtests/groups.py`.
"""

import asyncio
import json
import math
import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import ClientSession, web

from sinks.task_rows import Task
from tests.differential import oracle, ours, simulated
from tests.differential.batches import Batch
from tests.differential.calm import played
from tests.differential.scripts import FAR, Action, Pushed, Script
from tests.listener import Listener
from tests.simulation.world import World, at

pytestmark = [pytest.mark.alertmanager, pytest.mark.slow, pytest.mark.timeout(400)]

Seen = list[tuple[int, str]]


def story(name: str, *actions: Action) -> Script:
    """One alert's story, with the times of the other scripts."""
    route = {
        "receiver": name, "matchers": [f'script="{name}"'], "group_by": ["alertname"], "group_wait": "1s",
        "group_interval": "2s", "repeat_interval": "1h",
    }  # fmt: skip
    return Script(
        name=name, seed=0, route=route, receivers=({"name": name, "wants": (True,)},), inhibit=(), actions=actions
    )


def fires(name: str, seconds: float) -> Action:
    return Action(at=seconds, alerts=(Pushed(labels={"script": name, "alertname": "A"}, starts=seconds, ends=FAR),))


def ends(name: str, seconds: float) -> Action:
    return Action(at=seconds, alerts=(Pushed(labels={"script": name, "alertname": "A"}, ends=seconds),))


def silent(name: str, since: float, until: float) -> Action:
    return Action(at=since, silence=f"{name}-silence", matchers=(("script", name, False),), until=until)


B1: Final = story("b1", fires("b1", 1), silent("b1", 3, 9.6), ends("b1", 5), fires("b1", 13))
B3: Final = story("b3", fires("b3", 1), ends("b3", 5.2), fires("b3", 5.6))


def seen(batches: Sequence[Batch]) -> Seen:
    return [(round(one.at), one.status) for one in batches]


async def test_b1_whoever_was_told_that_it_fires_is_told_that_it_ended_and_what_fires_then_is_new(
    tmp_path: Path, amtool: str
) -> None:
    theirs = await played(tmp_path, [B1, B3], lambda logs: seen(logs["b1"]) == seen(logs["b3"]) == [(2, "firing")])
    mine = simulated.told([B1, B3], strict=False)
    # The firing, its end though it is silenced, and the next firing.
    wanted = [(2, "firing"), (6, "resolved"), (14, "firing")]
    assert seen(theirs["b1"]) == [(2, "firing")]
    assert seen(mine["b1"]) == wanted
    # B3: it ended and fired again within one interval.
    assert seen(theirs["b3"]) == [(2, "firing")]
    assert seen(mine["b3"]) == [(2, "firing"), (6, "firing")]
    assert mine["b3"][-1].flapping == 1


def test_b1_a_recovery_waits_for_the_end_of_a_mute_by_time() -> None:
    rules = """
route:
  receiver: nobody
  routes:
    - receiver: desk
      matchers: [alertname="A"]
      group_wait: 1s
      group_interval: 10s
      mute_time_intervals: [lunch]
time_intervals:
  - name: lunch
    time_intervals: [{times: [{start_time: "12:10", end_time: "12:30"}]}]
receivers:
  - name: nobody
  - name: desk
    webhook_configs: [{url: "http://desk.example/"}]
"""
    world = World(rules)  # its clock begins at 12:00
    alert = {"labels": {"alertname": "A"}, "startsAt": at(0).isoformat()}
    world.post([{**alert, "endsAt": at(4000).isoformat()}])
    world.run(900)
    world.post([{**alert, "endsAt": at(900).isoformat()}])
    world.run(1790)
    assert [one.alerts for one in world.sent] == [[("A", "firing")]]
    world.run(1820)
    assert [one.alerts for one in world.sent][1:] == [[("A", "resolved")]]
    assert 1800 <= world.sent[-1].at <= 1811


RULES: Final = """
route:
  receiver: b4
  group_by: [alertname]
  group_wait: 1s
  group_interval: 8s
  repeat_interval: 1h
  routes:
    - {{receiver: b2, matchers: [alertname="B2"], group_interval: 1s}}
    - {{receiver: b5, matchers: [alertname="B5"], group_interval: 1s}}
    - {{receiver: b7, matchers: [alertname="B7"], group_interval: 1s}}
receivers:
  - {{name: b2, webhook_configs: [{{url: "{url}/b2"}}]}}
  - {{name: b4, webhook_configs: [{{url: "{url}/b4"}}]}}
  - {{name: b5, webhook_configs: [{{url: "{url}/b5"}}]}}
  - {{name: b7, webhook_configs: [{{url: "{url}/b7"}}]}}
"""


def simulated_rules() -> str:
    return RULES.format(url="http://desk.example")


async def test_b2_an_end_is_told_after_a_kill_without_help_from_the_sender(tmp_path: Path, amtool: str) -> None:
    async with Desk(lambda _name, _age, _nth: (200, {})) as desk:
        (tmp_path / "alertmanager.yml").write_text(RULES.format(url=f"{desk.url}/it"), encoding="utf-8")
        ended = time.time() + 6
        async with oracle.alertmanager(tmp_path) as url:
            await post(url, alert("B2", ends=ended))
            await asyncio.sleep(3)
            [process] = children()
            os.kill(process, signal.SIGKILL)
        assert desk.accepted("b2") == ["firing"]
        async with oracle.alertmanager(tmp_path):
            await asyncio.sleep(max(0, ended - time.time()) + 4)
        assert desk.accepted("b2") == ["firing"]
    world = World(simulated_rules())
    world.post([{"labels": {"alertname": "B2"}, "endsAt": at(6).isoformat()}])
    world.run(3)
    world.restart()
    world.run(20)
    assert [one.body["status"] for one in world.sent] == ["firing", "resolved"]


def test_b7_what_failed_for_good_and_then_ended_is_told_once() -> None:
    answers: dict[str, Callable[[Task, float], str | float]] = {
        "down for a while": lambda _task, now: 1.0 if now < 20 else "sent",
        "refused at first": lambda _task, now: "failed" if now < 5 else "sent",
    }
    for name, answer in answers.items():
        world = World(simulated_rules(), answer=answer)
        world.post([{"labels": {"alertname": "B7"}, "endsAt": at(4.5).isoformat()}])
        world.run(60)
        told = [one.body["status"] for one in world.sent]
        assert told == (["firing", "resolved"] if name == "down for a while" else ["resolved"]), name


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.redis
async def test_b4_b5_b7_sick_receivers_are_told_in_time_once_and_even_late(tmp_path: Path, amtool: str) -> None:
    folders = {name: tmp_path / name for name in ("one", "two", "ours")}
    for folder in folders.values():
        folder.mkdir()
    async with Desk(sick) as theirs, Desk(sick) as mine:
        for name in ("one", "two"):
            rules = RULES.format(url=f"{theirs.url}/{name}")
            (folders[name] / "alertmanager.yml").write_text(rules, encoding="utf-8")
        port = ours.free_port()
        cluster = (f"--cluster.listen-address=127.0.0.1:{port}", "--cluster.peer-timeout=1s")
        peer = (f"--cluster.peer=127.0.0.1:{port}", "--cluster.listen-address=127.0.0.1:0", "--cluster.peer-timeout=1s")
        async with (
            ours.running(folders["ours"], RULES.format(url=f"{mine.url}/ours"), workers=2) as stack,
            oracle.alertmanager(folders["one"], *cluster) as one,
            oracle.alertmanager(folders["two"], *peer) as two,
        ):
            await settled(one, two)
            for url in (one, two, str(stack.endpoints["http"])):
                await post(url, alert("B5"), alert("B7", ends=time.time() + 4))
            for url in (one, str(stack.endpoints["http"])):
                await post(url, alert("B4"))
            await until(lambda: theirs.asked_by("b5") == {"one", "two"} and mine.asked_by("b5") == {"ours"}, 60)
            theirs.begin()
            mine.begin()
            await until(lambda: mine.accepted("b7") == ["firing", "resolved"], 120)
            await until(lambda: bool(mine.gaps("b4") and theirs.gaps("b4")), 60)
            await until(lambda: len(theirs.accepted("b5")) > 1, 30)
            await asyncio.sleep(3)
    # B4: the answer 429 names a second; there it is tried again after group_interval.
    assert mine.gaps("b4")[0] < theirs.gaps("b4")[0]
    assert theirs.gaps("b4")[0] > 5
    # B5: while the receiver is sick, both replicas try; when it is well, both deliver.
    assert len(theirs.accepted("b5")) > 1
    assert mine.accepted("b5") == ["firing"]
    assert len({key for key, _ in mine.keys["b5"]}) == 1
    # B7: it ended before the receiver was well.
    assert theirs.accepted("b7") == []
    assert mine.accepted("b7") == ["firing", "resolved"]


def sick(name: str, age: float, nth: int) -> tuple[int, dict[str, str]]:
    """What a receiver answers to its n-th request (from 0), so many seconds after everybody found it sick."""
    if name == "b4":
        return (429, {"Retry-After": "1"}) if nth == 0 else (200, {})
    # There a notice is tried for 10 s, with pauses that grow: B5 is well while both try, B7 when nobody does any more.
    well_after = {"b5": 0, "b7": 15}[name]
    return (200, {}) if age >= well_after else (503, {})


class Desk(Listener):
    """Receivers with an illness each; what they accepted, and when each request came."""

    def __init__(self, answer: Callable[[str, float, int], tuple[int, dict[str, str]]]) -> None:
        super().__init__("/{by}/{name}")
        self.keys: dict[str, list[tuple[str, int]]] = defaultdict(list)
        self._answer = answer
        self._times: dict[str, list[float]] = defaultdict(list)
        self._accepted: dict[str, list[str]] = defaultdict(list)
        self._asked_by: dict[str, set[str]] = defaultdict(set)
        self._began = math.inf

    def begin(self) -> None:
        self._began = time.monotonic()

    def accepted(self, name: str) -> list[str]:
        return list(self._accepted[name])

    def asked_by(self, name: str) -> set[str]:
        """Who has sent something to this receiver."""
        return self._asked_by[name]

    def gaps(self, name: str) -> list[float]:
        times = self._times[name]
        return [later - earlier for earlier, later in pairwise(times)]

    async def take(self, request: web.Request) -> web.Response:
        name, body = request.match_info["name"], json.loads(await request.read())
        status, headers = self._answer(name, time.monotonic() - self._began, len(self._times[name]))
        self._times[name].append(time.monotonic())
        self._asked_by[name].add(request.match_info["by"])
        self.keys[name].append((request.headers.get("Idempotency-Key", ""), status))
        if status == 200:
            self._accepted[name].append(body["status"])
        return web.Response(status=status, headers=headers)


def alert(name: str, *, ends: float | None = None) -> dict[str, Any]:
    posted: dict[str, Any] = {"labels": {"alertname": name}, "annotations": {}}
    if ends is not None:
        posted["endsAt"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends))
    return posted


async def post(url: str, *alerts: dict[str, Any]) -> None:
    async with ClientSession(raise_for_status=True) as client:
        await client.post(f"{url}/api/v2/alerts", json=alerts)


async def settled(*urls: str) -> None:
    """Wait until these Alertmanagers have found each other: before, they hold notices back."""
    async with asyncio.timeout(60), ClientSession(raise_for_status=True) as client:
        for url in urls:
            while True:
                async with client.get(f"{url}/api/v2/status") as answer:
                    cluster = (await answer.json())["cluster"]
                if cluster["status"] == "ready" and len(cluster["peers"]) == len(urls):
                    break
                await asyncio.sleep(0.2)


async def until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        await asyncio.sleep(0.1)


def children() -> list[int]:
    """Ids of the Alertmanagers that this test started."""
    mine = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    return [int(one) for one in mine if oracle.PROGRAM.encode() in Path(f"/proc/{one}/cmdline").read_bytes()]
