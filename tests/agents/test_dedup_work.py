"""A partition of `alerts`: every event counts once, however its records are cut into steps."""

import copy
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agents import alert_partition
from agents.alert_partition import HELD, PULSES, AlertsPartition, decode_pulse, decode_state
from agents.rules import dedup as rule
from agents.rules.dedup import Decided, Pulse
from agents.work import Poison
from streams import codec
from streams.records import (
    Alert,
    AlertBatch,
    AlertBody,
    AlertsRecord,
    Change,
    ConfigChanged,
    InputBatch,
    Kind,
    MemberChange,
    Rejected,
    Severity,
    Verdict,
)
from streams.redis_tables import Mark, View
from streams.rules_config import load
from tests.agents.stage import CONFIGS, LOG, T0, Dedup, Incidents, alert, at, batch, body_of, cut, rebuilt, tick

SETTLED = timedelta(days=1)
LITTLE_MEMORY: dict[str, Any] = {"recent_window": 60, "recent_cap": 12}
few = settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.generate))


@st.composite
def items(draw: st.DrawFn, now: float) -> Alert | Rejected:
    event_id = f"e{draw(st.integers(0, 40))}"
    if draw(st.integers(0, 11)) == 0:
        return Rejected(event_id=event_id, source="test", field="labels", reason="too many")
    firing = draw(st.booleans())
    event_at = now - draw(st.sampled_from([0, 0, 1, 30, 700]))
    ends: float | None = draw(st.sampled_from([None, now + 5, now + 40])) if firing else event_at
    return alert(
        draw(st.sampled_from(["a", "b", "c"])),
        service=draw(st.sampled_from(["api", "db"])),
        firing=firing,
        event_at=at(event_at),
        starts_at=at(event_at) if firing else None,
        ends_at=at(ends) if ends is not None else None,
        event_id=event_id,
        summary=draw(st.sampled_from(["down", "slow"])),
        key=draw(st.sampled_from(["", "", "mine"])),
    )


@st.composite
def logs(draw: st.DrawFn, pauses: tuple[float, ...] = (0, 0.2, 0.4, 2, 20, 70, 1000)) -> list[AlertsRecord]:
    """A log: batches, ticks and a new configuration, with time that mostly goes on."""
    now, records = 0.0, list[AlertsRecord]()
    for _ in range(draw(st.integers(1, 14))):
        now += draw(st.sampled_from(pauses))
        match draw(st.integers(0, 7)):
            case 0 | 1:
                records.append(tick(now))
            case 2 if not any(isinstance(record, ConfigChanged) for record in records):
                records.append(ConfigChanged(version=2, announced_at=at(now)))
            case _:
                records.append(batch(*draw(st.lists(items(now), min_size=1, max_size=5)), seconds=now))
    return records


cuts = st.sets(st.integers(1, 13))


def events_in(records: list[AlertsRecord]) -> int:
    return sum(len(record.items) for record in records if isinstance(record, AlertBatch))


def settled(view: View) -> dict[str, dict[str, Any]]:
    """The tables without what only says how far the rows in Postgres are."""
    tables: dict[str, dict[str, Any]] = {name: dict(table) for name, table in view.tables.items()}
    for identity, value in view.tables[PULSES].items():
        pulse = msgspec.msgpack.decode(value, type=Pulse)
        tables[PULSES][identity] = msgspec.structs.replace(pulse, row_count=0, row_at=T0, dirty_from=-1)
    return tables


def told(stage: Dedup) -> list[MemberChange]:
    """Every change that the groups hear, each group's in its order."""
    changes = [
        change
        for record in stage.sent
        if isinstance(inputs := _inputs(record.value), InputBatch)
        for change in inputs.items
    ]
    return sorted(changes, key=lambda change: change.group)


def _inputs(value: bytes) -> InputBatch | None:
    try:
        record = codec.decode_inputs(value)
    except codec.UndecodableRecordError:
        return None
    return record if isinstance(record, InputBatch) else None


def ran(records: list[AlertsRecord], places: set[int], **changed: Any) -> Dedup:
    stage = Dedup(**changed)
    for piece in cut(records, (place for place in places if place < len(records))):
        stage.step(*piece)
    return stage


