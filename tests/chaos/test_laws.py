"""The oracle itself: true accounts pass, and each lie turns its law red."""

import uuid
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from embedded.unit import Role
from loadtests.ledger_file import Outcome
from tests.chaos import laws, tables
from tests.chaos.choice import chosen, disks_of
from tests.chaos.faults import FAULTS, Hurt
from tests.chaos.figures import Answer
from tests.chaos.laws import Finding, Task
from tests.chaos.ledger import LedgerFile, known
from tests.chaos.receiver import LOST, Notice, names, noted, notices_of
from tests.chaos.sender import Telling
from tests.chaos.stories import Partition, Step, Story, Timing, differences, told, written

FIRING = names([{"alertname": "A", "instance": "1"}])
OPENED = Notice(
    at_us=1, target="desk", key="k1", incident="i1", group="g1", status="firing", body_hash="b1", firing=FIRING,
    answered=200,
)  # fmt: skip
ENDED = msgspec.structs.replace(OPENED, at_us=2, key="k2", status="resolved", body_hash="b2", firing="")
SENT_FIRST = Task(id="k1", incident="i1", group="g1", decision=1, state="sent")
SENT_SECOND = msgspec.structs.replace(SENT_FIRST, id="k2", decision=2)
TASKS = [SENT_FIRST, SENT_SECOND]


def notice(one: Notice, **changes: Any) -> Notice:
    return msgspec.structs.replace(one, **changes)


def task(one: Task, **changes: Any) -> Task:
    return msgspec.structs.replace(one, **changes)


def red(findings: list[Finding]) -> set[str]:
    return {finding.law for finding in findings if not finding.holds}


def test_what_was_told_in_order_and_taken_holds() -> None:
    lost = notice(OPENED, answered=LOST)
    assert red(laws.of_notices([OPENED, ENDED], TASKS, {"g1": "", "g2": ""})) == set()
    assert red(laws.of_notices([OPENED], [SENT_FIRST], {"g1": FIRING})) == set()
    assert red(laws.of_notices([lost, OPENED, ENDED], TASKS, {"g1": ""})) == set()


@pytest.mark.parametrize(
    ("notices", "tasks", "firing", "law"),
    [
        ([OPENED], TASKS, {"g1": ""}, laws.NOTICES),
        ([OPENED, notice(ENDED, answered=503)], TASKS, {"g1": ""}, laws.NOTICES),
        ([OPENED, ENDED], [*TASKS, task(SENT_FIRST, id="k3", state="due")], {"g1": ""}, laws.NOTICES),
        ([OPENED], [SENT_FIRST], {"g1": ""}, laws.NOTICES),
        ([OPENED, ENDED], TASKS, {"g1": FIRING}, laws.NOTICES),
        ([OPENED], [SENT_FIRST], {"g1": names([{"alertname": "B"}])}, laws.NOTICES),
        ([], [], {"g1": FIRING}, laws.NOTICES),
        ([OPENED, notice(ENDED, key="made up")], [SENT_FIRST], {"g1": ""}, laws.NOTICES),
        ([OPENED, notice(OPENED, body_hash="b9")], [SENT_FIRST], {"g1": FIRING}, laws.SAME),
        ([OPENED, notice(OPENED, key="k2")], TASKS, {"g1": FIRING}, laws.SAME),
        ([notice(OPENED, key="")], [task(SENT_FIRST, id="")], {"g1": FIRING}, laws.SAME),
        ([ENDED, OPENED], TASKS, {"g1": FIRING}, laws.ORDER),
        ([OPENED, ENDED, OPENED], TASKS, {"g1": FIRING}, laws.ORDER),
        ([ENDED, notice(OPENED, key="k3")], [SENT_SECOND, task(SENT_FIRST, id="k3", decision=3)], {"g1": FIRING},
         laws.ORDER),
        ([notice(ENDED, firing=FIRING)], [SENT_SECOND], {"g1": FIRING}, laws.ORDER),
    ],
    ids=[
        "sent and never taken", "sent and refused", "not sent yet", "the end is missing", "told the wrong end",
        "another alert fires", "never told", "invented", "two bodies under one key", "one notice under two keys",
        "no key", "the end came first", "an old notice after a newer", "an end, then the beginning",
        "an end that fires",
    ],
)  # fmt: skip
def test_a_lie_about_notices_is_found(
    notices: list[Notice], tasks: list[Task], firing: dict[str, str], law: str
) -> None:
    assert law in red(laws.of_notices(notices, tasks, firing))


