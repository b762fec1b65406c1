"""Our own records, or parts of them, whose handling always fails: dead letters, and the rest has its effect once."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast
from unittest.mock import ANY

import asyncpg
import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisGone

from agents import flushes, group_rows, record_replay, unhandled
from agents.dedup_work import DedupWork
from agents.group_partition import FLUSH, decode_group
from agents.group_partition import GROUPS as GROUPS_TABLE
from agents.incident_actions import StepActions
from agents.letter_text import body_text
from agents.poison import TRIES, is_poison
from agents.replay import Replayer
from agents.rules import correlation, grouping
from agents.rules.group_state import GroupState
from agents.rules.inhibition import Inhibitors
from agents.rules.silence import Silences
from agents.step import AbandonedError, GapError
from sinks import dead_letter_rows
from streams import codec
from streams.producer import EventProducer
from streams.records import (
    Action,
    ActionName,
    AlertBatch,
    AlertsRecord,
    ConfigChanged,
    Inhibitor,
    InhibitorChanged,
    InhibitorEntry,
    InputBatch,
    InputsRecord,
    Outcome,
    Severity,
    Sighted,
    Sighting,
    Silence,
    SilenceChanged,
    Tick,
)
from streams.redis_tables import FencedError
from streams.rules_config import UnreadableRulesError
from streams.settings import Settings
from streams.topics import ALERTS, INPUTS
from tests.agents.steps import Crash, Owner, World, alert, at, identity_of
from tests.agents.test_relations_once import GROUPS, INCIDENTS, act, fired

BAD = "the bad one"


@pytest.fixture
async def world(settings: Settings, database_url: str, redis_url: str) -> AsyncIterator[World]:
    redis = Redis.from_url(redis_url)
    made = World(settings, database_url, redis, {0: []}, topic=INPUTS)
    yield made
    await made.lose_redis()
    await redis.aclose()


def failing(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, is_bad: Callable[..., bool]) -> list[int]:
    """Let a function raise for what is bad; how often it did."""
    real, times = getattr(owner, name), [0]

    def called(*args: Any, **named: Any) -> Any:
        if is_bad(*args, **named):
            times[0] += 1
            raise ZeroDivisionError(BAD)
        return real(*args, **named)

    monkeypatch.setattr(owner, name, called)
    return times


@contextmanager
def counted(expected: int) -> Iterator[None]:
    def value() -> float:
        return REGISTRY.get_sample_value("incidents_dead_letters_total", {"source": "agent"}) or 0.0

    before = value()
    yield
    assert value() - before == expected


async def letters(world: World) -> dict[str, asyncpg.Record]:
    conn = await asyncpg.connect(world.database_url)
    try:
        return {row["event_id"]: row for row in await conn.fetch("SELECT * FROM dead_letters ORDER BY event_id")}
    finally:
        await conn.close()


async def incidents(world: World) -> list[tuple[Any, ...]]:
    """What the second hop has written, and where its partition stands."""
    conn = await asyncpg.connect(world.database_url)
    try:
        found = [tuple(row) for row in await conn.fetch("SELECT group_key, status FROM incidents ORDER BY group_key")]
        lines = [tuple(row) for row in await conn.fetch("SELECT incident_id, seq, event FROM timeline ORDER BY 1, 2")]
        applied = await conn.fetchval("SELECT applied FROM stream_progress WHERE topic = $1", INPUTS)
    finally:
        await conn.close()
    return [*found, *lines, (applied,)]


def fire(*names: str, cause: int = 0, seconds: float = 0) -> InputBatch:
    changes = [msgspec.structs.replace(fired(list(GROUPS).index(name), name), cause=cause) for name in names]
    return InputBatch(log_id="log-1", accepted_at=at(seconds), items=tuple(changes))


def outcome(task_id: str = "00000000-0000-4000-8000-00000000000f") -> Outcome:
    return Outcome(
        group=GROUPS["api"], task_id=task_id, receiver="none", integration=0, decision=1, state="sent", reason="",
        finished_at=at(2),
    )  # fmt: skip


def silence(number: int) -> Silence:
    return Silence(
        id=f"s{number}", sequence=number, sets=((("alertname", "=", "none"),),), windows=((at(0), at(10_000)),)
    )


def inhibitor(number: int) -> Inhibitor:
    entry = InhibitorEntry("rule", b"values", both=False)
    return Inhibitor(identity=f"i{number}", fingerprint=f"f{number}", revision=1, entries=(entry,))


def sighting(number: int) -> Sighting:
    return Sighting(
        key=f"k{number}", group="g", incident_id=f"n{number}", title="", opened_at=at(0), said_at=at(0), alive=True,
        free=True, parent_id="", parent_since=None, parent_group="", parent_key="", apart=(), severity=Severity.ERROR,
        revision=1, within=timedelta(minutes=5), fired=((f"a{number}", at(0)),),
    )  # fmt: skip


SILENCES = SilenceChanged(after=0, upto=3, items=(silence(1), silence(2), silence(3)), announced_at=at(1))
INHIBITORS = InhibitorChanged(accepted_at=at(1), items=(inhibitor(1), inhibitor(2), inhibitor(3)))
SPEAKS = {"into": INCIDENTS["db"], "into_group": GROUPS["db"], "worst": 1}

Break = Callable[[pytest.MonkeyPatch], list[int]]


KINDS: dict[str, tuple[InputsRecord, Break, str]] = {
    "outcome": (outcome(), lambda m: failing(m, grouping, "pending_of", lambda *_: True),
                "incident-inputs/0/outcome 00000000-0000-4000-8000-00000000000f"),
    "outcome that Postgres takes for no task": (outcome("no uuid"), lambda _: [TRIES],
                                                "incident-inputs/0/outcome no uuid"),
    "action of a person": (
        act(7, "api", ActionName.ACKNOWLEDGE),
        lambda m: failing(m, StepActions, "_keep", lambda _s, key, *_: key == GROUPS["api"]),
        "00000000-0000-4000-8000-000000000007",
    ),
    "child": (
        act(8, "api", ActionName.CHILD, revision=1, **SPEAKS),
        lambda m: failing(m, StepActions, "apply", lambda _s, action, *_: action.action is ActionName.CHILD),
        "00000000-0000-4000-8000-000000000008",
    ),
    "orphan": (
        act(9, "api", ActionName.ORPHAN, **SPEAKS),
        lambda m: failing(m, StepActions, "apply", lambda _s, action, *_: action.action is ActionName.ORPHAN),
        "00000000-0000-4000-8000-000000000009",
    ),
    "rules that are not there": (ConfigChanged(version=7, announced_at=at(1)), lambda _: [TRIES],
                                 "incident-inputs/0/configuration 7"),
    "one silence of three": (
        SILENCES, lambda m: failing(m, Silences, "_add", lambda _s, items: any(one.id == "s2" for one in items)),
        "incident-inputs/0/silence s2 2",
    ),
    "one sighting of two": (
        Sighted(accepted_at=at(1), items=(sighting(1), sighting(2))),
        lambda m: failing(m, correlation, "hear", lambda _m, seen: any(one.key == "k2" for one in seen)),
        "incident-inputs/0/sighting k2 n2 1",
    ),
    "one inhibitor of three": (
        INHIBITORS,
        lambda m: failing(m, Inhibitors, "hear", lambda _s, sources, _n: any(one.identity == "i2" for one in sources)),
        "incident-inputs/0/inhibitor i2 1",
    ),
}  # fmt: skip


@asynccontextmanager
async def running(world: World, records: Sequence[AlertsRecord | InputsRecord]) -> AsyncIterator[Owner]:
    """A new process with this log, and no rules but those that the world has."""

    async def unreadable(version: int) -> None:
        raise UnreadableRulesError(version, "nobody has it")

    world.log = {0: [codec.encode(record) for record in records]}
    owner = await world.start()
    owner.logic._fetch = unreadable
    try:
        yield owner
    finally:
        await owner.close()


AROUND: list[InputsRecord] = [fire("api"), fire("web", cause=1), Tick(due_at=at(3)), fire("db", cause=2, seconds=3)]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_record_of_ours_is_dead_lettered_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    bad, broken, name = KINDS[kind]
    async with running(world, AROUND) as owner:
        await owner.step()
    expected = await incidents(world)
    await _wipe(world)
    with monkeypatch.context() as broken_only:
        times = broken(broken_only)
        async with running(world, [*AROUND[:2], bad, *AROUND[2:]]) as owner:
            with counted(1):
                await owner.step()
            assert owner.partitions[0].view.offset == len(AROUND)
    assert await incidents(world) == [*expected[:-1], (len(AROUND),)]
    [letter] = (await letters(world)).values()
    assert (letter["event_id"], letter["source"], letter["content_type"]) == (name, INPUTS, unhandled.RECORD)
    assert letter["reason"]
    assert times[0] >= TRIES
    alone = codec.decode_inputs(letter["body"])
    assert type(alone) is type(bad)
    assert len(getattr(alone, "items", (1,))) == 1


async def _wipe(world: World) -> None:
    conn = await asyncpg.connect(world.database_url)
    try:
        await conn.execute(
            "TRUNCATE incidents, groups, incident_alerts, decisions, timeline, dead_letters, stream_progress, "
            "partition_rules, actions, alerts, verdicts, notices, notification_tasks CASCADE"
        )
    finally:
        await conn.close()
    await world.lose_redis()


async def group_of(world: World, name: str) -> GroupState:
    stored = await world.tables().load(0, 0)
    return decode_group(stored.tables[GROUPS_TABLE][GROUPS[name]])


async def test_what_falls_due_is_left_out_alone_and_tried_again_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, late = Tick(due_at=at(40)), Tick(due_at=at(40) + unhandled.AGAIN)
    with monkeypatch.context() as broken:
        times = failing(broken, flushes, "flush", lambda key, *_: key == GROUPS["web"])
        async with running(world, [fire("api", "web", "db"), early]) as owner:
            with counted(1):
                await owner.step()
            assert times == [TRIES]
            before = {name: await group_of(world, name) for name in GROUPS}
            assert [(one.next_flush_at or late.due_at) > at(40) for one in before.values()] == [True, False, True]
            assert not owner.partitions[0].tick_sent
            assert (late.due_at, FLUSH, GROUPS["web"]) in owner.partitions[0].deadlines.entries()
            broken.undo()
            world.log[0].append(codec.encode(late))
            await owner.step()
    web = await group_of(world, "web")
    assert (web.next_flush_at or late.due_at) > at(40)
    assert list(await letters(world)) == [f"incident-inputs/0/flush {GROUPS['web']}"]


async def test_a_change_whose_rows_cannot_be_made_is_left_out_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, group_rows, "group", lambda key, *_: key == GROUPS["web"])
    async with running(world, [fire("api", "web"), fire("db", cause=1)]) as owner:
        with counted(1):
            await owner.step()
    assert [row[0] for row in (await incidents(world))[:2]] == sorted([GROUPS["api"], GROUPS["db"]])
    [letter] = (await letters(world)).values()
    body = codec.decode_inputs(letter["body"])
    assert isinstance(body, InputBatch)
    assert [one.group for one in body.items] == [GROUPS["web"]]


async def test_parts_that_only_fail_together_are_left_out_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, Silences, "_add", lambda _self, items: len(list(items)) > 1)
    async with running(world, [fire("api"), SILENCES, fire("web", cause=1)]) as owner:
        with counted(3):
            await owner.step()
    assert len(await letters(world)) == 3
    assert len([row for row in await incidents(world) if row[0] in GROUPS.values()]) == 2


async def test_what_comes_again_and_fails_again_is_one_letter_that_waits(
    world: World, conn: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, grouping, "pending_of", lambda *_: True)
    async with running(world, [fire("api"), outcome(), outcome()]) as owner:
        await owner.step()
        [first] = (await letters(world)).values()
        await conn.execute("UPDATE dead_letters SET state = 'replayed'")
        world.log[0].append(codec.encode(outcome()))
        await owner.step()
    [second] = (await letters(world)).values()
    assert (first["field"], second["field"]) == ("0/2/0@log-1", "0/3/0@log-1")
    assert second["state"] == "waiting"
    assert second["changed_at"] > first["changed_at"]


@pytest.mark.parametrize("kind", ["outcome", "one silence of three", "one inhibitor of three"])
@pytest.mark.parametrize("point", ["after commit", "after send"])
async def test_a_replay_leaves_out_what_the_first_run_had_to(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str, point: str
) -> None:
    bad, broken, _ = KINDS[kind]
    records = [*AROUND[:2], bad, *AROUND[2:]]
    stored = []
    for dies in (False, True):
        await _wipe(world)
        with monkeypatch.context() as broken_only:
            broken(broken_only)
            async with running(world, records) as owner:
                await owner.step(2)
                if dies:
                    owner.die(point)
                    with pytest.raises(Crash):
                        await owner.step(3)
                else:
                    await owner.step(3)
        async with running(world, records) as owner:
            await owner.step()
        stored.append((await world.stored(exact=True), await incidents(world)))
    assert stored[0] == stored[1]


class Sender:
    """Stands in for Kafka: what is sent on lies in the world's log, and is handled at once."""

    def __init__(self, world: World, owner: Owner) -> None:
        self.world, self.owner = world, owner

    async def send_on(self, topic: str, partition: int, _key: bytes, value: bytes, *, within: float) -> int:
        assert topic.endswith(INPUTS)
        assert within > 0
        self.world.log[partition].append(value)
        await self.owner.step()
        return len(self.world.log[partition]) - 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "Postgres" not in kind])
