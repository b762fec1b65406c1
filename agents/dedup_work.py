"""One partition's part of a step of dedup: records decided, and the rows and records that follow."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from agents import dedup_rows
from agents.alert_overlay import FOREVER, AlertOverlay
from agents.alert_partition import ALERT_TABLE, DROP, ROUTE, TELL, TIMEOUT, AlertsPartition, due_at, event_hash
from agents.deadlines import StepDeadlines
from agents.dedup_retelling import Retelling
from agents.dedup_rows import Verdicts
from agents.dedup_telling import Telling
from agents.event_memory import StepMemory
from agents.rules import dedup, routing
from agents.rules.dedup import AlertState, Decided, GroupRef, Pulse
from agents.step_traces import Told
from agents.unhandled import AGAIN, LeftOut, dead_rows, rejected
from agents.work import Outgoing, Poison, Poisoned
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
    Rejected,
    Tick,
    Verdict,
)
from streams.redis_tables import Overlay
from streams.rules_config import UnreadableRulesError
from streams.topics import ALERTS, DEAD_LETTERS, INPUTS, topic_name
from streams.trace_context import by_item, child

if TYPE_CHECKING:
    from agents.dedup import DedupLogic

ROOM: Final = 0.95
"""Part of the most alerts a partition may hold from which on resolved ones leave early."""
TICK_LIMIT: Final = 500
ROUTE_LIMIT: Final = 500
"""Alerts that a change of the rules routes anew at once; the others follow with ticks."""

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
        self._left_out = LeftOut(ALERTS, logic.log_id, partition.view.partition, poisoned)
        self.unhandled, self.due = self._left_out.found, self._left_out.due
        self._now = partition.watermark
        self._config_version = partition.config_version
        settings = logic.settings
        self._deadlines = StepDeadlines(partition.deadlines)
        self._alerts = AlertOverlay(partition, self.overlay, self._deadlines, logic.row_interval)
        self._memory = StepMemory(partition, self.overlay, logic.recent_window, settings.recent_cap)
        self._config = logic.configs[partition.config_version]
        self._telling = Telling(partition, settings.partitions, self._config, strict=logic.strict)
        self._retelling = Retelling(partition, self._alerts, self._telling)
        self._verdicts = Verdicts(logic.log_id, partition.view.partition, settings.verdict_event_ids)
        self._counts = dict.fromkeys(Verdict, 0)
        self._rejected: list[Rejected] = []
        # A rebuild tells again in parts only, and alerts that are not routed anew yet may be so in another order.
        self._is_placed = not (replaying and (partition.untold or partition.deadlines.first(ROUTE)))
        self._ticked = False
        self._waiting_rows: list[tuple[str, Pulse]] = []
        self._waiting_routes: list[str] = []

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
            self._telling.contexts[offset, index] = child(context, ALERTS, self.partition.view.partition, offset)

    def _batch(self, offset: int, batch: AlertBatch) -> None:
        self._now = max(self._now, batch.accepted_at)
        accepted_at = batch.accepted_at if batch.accepted_at.year > 1 else self._now
        ids: list[int] = []
        for index, item in enumerate(batch.items):
            number = event_hash(item.identity if type(item) is Alert else "", item.event_id)
            # Ids of refused events are remembered apart from all alerts: what was mended and sent again is not known.
            refused_again = type(item) is Rejected and bool(item.replay_of)
            if self._memory.knows(number) and not refused_again:
                if item.replay_of:
                    self.known_again.append(item.replay_of)
                else:
                    self._counts[Verdict.REDELIVERED] += 1
                continue
            why = self._left_out.poisoned.get((offset, index))
            try:
                if why is not None:
                    self._leave_out(offset, item, why, batch, accepted_at)
                elif type(item) is Alert:
                    self._event(offset, index, item, batch, accepted_at)
                elif type(item) is Rejected:
                    self._reject(offset, item, batch, accepted_at)
            except Exception as error:
                raise Poison(offset, index, error) from error
            if why is None and not refused_again:
                self._memory.see(number)
                ids.append(number)
        if ids:
            self._memory.keep(offset, ids, self._now)
        self._memory.expire(self._now)
        self._alerts.make_room(self.logic.settings.alerts_cap * ROOM, self._now)

    def _event(self, offset: int, index: int, alert: Alert, batch: AlertBatch, accepted_at: datetime) -> None:
        if alert.identity in self.partition.retell:
            self._retelling.of_an_earlier_log((offset, -1 - index), alert.identity)
        known = self._alerts.pulse(alert.identity)
        stored = self._alerts.stored(alert.identity) if self.replaying else None
        if stored is not None and stored.offset >= offset:
            self._retelling.event((offset, index), alert.identity, accepted_at, firing=alert.firing)
            return
        if alert.timeout and alert.firing:
            # The sender gave no end: the rules say how long that lasts.
            lasts = self._config.resolve_timeout
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
            self._alerts.touch(identity, known)
        before = self._alerts.state(identity) if known is not None else None
        state = self._stated(alert, before, began=decided.verdict is Verdict.NEW)
        if not pulse.firing and before is not None and codec.decode_body(alert.body).source != ALERTMANAGER:
            state = before  # an end in our own format need not repeat what its alert says
        self._alerts.write(identity, pulse, state)
        if decided.tell is not None:
            self._telling.tell(
                (offset, index), identity, before, state, pulse, decided.tell, accepted_at, placed=self._is_placed
            )

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

    def _groups(self, team: str, body: AlertBody) -> tuple[GroupRef, ...]:
        config = self._config
        found = []
        for route in routing.routes_for(config.tree_for(body.labels), body.labels):
            labels = routing.group_labels(route, body.labels)
            group = keys.hashed(keys.group_of(team, route.id, labels.items()))
            found.append(GroupRef(group, route.id, labels))
        return tuple(found)

    def _duplicate(self, identity: str, known: Pulse | None, pulse: Pulse) -> None:
        alerts = self._alerts
        if self.replaying:
            # Whether the row has this count depended on how the first run cut its steps: take it as behind.
            alerts.arm(identity, pulse)
        elif known is None or self._now - known.row_at >= self.logic.row_interval or alerts.is_written(identity, pulse):
            pulse = dedup.in_row(pulse, self._now)
            alerts.touch(identity, pulse)
        elif known.dirty_from < 0:
            alerts.arm(identity, pulse)
        if known is not None and pulse.timeout_at is not None and pulse.timeout_at < (known.timeout_at or FOREVER):
            alerts.arm(identity, pulse)  # a later one is found when the earlier is due
        alerts.put(identity, pulse)

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

    def _leave_out(
        self, offset: int, item: Alert | Rejected, why: str, batch: AlertBatch, accepted_at: datetime
    ) -> None:
        if why:
            self._reject(offset, dedup_rows.poison(item, why), batch, accepted_at)

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
            part = f"{what} {identity}"
            if self._left_out.has_due(offset, part, tick):
                self._deadlines.push(self._now + AGAIN, what, identity)
                continue
            try:
                index += self._fall_due(offset, index, what, identity, pulse, tick)
            except Exception as error:
                raise Poison(offset, part, error) from error
        for identity, pulse in self._waiting_rows:
            self._alerts.arm(identity, pulse)
        self._waiting_rows.clear()
        for identity in self._waiting_routes:
            self._deadlines.push(self._now, ROUTE, identity)
        self._waiting_routes.clear()
        if self.replaying:
            self._retelling.untold(offset, self._now)
        self._memory.expire(self._now)

    def _fall_due(self, offset: int, index: int, what: str, identity: str, pulse: Pulse, tick: Tick) -> bool:
        """Do what is due of an alert; whether something may have been told."""
        if what == TIMEOUT:
            self._time_out(offset, index, identity, pulse, tick)
        elif what == DROP:
            self._alerts.drop(identity, pulse, self._now)
            return False
        elif what == TELL:
            self._retelling.of_an_earlier_log((offset, index), identity)
        elif what == ROUTE:
            return self._route_anew(offset, index, identity, pulse)
        elif self.replaying:
            self._waiting_rows.append((identity, pulse))
            return False
        else:
            flushed = dedup.in_row(pulse, self._now)
            self._alerts.put(identity, flushed)
            self._alerts.touch(identity, flushed)
            return False
        return True

    def letters(self) -> list[DeadRow]:
        """What could not be handled of our own records."""
        return dead_rows(self.unhandled, ALERTS, self._now)

    def _due(self, tick: Tick) -> Iterator[tuple[str, str, Pulse]]:
        """What is due by the state. An entry that was moved since it was pushed goes back, and does not count."""
        left = TICK_LIMIT
        while left and (entry := self._deadlines.take(tick.due_at)) is not None:
            pushed_at, what, identity = entry
            pulse = self._alerts.pulse(identity)
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
        state = self._alerts.state(identity)
        self._alerts.write(identity, ended, state)
        # It fired before, so whoever does not know it has let it go: `again` joins nothing.
        self._telling.tell(
            (offset, index), identity, state, state, ended, Change.RESOLVED, self._now, by_timeout=True, again=True
        )

    def _configure(self, offset: int, record: ConfigChanged) -> None:
        self._now = max(self._now, record.announced_at)
        if record.version <= self._config_version or self._left_out.has(offset, 0, record):
            if self.replaying:
                self._retelling.untold(offset, self._now)
            return
        try:
            self._config = self._telling.config = self.logic.configs[record.version]
        except KeyError as error:
            cause = self.logic.unread.get(record.version, UnreadableRulesError(record.version))
            raise Poison(offset, 0, cause) from error
        former, self._config_version = self._config_version, record.version
        self._is_placed = self._is_placed and not self.replaying
        # In an order that a replay repeats: new incidents are named after their place in it.
        pulses = ((identity, self._alerts.pulse(identity)) for identity in self._alerts.known())
        # In Alertmanager's mode a reload shows ended alerts again too.
        shown = [(i, p) for i, p in pulses if p is not None and (p.firing or self.logic.strict)]
        for index, (identity, pulse) in enumerate(shown[:ROUTE_LIMIT]):
            part = f"{ROUTE} {identity}"
            if self._left_out.has_due(offset, part, record):
                self._deadlines.push(self._now + AGAIN, ROUTE, identity)
                continue
            try:
                self._route(offset, index, identity, pulse, former)
            except Exception as error:
                raise Poison(offset, part, error) from error
        for identity, _ in shown[ROUTE_LIMIT:]:
            self._deadlines.push(self._now, ROUTE, identity)

    def _route_anew(self, offset: int, index: int, identity: str, pulse: Pulse) -> bool:
        """What a change of the rules left to later ticks; whether there was something to do."""
        former = self._alerts.state(identity).config_version
        if former >= self._config_version or not (pulse.firing or self.logic.strict):
            return False
        if self.replaying and self.partition.untold:
            # What was routed by then stands in the rows that were rebuilt from.
            self._waiting_routes.append(identity)
            return False
        self._route(offset, index, identity, pulse, former)
        return True

    def _route(self, offset: int, index: int, identity: str, pulse: Pulse, former: int) -> None:
        """Find an alert's groups by the present rules, and tell those it left, is still in, and is new to."""
        before = self._alerts.state(identity)
        groups = self._groups(before.team, codec.decode_body(before.body))
        state = msgspec.structs.replace(
            before,
            groups=groups,
            left=_without(before.groups, groups),
            former=_without((*before.former, *before.groups), groups),
            config_version=self._config_version,
        )
        after = dedup.in_row(msgspec.structs.replace(pulse, revision=pulse.revision + 1, offset=offset), self._now)
        self._alerts.write(identity, after, state)
        tell = Change.CHANGED if after.firing else Change.RESOLVED
        rules = self.logic.configs.get(former)
        inhibited = rules.inhibit_rules if rules is not None else ()
        self._telling.tell((offset, index), identity, before, state, after, tell, self._now, former_rules=inhibited)

    def finish(self) -> None:
        """Encode the pulses that the step leaves."""
        self._alerts.finish()

    def alert_rows(self) -> list[AlertRow]:
        """Whole rows of alerts that are new, changed or ended."""
        return self._alerts.whole_rows(self._config.ours)

    def touch_rows(self) -> list[TouchRow]:
        """Rows of which only counts move."""
        return self._alerts.touch_rows(self._now)

    def verdict_rows(self) -> list[VerdictRow]:
        """One row for each alert, verdict and record."""
        return self._verdicts.rows()

    def outgoing(self) -> Iterable[Outgoing]:
        """What the groups hear, what mutes them before that, and the refused events."""
        settings = self.logic.settings
        yield from self._telling.outgoing(topic_name(settings.app_prefix, INPUTS), self.logic.log_id, self._now)
        dead = topic_name(settings.app_prefix, DEAD_LETTERS)
        for item in (*self._rejected, *(rejected(one, ALERTS) for one in self.unhandled)):
            number = event_hash("", item.event_id) % settings.partitions
            yield Outgoing(dead, number, item.event_id.encode("utf-8", "replace"), codec.encode(item))

    def advance(self, offset: int) -> Advance:
        """The progress row after the step."""
        # Until Kafka has what the step tells, a rebuild must begin before it: the next step moves on.
        safe = self.partition.view.offset if self._telling or self._rejected or self.unhandled else offset
        return Advance(
            partition=self.partition.view.partition,
            epoch=self.partition.view.epoch,
            applied=offset,
            safe=self._alerts.complete_up_to(safe),
            config_version=self._config_version,
            watermark=self._now,
            counts=tuple(self._counts[verdict] for verdict in _ORDER),  # type: ignore[arg-type]
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
        partition.retell -= self._retelling.retold
        self._memory.commit()
        self._alerts.commit(replaying=self.replaying)
        self._deadlines.commit()
        if self._alerts.evicted and not self.replaying:
            metrics.table_evictions.labels(ALERT_TABLE).inc(self._alerts.evicted)
        for verdict, count in self._counts.items():
            if count > 0 and not self.replaying:
                metrics.events.labels(verdict).inc(count)


def _without(groups: tuple[GroupRef, ...], others: tuple[GroupRef, ...]) -> tuple[GroupRef, ...]:
    if groups == others:
        return ()
    names = {ref.group for ref in others}
    return tuple(ref for ref in groups if ref.group not in names)
