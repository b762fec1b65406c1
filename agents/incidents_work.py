"""One partition's part of a step of incidents: records decided, and the rows and tasks that follow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agents import flushes, group_rows, notices, refusals, reminders
from agents.deadlines import StepDeadlines
from agents.group_partition import (
    CAUSES,
    FLUSH,
    GROUPS,
    MEMBERS,
    REMIND,
    RULES,
    Causes,
    InputsPartition,
    arm,
    arm_reminders,
    decode_group,
    decode_member,
    due_at,
)  # fmt: skip
from agents.rules import grouping, incident, times
from agents.rules.incident import Event, GroupState, Member
from agents.step import Outgoing, Poison, Poisoned
from agents.step_traces import Told
from agents.suppression import StepSuppressor, Suppression
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
from streams.rules_config import Receiver, Route, RulesConfig
from streams.topics import DEAD_LETTERS, INPUTS, TASKS, topic_name
from streams.trace_context import by_item, child

if TYPE_CHECKING:
    from agents.incidents import IncidentsLogic

TICK_LIMIT: Final = 200
"""Groups that one tick flushes in a partition: a step holds a tick of each, and new alerts wait for it."""
HINT_LIMIT: Final = 512
_NOT_MUTED: Final = Suppression()
_UNTRACED: Final[dict[int, str]] = {}
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
        self._strict = logic.settings.alertmanager_mode == "on"
        self._now = partition.watermark
        self._config_version = partition.config_version
        self._groups: dict[str, GroupState | None] = {}
        self._members: dict[tuple[str, str], Member | None] = {}
        self._touched: dict[str, set[str]] = {}
        self._incidents: dict[str, tuple[str, GroupState]] = {}
        self._links: dict[tuple[str, str, int], LinkRow] = {}
        self._garbage: list[Garbage] = []
        self._deadlines = StepDeadlines(partition.deadlines)
        self._ticked = False
        self._context = ""
        self.told: list[Told] = []
        self._counted: dict[str, int] = {}
        self._causes = partition.causes
        self._newest = dict(partition.causes.newest)

    def apply(self, offset: int, record: InputsRecord | Garbage) -> None:
        """Decide about one record."""
        if type(record) is InputBatch:
            self._now = max(self._now, record.accepted_at)
            contexts = by_item(record.traced) if record.traced else _UNTRACED
            for index, item in enumerate(record.items):
                if (offset, index) in self._poisoned:
                    self._garbage.append(_refused(item, self._poisoned[offset, index]))
                    continue
                try:
                    if self._is_new(item, record.log_id):
                        self._context = child(contexts.get(index, ""), INPUTS, self.partition.view.partition, offset)
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
            if record.version > self._config_version:
                self._configure(record.version)
        elif type(record) is SilenceChanged:
            self._now = max(self._now, record.announced_at)
            self.suppressor.apply_silences(record, self._now)
            arm_reminders(self._deadlines, (one for one in record.items if one.id in self.suppressor.silences.known))
        elif type(record) is InhibitorChanged:
            self._now = max(self._now, record.accepted_at)
            self.suppressor.apply_inhibitors(record, self._now)

    def _configure(self, version: int) -> None:
        self._config_version = version
        self.overlay.put(RULES, "config", codec.encode(version))
        if self._strict:
            # There a reload begins every group anew, and what is older than group_wait is told at once.
            for key in sorted({*self.partition.view.tables[GROUPS], *self._groups}):
                group = self._group(key)
                if group is not None:
                    route = self.logic.route_of(group.route, version, group.config_version)
                    after = grouping.reloaded(group, self._members_of(key), route, now=self._now)
                    after = msgspec.structs.replace(after, revision=group.revision + 1)
                    self._put_group(key, after, visible=False)

    def _is_new(self, change: MemberChange, log_id: str) -> bool:
        """Whether nothing newer of the same partition of `alerts` has come before; of one cause there may be more."""
        if log_id != self._causes.log_id:
            self._causes, self._newest = Causes(log_id), {}
        if change.cause < self._newest.get(change.cause_partition, -1):
            return False
        self._newest[change.cause_partition] = change.cause
        return True

    def _change(self, change: MemberChange, log_id: str) -> None:
        group, member = self._group(change.group), self._member(change.group, change.identity)
        body = codec.decode_body(change.body)
        # What left a group, or ends in one that it left, was routed by rules that need not have that group's route.
        stays = change.change in (Change.FIRED, Change.CHANGED)
        found_in = change.config_version if group is None or stays else group.config_version
        route = self.logic.route_of(change.route, self._config_version, found_in)
        applied = incident.apply(
            group, member, change, body, log_id=log_id, receiver=route.receiver, config_version=found_in,
            reopen_window=self.logic.settings.reopen_within, now=self._now, strict=self._strict,
        )  # fmt: skip
        if applied is None:
            return
        trace = self._context or applied.group.trace
        after = msgspec.structs.replace(applied.group, config_version=found_in, trace=trace)
        if applied.member is not None:
            after = grouping.joined(after, applied.member, route, now=self._now, strict=self._strict)
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
            if what == REMIND:
                self._remind(key, pushed_at)
                continue
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
        route = self.logic.route_of(group.route, self._config_version, group.config_version)
        config = self.logic.configs[self._config_version]
        made = flushes.flush(
            key,
            group,
            self._members_of(key),
            flushes.Setting(
                route=route,
                receiver=self._receiver(route),
                former=self._former(group, route),
                config_version=self._config_version,
                now=self._now,
                page_url=self.logic.settings.page_url,
                strict=self._strict,
                muted_by=lambda member: self._suppression(member, config),
                closed_by=times.closed_by(config.time_intervals, route, self._now),
            ),
        )
        self.notices += made.notices
        self.tasks += made.tasks
        if made.trace:
            self.told.append(Told(made.trace, group.trace, group.incident_id, len(made.tasks)))
        self._put_group(key, made.group, visible=bool(made.events))
        for member in made.calmed:
            self._keep(key, member)
        self._let_go(key, made.gone)
        self._tell_story(made.group, made.events)
        for decision in made.decisions:
            self._decide(key, made.group, *decision)

    def _remind(self, silence_id: str, pushed_at: datetime) -> None:
        silence = self.suppressor.silences.known.get(silence_id)
        if silence is None or silence.remind_at != pushed_at:
            return
        self.suppressor.reminded(silence_id)
        left = reminders.NOTICES
        for key in sorted({*self.partition.view.tables[GROUPS], *self._groups}):
            group = self._group(key)
            muted = reminders.muted_by(group, silence) if group is not None else []
            if group is None or not muted:
                continue
            config = self.logic.configs[self._config_version]
            route = self.logic.route_of(group.route, self._config_version, group.config_version)
            receiver = config.receivers.get(silence.remind_to) or self._receiver(route)
            done = reminders.remind(
                key, group, [one for one in self._members_of(key) if one.identity in muted], silence,
                receiver if left else Receiver(receiver.name, ()), config_version=self._config_version, now=self._now,
                page_url=self.logic.settings.page_url,
            )  # fmt: skip
            left = max(0, left - 1)
            self.notices += done.notices
            self.tasks += done.tasks
            self._put_group(key, done.group)
            self._tell_story(done.group, (done.event,))
            self._decide(key, done.group, *done.decision)

    def _suppression(self, member: Member, config: RulesConfig) -> Suppression:
        if not config.inhibit_rules and not self.suppressor.silences.known:
            return _NOT_MUTED
        labels = codec.decode_body(member.body).labels
        return self.suppressor.of(labels, self._now, rules=config.inhibit_rules, key=member.fingerprint)

    def _outcome(self, outcome: Outcome) -> None:
        self._now = max(self._now, outcome.finished_at)
        self.heard.append(outcome.task_id)
        group = self._group(outcome.group)
        if group is None:
            return
        key = f"{outcome.receiver}/{outcome.integration}"
        route = self.logic.route_of(group.route, self._config_version, group.config_version)
        waiting = group.pending.get(key)
        late = waiting is not None and outcome.finished_at > waiting.at + route.group_interval
        after = grouping.heard(
            group, key, outcome.task_id, sent=outcome.state == "sent", at=outcome.finished_at if late else None,
            strict=self._strict,
        )  # fmt: skip
        if after is None:
            return
        members = self._members_of(outcome.group)
        receivers = (self._receiver(route), *self._former(group, route))
        left = grouping.after_outcome(after, members, receivers, now=self._now, strict=self._strict)
        after = msgspec.structs.replace(left.group, revision=group.revision + 1, updated_at=self._now)
        self._put_group(outcome.group, after)
        self._let_go(outcome.group, left.gone)
        name = "notice sent" if outcome.state == "sent" else "notice failed"
        self._tell_story(after, (Event(name, {"to": key, "reason": outcome.reason}),))

    def _drop(self, key: str) -> None:
        self._groups[key] = None
        self.overlay.put(GROUPS, key, None)
        self.gone[key] = None

    def _receiver(self, route: Route) -> Receiver:
        config = self.logic.configs[self._config_version]
        return config.receivers.get(route.receiver, Receiver(route.receiver, ()))

    def _former(self, group: GroupState, route: Route) -> tuple[Receiver, ...]:
        """Receivers that were told of the group under other rules, and are still there."""
        if self._strict:
            return ()
        names = {key.rpartition("/")[0] for key, entry in group.told.items() if entry.owed} - {route.receiver}
        known = self.logic.configs[self._config_version].receivers
        return tuple(known[name] for name in sorted(names) if name in known)

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

    def _members_of(self, key: str) -> list[Member]:
        skipped = len(key) + 1
        known = {name[skipped:] for name in self.partition.members_of.get(key, ())} | self._touched.get(key, set())
        return [member for identity in sorted(known) if (member := self._member(key, identity)) is not None]

    def _put_group(self, key: str, group: GroupState, *, visible: bool = True) -> None:
        """Keep a group; `visible` when its incident has changed for people too."""
        if key in self.gone:
            del self.gone[key]  # it came back within the step
        self._groups[key] = group
        arm(self._deadlines, key, group)
        if group.incident_id and visible:
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
        self._set_member(key, identity, after)
        moved = before is not None and (
            after is None or (before.incident_id, before.occurrence) != (after.incident_id, after.occurrence)
        )
        if before is not None and moved:
            ended_at = before.ends_at or change.accepted_at
            self._link(key, msgspec.structs.replace(before, firing=False, ends_at=ended_at), keep=False)
        if after is not None:
            self._link(key, after, keep=True)

    def _keep(self, key: str, member: Member) -> None:
        self._set_member(key, member.identity, member)
        self._link(key, member, keep=True)

    def _let_go(self, key: str, identities: Iterable[str]) -> None:
        for identity in identities:
            member = self._member(key, identity)
            if member is not None:
                self._set_member(key, identity, None)
                self._link(key, member, keep=False)

    def _set_member(self, key: str, identity: str, member: Member | None) -> None:
        self._members[key, identity] = member
        self._touched.setdefault(key, set()).add(identity)
        self.overlay.put(MEMBERS, f"{key}:{identity}", codec.encode(member) if member is not None else None)

    def _link(self, key: str, member: Member, *, keep: bool) -> None:
        if member.incident_id:
            at = (member.incident_id, member.identity, member.occurrence)
            self._links[at] = group_rows.link(key, member, self.partition.view.partition, keep=keep)

    def _tell_story(self, group: GroupState, events: Sequence[Event]) -> None:
        if not group.incident_id:
            return
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
        if not group.incident_id:
            return
        row = DecisionRow(
            key,
            (group.revision << 20) + len(self.decisions) % (1 << 20),
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
        if self._newest != self.partition.causes.newest or self._causes.log_id != self.partition.causes.log_id:
            self._causes = Causes(self._causes.log_id, self._newest)
            self.overlay.put(RULES, CAUSES, codec.encode(self._causes))
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
            causes=self.overlay.changes.get(RULES, {}).get(CAUSES),
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
        for name, value in self.overlay.changes.get(MEMBERS, {}).items():
            key = name.partition(":")[0]
            if value is not None:
                partition.members_of.setdefault(key, set()).add(name)
            elif key in partition.members_of:
                partition.members_of[key].discard(name)
                if not partition.members_of[key]:
                    del partition.members_of[key]
        self._deadlines.commit()
        self.suppressor.commit()
        partition.causes = self._causes
        for event in ("opened", "reopened", "resolved"):
            if not self.replaying and self._counted.get(event):
                metrics.incidents.labels(event).inc(self._counted[event])


def _refused(item: MemberChange, why: str) -> Garbage:
    return Garbage(refusals.name_of(item), why, codec.encode(item)[:65536])