@few
@given(records=logs(), places=cuts)
def test_however_a_log_is_cut_into_steps_its_tables_verdicts_and_changes_are_the_same(
    records: list[AlertsRecord], places: set[int]
) -> None:
    whole, single, pieces = (ran(records, p, **LITTLE_MEMORY) for p in (set[int](), set(range(1, 14)), places))
    assert settled(whole.view) == settled(single.view) == settled(pieces.view)
    assert whole.rows.progress == single.rows.progress == pieces.rows.progress
    assert whole.rows.verdicts == single.rows.verdicts == pieces.rows.verdicts
    assert told(whole) == told(single) == told(pieces)
    assert whole.partition.watermark == single.partition.watermark == pieces.partition.watermark


@few
@given(records=logs(), places=cuts)
def test_a_partition_that_is_loaded_again_between_any_two_steps_goes_on_as_if_it_was_not(
    records: list[AlertsRecord], places: set[int]
) -> None:
    kept, moved = ran(records, places, **LITTLE_MEMORY), Dedup(**LITTLE_MEMORY)
    for piece in cut(records, (place for place in places if place < len(records))):
        moved.partition = _loaded(moved)
        moved.step(*piece)
    assert settled(kept.view) == settled(moved.view)
    assert kept.view.tables[PULSES] == moved.view.tables[PULSES]
    assert kept.rows.verdicts == moved.rows.verdicts
    assert (kept.rows.safe, kept.rows.counts) == (moved.rows.safe, moved.rows.counts)


def _loaded(stage: Dedup) -> AlertsPartition:
    """The partition from a copy of its tables, in another order, as a scan of Redis would give them."""
    tables = {name: dict(reversed(table.items())) for name, table in stage.view.tables.items()}
    return AlertsPartition.over(
        View(0, stage.view.mark, tables),
        pg_applied=stage.view.offset,
        config_version=stage.partition.config_version,
        watermark=stage.partition.watermark,
    )


def test_near_the_bound_resolved_alerts_leave_oldest_first_and_firing_ones_never() -> None:
    stage = Dedup(alerts_cap=5)
    stage.step(batch(*(alert(f"n{n}") for n in range(4)), seconds=0))
    for n in (2, 0):
        stage.step(batch(alert(f"n{n}", firing=False), seconds=3 + n))
    left = list(stage.pulses)
    assert len(left) == 4
    stage.step(batch(alert("n7"), seconds=6))
    assert [identity for identity in left if identity not in stage.pulses] == [alert("n0").identity]
    assert set(stage.view.tables["alerts"]) == set(stage.pulses)
    stage.step(batch(*(alert(f"m{n}") for n in range(6)), seconds=7))
    assert all(pulse.firing for pulse in stage.pulses.values())
    assert len(stage.pulses) == 3 + 6


@few
@given(records=logs(), places=cuts)
def test_who_leaves_early_does_not_depend_on_how_the_log_is_cut(records: list[AlertsRecord], places: set[int]) -> None:
    assert settled(ran(records, places, alerts_cap=3).view) == settled(ran(records, set(), alerts_cap=3).view)


@few
@given(records=logs(), places=cuts)
def test_verdicts_add_up_to_the_events_and_agree_with_the_progress(
    records: list[AlertsRecord], places: set[int]
) -> None:
    rows = ran(records, places).rows
    assert sum(rows.progress.values()) == events_in(records)
    assert rows.verdict_sums | {Verdict.REDELIVERED: 0} == rows.progress | {Verdict.REDELIVERED: 0}


@few
@given(records=logs(), places=cuts)
def test_rows_and_what_they_are_behind_hold_every_event(records: list[AlertsRecord], places: set[int]) -> None:
    stage = ran(records, places)
    if stage.rows.applied >= 0:
        assert stage.rows.safe < stage.rows.applied or not stage.sent_last
        stage.step(AlertBatch(accepted_at=at(0), items=()))  # after it, all that was told is known to be with Kafka
    behind = sum(pulse.count - pulse.row_count for pulse in stage.pulses.values())
    without = stage.rows.progress[Verdict.REJECTED] + stage.rows.progress[Verdict.REDELIVERED]
    assert sum(stage.rows.counts.values()) + behind == events_in(records) - without
    dirty = [pulse.dirty_from for pulse in stage.pulses.values() if pulse.dirty_from >= 0]
    assert stage.rows.safe == min([stage.rows.applied, *(first - 1 for first in dirty)])