def test_what_was_given_up_visibly_need_not_be_told() -> None:
    assert red(laws.of_notices([], [task(SENT_FIRST, state="failed")], {"g1": FIRING})) == set()


def test_incidents_are_open_while_something_fires_and_count_what_is_linked() -> None:
    rows = {"i1": {"status": "open", "alerts": 2, "firing": 1, "events": 5}}
    said = {"id": "i1", "alerts": 2, "firing": 1, "events": 5}
    assert laws.of_incidents(rows, [said]).holds
    assert not laws.of_incidents({"i1": rows["i1"] | {"status": "resolved"}}, [said]).holds
    assert not laws.of_incidents({"i1": rows["i1"] | {"firing": 0}}, []).holds
    for name in ("alerts", "firing", "events"):
        assert not laws.of_incidents(rows, [said | {name: 9}]).holds


def test_counters_add_up_or_are_red() -> None:
    sums = {"new": 3, "duplicate": 4, "redelivered": 2, "received": 9}
    assert laws.of_counters(sums, 7, {"new": 3, "duplicate": 4}).holds
    assert not laws.of_counters(sums | {"received": 10}, 7, None).holds
    assert not laws.of_counters(sums, 8, None).holds
    assert not laws.of_counters(sums, 7, {"new": 4}).holds


def test_ingest_is_open_while_a_broker_is_there_and_closed_while_none_is() -> None:
    away = Hurt(name="down-kafka", what="", began_us=0, mended_us=10_000_000)
    both = msgspec.structs.replace(away, name="down-brokers")
    taken, again = Answer(at_us=5_000_000, status=202), Answer(at_us=5_000_000, status=429)
    early = Answer(at_us=1_000_000, status=503)
    assert laws.of_ingest([early, taken], [away], 8).holds
    assert not laws.of_ingest([again], [away], 8).holds
    assert laws.of_ingest([again], [both], 8).holds
    assert not laws.of_ingest([taken], [both], 8).holds
    assert laws.of_ingest([again], [msgspec.structs.replace(away, name="kill-kafka")], 8).holds


PULSE = [1, b"c", True, 1, 5, "event", "starts", None, None, "first", "last", 7, 40, 7, "row", -1, False]
DUMP: tables.Dump = {
    "{pipeline:alerts:0}:t:pulses": {"a": msgspec.msgpack.encode(PULSE)},
    "{pipeline:alerts:0}:t:recent": {"1-1": msgspec.msgpack.encode([1, "at", b"12345678abcdefgh"])},
    "{pipeline:incident-inputs:0}:t:groups": {"g": msgspec.msgpack.encode(["team", 3])},
    "{pipeline:incident-inputs:0}:t:rules": {"causes": msgspec.msgpack.encode([1, "log", {0: 7, 1: 9}, {0: (2, 5)}])},
}


def changed(table: str, key: str, value: object | None) -> tables.Dump:
    [name] = [name for name in DUMP if name.endswith(table)]
    rest = {other: kept for other, kept in DUMP[name].items() if other != key}
    return {**DUMP, name: rest if value is None else {**rest, key: msgspec.msgpack.encode(value)}}


def test_a_rebuild_that_gives_everything_back_holds() -> None:
    regrouped = {"1-1": [1, "at", b"12345678"], "2-2": [1, "at", b"abcdefgh"]}
    recent = {key: msgspec.msgpack.encode(value) for key, value in regrouped.items()}
    assert tables.differences(DUMP, DUMP) == []
    assert tables.differences(DUMP, {**DUMP, "{pipeline:alerts:0}:t:recent": recent}) == []
    assert tables.differences(DUMP, changed("pulses", "a", [*PULSE[:13], 6, "later", 30, False])) == []
    assert tables.differences(DUMP, changed("rules", "causes", [1, "log", {0: 7, 1: 12}, {0: (2, 5)}])) == []


