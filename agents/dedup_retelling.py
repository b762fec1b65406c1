"""What groups are told once more: by a rebuild, whose rows have what was perhaps never sent, and on a new log."""

from datetime import datetime

import msgspec

from agents.alert_overlay import AlertOverlay
from agents.alert_partition import AlertsPartition
from agents.dedup_telling import Telling
from agents.rules.dedup import AlertState, Pulse
from streams.records import Change


class Retelling:
    """One step's part of it. `retold` are alerts of an earlier log that were told of."""

    def __init__(self, partition: AlertsPartition, alerts: AlertOverlay, telling: Telling) -> None:
        self.retold: set[str] = set()
        self._partition = partition
        self._alerts = alerts
        self._telling = telling
        self._heard: dict[str, int] = {}

    def event(self, at: tuple[int, int], identity: str, accepted_at: datetime, *, firing: bool) -> None:
        """A rebuilt row has this event, at (offset, index), already: only make sure that the alert's groups know."""
        if self._heard.get(identity) == at[0]:
            return  # with the alert's first event of the record all that came of that record is told
        self._heard[identity] = at[0]
        fired = firing  # an end begins an occurrence only where nothing was known of the alert
        past = self._partition.past.get(identity, ())
        for state, pulse in past:
            if fired:
                self._beginning(at, identity, state, pulse, accepted_at, only=False)
            self._standing(at, identity, state, pulse, accepted_at)
            fired = True
        newest = self._alerts.pulse(identity)
        if newest is not None:
            state = self._alerts.state(identity)
            if fired and not newest.firing:
                # In one record, and in the groups that it has now: they have heard of it by this index.
                only = not past and not state.former and newest.offset == at[0]
                self._beginning(at, identity, state, newest, accepted_at, only=only)
            self._standing(at, identity, state, newest, accepted_at)

    def untold(self, offset: int, now: datetime) -> None:
        """The same for what a tick, or another configuration, did to rebuilt rows."""
        for index, identity in enumerate(sorted(self._partition.untold.get(offset, ()))):
            at = (offset, index)
            for state, pulse in self._partition.past.get(identity, ()):
                self._standing(at, identity, state, pulse, now)
            newest = self._alerts.pulse(identity)
            if newest is not None:
                self._standing(at, identity, self._alerts.state(identity), newest, now)

    def of_an_earlier_log(self, at: tuple[int, int], identity: str) -> None:
        """Tell where an alert stands, as a log that is gone told it: groups pass over what they know."""
        pulse = self._alerts.pulse(identity)
        if pulse is None or identity in self.retold or identity not in self._partition.retell:
            return
        pulse = msgspec.structs.replace(pulse, offset=at[0])
        self._alerts.put(identity, pulse)
        heard_at = pulse.first_seen_at if pulse.firing else max(pulse.last_seen_at, pulse.ends_at or pulse.last_seen_at)
        self.retold.add(identity)
        self._standing(at, identity, self._alerts.state(identity), pulse, heard_at)

    def _beginning(
        self, at: tuple[int, int], identity: str, state: AlertState, pulse: Pulse, accepted_at: datetime, *, only: bool
    ) -> None:
        """A row is over already whose groups may not know that it began; whether it is the only one of the record."""
        if pulse.offset >= at[0] and pulse.first_seen_at == accepted_at:
            began = msgspec.structs.replace(pulse, firing=True, ends_at=None, revision=pulse.revision - 1)
            self._telling.tell(at, identity, None, state, began, Change.FIRED, accepted_at, begins=only)

    def _standing(
        self, at: tuple[int, int], identity: str, state: AlertState, pulse: Pulse, accepted_at: datetime
    ) -> None:
        """A row has what came of this record."""
        if pulse.offset != at[0]:
            return
        before = msgspec.structs.replace(state, groups=state.left)
        tell = Change.FIRED if pulse.firing else Change.RESOLVED
        self._telling.tell(
            at, identity, before, state, pulse, tell, accepted_at, by_timeout=pulse.by_timeout, again=True
        )
