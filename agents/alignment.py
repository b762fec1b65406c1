"""Partitions of one topic side by side in time while workers catch up.

After an outage each partition's log is read as fast as it comes, and one that
is read ahead of the others would let an incident hear of an alert before it
hears of what ended in another partition minutes earlier. Kafka Streams takes
the partition with the oldest head first for the same reason; here it is done
once for each step, and only where what waits is old. Workers do so among each
other too: of each, the others know when the oldest record that waits there was
written (`agents.abreast`).

All times are seconds since 1970, records' by the broker's clock.
"""

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from faust.types import EventT

SPAN: Final = 5.0
"""Seconds of the log that a step takes at most while it catches up, and how old what waits is then."""
PATIENCE: Final = 10.0
"""Seconds of waiting that another worker is worth while its oldest record stays the same: it may have ended."""


def oldest_first(events: Sequence[EventT[Any]], now: float) -> tuple[Sequence[EventT[Any]], float]:
    """The events in the order of the broker's time, and until when a step may take them.

    Each partition's own order is kept, whatever the broker's clock did. What is
    not old stays as it came, without a limit.
    """
    if not events or not is_old(appended_at(events[0]), now):
        return events, math.inf
    newest: dict[int, float] = {}
    timed = []
    for event in events:
        number = event.message.partition
        at = newest[number] = max(newest.get(number, 0.0), appended_at(event))
        timed.append((at, event))
    timed.sort(key=itemgetter(0))
    return [event for _, event in timed], timed[0][0] + SPAN


def is_within(event: EventT[Any], until: float) -> bool:
    """Whether a step that ends there may take it."""
    return appended_at(event) <= until


def is_old(written: float, now: float) -> bool:
    """Whether a worker of which a record of that time waits is catching up."""
    return now - written > SPAN


def appended_at(event: EventT[Any]) -> float:
    """When the broker wrote the event's record down."""
    return event.message.timestamp or 0.0


class Pace:
    """How far one worker may go while the others catch up too.

    No further than `SPAN` after the oldest record that waits with another. The
    worker that has the oldest of all waits for nobody, so one always goes on.
    None waits longer, in all, than its own records were late at their turn: for
    the others' sake nothing gets more than twice as late.
    """

    def __init__(self) -> None:
        self.waited = 0.0
        self._most = 0.0
        self._since: float | None = None
        self._others: dict[str, tuple[float, float]] = {}

    def hear(self, oldest: Mapping[str, float]) -> None:
        """By worker, when the oldest record that waits there was written; only of those that catch up."""
        heard = {}
        for worker, at in oldest.items():
            known = self._others.get(worker)
            heard[worker] = known if known and known[0] == at else (at, self.waited)
        self._others = heard

    def until(self, oldest: float, now: float) -> float:
        """Until when a step may take records, where the oldest of this worker was written then."""
        if self._since is not None:
            self.waited += max(0.0, now - self._since)
            self._since = None
        self._most = max(self._most, now - oldest - self.waited)
        if self.waited >= self._most:
            return math.inf
        moving = (at for at, waited in self._others.values() if self.waited - waited < PATIENCE)
        until = min(moving, default=math.inf) + SPAN
        if oldest > until:
            self._since = now
        return until