@few
@given(records=logs(), places=cuts)
def test_a_late_tick_brings_every_count_into_its_row_and_ends_what_timed_out(
    records: list[AlertsRecord], places: set[int]
) -> None:
    stage = ran(records, places)
    stage.step(tick(SETTLED.total_seconds()))
    assert stage.rows.safe == stage.rows.applied - bool(stage.sent_last)
    stage.step(tick(SETTLED.total_seconds()))
    assert all(pulse.count == pulse.row_count for pulse in stage.pulses.values())
    assert all(pulse.firing and pulse.timeout_at is None for pulse in stage.pulses.values())
    assert stage.rows.safe == stage.rows.applied
    without = stage.rows.progress[Verdict.REJECTED] + stage.rows.progress[Verdict.REDELIVERED]
    assert sum(stage.rows.counts.values()) == events_in(records) - without


@few
@given(records=logs(), places=cuts, behind=st.integers(0, 13))
def test_replaying_what_postgres_has_already_leads_to_the_same_tables(
    records: list[AlertsRecord], places: set[int], behind: int
) -> None:
    there = ran(records, places)
    stage = ran(records[:behind], set())
    for record in records[behind:]:
        stage.step(record, replaying=True)
    assert settled(stage.view) == settled(there.view)
    assert told(stage) == told(there)


@few
@given(records=logs(pauses=(0, 0.2, 0.4, 2, 20)), places=cuts)
def test_a_partition_rebuilt_from_rows_and_replayed_from_safe_has_the_same_alerts(
    records: list[AlertsRecord], places: set[int]
) -> None:
    # All within the time that events are remembered: a replay from rows knows the partition's time after it only.
    records = [record for record in records if not isinstance(record, ConfigChanged)]
    there = ran(records, places)
    safe, tables = there.rows.safe, {name: dict[str, bytes]() for name in there.view.tables}
    newest = dict(sorted(there.rows.alerts))
    for identity, occurrence in newest.items():
        state, pulse = there.rows.alerts[identity, occurrence]
        if identity in there.pulses or alert_partition.decode_pulse(pulse).offset > safe:
            tables["alerts"][identity], tables[PULSES][identity] = state, pulse
    for row in there.rows.verdicts:
        if row.offset <= safe:
            seen = [alert_partition.event_hash(row.identity or "", event) for event in row.event_ids.split("\x1f")]
            key, value = alert_partition.chunk_of(row.decided_at, row.offset, seen)
            known = tables["recent"].get(key)
            chunk = alert_partition.decode_chunk(value)
            ids = alert_partition.decode_chunk(known).ids + chunk.ids if known is not None else chunk.ids
            tables["recent"][key] = codec.encode(alert_partition.RecentChunk(chunk.at, ids))
    stage = Dedup(view=View(0, Mark(2, LOG, safe, 1, there.partition.watermark), tables))
    stage.partition.watermark = there.partition.watermark
    for record in records[safe + 1 :]:
        stage.step(record, replaying=True)
    assert settled(stage.view)[PULSES] == settled(there.view)[PULSES]
    assert settled(stage.view)["alerts"] == settled(there.view)["alerts"]


@few
@given(records=logs(), places=cuts)
def test_a_log_that_comes_twice_counts_as_redelivered_and_changes_no_alert(
    records: list[AlertsRecord], places: set[int]
) -> None:
    stage = ran(records, places, recent_window=10**6)
    before, sent = settled(stage.view), len(told(stage))
    seen = dict(stage.rows.progress)
    again = [msgspec.structs.replace(record, accepted_at=at(0)) for record in records if isinstance(record, AlertBatch)]
    stage.step(*again, tick(0))
    assert settled(stage.view) == before
    assert len(told(stage)) == sent
    grown = {verdict: stage.rows.progress[verdict] - seen[verdict] for verdict in Verdict}
    assert grown[Verdict.REDELIVERED] == sum(len(record.items) for record in again)
    assert sum(grown.values()) == grown[Verdict.REDELIVERED]


@few
@given(records=logs(), places=cuts, given_up=st.integers(0, 13))
def test_a_step_that_is_given_up_leaves_the_partition_as_it_was(
    records: list[AlertsRecord], places: set[int], given_up: int
) -> None:
    there, stage = ran(records, places), ran(records[:given_up], places)
    rest = records[given_up:]
    before = copy.deepcopy(stage.partition)
    stage.work(rest).abort()
    assert stage.partition.view == before.view
    assert (stage.partition.recent, stage.partition.chunks) == (before.recent, before.chunks)
    assert (stage.partition.dirty, stage.partition.watermark) == (before.dirty, before.watermark)
    assert deadlines(stage) == _heap(before)
    for record in rest:
        stage.step(record)
    assert settled(stage.view) == settled(there.view)


