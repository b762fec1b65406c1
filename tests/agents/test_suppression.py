"""What a partition applies of silences and sources stands in its tables, survives, and is seen by the same step."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from agents.group_partition import RULES, InputsPartition
from agents.rules import inhibition
from agents.suppression import Suppression, Suppressor
from streams import codec
from streams.records import Inhibitor, InhibitorChanged, Silence, SilenceChanged
from streams.rules_inhibit import InhibitRule
from streams.rules_matchers import parse
from streams.settings import Settings
from streams.topics import INPUTS
from tests.agents.stage import Incidents, at
from tests.agents.steps import World, run_through

RULE = InhibitRule(tuple(parse('severity="critical"')), tuple(parse('severity="warning"')), ("service",))
CHAT = {"service": "chat", "severity": "warning"}
MUTED = Suppression(("s1",), ("f1",))


def silence(number: int, *, service: str = "chat", until: float = 60, sequence: int | None = None) -> Silence:
    sets = ((("service", "=", service),),)
    place = sequence if sequence is not None else number
    return Silence(id=f"s{number}", sequence=place, sets=sets, windows=((at(0), at(until)),))


def announced(*items: Silence, after: int = 0, upto: int | None = None, seconds: float = 1) -> SilenceChanged:
    last = upto if upto is not None else max(item.sequence for item in items)
    return SilenceChanged(after=after, upto=last, items=items, announced_at=at(seconds))


def source(revision: int = 1, *, firing: bool = True, name: str = "f1") -> InhibitorChanged:
    labels = {"service": "chat", "severity": "critical"}
    entries = inhibition.entries_of([RULE], labels) if firing else ()
    item = Inhibitor(identity=f"i-{name}", fingerprint=name, revision=revision, entries=entries)
    return InhibitorChanged(accepted_at=at(revision), items=(item,))


def suppression(partition: InputsPartition, labels: dict[str, str], seconds: float = 2) -> Suppression:
    step = Incidents(view=partition.view).work([])
    return step.suppressor.of(labels, at(seconds), rules=(RULE,), key="k")


def test_a_step_mutes_by_what_it_has_just_applied() -> None:
    stage = Incidents()
    work = stage.work([announced(silence(1)), source()])
    assert work.suppressor.of(CHAT, at(2), rules=(RULE,)) == MUTED
    assert work.suppressor.of(CHAT, at(60), rules=(RULE,)) == Suppression((), ("f1",))
    assert not work.suppressor.of({"service": "other"}, at(2), rules=(RULE,))
    assert not stage.work([]).suppressor.of(CHAT, at(2), rules=(RULE,))  # that step was given up


def test_what_was_committed_is_in_the_tables_and_is_there_for_the_next_owner() -> None:
    stage = Incidents()
    stage.step(announced(silence(1)), source())
    assert stage.work([]).suppressor.of(CHAT, at(2), rules=(RULE,)) == MUTED
    assert suppression(stage.partition, CHAT) == MUTED
    stage.step(source(2, firing=False), announced(silence(1, until=2, sequence=2), after=1, seconds=2))
    assert not stage.work([]).suppressor.of(CHAT, at(3), rules=(RULE,))
    assert not suppression(stage.partition, CHAT, 3)
    assert Suppressor(stage.view.tables[RULES]).upto == 2


def test_announced_twice_is_once_and_a_gap_is_noticed() -> None:
    stage = Incidents()
    stage.step(announced(silence(1), silence(2), upto=2))
    before = dict(stage.view.tables[RULES])
    stage.step(announced(silence(1), silence(2), upto=2))
    assert stage.view.tables[RULES] == before
    stage.step(announced(silence(4), after=3, upto=4))
    assert stage.partition.suppressor.upto == 2, "what lies between has not been heard of"
    assert "s4" in stage.partition.suppressor.silences.known
    stage.step(announced(silence(3), silence(4), after=2, upto=4))
    assert stage.partition.suppressor.upto == 4


def test_silences_that_are_over_leave_the_table() -> None:
    stage = Incidents()
    stage.step(announced(silence(1, until=5), silence(2)))
    stage.step(announced(silence(3, until=4), after=2, seconds=6))
    assert sorted(stage.view.tables[RULES]) == ["directory", "silence:s2"]


def test_a_late_copy_of_an_announcement_does_not_bring_an_ended_silence_back() -> None:
    stage = Incidents()
    first = announced(silence(1))
    stage.step(first)
    stage.step(announced(silence(1, until=2, sequence=2), after=1, seconds=2))
    stage.step(first)
    assert not stage.work([]).suppressor.of(CHAT, at(3), rules=(RULE,))
    assert sorted(stage.view.tables[RULES]) == ["directory"]


def test_rules_that_changed_are_asked_anew() -> None:
    stage = Incidents()
    stage.step(source())
    work = stage.work([])
    assert work.suppressor.of(CHAT, at(2), rules=(RULE,), key="k")
    other = msgspec.structs.replace(RULE, target=tuple(parse('severity="info"')))
    assert not work.suppressor.of(CHAT, at(2), rules=(other,), key="k")
    assert not work.suppressor.of(CHAT, at(2), key="k")


@pytest.fixture
async def world(settings: Settings, database_url: str, redis_url: str) -> AsyncIterator[World]:
    redis = Redis.from_url(redis_url)
    log: list[Any] = [
        announced(silence(1), silence(2, service="search", until=3), seconds=1),
        source(),
        source(name="f2"),
        announced(silence(3), after=2, seconds=4),
        source(5, firing=False, name="f2"),
        source(2000, name="f3"),
    ]
    made = World(settings, database_url, redis, {0: [codec.encode(record) for record in log]}, topic=INPUTS)
    yield made
    await made.lose_redis()
    await redis.aclose()


@pytest.mark.parametrize("point", ["decided", "before commit", "after commit", "after redis", "after view"])
async def test_postgres_has_the_table_byte_for_byte_wherever_a_process_died(world: World, point: str) -> None:
    await run_through(world, (3, 6), [(6, point)])
    before = await world.stored(exact=True)
    assert sorted(before[0][1][RULES]) == [
        "directory", "silence:s1", "silence:s3", "source:i-f1", "source:i-f3"
    ]  # fmt: skip
    await world.lose_redis()
    owner = await world.start()
    assert owner.tables.views[0].tables == before[0][1]
    await owner.close()