async def test_a_letter_is_shown_and_sent_again_or_says_why_not(
    world: World, conn: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    bad, broken, name = KINDS[kind]
    alone = replace(world.settings, partitions=1)

    async def replayed(owner: Owner) -> tuple[str, str]:
        letters = list((await dead_letter_rows.named(conn, [name])).values())
        assert type(bad).__name__ in body_text(letters[0])
        [one] = await Replayer(alone, conn, cast("EventProducer", Sender(world, owner)), 5).replay(letters)
        return one.word, one.why

    async with running(world, [fire("api"), bad]) as owner:
        with monkeypatch.context() as broken_only:
            broken(broken_only)
            await owner.step()
            [letter] = (await letters(world)).values()
            assert await replayed(owner) == ("refused", ANY)
        world.configs[7] = world.configs[0]
        word, why = await replayed(owner)
        [after] = (await letters(world)).values()
    del world.configs[7]
    if isinstance(bad, Outcome | Action | ConfigChanged):
        assert (word, why, after["state"]) == ("replayed", "handled", "replayed")
        assert owner.partitions[0].view.offset == 3
    else:
        assert word == "refused"
        assert why in set(record_replay._SENSELESS.values())
        assert (after["state"], after["changed_at"]) == ("waiting", letter["changed_at"])


async def test_a_timeout_that_cannot_be_told_keeps_no_other_alert(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.topic = ALERTS
    ending = [alert(name, name, 0, ends_at=at(5)) for name in "ABC"]
    failing(monkeypatch, DedupWork, "_time_out", lambda _s, _o, _i, identity, *_: identity == identity_of("B"))
    async with running(world, [AlertBatch(accepted_at=at(0), items=tuple(ending)), Tick(due_at=at(6))]) as owner:
        with counted(1):
            await owner.step()
    rows = await world.rows()
    assert [row["status"] for row in rows["alerts"]] == [
        "firing" if row["identity"] == identity_of("B") else "resolved" for row in rows["alerts"]
    ]
    assert list(await letters(world)) == [f"alerts/0/timeout {identity_of('B')}"]
    assert rows["progress"][0][4:] == (3, 3, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("point", ["", "after commit", "after send"])
async def test_an_alert_that_cannot_be_routed_anew_keeps_its_groups_and_no_other_does(
    world: World, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    world.topic = ALERTS
    items = tuple(alert(name, name, 0) for name in "ABC")
    records: list[Any] = [
        AlertBatch(accepted_at=at(0), items=items), ConfigChanged(version=7, announced_at=at(1)),
        ConfigChanged(version=2, announced_at=at(2)),
    ]  # fmt: skip
    with monkeypatch.context() as broken:
        failing(broken, DedupWork, "_route", lambda _s, _o, _i, identity, *_: identity == identity_of("B"))
        async with running(world, records) as owner:
            await owner.step(1)
            if point:
                owner.die(point)
                with pytest.raises(Crash):
                    await owner.step()
            else:
                await owner.step()
    async with running(world, records) as owner:
        await owner.step()
        assert owner.partitions[0].config_version == 2
    rows = (await world.rows())["alerts"]
    assert [row["revision"] % 1000 for row in rows] == [row["identity"] != identity_of("B") for row in rows]
    assert set(await letters(world)) == {"alerts/0/configuration 7", f"alerts/0/route {identity_of('B')}"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError(), True), (KeyError(1), True), (RecursionError(), True), (asyncpg.DataError(), True),
        (asyncpg.UniqueViolationError(), False), (FencedError(), False), (GapError(), False),
        (AbandonedError(), False), (KafkaConnectionError(), False), (RedisGone(), False), (OSError(), False),
        (TimeoutError(), False), (asyncpg.ConnectionDoesNotExistError(), False), (MemoryError(), False),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_services_and_fences_are_no_poison(error: Exception, expected: bool) -> None:
    assert is_poison(error) is expected
