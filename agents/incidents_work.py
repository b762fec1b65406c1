"""One partition's part of a step of incidents: records decided, and what follows of them; `group_telling` says whom."""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from agents import escalations, notices
from agents.correlator import MEET, StepCorrelator
from agents.deadlines import StepDeadlines
from agents.group_overlay import GroupOverlay
from agents.group_partition import (
    CAUSES,
    ESCALATE,
    FLUSH,
    REMIND,
    RULES,
    SAY_AGAIN,
    SNOOZE,
    STALE,
    Causes,
    InputsPartition,
    arm_reminders,
    due_at,
)  # fmt: skip
from agents.group_story import GroupStory
from agents.group_telling import GroupTelling
from agents.incident_actions import StepActions
from agents.rules import grouping, incident
from agents.rules.group_state import GroupState, Member
from agents.suppression import StepSuppressor
from agents.unhandled import AGAIN, LeftOut, Unhandled, dead_rows, rejected
from agents.work import Outgoing, Poison, Poisoned
from sinks.alert_rows import DeadRow
from sinks.postgres import Advance
from sinks.rule_rows import RuleRow
from streams import codec, keys
from streams.records import (
    Action,
    AlertBody,
    Change,
    ConfigChanged,
    InhibitorChanged,
    InputBatch,
    InputsRecord,
    MemberChange,
    Outcome,
    Sighted,
    SilenceChanged,
    TaskHint,
    Tick,
)  # fmt: skip
from streams.redis_tables import Overlay
from streams.topics import DEAD_LETTERS, INPUTS, TASKS, topic_name
from streams.trace_context import by_item, child

if TYPE_CHECKING:
    from agents.incidents import IncidentsLogic

TICK_LIMIT: Final = 200
"""Groups that one tick flushes in a partition: a step holds a tick of each, and new alerts wait for it."""
HINT_LIMIT: Final = 512
_UNTRACED: Final[dict[int, str]] = {}
Listing = TypeVar("Listing", SilenceChanged, InhibitorChanged, Sighted)
_NO_COUNTS: Final = (0, 0, 0, 0, 0, 0, 0)


