"""From alerts to incidents: two hops, any order between partitions, outcomes twice and late."""

import copy
import json
import random
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from agents.group_partition import InputsPartition
from agents.rules import incident as rule
from agents.rules.incident import Applied
from agents.rules.notify_log import Reason
from agents.work import Poison
from sinks.task_rows import Task
from streams import codec, keys
from streams.records import Alert, Change, ConfigChanged, IncidentStatus, InputBatch, InputsRecord, Outcome, Severity
from streams.redis_tables import View
from streams.rules_config import load
from tests.agents.stage import Dedup, Incidents, alert, at, batch, cut, tick

few = settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))
ACTIVE = {IncidentStatus.OPEN, IncidentStatus.ACKNOWLEDGED}
PARTITIONS = 3


@dataclass
class Pipeline:
    """Both hops. What is under way between them waits in one queue for each partition of the second."""

    chance: random.Random
    first: list[Dedup] = field(default_factory=lambda: [Dedup(number=n) for n in range(PARTITIONS)])
    second: list[Incidents] = field(default_factory=lambda: [Incidents(number=n) for n in range(PARTITIONS)])
    queues: list[list[InputsRecord]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    logs: list[list[InputsRecord]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    undone: list[Task] = field(default_factory=list)
    finished: list[Outcome] = field(default_factory=list)
    now: float = 0

    def take_in(self, event: Alert) -> None:
        number = keys.partition_of(event.identity, PARTITIONS)
        self._hear(self.first[number].step(batch(event, seconds=self.now)))

    def _hear(self, sent: Any) -> None:
        for record in sent:
            if record.topic == "incident-inputs":
                self.queues[record.partition].append(codec.decode_inputs(record.value))

    def tick_first(self) -> None:
        for stage in self.first:
            self._hear(stage.step(tick(self.now)))

    def configure(self) -> None:
        for stage, queue in zip(self.first, self.queues, strict=True):
            record = ConfigChanged(version=2, announced_at=at(self.now))
            queue.append(record)
            self._hear(stage.step(record))

    def decide(self, number: int, records: int) -> None:
        """Let one partition of the second hop take some of what waits for it, and now and then a tick."""
        queue = self.queues[number]
        taken, queue[:] = queue[:records], queue[records:]
        if self.chance.random() < 0.5:
            taken.append(tick(self.now))
        if taken:
            self.logs[number] += taken
            self.undone += self.second[number].step(*taken).tasks
            self.check()

    def deliver(self) -> None:
        """End some tasks, and tell the groups; sometimes twice, sometimes an old end again."""
        self.chance.shuffle(self.undone)
        for task in self.undone[: self.chance.randint(0, 3)]:
            self.undone.remove(task)
            state = self.chance.choice(["sent", "sent", "sent", "failed"])
            outcome = Outcome(
                group=task.group_key,
                task_id=str(task.id),
                receiver=task.receiver,
                integration=task.integration,
                decision=task.decision,
                state=state,
                reason="",
                finished_at=at(self.now),
            )
            self.finished.append(outcome)
            self._tell(outcome)
        if self.finished and self.chance.random() < 0.5:
            self._tell(self.chance.choice(self.finished))

    def _tell(self, outcome: Outcome) -> None:
        self.queues[keys.partition_of(outcome.group, PARTITIONS)].append(outcome)

    def drain(self) -> None:
        """Go on until nothing is under way any more."""
        for _ in range(30):
            self.now += 40
            self.tick_first()
            for number in range(PARTITIONS):
                self.decide(number, len(self.queues[number]))
            while self.undone:
                self.deliver()

    def check(self) -> None:
        """What must hold at any time in the second hop."""
        for stage in self.second:
            members = stage.members
            for key, group in stage.groups.items():
                mine = [member for (of, _), member in members.items() if of == key]
                assert group.active == any(member.firing for member in mine)
                assert group.members == len(mine)
                assert sum(group.firing) == sum(member.firing for member in mine)
                assert all(member.incident_id == group.incident_id for member in mine if member.firing)
                worst = min((member.severity for member in mine if member.firing), key=lambda s: s.rank, default=None)
                assert worst in {None, group.severity}
                assert all(stage.rows.groups[key] == stage.view.tables["groups"][key] for key in stage.groups)
            active = [row.group_key for row in stage.rows.incidents.values() if row.status in ACTIVE]
            assert len(active) == len(set(active))
            assert set(active) == {key for key, group in stage.groups.items() if group.active}
            tasks = [task.id for task in stage.rows.tasks]
            assert len(tasks) == len(set(tasks))
            lines = [line[:2] for line in stage.rows.timeline]
            assert len(lines) == len(set(lines))


def played(seed: int, *, configured: bool = True) -> Pipeline:
    """A random hour of a few alerts, settled at the end."""
    chance = random.Random(seed)
    play = Pipeline(chance)
    for _ in range(60):
        play.now += chance.choice([0, 0.3, 5, 20, 90])
        match chance.randint(0, 9):
            case 0:
                play.tick_first()
            case 1 | 2:
                play.deliver()
            case 3 if configured and chance.random() < 0.2 and play.first[0].partition.config_version == 1:
                play.configure()
            case 4 | 5 | 6:
                play.decide(chance.randrange(PARTITIONS), chance.randint(0, 5))
            case _:
                play.take_in(_event(chance, play.now))
    play.drain()
    return play


def _event(chance: random.Random, now: float) -> Alert:
    firing = chance.random() < 0.6
    ends = chance.choice([None, None, now + 15]) if firing else now
    return alert(
        chance.choice("abc"),
        service=chance.choice(["api", "db"]),
        firing=firing,
        event_at=at(now),
        starts_at=at(now) if firing else None,
        ends_at=at(ends) if ends is not None else None,
        severity=chance.choice(list(Severity)),
        key=chance.choice(["", "", "mine"]),
    )


seeds = st.integers(0, 2**32)


@few
@given(seed=seeds)
def test_every_firing_alert_is_in_the_active_incident_of_each_of_its_groups_and_no_other_is_open(seed: int) -> None:
    play = played(seed)
    firing = {identity for stage in play.first for identity, pulse in stage.pulses.items() if pulse.firing}
    held = {(key, identity) for stage in play.second for (key, identity), m in stage.members.items() if m.firing}
    wanted = set()
    for dedup in play.first:
        for identity in firing & set(dedup.pulses):
            work = dedup.work([])
            wanted |= {(ref.group, identity) for ref in work._alerts.state(identity).groups}
    assert held == wanted
    for stage in play.second:
        linked = {(link.group_key, link.identity) for link in stage.rows.links.values() if link.firing}
        assert linked == {at for at, member in stage.members.items() if member.firing}


@few
@given(seed=seeds)
def test_in_the_end_nothing_is_pending_and_everybody_knows_what_fires(seed: int) -> None:
    play = played(seed)
    for stage in play.second:
        for key, group in stage.groups.items():
            if group.active:
                fires = {f"{i}:{m.occurrence}" for (of, i), m in stage.members.items() if of == key and m.firing}
                told = [set(entry.firing) for name, entry in group.told.items() if name.split("/")[0] == group.receiver]
                assert told, key
                assert all(fires <= entry for entry in told)
    assert not play.undone


@few
@given(seed=seeds)
@example(seed=333)
@example(seed=91801)
def test_no_notice_is_empty_and_only_recoveries_hold_no_firing(seed: int) -> None:
    play = played(seed)
    for stage in play.second:
        for task in stage.rows.tasks:
            notice = next(n for n in stage.notices if n.id == task.notice_id)
            alerts = json.loads(notice.body)["alerts"]
            assert alerts
            fires = any(one["status"] == "firing" for one in alerts)
            assert fires == (task.reason not in {Reason.ALL_RESOLVED, Reason.MISSED})


@few
@given(seed=seeds, places=st.sets(st.integers(1, 60)))
def test_however_the_second_log_is_cut_its_tables_incidents_and_tasks_are_the_same(seed: int, places: set[int]) -> None:
    play = played(seed)
    for number, log in enumerate(play.logs):
        stages = []
        for parts in (set[int](), set(range(1, len(log))), places):
            stage = Incidents(number=number)
            for piece in cut(log, (place for place in parts if place < len(log))):
                stage.step(*piece)
            stages.append(stage)
        for stage in stages:
            assert stage.view.tables == play.second[number].view.tables
            assert stage.rows.incidents == play.second[number].rows.incidents
            assert stage.rows.tasks == play.second[number].rows.tasks
            assert stage.rows.timeline == play.second[number].rows.timeline
            assert stage.rows.links == play.second[number].rows.links
            assert stage.rows.groups == play.second[number].rows.groups


@few
@given(seed=seeds)
def test_a_step_that_is_given_up_or_loaded_again_changes_nothing(seed: int) -> None:
    play = played(seed)
    log, there = play.logs[0], play.second[0]
    stage = Incidents()
    for record in log:
        before = copy.deepcopy(stage.partition)
        stage.work([record]).abort()
        assert stage.partition.view == before.view
        assert stage.partition.members_of == before.members_of
        assert sorted(stage.partition.deadlines.entries()) == sorted(before.deadlines.entries())
        tables = {name: dict(reversed(table.items())) for name, table in stage.view.tables.items()}
        stage.partition = InputsPartition.over(
            View(0, stage.view.mark, tables),
            pg_applied=-1,
            config_version=stage.view.mark.config_version,
            watermark=stage.view.mark.watermark,
        )
        stage.step(record)
    assert stage.view.tables == there.view.tables
    assert stage.rows.tasks == there.rows.tasks


def inputs(*events: Any) -> list[InputsRecord]:
    """What a partition of the second hop hears of these batches and ticks."""
    stage = Dedup(partitions=1)
    for record in events:
        stage.step(record)
    return [r for o in stage.sent if isinstance(r := codec.decode_inputs(o.value), InputBatch)]


def test_a_change_that_cannot_be_handled_is_a_dead_letter_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [record] = inputs(batch(alert("a", service="x"), alert("a", service="y"), alert("a", service="z")))
    assert isinstance(record, InputBatch)

    def apply(group: Any, member: Any, change: Any, *rest: Any, **named: Any) -> Applied | None:
        if change.group_labels["service"] == "y":
            raise ZeroDivisionError
        return real(group, member, change, *rest, **named)

    real = rule.apply
    monkeypatch.setattr(rule, "apply", apply)
    stage = Incidents()
    with pytest.raises(Poison) as poison:
        stage.work([record])
    assert poison.value.at == (0, 1)
    work = stage.step(record, poisoned={poison.value.at: "it fails"})
    assert [row.reason for row in work.dead_rows()] == ["it fails"]
    assert sorted(group.labels["service"] for group in stage.groups.values()) == ["x", "z"]


def test_a_group_whose_alerts_all_left_announces_no_recovery() -> None:
    fired, moved = inputs(
        batch(alert("a", key="k")), batch(alert("a", service="db", key="k", event_at=at(20)), seconds=20)
    )
    stage = Incidents()
    stage.step(fired, tick(10))
    [task] = stage.rows.tasks
    told = Outcome(
        group=task.group_key, task_id=str(task.id), receiver="ops", integration=0, decision=task.decision,
        state="sent", reason="", finished_at=at(11),
    )  # fmt: skip
    stage.step(told, moved, tick(60), tick(120))
    assert [task.reason for task in stage.rows.tasks] == ["first firing", "first firing"]
    assert sorted(group.status for group in stage.groups.values()) == ["open", "resolved"]


def test_one_deadline_stands_for_a_group_however_often_it_changes() -> None:
    events = [batch(alert("a", event_at=at(n), summary=str(n)), seconds=n) for n in range(9)]
    stage = Incidents()
    for record in inputs(*events):
        stage.step(record)
    assert len(stage.partition.deadlines) == 1


def test_a_group_that_is_dropped_and_comes_back_in_one_step_keeps_its_row() -> None:
    day = 2 * 86_400
    first, ended, again = inputs(
        batch(alert("a")),
        batch(alert("a", firing=False, event_at=at(5), ends_at=at(5)), seconds=5),
        batch(alert("a", event_at=at(day)), seconds=day),
    )
    stage = Incidents()
    stage.step(first, ended, tick(60))
    for task in list(stage.rows.tasks):
        stage.step(
            Outcome(group=task.group_key, task_id=str(task.id), receiver="ops", integration=0,
                    decision=task.decision, state="sent", reason="", finished_at=at(61))
        )  # fmt: skip
    stage.step(tick(120), tick(200))
    stage.step(tick(day), again)
    assert stage.rows.groups == stage.view.tables["groups"]
    assert len(stage.groups) == 1


def test_an_end_that_a_lost_log_had_told_is_heard_by_those_who_know_the_alert_and_by_nobody_else() -> None:
    dedup = Dedup(partitions=1)
    dedup.step(batch(alert("a"), alert("b", service="api")))
    dedup.step(batch(alert("a", firing=False, event_at=at(5)), seconds=5))
    fired, ended = (codec.decode_inputs(one.value) for one in dedup.sent)
    assert isinstance(fired, InputBatch)
    assert isinstance(ended, InputBatch)
    items = tuple(msgspec.structs.replace(item, again=True) for item in ended.items)
    again = msgspec.structs.replace(ended, items=items)
    known = Incidents(partitions=1)
    known.step(fired, again)
    assert {m.firing for (_, name), m in known.members.items() if name == items[0].identity} == {False}
    others = [item for item in fired.items if item.identity != items[0].identity]
    unknown = Incidents(partitions=1)
    unknown.step(msgspec.structs.replace(fired, items=tuple(others)), again)
    assert items[0].identity not in {name for _, name in unknown.members}


ROOT = "route: {receiver: root, group_wait: 1h"
TAIL = "}\nreceivers: [{name: root}, {name: pager}]"
PAGED = ", routes: [{receiver: pager, matchers: [service=api], group_wait: %s}]"
RULES = {
    1: load(ROOT + TAIL, version=1),
    2: load(ROOT + PAGED % "10s" + TAIL, version=2),
    3: load(ROOT + TAIL, version=3),
    4: load(ROOT + PAGED % "20s" + TAIL, version=4),
}


@pytest.mark.parametrize("loaded", [{1, 2}, {1, 2, 3, 4}], ids=["no more than was named", "later ones too"])
async def test_a_groups_route_depends_on_the_log_and_not_on_what_else_is_loaded(loaded: set[int]) -> None:
    dedup = Dedup(configs=RULES, partitions=1)
    dedup.step(ConfigChanged(version=2, announced_at=at(0)))
    dedup.step(batch(alert("a")))
    records = [codec.decode_inputs(one.value) for one in dedup.sent]
    stage = Incidents(configs={number: RULES[number] for number in loaded - {2}}, partitions=1)

    async def fetch(version: int) -> None:
        stage.logic.configs[version] = RULES[version]

    stage.logic._fetch = fetch
    await stage.logic.prepare(records)
    stage.step(*records)
    [group] = stage.groups.values()
    assert (group.receiver, group.next_flush_at, group.config_version) == ("pager", at(10), 2)
    owner = InputsPartition.over(stage.view, pg_applied=0, config_version=1, watermark=at(0))
    assert owner.versions == {2}, "the next owner must have these rules too"


def test_a_group_whose_route_is_gone_keeps_it_until_its_alerts_have_left() -> None:
    dedup = Dedup(configs=RULES, partitions=1)
    dedup.step(ConfigChanged(version=2, announced_at=at(0)), batch(alert("a")))
    stage = Incidents(configs=RULES, partitions=1)
    stage.step(ConfigChanged(version=2, announced_at=at(0)), *(codec.decode_inputs(one.value) for one in dedup.sent))
    stage.step(ConfigChanged(version=3, announced_at=at(1)))
    for one in dedup.step(ConfigChanged(version=3, announced_at=at(1))):
        stage.step(codec.decode_inputs(one.value))
    versions = {group.receiver: group.config_version for group in stage.groups.values()}
    assert versions == {"pager": 2, "root": 3}


def test_a_member_change_that_is_not_newer_changes_nothing() -> None:
    records = inputs(batch(alert("a")), batch(alert("a", event_at=at(1), summary="b"), seconds=1))
    stage = Incidents()
    stage.step(*records)
    before, lines = copy.deepcopy(stage.view.tables), len(stage.rows.timeline)
    stage.step(*records)
    assert (stage.view.tables, len(stage.rows.timeline)) == (before, lines)
    assert {change.change for r in records if isinstance(r, InputBatch) for change in r.items} == {
        Change.FIRED,
        Change.CHANGED,
    }
