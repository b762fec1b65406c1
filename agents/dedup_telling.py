"""What a step of dedup tells the groups of its alerts, and the groups that alerts of theirs may be muted by."""

from collections.abc import Iterable
from datetime import datetime

from agents.alert_partition import AlertsPartition
from agents.envelopes import cut
from agents.rules.dedup import AlertState, GroupRef, Pulse
from agents.sources import Sources
from agents.work import Outgoing
from streams import codec, keys
from streams.records import Change, InputBatch, MemberChange, Traced
from streams.rules_config import RulesConfig
from streams.rules_inhibit import InhibitRule
from streams.trace_context import of_items


def _size(change: MemberChange) -> int:
    return len(change.body)


class Telling:
    """Changes for groups, by the partition of `incident-inputs` that each group is in.

    `config` is the rules in force; `contexts` maps (offset, index) to the trace of what is told for it.
    """

    def __init__(self, partition: AlertsPartition, partitions: int, config: RulesConfig, *, strict: bool) -> None:
        self.config = config
        self.contexts: dict[tuple[int, int], str] = {}
        self._partition = partition.view.partition
        self._partitions = partitions
        self._strict = strict
        self._sources = Sources()
        self._told: dict[int, list[MemberChange]] = {}
        self._places: dict[int, tuple[int, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._told or self._sources)

    def tell(
        self,
        cause: tuple[int, int],
        identity: str,
        before: AlertState | None,
        state: AlertState,
        pulse: Pulse,
        tell: Change,
        accepted_at: datetime,
        *,
        by_timeout: bool = False,
        again: bool = False,
        begins: bool = False,
        placed: bool = False,
        former_rules: tuple[InhibitRule, ...] = (),
    ) -> None:
        """Tell the groups that the alert is in, and those it left; `cause` is (offset, index) of what changed it.

        `again` marks what was told already, or follows what was: an end whose beginning nobody knows joins nothing
        then; `begins` such a beginning, whose index is that of the first time; `placed` what a step done again
        tells in the same order. `former_rules` inhibited before those in force, where the alert is routed anew.
        """
        rules = self.config.inhibit_rules
        self._sources.tell(identity, before, state, pulse, rules, former_rules or rules)
        sent = {ref.group for ref in before.groups} if before is not None else set()
        over = state.former if tell is Change.RESOLVED and not self._strict else ()
        # One revision is heard once: a group that hears of the end is not told before that its alert left.
        reached = {ref.group for ref in (*state.groups, *over)}
        how = {"by_timeout": by_timeout, "again": again, "begins": begins, "placed": placed}
        for ref in (ref for ref in (before.groups if before is not None else ()) if ref.group not in reached):
            self._tell(ref, cause, identity, state, pulse, Change.LEFT, accepted_at, **how)
        for ref in state.groups:
            change = Change.FIRED if tell is Change.CHANGED and ref.group not in sent else tell
            self._tell(ref, cause, identity, state, pulse, change, accepted_at, **how)
        for ref in over:
            self._tell(ref, cause, identity, state, pulse, tell, accepted_at, **how)

    def _tell(
        self,
        ref: GroupRef,
        cause: tuple[int, int],
        identity: str,
        state: AlertState,
        pulse: Pulse,
        change: Change,
        accepted_at: datetime,
        *,
        by_timeout: bool,
        again: bool,
        begins: bool,
        placed: bool,
    ) -> None:
        offset, index = cause
        number = keys.partition_of(ref.group, self._partitions)
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
            cause_partition=self._partition,
            body=self.config.ours.classified_bytes(state.body),
            by_timeout=by_timeout,
            reached=self._receivers_of(state) if ref not in state.groups else (),
            again=again,
            config_version=state.config_version,
            flaps=pulse.flaps,
            place=self._next_place(number, offset) if placed else -1,
            begins=begins,
        )
        self._told.setdefault(number, []).append(told)

    def _next_place(self, number: int, offset: int) -> int:
        known, place = self._places.get(number, (offset, 0))
        place = place if known == offset else 0
        self._places[number] = (offset, place + 1)
        return place

    def _receivers_of(self, state: AlertState) -> tuple[str, ...]:
        """Who hears of the alert in the groups it is in now."""
        routes = (self.config.route_by_id(ref.route) for ref in state.groups)
        return tuple(sorted({route.receiver for route in routes if route is not None}))

    def outgoing(self, topic: str, log_id: str, now: datetime) -> Iterable[Outgoing]:
        """What the groups hear, and what mutes them before that."""
        yield from self._sources.outgoing(topic, self._partitions, now)
        for number, changes in self._told.items():
            for part in cut(changes, _size):
                batch = InputBatch(log_id=log_id, accepted_at=now, items=part, traced=self._traced(part))
                yield Outgoing(topic, number, part[0].group.encode(), codec.encode(batch))

    def _traced(self, changes: tuple[MemberChange, ...]) -> tuple[Traced, ...]:
        if not self.contexts:
            return ()
        return of_items([self.contexts.get((change.cause, change.index), "") for change in changes])