@pytest.mark.parametrize(
    "after",
    [
        changed("groups", "g", None),
        changed("groups", "g", ["team", 4]),
        changed("groups", "h", ["team", 1]),
        changed("pulses", "a", [*PULSE[:11], 8, *PULSE[12:]]),
        changed("recent", "1-1", [1, "at", b"12345678"]),
        changed("rules", "causes", [1, "log", {0: 7, 1: 8}, {}]),
        changed("rules", "causes", [1, "another log", {0: 7, 1: 9}, {}]),
        changed("rules", "causes", [1, "log", {0: 7}, {}]),
        changed("rules", "causes", [1, "log", {0: 7, 1: 9}, {}]),
        {name: values for name, values in DUMP.items() if "groups" not in name},
    ],
    ids=[
        "a key is gone",
        "a value is another",
        "a key is new",
        "a count is another",
        "an id is forgotten",
        "less was heard",
        "another log",
        "a partition is unheard of",
        "less of one cause was heard",
        "no table",
    ],
)
def test_a_rebuild_that_differs_is_found(after: tables.Dump) -> None:
    assert tables.differences(DUMP, after)


def test_stories_are_the_same_by_seed_and_keep_their_distance() -> None:
    timing = Timing(window=90, near=10, margin=60)
    some = written(7, 20, 600, timing)
    assert some == written(7, 20, 600, timing)
    assert some != written(8, 20, 600, timing)
    assert min(len(story.incidents) for story in some) > 1
    for story in some:
        for gap in gaps_of(story):
            assert abs(gap - timing.window) >= timing.margin
    with pytest.raises(ValueError, match="not 60"):
        Timing(window=30, near=10, margin=60)


def gaps_of(story: Story) -> list[float]:
    steps = story.steps
    return [after.at - before.at for before, after in pairwise(steps) if after.fires > before.fires]


@pytest.mark.parametrize(("held_up", "is_broken"), [(0.0, False), (25.0, False), (31.0, True)])
def test_a_story_keeps_its_distances_whatever_holds_it_up(held_up: float, is_broken: bool) -> None:
    steps = [Step(at=at, instance="a", fires=place % 2 == 0) for place, at in enumerate((1.0, 5.0, 7.0, 9.0, 60.0))]
    telling = Telling(Story(service="s", over_http=False, steps=tuple(steps), incidents=()), 30.0)
    assert telling.due(0.9) is None
    assert telling.due(1.0) is steps[0]
    assert telling.due(50.0) is None, "it waits for the one before"
    telling.confirmed(11.0)
    assert (telling.due(14.9), telling.due(15.0)) == (None, steps[1])
    telling.confirmed(15.0)
    assert (telling.due(16.9), telling.due(17.0)) == (None, steps[2])
    telling.confirmed(15.0 + held_up)
    assert telling.is_broken is is_broken
    telling.due(100.0)
    telling.confirmed(100.0)
    assert (telling.due(150.9), telling.due(151.0)) == (None, steps[4])
    telling.confirmed(400.0)
    assert telling.is_told
    assert telling.is_broken is is_broken


def test_incidents_that_are_put_together_otherwise_are_found() -> None:
    story = written(1, 2, 300, Timing(window=90, near=10, margin=60))[1]
    expected = told([story])
    assert differences(expected, expected) == []
    merged: Partition = {story.service: frozenset({frozenset().union(*expected[story.service])})}
    split: Partition = {story.service: frozenset(frozenset({one}) for some in expected[story.service] for one in some)}
    assert len(expected[story.service]) > 1
    for wrong in (merged, split, {}):
        assert differences(expected, wrong)
    assert differences(expected, {}, [story.service]) == []


def test_the_best_that_was_heard_of_an_event_counts(tmp_path: Path) -> None:
    ledger = LedgerFile(tmp_path / "senders.tsv")
    for event_id, sent, outcome in (
        ("a", 1, Outcome.UNKNOWN), ("a", 1, Outcome.CONFIRMED), ("b", 2, Outcome.UNKNOWN), ("c", 3, Outcome.REFUSED),
        ("c", 3, Outcome.UNKNOWN),
    ):  # fmt: skip
        ledger.told(event_id, sent, outcome)
    ledger.close()
    assert {entry.event_id: (entry.sent_us, entry.outcome) for entry in known(tmp_path / "senders.tsv")} == {
        "a": (1, Outcome.CONFIRMED), "b": (2, Outcome.UNKNOWN), "c": (3, Outcome.UNKNOWN),
    }  # fmt: skip


