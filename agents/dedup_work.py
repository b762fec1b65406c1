"""One partition's part of a step of dedup: records decided, and the rows and records that follow."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from agents import dedup_rows
from agents.alert_partition import (
    ALERT_TABLE,
    DROP,
    PULSES,
    RECENT,
    ROUTE,
    TELL,
    TIMEOUT,
    AlertsPartition,
    arm,
    chunk_of,
    decode_pulse,
    decode_state,
    due_at,
    event_hash,
)  # fmt: skip
from agents.deadlines import StepDeadlines
from agents.dedup_rows import Verdicts
from agents.rules import dedup, routing
from agents.rules.dedup import AlertState, Decided, GroupRef, Pulse
from agents.sources import Sources
from agents.step import Outgoing, Poison, Poisoned
from agents.step_traces import Told
from sinks.alert_rows import AlertRow, DeadRow, TouchRow, VerdictRow
from sinks.dead_letter_rows import RefusedAgain
from sinks.postgres import Advance
from streams import codec, keys, metrics
from streams.intake_alertmanager import SOURCE as ALERTMANAGER
from streams.records import (
    WAITED,
    Alert,
    AlertBatch,
    AlertBody,
    AlertsRecord,
    Change,
    ConfigChanged,
    InputBatch,
    MemberChange,
    Rejected,
    Tick,
    Traced,
    Verdict,
)
from streams.redis_tables import Overlay
from streams.rules_config import Ours
from streams.rules_inhibit import InhibitRule
from streams.topics import ALERTS, DEAD_LETTERS, INPUTS, topic_name
from streams.trace_context import by_item, child, of_items

if TYPE_CHECKING:
    from agents.dedup import DedupLogic

FOREVER: Final = datetime.max.replace(tzinfo=UTC)
ROOM: Final = 0.95
"""Part of the most alerts a partition may hold from which on resolved ones leave early."""
TICK_LIMIT: Final = 500
ROUTE_LIMIT: Final = 500
"""Alerts that a change of the rules routes anew at once; the others follow with ticks."""
BATCH_LIMIT: Final = 512

_ORDER: Final = tuple(Verdict)


class DedupWork:
    """One partition's part of a step of dedup."""

    told: Sequence[Told] = ()

    def __init__(self, logic: "DedupLogic", partition: AlertsPartition, poisoned: Poisoned, replaying: bool) -> None:  # noqa: FBT001 - passed on
        self.logic = logic
        self.partition = partition
        self.overlay = Overlay(partition.view)
        self.replaying = replaying
        self.dead: list[DeadRow] = []
        self.replayed: list[str] = []
        self.refused_again: list[RefusedAgain] = []
        self.known_again: list[str] = []
        self._poisoned = poisoned
        self._now = partition.watermark
        self._config_version = partition.config_version
        self._pulses: dict[str, Pulse | None] = {}
        self._states: dict[str, AlertState] = {}
        self._whole: dict[tuple[str, int], tuple[AlertState, Pulse]] = {}
        self._touched: dict[tuple[str, int], Pulse] = {}
        self._verdicts = Verdicts(logic.log_id, partition.view.partition, logic.settings.verdict_event_ids)
        self._counts = dict.fromkeys(Verdict, 0)
        self._told: dict[int, list[MemberChange]] = {}
        self._retold: set[str] = set()
        self._retelling = False
        self._contexts: dict[tuple[int, int], str] = {}
        self._sources = Sources()
        self._inhibit_rules = logic.configs[partition.config_version].inhibit_rules
        self._former_rules: tuple[InhibitRule, ...] = ()
        self._rejected: list[Rejected] = []
        self._new_ids: dict[str, tuple[datetime, tuple[int, ...]]] = {}
        self._seen: set[int] = set()
        self._forgotten: list[str] = []
        self._unseen: set[int] = set()
        self._chunks = iter(partition.chunks.items())
        self._oldest = next(self._chunks, None)
        self._remembered = len(partition.recent)
        self._deadlines = StepDeadlines(partition.deadlines)
        self._ticked = False
        self._waiting_rows: list[tuple[str, Pulse]] = []
        self._waiting_routes: list[str] = []
        self._dirty: dict[str, int | None] = {}
        self._held = len(partition.view.tables[PULSES])
        self._evicted = 0

    def apply(self, offset: int, record: AlertsRecord) -> None:
        """Decide about one record."""
        if type(record) is AlertBatch:
            if record.traced:
                self._follow(offset, record)
            self._batch(offset, record)
        elif type(record) is Tick:
            self._tick(offset, record)
        elif type(record) is ConfigChanged:
            self._configure(offset, record)

    def _follow(self, offset: int, batch: AlertBatch) -> None:
        for index, context in by_item(batch.traced).items():
            self._contexts[offset, index] = child(context, ALERTS, self.partition.view.partition, offset)

    def _batch(self, offset: int, batch: AlertBatch) -> None:
        self._now = max(self._now, batch.accepted_at)
        accepted_at = batch.accepted_at if batch.accepted_at.year > 1 else self._now
        ids: list[int] = []
        for index, item in enumerate(batch.items):
            number = event_hash(item.identity if type(item) is Alert else "", item.event_id)
            # Ids of refused events are remembered apart from all alerts: what was mended and sent again is not known.
            refused_again = type(item) is Rejected and bool(item.replay_of)
            known = number in self._seen or (number in self.partition.recent and number not in self._unseen)
            if known and not refused_again:
                if item.replay_of:
                    self.known_again.append(item.replay_of)
                else:
                    self._counts[Verdict.REDELIVERED] += 1
                continue
            why = self._poisoned.get((offset, index))
            try:
                if why is not None:
                    self._reject(offset, dedup_rows.poison(item, why), batch, accepted_at)
                elif type(item) is Alert:
                    self._event(offset, index, item, batch, accepted_at)
                elif type(item) is Rejected:
                    self._reject(offset, item, batch, accepted_at)
            except Exception as error:
                raise Poison(offset, index, error) from error
            if why is None and not refused_again:
                self._seen.add(number)
                ids.append(number)
        if ids:
            key, value = chunk_of(self._now, offset, ids)
            self._new_ids[key] = (self._now, tuple(ids))
            self._remembered += len(ids)
            self.overlay.put(RECENT, key, value)
        self._expire_events()
        self._make_room()

    def _event(self, offset: int, index: int, alert: Alert, batch: AlertBatch, accepted_at: datetime) -> None:
        if alert.identity in self.partition.retell:
            self._tell_of_an_earlier_log(offset, -1 - index, alert.identity)
        known = self._pulse(alert.identity)
        stored = self.partition.view.tables[PULSES].get(alert.identity) if self.replaying else None
        if stored is not None and decode_pulse(stored).offset >= offset:
            self._tell_again(offset, index, alert.identity, accepted_at)
            return
        if alert.timeout and alert.firing:
            # The sender gave no end: the rules say how long that lasts.
            lasts = self.logic.configs[self._config_version].resolve_timeout
            alert = alert if lasts is None else msgspec.structs.replace(alert, ends_at=accepted_at + lasts)
        decided = dedup.decide(
            known, alert, now=self._now, accepted_at=accepted_at, offset=offset, strict=self.logic.strict,
            flap_window=self.logic.flap_window, waited=batch.via == WAITED,
        )  # fmt: skip
        self._count(offset, decided.verdict, alert, decided.pulse.occurrence, decided.reason, batch, accepted_at)
        if decided.tell is not None:
            self._changed(offset, index, alert, known, decided, accepted_at)
        else:
            self._duplicate(alert.identity, known, decided.pulse)

    def _changed(
        self, offset: int, index: int, alert: Alert, known: Pulse | None, decided: Decided, accepted_at: datetime
    ) -> None:
        identity, pulse = alert.identity, decided.pulse
        if known is not None and known.occurrence != pulse.occurrence and known.dirty_from >= 0:
            self._touched[(identity, known.occurrence)] = known
        before = self._state(identity) if known is not None else None
        state = self._stated(alert, before, began=decided.verdict is Verdict.NEW)
        if not pulse.firing and before is not None and codec.decode_body(alert.body).source != ALERTMANAGER:
            state = before  # an end in our own format need not repeat what its alert says
        self._put(identity, pulse, state)
        self._touched.pop((identity, pulse.occurrence), None)
        self._whole[(identity, pulse.occurrence)] = (state, pulse)
        if decided.tell is not None:
            self._tell_groups(offset, index, identity, before, state, pulse, decided.tell, accepted_at)

    def _stated(self, alert: Alert, before: AlertState | None, *, began: bool) -> AlertState:
        body = codec.decode_body(alert.body)
        same_labels = before is not None and codec.decode_body(before.body).labels == body.labels
        kept = before is not None and same_labels and before.groups and before.config_version == self._config_version
        groups = before.groups if kept and before is not None else self._groups(alert.team, body)
        known_print = before.fingerprint if same_labels and before is not None else keys.fingerprint(body.labels)
        return AlertState(
            team=alert.team,
            fingerprint=known_print,
            body=alert.body,
            groups=groups,
            config_version=self._config_version,
            left=_without(before.groups, groups) if before is not None else (),
            former=_without((*before.former, *before.groups), groups) if before is not None and not began else (),
        )

    @property
    def _ours(self) -> Ours:
        """What the rules say of severities and kinds; the state keeps what the sender said."""
        return self.logic.configs[self._config_version].ours

    def _groups(self, team: str, body: AlertBody) -> tuple[GroupRef, ...]:
        config = self.logic.configs[self._config_version]
        found = []
        for route in routing.routes_for(config.tree_for(body.labels), body.labels):
            labels = routing.group_labels(route, body.labels)
            group = keys.hashed(keys.group_of(team, route.id, labels.items()))
            found.append(GroupRef(group, route.id, labels))
        return tuple(found)

    def _duplicate(self, identity: str, known: Pulse | None, pulse: Pulse) -> None:
        at = (identity, pulse.occurrence)
        written = at in self._whole or at in self._touched
        if self.replaying:
            # Whether the row has this count depended on how the first run cut its steps: take it as behind.
            self._arm(identity, pulse)
        elif written or known is None or self._now - known.row_at >= self.logic.row_interval:
            pulse = dedup.in_row(pulse, self._now)
            if at in self._whole:
                self._whole[at] = (self._whole[at][0], pulse)
            else:
                self._touched[at] = pulse
        elif known.dirty_from < 0:
            self._arm(identity, pulse)
        if known is not None and pulse.timeout_at is not None and pulse.timeout_at < (known.timeout_at or FOREVER):
            self._arm(identity, pulse)  # a later one is found when the earlier is due
        self._put(identity, pulse, None)

    def _tell_again(self, offset: int, index: int, identity: str, accepted_at: datetime) -> None:
        """A rebuilt row has this event already: only make sure that its groups know."""
        pulse = self._pulse(identity)
        if pulse is None or pulse.offset != offset:
            return
        state = self._state(identity)
        before = msgspec.structs.replace(state, groups=state.left)
        tell = Change.FIRED if pulse.firing else Change.RESOLVED
        self._tell_groups(offset, index, identity, before, state, pulse, tell, accepted_at, by_timeout=pulse.by_timeout)

    def _tell_untold(self, offset: int) -> None:
        """The same for what a tick, or another configuration, did to rebuilt rows."""
        if self.replaying:
            for index, identity in enumerate(sorted(self.partition.untold.get(offset, ()))):
                self._tell_again(offset, index, identity, self._now)

    def _tell_of_an_earlier_log(self, offset: int, index: int, identity: str) -> None:
        """Tell where an alert stands, as a log that is gone told it: groups pass over what they know."""
        pulse = self._pulse(identity)
        if pulse is None or identity in self._retold or identity not in self.partition.retell:
            return
        self._put(identity, msgspec.structs.replace(pulse, offset=offset), None)
        heard_at = pulse.first_seen_at if pulse.firing else max(pulse.last_seen_at, pulse.ends_at or pulse.last_seen_at)
        self._retold.add(identity)
        self._retelling = True
        self._tell_again(offset, index, identity, heard_at)
        self._retelling = False

    def _tell_groups(
        self,
        offset: int,
        index: int,
        identity: str,
        before: AlertState | None,
        state: AlertState,
        pulse: Pulse,
        tell: Change,
        accepted_at: datetime,
        *,
        by_timeout: bool = False,
    ) -> None:
        rules = self._inhibit_rules
        self._sources.tell(identity, before, state, pulse, rules, self._former_rules or rules)
        sent = {ref.group for ref in before.groups} if before is not None else set()
        over = state.former if tell is Change.RESOLVED and not self.logic.strict else ()
        # One revision is heard once: a group that hears of the end is not told before that its alert left.
        reached = {ref.group for ref in (*state.groups, *over)}
        for ref in (ref for ref in (before.groups if before is not None else ()) if ref.group not in reached):
            self._tell(ref, offset, index, identity, state, pulse, Change.LEFT, accepted_at, by_timeout=by_timeout)
        for ref in state.groups:
            change = Change.FIRED if tell is Change.CHANGED and ref.group not in sent else tell
            self._tell(ref, offset, index, identity, state, pulse, change, accepted_at, by_timeout=by_timeout)
        for ref in over:
            self._tell(ref, offset, index, identity, state, pulse, tell, accepted_at, by_timeout=by_timeout)

    def _tell(
        self,
        ref: GroupRef,
        offset: int,
        index: int,
        identity: str,
        state: AlertState,
        pulse: Pulse,
        change: Change,
        accepted_at: datetime,
        *,
        by_timeout: bool,
    ) -> None:
        told = MemberChange(
            change=change,
            group=ref.group,
            route=ref.route,
            group_labels=ref.labels,
            team=state.team,
            identity=identity,
            fingerprint=state.fingerprint,
            occurrence=pulse.occurrence,
            revision=pulse.revision,
            starts_at=pulse.starts_at,
            ends_at=pulse.ends_at,
            accepted_at=accepted_at,
            cause=offset,
            index=index,
            cause_partition=self.partition.view.partition,
            body=self._ours.classified_bytes(state.body),
            by_timeout=by_timeout,
            reached=self._receivers_of(state) if ref not in state.groups else (),
            again=self._retelling,
            config_version=state.config_version,
            flaps=pulse.flaps,
        )
        self._told.setdefault(keys.partition_of(ref.group, self.logic.settings.partitions), []).append(told)

    def _receivers_of(self, state: AlertState) -> tuple[str, ...]:
        """Who hears of the alert in the groups it is in now."""
        config = self.logic.configs[self._config_version]
        routes = (config.route_by_id(ref.route) for ref in state.groups)
        return tuple(sorted({route.receiver for route in routes if route is not None}))

    def _reject(self, offset: int, item: Rejected, batch: AlertBatch, accepted_at: datetime) -> None:
        if item.replay_of:
            # Its refusal is counted, and has its verdict, already.
            again = RefusedAgain(item.replay_of, item.field, item.reason.replace("\x00", "\ufffd"))
            self.refused_again.append(again)
            return
        self._counts[Verdict.REJECTED] += 1
        self._verdicts.refuse(offset, item, batch, accepted_at, self._now)
        self._rejected.append(item)
        self.dead.append(dedup_rows.dead(item, batch.via, accepted_at))

    def _count(
        self, offset: int, verdict: Verdict, alert: Alert, occurrence: int, reason: str, batch: AlertBatch,
        accepted_at: datetime,
    ) -> None:  # fmt: skip
        self._counts[verdict] += 1
        if alert.replay_of:
            # Received once, when it was refused: this verdict stands in the place of that one.
            self._counts[Verdict.REJECTED] -= 1
            self.replayed.append(alert.replay_of)
            reason = f"{reason}; replayed" if reason else "replayed"
        self._verdicts.add(offset, verdict, alert, occurrence, reason, batch, accepted_at, self._now)

    def _tick(self, offset: int, tick: Tick) -> None:
        self._now = max(self._now, tick.due_at)
        self._ticked = True
        index = 0  # of what is told: how many rows are behind depends on the steps
        for what, identity, pulse in self._due(tick):
            if what == TIMEOUT:
                self._time_out(offset, index, identity, pulse, tick)
                index += 1
            elif what == DROP:
                self._drop(identity, pulse)
            elif what == TELL:
                self._tell_of_an_earlier_log(offset, index, identity)
                index += 1
            elif what == ROUTE:
                index += self._route_anew(offset, index, identity, pulse)
            elif self.replaying:
                self._waiting_rows.append((identity, pulse))
            else:
                flushed = dedup.in_row(pulse, self._now)
                self._put(identity, flushed, None)
                self._touched[(identity, pulse.occurrence)] = flushed
        for identity, pulse in self._waiting_rows:
            self._arm(identity, pulse)
        self._waiting_rows.clear()
        for identity in self._waiting_routes:
            self._deadlines.push(self._now, ROUTE, identity)
        self._waiting_routes.clear()
        self._tell_untold(offset)
        self._expire_events()

    def _due(self, tick: Tick) -> Iterator[tuple[str, str, Pulse]]:
        """What is due by the state. An entry that was moved since it was pushed goes back, and does not count."""
        left = TICK_LIMIT
        while left and (entry := self._deadlines.take(tick.due_at)) is not None:
            pushed_at, what, identity = entry
            pulse = self._pulse(identity)
            if pulse is None:
                continue
            due = due_at(what, pulse, self.logic.row_interval) if what not in (ROUTE, TELL) else pushed_at
            if due is None:
                continue
            if due > pushed_at:
                self._deadlines.push(due, what, identity)
                continue
            left -= 1
            yield what, identity, pulse

    def _time_out(self, offset: int, index: int, identity: str, pulse: Pulse, tick: Tick) -> None:
        ended = dedup.timed_out(pulse, due_at=tick.due_at, now=self._now, offset=offset)
        if ended is None:
            return
        state = self._state(identity)
        self._put(identity, ended, state)
        self._touched.pop((identity, ended.occurrence), None)
        self._whole[(identity, ended.occurrence)] = (state, ended)
        self._tell_groups(offset, index, identity, state, state, ended, Change.RESOLVED, self._now, by_timeout=True)

    def _drop(self, identity: str, pulse: Pulse) -> None:
        if pulse.dirty_from >= 0:
            self._touched[(identity, pulse.occurrence)] = dedup.in_row(pulse, self._now)
        self._held -= 1
        self._pulses[identity] = None
        self._dirty[identity] = None
        self.overlay.put(PULSES, identity, None)
        self.overlay.put(ALERT_TABLE, identity, None)

    def _make_room(self) -> None:
        """Near the bound, resolved alerts leave before their time, oldest first; firing ones never."""
        bound = self.logic.settings.alerts_cap * ROOM
        while self._held > bound and (entry := self._deadlines.take(FOREVER, DROP)) is not None:
            pushed_at, _, identity = entry
            pulse = self._pulse(identity)
            due = due_at(DROP, pulse) if pulse is not None else None
            if pulse is None or due is None:
                continue
            if due > pushed_at:
                self._deadlines.push(due, DROP, identity)
                continue
            self._drop(identity, pulse)
            self._evicted += 1

    def _configure(self, offset: int, record: ConfigChanged) -> None:
        self._now = max(self._now, record.announced_at)
        if record.version <= self._config_version:
            self._tell_untold(offset)
            return
        former, self._config_version = self._config_version, record.version
        self._inhibit_rules = self.logic.configs[record.version].inhibit_rules
        # In an order that a replay repeats: new incidents are named after their place in it.
        known = {*self.partition.view.tables[PULSES], *self._pulses}
        pulses = ((identity, self._pulse(identity)) for identity in sorted(known))
        # In Alertmanager's mode a reload shows ended alerts again too.
        shown = [(i, p) for i, p in pulses if p is not None and (p.firing or self.logic.strict)]
        for index, (identity, pulse) in enumerate(shown[:ROUTE_LIMIT]):
            self._route(offset, index, identity, pulse, former)
        for identity, _ in shown[ROUTE_LIMIT:]:
            self._deadlines.push(self._now, ROUTE, identity)

    def _route_anew(self, offset: int, index: int, identity: str, pulse: Pulse) -> bool:
        """What a change of the rules left to later ticks; whether there was something to do."""
        former = self._state(identity).config_version
        if former >= self._config_version or not (pulse.firing or self.logic.strict):
            return False
        if self.replaying:
            # What was routed by then stands in the rows, and with that in what is replayed.
            self._waiting_routes.append(identity)
            return False
        self._route(offset, index, identity, pulse, former)
        return True

    def _route(self, offset: int, index: int, identity: str, pulse: Pulse, former: int) -> None:
        """Find an alert's groups by the present rules, and tell those it left, is still in, and is new to."""
        before = self._state(identity)
        groups = self._groups(before.team, codec.decode_body(before.body))
        state = msgspec.structs.replace(
            before,
            groups=groups,
            left=_without(before.groups, groups),
            former=_without((*before.former, *before.groups), groups),
            config_version=self._config_version,
        )
        after = dedup.in_row(msgspec.structs.replace(pulse, revision=pulse.revision + 1, offset=offset), self._now)
        self._put(identity, after, state)
        self._touched.pop((identity, after.occurrence), None)
        self._whole[(identity, after.occurrence)] = (state, after)
        tell = Change.CHANGED if after.firing else Change.RESOLVED
        rules = self.logic.configs.get(former)
        self._former_rules = rules.inhibit_rules if rules is not None else ()
        self._tell_groups(offset, index, identity, before, state, after, tell, self._now)
        self._former_rules = ()

    def _expire_events(self) -> None:
        """Forget the oldest events, those of this step included: how a log is cut into steps must not show."""
        before = self._now - self.logic.recent_window
        while (oldest := self._oldest or next(iter(self._new_ids.items()), None)) is not None:
            key, (at, ids) = oldest
            if at >= before and self._remembered <= self.logic.settings.recent_cap:
                return
            self._remembered -= len(ids)
            self.overlay.put(RECENT, key, None)
            if self._oldest is None:
                del self._new_ids[key]
                self._seen.difference_update(ids)
            else:
                self._forgotten.append(key)
                self._unseen.update(ids)
                self._oldest = next(self._chunks, None)

    def _arm(self, identity: str, pulse: Pulse) -> None:
        arm(self._deadlines, identity, pulse, self.logic.row_interval)

    def _pulse(self, identity: str) -> Pulse | None:
        if identity in self._pulses:
            return self._pulses[identity]
        value = self.partition.view.tables[PULSES].get(identity)
        pulse = decode_pulse(value) if value is not None else None
        self._pulses[identity] = pulse
        return pulse

    def _state(self, identity: str) -> AlertState:
        state = self._states.get(identity)
        if state is None:
            state = self._states[identity] = decode_state(self.partition.view.tables[ALERT_TABLE][identity])
        return state

    def _put(self, identity: str, pulse: Pulse, state: AlertState | None) -> None:
        self._held += self._pulse(identity) is None
        self._pulses[identity] = pulse
        self._dirty[identity] = pulse.dirty_from if pulse.dirty_from >= 0 else None
        if state is not None:
            self._states[identity] = state
            self.overlay.put(ALERT_TABLE, identity, codec.encode(state))
            self._arm(identity, pulse)
        self.overlay.put(PULSES, identity, b"")  # encoded once, by `finish`

    def finish(self) -> None:
        """Encode the pulses that the step leaves."""
        changed = self.overlay.changes.get(PULSES, {})
        for identity in changed:
            pulse = self._pulses[identity]
            changed[identity] = codec.encode(pulse) if pulse is not None else None

    def alert_rows(self) -> list[AlertRow]:
        """Whole rows of alerts that are new, changed or ended."""
        return [
            dedup_rows.row(identity, self.partition.view.partition, state, pulse, self._ours)
            for (identity, _), (state, pulse) in self._whole.items()
        ]

    def touch_rows(self) -> list[TouchRow]:
        """Rows of which only counts move."""
        return [
            TouchRow(
                identity,
                pulse.occurrence,
                pulse.revision,
                pulse.last_seen_at,
                pulse.ends_at,
                pulse.count,
                codec.encode(dedup.in_row(pulse, self._now)),
            )
            for (identity, _), pulse in self._touched.items()
        ]

    def verdict_rows(self) -> list[VerdictRow]:
        """One row for each alert, verdict and record."""
        return self._verdicts.rows()

    def outgoing(self) -> Iterable[Outgoing]:
        """What the groups hear, what mutes them before that, and the refused events."""
        inputs = topic_name(self.logic.settings.app_prefix, INPUTS)
        yield from self._sources.outgoing(inputs, self.logic.settings.partitions, self._now)
        for number, changes in self._told.items():
            for start in range(0, len(changes), BATCH_LIMIT):
                part = tuple(changes[start : start + BATCH_LIMIT])
                batch = InputBatch(
                    log_id=self.logic.log_id, accepted_at=self._now, items=part, traced=self._traced(part)
                )
                yield Outgoing(inputs, number, part[0].group.encode(), codec.encode(batch))
        dead = topic_name(self.logic.settings.app_prefix, DEAD_LETTERS)
        for item in self._rejected:
            number = event_hash("", item.event_id) % self.logic.settings.partitions
            yield Outgoing(dead, number, item.event_id.encode("utf-8", "replace"), codec.encode(item))

    def _traced(self, changes: tuple[MemberChange, ...]) -> tuple[Traced, ...]:
        if not self._contexts:
            return ()
        return of_items([self._contexts.get((change.cause, change.index), "") for change in changes])

    def advance(self, offset: int) -> Advance:
        """The progress row after the step."""
        # Until Kafka has what the step tells, a rebuild must begin before it: the next step moves on.
        safe = self.partition.view.offset if self._tells else offset
        for identity, first in self.partition.dirty.items():
            if self._dirty.get(identity, first) is not None:
                safe = min(safe, first - 1)
                break
        behind = [first for first in self._dirty.values() if first is not None]
        safe = min([safe, *(first - 1 for first in behind)])
        return Advance(
            partition=self.partition.view.partition,
            epoch=self.partition.view.epoch,
            applied=offset,
            safe=safe,
            config_version=self._config_version,
            watermark=self._now,
            counts=tuple(self._counts[verdict] for verdict in _ORDER),  # type: ignore[arg-type]
        )

    @property
    def _tells(self) -> bool:
        return bool(self._told or self._sources or self._rejected)

    def abort(self) -> None:
        """Give deadlines back."""
        self._deadlines.abort()

    def committed(self) -> None:
        """Fold the step into the partition."""
        partition = self.partition
        partition.watermark, partition.config_version = self._now, self._config_version
        if self._ticked:
            partition.tick_sent = False
        partition.retell -= self._retold
        for key in self._forgotten:
            partition.forget(key)
        for key, (at, ids) in self._new_ids.items():
            partition.remember(key, at, ids)
        for identity, first in self._dirty.items():
            if first is None:
                partition.dirty.pop(identity, None)
            else:
                partition.dirty.setdefault(identity, first)
        if self.replaying:  # there alerts become dirty in another order than their first offsets
            partition.dirty = dict(sorted(partition.dirty.items(), key=lambda entry: entry[1]))
        self._deadlines.commit()
        if self._evicted and not self.replaying:
            metrics.table_evictions.labels(ALERT_TABLE).inc(self._evicted)
        for verdict, count in self._counts.items():
            if count > 0 and not self.replaying:
                metrics.events.labels(verdict).inc(count)


def _without(groups: tuple[GroupRef, ...], others: tuple[GroupRef, ...]) -> tuple[GroupRef, ...]:
    if groups == others:
        return ()
    names = {ref.group for ref in others}
    return tuple(ref for ref in groups if ref.group not in names)