def deadlines(stage: Dedup) -> list[Any]:
    return _heap(stage.partition)


def _heap(partition: AlertsPartition) -> list[Any]:
    return sorted(partition.deadlines.entries())


def test_an_event_that_cannot_be_handled_is_a_dead_letter_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def decide(known: Pulse | None, event: Alert, **rest: Any) -> Decided:
        if event.event_id == "bad":
            raise ZeroDivisionError
        return rule_decide(known, event, **rest)

    rule_decide = rule.decide
    monkeypatch.setattr(rule, "decide", decide)
    stage = Dedup()
    records = [batch(alert("a"), alert("b", event_id="bad"), alert("c"))]
    with pytest.raises(Poison) as poison:
        stage.work(records)
    assert poison.value.at == (0, 1)
    sent = stage.step(*records, poisoned={poison.value.at: str(poison.value)})
    assert stage.rows.progress | {} == dict.fromkeys(Verdict, 0) | {Verdict.NEW: 2, Verdict.REJECTED: 1}
    assert stage.rows.dead == ["bad"]
    letters = [msgspec.msgpack.decode(record.value, type=Rejected) for record in sent if record.topic == "dead-letters"]
    assert [letter.event_id for letter in letters] == ["bad"]


def test_an_end_that_comes_first_does_not_keep_the_firing_after_it_from_its_groups() -> None:
    stage = Dedup()
    stage.step(batch(alert(firing=False, ends_at=at(0))))
    stage.step(batch(alert(event_at=at(5)), seconds=5))
    assert [change.change for change in told(stage)] == [Change.RESOLVED, Change.FIRED]


def test_a_timeout_that_only_a_repeat_brings_ends_the_alert() -> None:
    stage = Dedup()
    stage.step(batch(alert()))
    stage.step(batch(alert(event_at=at(1), ends_at=at(30)), seconds=1))
    stage.step(tick(29))
    assert [change.change for change in told(stage)] == [Change.FIRED]
    stage.step(tick(30))
    [_, ended] = told(stage)
    assert (ended.change, ended.ends_at, ended.by_timeout) == (Change.RESOLVED, at(30), True)


def test_a_timeout_that_is_moved_again_and_again_keeps_one_deadline() -> None:
    stage = Dedup()
    for second in range(200):
        event = alert(event_at=at(second), ends_at=at(second + 60), summary=f"now {second}")
        stage.step(batch(event, seconds=second), tick(second))
    assert len([entry for entry in deadlines(stage) if entry[1] == "timeout"]) == 1
    assert len(stage.partition.deadlines) < 80
    stage.step(tick(259))
    assert [change.change for change in told(stage)].count(Change.RESOLVED) == 1


def test_an_alert_that_ended_is_forgotten_after_its_time_and_not_before() -> None:
    stage = Dedup()
    stage.step(batch(alert(), seconds=0), batch(alert(firing=False, event_at=at(9), ends_at=at(9)), seconds=9))
    held = 9 + HELD.total_seconds()
    stage.step(tick(held - 1))
    assert len(stage.pulses) == 1
    stage.step(tick(held))
    assert stage.pulses == {}
    assert stage.view.tables["alerts"] == {}


def test_an_alert_of_a_new_label_set_leaves_its_old_groups() -> None:
    stage = Dedup()
    stage.step(batch(alert("a", service="api", key="k")))
    stage.step(batch(alert("a", service="db", key="k", event_at=at(5)), seconds=5))
    changes = {(change.change, change.group_labels["service"]) for change in told(stage)}
    assert changes == {(Change.FIRED, "api"), (Change.LEFT, "api"), (Change.FIRED, "db")}


def plain(change: MemberChange) -> MemberChange:
    """A change without what says whether, and in which order, it is told once more."""
    return msgspec.structs.replace(change, again=False, begins=False, place=-1)