def test_a_notice_is_written_as_it_came_and_read_again(tmp_path: Path) -> None:
    labels = [{"alertname": "A", "instance": "1"}, {"alertname": "A", "instance": "2"}]
    body = {
        "groupKey": "g1", "status": "firing", "incident": {"id": "i1"},
        "alerts": [{"status": "firing", "labels": labels[0]}, {"status": "resolved", "labels": labels[1]}],
    }  # fmt: skip
    one = noted("desk", "k1", msgspec.json.encode(body), 200)
    assert (one.firing, one.incident, one.taken) == (FIRING, "i1", True)
    (tmp_path / "receiver.jsonl").write_bytes(msgspec.json.encode(one) + b"\n")
    assert notices_of(tmp_path / "receiver.jsonl") == [one]
    assert names(labels) == names(labels[::-1]) != names(labels[:1])


def test_faults_are_chosen_by_name_or_family() -> None:
    names_of, not_here = chosen(["kill-worker", "redis-lost"][0], workers=1, durable_log=True, disks=False)
    assert (names_of, not_here) == (["kill-worker"], [])
    family, _ = chosen("kill", workers=1, durable_log=True, disks=False)
    assert len(family) == len([name for name in FAULTS if name.startswith("kill-")])
    assert chosen("kill-kafka zombie full", workers=1, durable_log=False, disks=False)[0] == []
    everything, _ = chosen("", workers=2, durable_log=True, disks=True)
    assert "full-rabbitmq" in everything
    assert not {"full-kafka", "brimful-rabbitmq"} & set(everything)
    brimful, _ = chosen("brimful-rabbitmq", workers=2, durable_log=True, disks=True)
    assert (brimful, disks_of(brimful)) == (["brimful-rabbitmq"], [Role.RABBITMQ])
    with pytest.raises(ValueError, match="no fault or family"):
        chosen("earthquake", workers=1, durable_log=True, disks=True)


INCIDENT = """
    INSERT INTO incidents (id, title, description, severity, status, created_at, updated_at, team, kind, group_key,
        group_labels, route, receiver, partition, revision)
    VALUES ($1, '', '', 'error', 'open', now(), now(), 'default', 'other', $2, $3, '', 'desk', 0, 1)
"""
ALERT = """
    INSERT INTO alerts (identity, occurrence, partition, team, fingerprint, source, status, severity, kind, summary,
        description, labels, annotations, links, starts_at, first_seen_at, last_seen_at, event_count, revision,
        groups, state, pulse)
    VALUES ($1, $2, 0, 'default', 'f', 's', 'firing', 'error', 'other', '', '', $3, '{}', '[]', now(), now(), now(),
        4, 1, ARRAY['g1'], '', '')
"""
LINK = """
    INSERT INTO incident_alerts (incident_id, identity, occurrence, group_key, partition, firing, revision, joined_at)
    VALUES ($1, $2, $3, 'g1', 0, $4, 1, now())
"""


async def test_what_postgres_says_is_read_by_the_oracles_own_statements(
    conn: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    incident = uuid.uuid4()
    story = '{"alertname": "Story", "service": "story-001"}'
    await conn.execute(INCIDENT, incident, "g1", story)
    await conn.execute(INCIDENT, uuid.uuid4(), "g2", "{}")
    for occurrence, firing in ((100, False), (200, True)):
        await conn.execute(ALERT, "a", occurrence, '{"alertname": "Story", "instance": "one"}')
        await conn.execute(LINK, incident, "a", occurrence, firing)
    assert await laws.stories_of(conn) == {"story-001": frozenset({frozenset({("one", 1), ("one", 2)})})}
    assert await laws.firing_now(conn) == {"g1": names([{"alertname": "Story", "instance": "one"}]), "g2": ""}
    counted = (await laws.counted(conn))[str(incident)]
    assert (counted["alerts"], counted["firing"], counted["events"]) == (1, 1, 8)
    assert await laws.tasks_of(conn) == []
    assert sum((await laws.sums_of(conn)).values()) == 0
