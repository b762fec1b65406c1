"""What a step holds of one partition's alerts, and the rows that it leaves of them."""

from datetime import UTC, datetime, timedelta
from typing import Final

from agents import dedup_rows
from agents.alert_partition import (
    ALERT_TABLE,
    DROP,
    PULSES,
    AlertsPartition,
    arm,
    decode_pulse,
    decode_state,
    due_at,
)
from agents.deadlines import StepDeadlines
from agents.rules import dedup
from agents.rules.dedup import AlertState, Pulse
from sinks.alert_rows import AlertRow, TouchRow
from streams import codec
from streams.redis_tables import Overlay
from streams.rules_config import Ours

FOREVER: Final = datetime.max.replace(tzinfo=UTC)

RowOf = tuple[str, int]
"""(identity, occurrence)."""


class AlertOverlay:
    """Alerts as a step sees them: what it changes counts at once, and reaches the partition when it is committed."""

    def __init__(
        self, partition: AlertsPartition, overlay: Overlay, deadlines: StepDeadlines, row_interval: timedelta
    ) -> None:
        self.evicted = 0
        self._partition = partition
        self._stored = partition.view.tables
        self._overlay = overlay
        self._deadlines = deadlines
        self._row_interval = row_interval
        self._pulses: dict[str, Pulse | None] = {}
        self._states: dict[str, AlertState] = {}
        self._whole: dict[RowOf, tuple[AlertState, Pulse]] = {}
        self._touched: dict[RowOf, Pulse] = {}
        self._dirty: dict[str, int | None] = {}
        self._held = len(self._stored[PULSES])

    def known(self) -> list[str]:
        """Every alert's identity, in an order that a replay repeats."""
        return sorted({*self._stored[PULSES], *self._pulses})

    def pulse(self, identity: str) -> Pulse | None:
        """An alert's counts and times; None when it is not held."""
        if identity in self._pulses:
            return self._pulses[identity]
        value = self._stored[PULSES].get(identity)
        pulse = decode_pulse(value) if value is not None else None
        self._pulses[identity] = pulse
        return pulse

    def stored(self, identity: str) -> Pulse | None:
        """The same as the step found it."""
        value = self._stored[PULSES].get(identity)
        return decode_pulse(value) if value is not None else None

    def state(self, identity: str) -> AlertState:
        """What a held alert says, and its groups."""
        state = self._states.get(identity)
        if state is None:
            state = self._states[identity] = decode_state(self._stored[ALERT_TABLE][identity])
        return state

    def put(self, identity: str, pulse: Pulse, state: AlertState | None = None) -> None:
        """Keep an alert's pulse, and its state when that changed too; no row is written."""
        self._held += self.pulse(identity) is None
        self._pulses[identity] = pulse
        self._dirty[identity] = pulse.dirty_from if pulse.dirty_from >= 0 else None
        if state is not None:
            self._states[identity] = state
            self._overlay.put(ALERT_TABLE, identity, codec.encode(state))
            self.arm(identity, pulse)
        self._overlay.put(PULSES, identity, b"")  # encoded once, by `finish`

    def write(self, identity: str, pulse: Pulse, state: AlertState) -> None:
        """Keep an alert, and write its whole row."""
        self.put(identity, pulse, state)
        self._touched.pop((identity, pulse.occurrence), None)
        self._whole[identity, pulse.occurrence] = (state, pulse)

    def touch(self, identity: str, pulse: Pulse) -> None:
        """Write the counts and times of an alert's row."""
        at = (identity, pulse.occurrence)
        if at in self._whole:
            self._whole[at] = (self._whole[at][0], pulse)
        else:
            self._touched[at] = pulse

    def is_written(self, identity: str, pulse: Pulse) -> bool:
        """Whether this step writes the alert's row already."""
        at = (identity, pulse.occurrence)
        return at in self._whole or at in self._touched

    def arm(self, identity: str, pulse: Pulse) -> None:
        """Push the deadlines that a pulse stands for."""
        arm(self._deadlines, identity, pulse, self._row_interval)

    def drop(self, identity: str, pulse: Pulse, now: datetime) -> None:
        """Let an alert leave; what its row is behind by is written."""
        if pulse.dirty_from >= 0:
            self._touched[identity, pulse.occurrence] = dedup.in_row(pulse, now)
        self._held -= 1
        self._pulses[identity] = None
        self._dirty[identity] = None
        self._overlay.put(PULSES, identity, None)
        self._overlay.put(ALERT_TABLE, identity, None)

    def make_room(self, bound: float, now: datetime) -> None:
        """Above the bound, resolved alerts leave before their time, oldest first; firing ones never."""
        while self._held > bound and (entry := self._deadlines.take(FOREVER, DROP)) is not None:
            pushed_at, _, identity = entry
            pulse = self.pulse(identity)
            due = due_at(DROP, pulse) if pulse is not None else None
            if pulse is None or due is None:
                continue
            if due > pushed_at:
                self._deadlines.push(due, DROP, identity)
                continue
            self.drop(identity, pulse, now)
            self.evicted += 1

    def finish(self) -> None:
        """Encode the pulses that the step leaves."""
        changed = self._overlay.changes.get(PULSES, {})
        for identity in changed:
            pulse = self._pulses[identity]
            changed[identity] = codec.encode(pulse) if pulse is not None else None

    def whole_rows(self, ours: Ours) -> list[AlertRow]:
        """Whole rows of alerts that are new, changed or ended; `ours` says what severities and kinds are."""
        number = self._partition.view.partition
        return [
            dedup_rows.row(identity, number, state, pulse, ours)
            for (identity, _), (state, pulse) in self._whole.items()
        ]

    def touch_rows(self, now: datetime) -> list[TouchRow]:
        """Rows of which only counts move."""
        return [
            TouchRow(
                identity,
                pulse.occurrence,
                pulse.revision,
                pulse.last_seen_at,
                pulse.ends_at,
                pulse.count,
                codec.encode(dedup.in_row(pulse, now)),
            )
            for (identity, _), pulse in self._touched.items()
        ]

    def complete_up_to(self, offset: int) -> int:
        """The last offset, this one at most, up to which the rows have everything."""
        for identity, first in self._partition.dirty.items():
            if self._dirty.get(identity, first) is not None:
                offset = min(offset, first - 1)
                break
        return min([offset, *(first - 1 for first in self._dirty.values() if first is not None)])

    def commit(self, *, replaying: bool) -> None:
        """Fold into the partition which rows are behind."""
        dirty = self._partition.dirty
        for identity, first in self._dirty.items():
            if first is None:
                dirty.pop(identity, None)
            else:
                dirty.setdefault(identity, first)
        if replaying:  # there alerts become dirty in another order than their first offsets
            self._partition.dirty = dict(sorted(dirty.items(), key=lambda entry: entry[1]))
