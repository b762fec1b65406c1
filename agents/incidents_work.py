"""One partition's part of a step of incidents: records decided, and the rows and tasks that follow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agents import group_rows, notices
from agents.deadlines import StepDeadlines
from agents.group_partition import (
    FLUSH,
    GROUPS,
    MEMBERS,
    RULES,
    InputsPartition,
    arm,
    decode_group,
    decode_member,
    due_at,
)  # fmt: skip
from agents.rules import grouping, incident
from agents.rules.incident import Event, GroupState, Member
from agents.step import Outgoing, Poison, Poisoned
from agents.suppression import StepSuppressor
from sinks import task_rows
from sinks.alert_rows import DeadRow
from sinks.incident_rows import DecisionRow, GroupRow, IncidentRow, LinkRow, TimelineRow
from sinks.postgres import Advance
from sinks.rule_rows import RuleRow
from streams import codec, keys, metrics
from streams.records import (
    AlertBody,
    Change,
    ConfigChanged,
    InhibitorChanged,
    InputBatch,
    InputsRecord,
    MemberChange,
    Outcome,
    Rejected,
    SilenceChanged,
    TaskHint,
    Tick,
)  # fmt: skip
from streams.redis_tables import Overlay
from streams.rules_config import Receiver, Route
from streams.topics import DEAD_LETTERS, INPUTS, TASKS, topic_name

if TYPE_CHECKING:
    from agents.incidents import IncidentsLogic

TICK_LIMIT: Final = 500
HINT_LIMIT: Final = 512
_NO_COUNTS: Final = (0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Garbage:
    """Bytes of `incident-inputs` that are no record."""

    event_id: str
    reason: str
    body: bytes


class IncidentsWork:
    """One partition's part of a step of incidents."""

    def __init__(
        self, logic: "IncidentsLogic", partition: InputsPartition, poisoned: Poisoned, *, replaying: bool
    ) -> None:
        self.logic = logic
        self.partition = partition
        self.overlay = Overlay(partition.view)
        self.replaying = replaying
        self.gone: dict[str, None] = {}
        self.heard: list[str] = []
        self.notices: list[task_rows.Notice] = []
        self.tasks: list[task_rows.Task] = []
        self.timeline: list[TimelineRow] = []
        self.decisions: list[DecisionRow] = []
        self.suppressor = StepSuppressor(partition.suppressor)
        self._poisoned = poisoned
        self._now = partition.watermark
        self._config_version = partition.config_version
        self._groups: dict[str, GroupState | None] = {}
        self._members: dict[tuple[str, str], Member | None] = {}
        self._incidents: dict[str, tuple[str, GroupState]] = {}
        self._links: dict[tuple[str, str, int], LinkRow] = {}
        self._garbage: list[Garbage] = []
        self._deadlines = StepDeadlines(partition.deadlines)
        self._ticked = False
        self._counted: dict[str, int] = {}

    def apply(self, offset: int, record: InputsRecord | Garbage) -> None:
        """Decide about one record."""
        if type(record) is InputBatch:
            self._now = max(self._now, record.accepted_at)
            for index, item in enumerate(record.items):
                if (offset, index) in self._poisoned:
                    self._garbage.append(_refused(item, self._poisoned[offset, index]))
                    continue
                try:
                    self._change(item, record.log_id)
                except Exception as error:
                    raise Poison(offset, index, error) from error
        elif type(record) is Tick:
            self._tick(record)
        elif type(record) is Outcome:
            self._outcome(record)
        elif type(record) is Garbage:
            self._garbage.append(record)
        else:
            self._apply_rules(record)

    def _apply_rules(self, record: InputsRecord | Garbage) -> None:
        if type(record) is ConfigChanged:
            self._now = max(self._now, record.announced_at)
            self._config_version = max(self._config_version, record.version)
            self.overlay.put(RULES, "config", codec.encode(self._config_version))
        elif type(record) is SilenceChanged:
            self._now = max(self._now, record.announced_at)
            self.suppressor.apply_silences(record, self._now)
        elif type(record) is InhibitorChanged:
            self._now = max(self._now, record.accepted_at)
            self.suppressor.apply_inhibitors(record, self._now)

    def _change(self, change: MemberChange, log_id: str) -> None:
        group, member = self._group(change.group), self._member(change.group, change.identity)
        body = codec.decode_body(change.body)
        route = self.logic.route_of(change.route, self._config_version)
        applied = incident.apply(
            group, member, change, body, log_id=log_id, receiver=route.receiver, config_version=self._config_version,
            reopen_window=self.logic.settings.reopen_within, now=self._now,
        )  # fmt: skip
        if applied is None:
            return
        after = applied.group
        if after.next_flush_at is None and applied.member is not None and applied.member.firing:
            flush_at = grouping.first_flush_at(route, change.starts_at, self._now)
            after = msgspec.structs.replace(after, next_flush_at=flush_at)
        self._put_group(change.group, after)
        self._put_member(change.group, change.identity, member, applied.member, change)
        self._tell_story(after, applied.events)
        self._explain(change, after, body, member)

    def _explain(self, change: MemberChange, group: GroupState, body: AlertBody, member: Member | None) -> None:
        if change.change is Change.FIRED and (member is None or member.occurrence != change.occurrence):
            detail = {"labels": group.labels, "flush_at": notices.iso(group.next_flush_at), "severity": body.severity}
            self._decide(change.group, group, "grouped", f"route {change.route}", detail, change.identity)

    def _tick(self, tick: Tick) -> None:
        self._now = max(self._now, tick.due_at)
        self._ticked = True
        left = TICK_LIMIT
        while left and (entry := self._deadlines.take(tick.due_at)) is not None:
            pushed_at, what, key = entry
            group = self._group(key)
            due = due_at(what, group) if group is not None else None
            if due is None or group is None:
                continue
            if due > pushed_at:
                self._deadlines.push(due, what, key)
                continue
            left -= 1
            if what == FLUSH:
                self._flush(key, group)
            else:
                self._drop(key)

    def _flush(self, key: str, group: GroupState) -> None:
        route = self.logic.route_of(group.route, self._config_version)
        receiver = self._receiver(route)
        members = sorted(self._members_of(key), key=lambda member: (member.starts_at, member.identity))
        flush = grouping.flush(group, members, route, receiver, now=self._now)
        after = msgspec.structs.replace(flush.group, revision=group.revision + 1, updated_at=self._now)
        events: list[Event] = []
        if flush.notices:
            flushed = notices.Flushed(key, after, receiver.name, self._config_version, self._now)
            body = notices.body(flushed, members, self.logic.settings.page_url)
            for notice in flush.notices:
                row, task = notices.task(flushed, notice, body)
                self.notices.append(row)
                self.tasks.append(task)
                waiting = grouping.pending(members, notice.decision, str(task.id), self._now)
                name = grouping.integration_key(receiver.name, notice.integration)
                after = msgspec.structs.replace(after, pending={**after.pending, name: waiting})
                target = grouping.integration_key(receiver.name, notice.integration)
                events.append(Event("notice made", {"to": target, "reason": notice.reason}))
                self._decide(key, after, "task made", notice.reason, {"to": target}, None)
        for withheld in flush.withheld:
            target = grouping.integration_key(receiver.name, withheld.integration)
            self._decide(key, after, "withheld", withheld.reason, {"to": target}, None)
        self._put_group(key, after)
        for member in members:
            if member.identity in flush.gone:
                self._let_go(key, member)
        self._tell_story(after, tuple(events))

    def _outcome(self, outcome: Outcome) -> None:
        self._now = max(self._now, outcome.finished_at)
        self.heard.append(outcome.task_id)
        group = self._group(outcome.group)
        if group is None:
            return
        key = f"{outcome.receiver}/{outcome.integration}"
        after = grouping.heard(group, key, outcome.task_id, sent=outcome.state == "sent")
        if after is None:
            return
        after = msgspec.structs.replace(after, revision=group.revision + 1, updated_at=self._now)
        self._put_group(outcome.group, after)
        name = "notice sent" if outcome.state == "sent" else "notice failed"
        self._tell_story(after, (Event(name, {"to": key, "reason": outcome.reason}),))

    def _drop(self, key: str) -> None:
        self._groups[key] = None
        self.overlay.put(GROUPS, key, None)
        self.gone[key] = None

    def _receiver(self, route: Route) -> Receiver:
        config = self.logic.configs[self._config_version]
        return config.receivers.get(route.receiver, Receiver(route.receiver, ()))

    def _group(self, key: str) -> GroupState | None:
        if key not in self._groups:
            value = self.partition.view.tables[GROUPS].get(key)
            self._groups[key] = decode_group(value) if value is not None else None
        return self._groups[key]

    def _member(self, group: str, identity: str) -> Member | None:
        if (group, identity) not in self._members:
            value = self.partition.view.tables[MEMBERS].get(f"{group}:{identity}")
            self._members[group, identity] = decode_member(value) if value is not None else None
        return self._members[group, identity]

    def _members_of(self, key: str) -> Iterable[Member]:
        known = self.partition.members_of.get(key, set()) | {i for g, i in self._members if g == key}
        return [member for identity in known if (member := self._member(key, identity)) is not None]

    def _put_group(self, key: str, group: GroupState) -> None:
        if key in self.gone:
            del self.gone[key]  # it came back within the step
        self._groups[key] = group
        arm(self._deadlines, key, group)
        self._incidents[group.incident_id] = (key, group)
        self.overlay.put(GROUPS, key, b"")  # encoded once, by `finish`

    def _put_member(
        self,
        key: str,
        identity: str,
        before: Member | None,
        after: Member | None,
        change: MemberChange,
    ) -> None:
        self._members[key, identity] = after
        self.overlay.put(MEMBERS, f"{key}:{identity}", codec.encode(after) if after is not None else None)
        moved = before is not None and (
            after is None or (before.incident_id, before.occurrence) != (after.incident_id, after.occurrence)
        )
        if before is not None and moved:
            ended_at = before.ends_at or change.accepted_at
            self._link(key, msgspec.structs.replace(before, firing=False, ends_at=ended_at), keep=False)
        if after is not None:
            self._link(key, after, keep=True)

    def _let_go(self, key: str, member: Member) -> None:
        self._members[key, member.identity] = None
        self.overlay.put(MEMBERS, f"{key}:{member.identity}", None)
        self._link(key, member, keep=False)

    def _link(self, key: str, member: Member, *, keep: bool) -> None:
        at = (member.incident_id, member.identity, member.occurrence)
        self._links[at] = group_rows.link(key, member, self.partition.view.partition, keep=keep)

    def _tell_story(self, group: GroupState, events: Sequence[Event]) -> None:
        for place, event in enumerate(events):
            self._counted[event.name] = self._counted.get(event.name, 0) + 1
            self.timeline.append(
                TimelineRow(
                    incident_id=group.incident_id,
                    seq=group.revision * 64 + place,
                    at=self._now,
                    event=event.name,
                    actor="system",
                    detail=codec.to_json(event.detail),
                )
            )

    def _decide(
        self, key: str, group: GroupState, decision: str, reason: str, detail: dict[str, Any], identity: str | None
    ) -> None:
        row = DecisionRow(
            key,
            group.revision * 1024 + len(self.decisions) % 1024,
            group.incident_id,
            identity,
            decision,
            reason,
            codec.to_json(detail),
            self._now,
        )
        self.decisions.append(row)

    def finish(self) -> None:
        """Encode the groups that the step leaves."""
        for key, value in self.suppressor.changes():
            self.overlay.put(RULES, key, value)
        changed = self.overlay.changes.get(GROUPS, {})
        for key in changed:
            group = self._groups[key]
            changed[key] = codec.encode(group) if group is not None else None

    def incident_rows(self) -> list[IncidentRow]:
        """Each incident as the step leaves it."""
        number = self.partition.view.partition
        return [group_rows.incident(key, group, number) for key, group in self._incidents.values()]

    def group_rows(self) -> list[GroupRow]:
        """Each group as the step leaves it."""
        number = self.partition.view.partition
        return [
            group_rows.group(key, group, number)
            for key in self.overlay.changes.get(GROUPS, {})
            if (group := self._groups[key]) is not None
        ]

    def links(self) -> list[LinkRow]:
        """Links of alerts to incidents as the step leaves them."""
        return list(self._links.values())

    def rule_rows(self) -> list[tuple[int, RuleRow]]:
        """What was applied of what mutes, with the partition."""
        return [(self.partition.view.partition, row) for row in self.suppressor.rows.values()]

    @property
    def refused(self) -> bool:
        """Whether something could not be handled."""
        return bool(self._garbage)

    def dead_rows(self) -> list[DeadRow]:
        """What could not be handled, kept for people to look at."""
        return [
            DeadRow(
                event_id=item.event_id,
                team="default",
                source=INPUTS,
                field="record",
                reason=item.reason.replace("\x00", "\ufffd"),
                body=item.body,
                content_type="application/vnd.incidents.inputs",
                via="kafka",
                received_at=self._now,
            )
            for item in self._garbage
        ]

    def outgoing(self) -> Iterable[Outgoing]:
        """Hints at the tasks that are due, and what could not be handled."""
        settings = self.logic.settings
        hints: dict[str, list[str]] = {}
        for task in self.tasks:
            hints.setdefault(str(task.incident_id), []).append(str(task.id))
        for incident_id, tasks in hints.items():
            number = keys.partition_of(incident_id, settings.partitions)
            for start in range(0, len(tasks), HINT_LIMIT):
                hint = TaskHint(task_ids=tuple(tasks[start : start + HINT_LIMIT]))
                topic = topic_name(settings.app_prefix, TASKS)
                yield Outgoing(topic, number, incident_id.encode(), codec.encode(hint))
        for item in self._garbage:
            topic = topic_name(settings.app_prefix, DEAD_LETTERS)
            refused = Rejected(
                event_id=item.event_id, source=INPUTS, field="record", reason=item.reason, body=item.body
            )
            yield Outgoing(topic, 0, item.event_id.encode(), codec.encode(refused))

    def advance(self, offset: int) -> Advance:
        """The progress row after the step; every change is in a row, so all of it is safe."""
        return Advance(
            partition=self.partition.view.partition,
            epoch=self.partition.view.epoch,
            applied=offset,
            safe=offset,
            config_version=self._config_version,
            watermark=self._now,
            counts=_NO_COUNTS,
        )

    def abort(self) -> None:
        """Give deadlines back."""
        self._deadlines.abort()

    def committed(self) -> None:
        """Fold the step into the partition."""
        partition = self.partition
        partition.watermark, partition.config_version = self._now, self._config_version
        if self._ticked:
            partition.tick_sent = False
        for (key, identity), member in self._members.items():
            if member is not None:
                partition.members_of.setdefault(key, set()).add(identity)
            elif key in partition.members_of:
                partition.members_of[key].discard(identity)
                if not partition.members_of[key]:
                    del partition.members_of[key]
        self._deadlines.commit()
        self.suppressor.commit()
        for event in ("opened", "reopened", "resolved"):
            if not self.replaying and self._counted.get(event):
                metrics.incidents.labels(event).inc(self._counted[event])


def _refused(item: MemberChange, why: str) -> Garbage:
    return Garbage(f"{item.group}:{item.identity}:{item.revision}", why, codec.encode(item)[:65536])