def test_a_group_that_an_alert_has_left_hears_of_its_end_from_a_rebuild_too() -> None:
    stage = Dedup()
    stage.step(batch(alert("a", service="api", key="k")))
    stage.step(batch(alert("a", service="db", key="k", event_at=at(5)), seconds=5))
    end = batch(alert("a", service="db", key="k", firing=False, event_at=at(9)), seconds=9)
    stage.step(end)
    owner = rebuilt(stage, before=1)
    owner.step(end, replaying=True)
    ends = {(change.change, change.group_labels["service"]) for change in told(owner)}
    assert ends == {(Change.RESOLVED, "api"), (Change.RESOLVED, "db")}
    last = [change for change in told(stage) if change.cause == 2]
    assert list(map(plain, told(owner))) == list(map(plain, last))


def test_an_end_that_a_rebuild_tells_again_is_marked_so_that_it_joins_no_group_that_has_let_its_alert_go() -> None:
    stage = Dedup()
    stage.step(batch(alert("a"), alert("a", service="db", key="b")))
    end = alert("a", service="db", key="b", firing=False, event_at=at(9), ends_at=at(9))
    stage.step(batch(end, seconds=9))
    again = batch(msgspec.structs.replace(end, event_id="said again"), seconds=12)
    stage.step(again)
    assert stage.sent_last == []
    owner = rebuilt(stage, before=1)
    owner.step(again, replaying=True)
    [change] = told(owner)
    assert (change.change, change.again) == (Change.RESOLVED, True)


def test_a_group_that_an_alert_has_left_hears_of_a_timeout_from_a_rebuild_too() -> None:
    stage = Dedup()
    stage.step(batch(alert("a", service="api", key="k", ends_at=at(60))))
    stage.step(batch(alert("a", service="db", key="k", event_at=at(5), ends_at=at(60)), seconds=5))
    stage.step(tick(60))
    owner = rebuilt(stage, before=1)
    owner.step(tick(60), replaying=True)
    ends = {(change.change, change.group_labels["service"]) for change in told(owner)}
    assert ends == {(Change.RESOLVED, "api"), (Change.RESOLVED, "db")}


@pytest.mark.parametrize("end", [batch(alert("a", firing=False, event_at=at(9)), seconds=9), tick(60)])
def test_what_began_and_ended_in_a_step_that_was_not_sent_is_told_from_a_rebuild(end: AlertsRecord) -> None:
    records = (batch(alert("a", ends_at=at(60))), batch(alert("a", ends_at=at(60)), seconds=1), end)
    stage = Dedup()
    stage.step(*records)
    owner = rebuilt(stage, before=-1)
    owner.step(*records, replaying=True)
    groups = Incidents(number=1)
    for sent in owner.sent_last:
        groups.step(codec.decode_inputs(sent.value))
    assert list(map(plain, told(owner))) == list(map(plain, told(stage)))
    [row] = groups.rows.incidents.values()
    assert row.status == "resolved"


@pytest.mark.parametrize("together", [True, False], ids=["one record", "a record each"])
@pytest.mark.parametrize("fired_before", [True, False])
@pytest.mark.parametrize("ends", [True, False])
def test_every_occurrence_in_a_step_that_was_not_sent_is_told_from_a_rebuild(
    together: bool, fired_before: bool, ends: bool
) -> None:
    words = [False] * fired_before + [True, False, True] + [False] * ends
    items = [
        alert(
            "a", firing=firing, event_at=at(n), starts_at=at(n) if firing else None, ends_at=None if firing else at(n)
        )
        for n, firing in enumerate(words, 1)
    ]
    records = [batch(*items, seconds=9)] if together else [batch(one, seconds=n) for n, one in enumerate(items, 1)]
    stage = Dedup()
    earlier = stage.step(batch(alert("a"))) if fired_before else []
    before = stage.view.offset
    stage.step(*records)
    owner = rebuilt(stage, before=before)
    rows = [(key[0], row) for key, row in sorted(stage.rows.alerts.items())]
    past = [(decode_state(state), decode_pulse(pulse)) for _, (state, pulse) in rows]
    owner.partition.look_back({rows[0][0]: [one for one in past[:-1] if one[1].offset > before]})
    owner.step(*records, replaying=True)
    assert len(told(stage)) == len(words) + fired_before
    first, second = Incidents(number=1), Incidents(number=1)
    for groups, sent in ((first, stage.sent), (second, [*earlier, *owner.sent])):
        for one in sent:
            groups.step(codec.decode_inputs(one.value))
    assert [line[2] for line in second.rows.timeline] == [line[2] for line in first.rows.timeline]
    assert {m.occurrence for m in second.members.values()} == {m.occurrence for m in first.members.values()}