class IncidentsWork:
    """One partition's part of a step of incidents."""

    def __init__(
        self, logic: "IncidentsLogic", partition: InputsPartition, poisoned: Poisoned, *, replaying: bool
    ) -> None:
        self.logic = logic
        self.partition = partition
        self.overlay = Overlay(partition.view)
        self.replaying = replaying
        self.story = GroupStory()
        self.suppressor = StepSuppressor(partition.suppressor)
        self._left_out = LeftOut(INPUTS, logic.log_id, partition.view.partition, poisoned)
        self.due = self._left_out.due
        self._strict = logic.settings.alertmanager_mode == "on"
        self._now = partition.watermark
        self._config_version = partition.config_version
        self._deadlines = StepDeadlines(partition.deadlines)
        self.held = GroupOverlay(partition, self.overlay, self._deadlines, self._followed)
        self.telling = GroupTelling(
            logic, self.held, self.story, self.suppressor, version=self._config_version, strict=self._strict
        )
        self.heard, self.told = self.telling.heard, self.telling.told
        self.notices, self.tasks = self.telling.notices, self.telling.tasks
        rules = logic.configs[partition.config_version]
        self.actions = StepActions(self.held, self.story, logic.settings, rules)
        self.correlator = StepCorrelator(partition.correlator, rules.ours.correlation, self._deadlines)
        self._ticked = False
        self._context = ""
        self._causes = partition.causes
        self._newest, self._last = dict(partition.causes.newest), dict(partition.causes.last)
        self._rule_rows: list[RuleRow] = []

    def apply(self, offset: int, record: InputsRecord | Unhandled) -> None:
        """Decide about one record."""
        if type(record) is InputBatch:
            self._batch(offset, record)
        elif type(record) is Tick:
            self._tick(offset, record)
        elif type(record) is Outcome or type(record) is Action or type(record) is ConfigChanged:
            self._single(offset, record)
        elif type(record) is Sighted:
            self._now = max(self._now, record.accepted_at)
            self.correlator.hear(self._without(offset, record), self._now)
        elif type(record) is Unhandled:
            self._left_out.found.append(record)
        else:
            self._apply_what_mutes(offset, record)

    def _batch(self, offset: int, batch: InputBatch) -> None:
        self._now = max(self._now, batch.accepted_at)
        contexts = by_item(batch.traced) if batch.traced else _UNTRACED
        for index, item in enumerate(batch.items):
            if self._left_out.poisoned and self._left_out.has(offset, index, batch):
                continue
            try:
                if self._is_new(item, batch.log_id):
                    self._context = child(contexts.get(index, ""), INPUTS, self.partition.view.partition, offset)
                    self._change(item, batch.log_id)
            except Exception as error:
                raise Poison(offset, index, error) from error

    def _single(self, offset: int, record: Outcome | Action | ConfigChanged) -> None:
        """A record that is handled whole or not at all."""
        if self._left_out.has(offset, 0, record):
            return
        try:
            if type(record) is Outcome:
                self._now = max(self._now, record.finished_at)
                self.telling.hear(record, self._now)
            elif type(record) is Action:
                self._now = max(self._now, record.at)
                self.actions.apply(record, self._now)
            elif type(record) is ConfigChanged:
                self._now = max(self._now, record.announced_at)
                if record.version > self._config_version:
                    self._configure(record.version)
        except Exception as error:
            raise Poison(offset, 0, error) from error

    def _apply_what_mutes(self, offset: int, record: InputsRecord | Unhandled) -> None:
        if type(record) is SilenceChanged:
            record = self._without(offset, record)
            self._now = max(self._now, record.announced_at)
            self.suppressor.apply_silences(record, self._now)
            arm_reminders(self._deadlines, (one for one in record.items if one.id in self.suppressor.silences.known))
        elif type(record) is InhibitorChanged:
            self._now = max(self._now, record.accepted_at)
            self.suppressor.apply_inhibitors(self._without(offset, record), self._now)

    def _without(self, offset: int, record: Listing) -> Listing:
        """The record without those of its items that cannot be handled."""
        if not self._left_out.poisoned:
            return record
        kept = tuple(one for at, one in enumerate(record.items) if not self._left_out.has(offset, at, record))
        return msgspec.structs.replace(record, items=kept)

    def _configure(self, version: int) -> None:
        rules = self.logic.rules(version)
        self._config_version = self.telling.version = version
        self.actions.rules = rules
        self.correlator.rules = self.actions.rules.ours.correlation
        self.overlay.put(RULES, "config", codec.encode(version))
        if self._strict:
            # There a reload begins every group anew, and what is older than group_wait is told at once.
            for key in self.held.known_keys():
                group = self.held.group(key)
                if group is not None:
                    route = self.logic.route_of(group.route, version, group.config_version)
                    after = grouping.reloaded(group, self.held.members_of(key), route, now=self._now)
                    after = msgspec.structs.replace(after, revision=group.revision + 1)
                    self.held.put(key, after, visible=False)

    def _is_new(self, change: MemberChange, log_id: str) -> bool:
        """Whether neither it nor anything newer of the same partition of `alerts` has come before."""
        if log_id != self._causes.log_id:
            self._causes, self._newest, self._last = Causes(log_id), {}, {}
        number = change.cause_partition
        newest = self._newest.get(number, -1)
        if change.cause < newest:
            return False
        if change.cause > newest:
            self._newest[number] = change.cause
            self._last.pop(number, None)
        place, index = self._last.get(number, (-1, -1))
        if 0 <= change.place <= place or (change.begins and change.index < index):
            return False
        if change.place >= 0:
            self._last[number] = (change.place, change.index)
        return True

    def _change(self, change: MemberChange, log_id: str) -> None:
        group, member = self.held.group(change.group), self.held.member(change.group, change.identity)
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
        stale_at = self.actions.stale_at(self._now)
        after = msgspec.structs.replace(applied.group, config_version=found_in, trace=trace, stale_at=stale_at)
        if applied.member is not None:
            after = grouping.joined(after, applied.member, route, now=self._now, strict=self._strict)
        if self.correlator.rules and stays and after.alive and _began(group, member, after, change):
            after = self.correlator.saw(after, body.labels, change.identity, change.accepted_at)
        self.held.put(change.group, after)
        self.held.put_member(change.group, member, applied.member, change)
        if group is not None and group.written_off and after.incident_id != group.incident_id:
            self.held.take_along(change.group, after.incident_id, change.accepted_at)
        if after.handling is not None:
            self.actions.changed(change.group, group, after, self._now)
        self.story.tell(after, applied.events, self._now)
        self._explain(change, after, body, member)

    def _explain(self, change: MemberChange, group: GroupState, body: AlertBody, member: Member | None) -> None:
        if change.change is Change.FIRED and (member is None or member.occurrence != change.occurrence):
            detail = {"labels": group.labels, "flush_at": notices.iso(group.next_flush_at), "severity": body.severity}
            self.story.decide(
                change.group, group, "grouped", f"route {change.route}", detail, change.identity, self._now
            )

    def _tick(self, offset: int, tick: Tick) -> None:
        self._now = max(self._now, tick.due_at)
        self._ticked = True
        left = TICK_LIMIT
        while left and (entry := self._deadlines.take(tick.due_at)) is not None:
            pushed_at, what, key = entry
            part = f"{what} {key}"
            if self._left_out.has_due(offset, part, tick):
                self._deadlines.push(self._now + AGAIN, what, key)
                continue
            try:
                left -= self._fall_due(pushed_at, what, key)
            except Exception as error:
                raise Poison(offset, part, error) from error

    def _fall_due(self, pushed_at: datetime, what: str, key: str) -> bool:
        """Do what is due; whether it was a group's."""
        if self._is_of_no_group(what, key, pushed_at):
            return False
        group = self.held.group(key)
        due = due_at(what, group) if group is not None else None
        if due is None or group is None:
            return False
        if due > pushed_at:
            self._deadlines.push(due, what, key)
            return False
        if what == FLUSH:
            self.telling.flush(key, group, self._now)
        elif what == SNOOZE:
            self.actions.end_snooze(key, group, self._now)
        elif what == STALE:
            self.actions.resolve_stale(key, group, self._now)
        elif what == ESCALATE:
            self.telling.escalate(key, group, self._now)
        else:
            self.held.drop(key)
        return True

    def _is_of_no_group(self, what: str, key: str, pushed_at: datetime) -> bool:
        """Do what is due of anything but a group."""
        if what == REMIND:
            self.telling.remind(key, pushed_at, self._now)
        elif what == MEET:
            self.correlator.forget(key, self._now)
        elif what == SAY_AGAIN:
            self._say_again()
        else:
            return False
        return True

    def _say_again(self) -> None:
        """Tell the keys' partitions what they may not have heard, and the groups what was decided."""
        for key in self.held.known_keys():
            group = self.held.group(key)
            if group is not None and group.sighted:
                firing = [one for one in self.held.members_of(key) if one.firing]
                fired = [(codec.decode_body(one.body).labels, one.identity, one.joined_at) for one in firing]
                self.correlator.say_again(key, group, fired, self._now)
        self.correlator.decide_again(self._now)
        self.overlay.put(RULES, SAY_AGAIN, None)

    def _followed(self, key: str, group: GroupState) -> GroupState:
        """The group with its escalation's clock set by what its incident has come to."""
        config = self.logic.configs[self._config_version]
        after, said = escalations.follow(group, group.handled.receiver or group.receiver, config, self._now)
        if said is not None:
            self.story.decide(key, after, *said, now=self._now)
        return after

    def finish(self) -> None:
        """Encode the groups that the step leaves."""
        for key, before, after in self.held.changed():
            self.correlator.stands(key, before, after, self._now)
        unsent = self.actions.unsent(self.partition.view.tables[RULES])
        self._rule_rows = [*self.suppressor.rows.values(), *self.correlator.rows(), *unsent]
        for row in self._rule_rows:
            self.overlay.put(RULES, row.key, row.value)
        heard = Causes(self._causes.log_id, self._newest, self._last)
        if heard != self.partition.causes:
            self._causes = heard
            self.overlay.put(RULES, CAUSES, codec.encode(self._causes))
        self.held.finish()

    def rule_rows(self) -> list[tuple[int, RuleRow]]:
        """What was applied of what mutes, with the partition."""
        return [(self.partition.view.partition, row) for row in self._rule_rows]

    @property
    def refused(self) -> bool:
        """Whether something could not be handled."""
        return bool(self._left_out.found)

    def dead_rows(self) -> list[DeadRow]:
        """What could not be handled, kept for people to look at."""
        return dead_rows(self._left_out.found, INPUTS, self._now)

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
        yield from self.actions.outgoing(topic_name(settings.app_prefix, INPUTS), settings.partitions)
        yield from self.correlator.outgoing(topic_name(settings.app_prefix, INPUTS), settings.partitions)
        for one in self._left_out.found:
            topic = topic_name(settings.app_prefix, DEAD_LETTERS)
            yield Outgoing(topic, 0, one.name.encode(), codec.encode(rejected(one, INPUTS)))

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
        self.held.release()

    def committed(self) -> None:
        """Fold the step into the partition."""
        partition = self.partition
        partition.watermark, partition.config_version = self._now, self._config_version
        if self._ticked:
            partition.tick_sent = False
        self.held.committed()
        self._deadlines.commit()
        self.suppressor.commit()
        self.correlator.commit()
        partition.causes = self._causes
        if not self.replaying:
            self.story.measure()
        self.held.release()


def _began(group: GroupState | None, member: Member | None, after: GroupState, change: MemberChange) -> bool:
    """Whether an alert began to fire, or an incident to be open, with this change."""
    if group is None or not group.alive or group.incident_id != after.incident_id:
        return True
    return member is None or member.occurrence != change.occurrence or not member.firing