def test_however_large_alerts_are_no_record_is_larger_than_its_topic_takes() -> None:
    large = [alert("a", service="api", key=f"k{n}", summary="x" * 100_000) for n in range(40)]
    many = [alert("a", service="db", key=f"m{n}") for n in range(600)]
    stage = Dedup(partitions=1)
    sent = stage.step(batch(*large), batch(*many))
    assert max(len(one.value) for one in sent) < 1 << 20
    sizes = [len(record.items) for one in sent if isinstance(record := _inputs(one.value), InputBatch)]
    assert (sum(sizes), max(sizes)) == (640, 512)


def test_a_late_firing_after_an_end_in_one_record_begins_nothing_in_a_rebuild() -> None:
    stage = Dedup()
    words = batch(alert("a", firing=False, event_at=at(8)), alert("a", event_at=at(2)), seconds=9)
    stage.step(words)
    owner = rebuilt(stage, before=-1)
    owner.step(words, replaying=True)
    assert {change.change for change in told(owner)} == {Change.RESOLVED}


def test_a_replay_leaves_safe_before_the_first_count_that_no_row_has() -> None:
    stage = Dedup()
    stage.step(batch(alert("a"), alert("b")))
    changed = [batch(alert("a", summary="worse"), seconds=0.1), batch(alert("b"), seconds=0.2)]
    stage.step(*changed, batch(alert("a", summary="worse"), seconds=0.3), replaying=True)
    assert stage.work([tick(0.4)]).advance(4).safe == 1


def test_a_new_configuration_moves_every_firing_alert_even_one_of_the_same_step() -> None:
    stage = Dedup()
    stage.step(batch(alert("a")), ConfigChanged(version=2, announced_at=at(1)))
    assert {(change.change, *change.group_labels) for change in told(stage)} == {
        (Change.FIRED, "service"),
        (Change.LEFT, "service"),
        (Change.FIRED, "alertname"),
    }


def test_kinds_and_severities_follow_the_rules_of_the_partitions_version() -> None:
    ours = "incidents: {kinds: [{kind: cost, matchers: [service=api]}], severities: {page: critical}}\n"
    stage = Dedup(configs={**CONFIGS, 2: load(CONFIGS[1].text + ours, version=2)})
    paged = alert("b")
    labels = {"alertname": "b", "service": "db", "severity": "page"}
    paged = msgspec.structs.replace(paged, body=body_of(labels), identity="page")
    stage.step(batch(alert("a"), paged))
    work = stage.work([ConfigChanged(version=2, announced_at=at(1))])
    said = {row.identity: (row.severity, row.kind) for row in work.alert_rows()}
    assert sorted(said.values()) == [(Severity.CRITICAL, Kind.OTHER), (Severity.ERROR, Kind.COST)]
    assert {(c.severity, c.kind) for c in bodies(stage)} == {(Severity.ERROR, Kind.OTHER)}
    stage.step(ConfigChanged(version=2, announced_at=at(1)))
    assert {(c.severity, c.kind) for c in bodies(stage)} == {(Severity.ERROR, Kind.OTHER), *said.values()}


def bodies(stage: Dedup) -> list[AlertBody]:
    return [codec.decode_body(change.body) for change in told(stage)]


def test_an_end_in_the_far_future_does_not_make_the_next_firing_late() -> None:
    stage = Dedup()
    stage.step(batch(alert(firing=True)))
    stage.step(batch(alert(firing=False, event_at=at(301), ends_at=at(10**7)), seconds=1))
    stage.step(batch(alert(event_at=at(400)), seconds=400))
    assert [change.change for change in told(stage)] == [Change.FIRED, Change.RESOLVED, Change.FIRED]


def test_an_event_that_is_refused_and_comes_again_is_redelivered() -> None:
    stage = Dedup()
    refused = Rejected(event_id="r", source="test", field="labels", reason="too many")
    stage.step(batch(refused, refused), batch(refused))
    progress = {verdict: count for verdict, count in stage.rows.progress.items() if count}
    assert progress == {Verdict.REJECTED: 1, Verdict.REDELIVERED: 2}
    assert stage.rows.dead == ["r"]
