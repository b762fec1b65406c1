"""Partitions of one topic side by side in time while a worker catches up.

After an outage each partition's log is read as fast as it comes, and one that
is read ahead of the others would let an incident hear of an alert before it
hears of what ended in another partition minutes earlier. Kafka Streams takes
the partition with the oldest head first for the same reason; here it is done
once for each step, and only where what waits is old.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

from faust.types import EventT

SPAN: Final = 5.0
"""Seconds of the log that a step takes at most while it catches up, and how old what waits is then."""


def oldest_first(events: Sequence[EventT[Any]], now: float) -> tuple[Sequence[EventT[Any]], float]:
    """The events in the order of the broker's time, and until when a step may take them.

    Each partition's own order is kept, whatever the broker's clock did. What is
    not old stays as it came, without a limit. Times are seconds since 1970.
    """
    if not events or now - _written_at(events[0]) <= SPAN:
        return events, float("inf")
    newest: dict[int, float] = {}
    timed = []
    for event in events:
        number = event.message.partition
        at = newest[number] = max(newest.get(number, 0.0), _written_at(event))
        timed.append((at, event))
    timed.sort(key=itemgetter(0))
    return [event for _, event in timed], timed[0][0] + SPAN


def is_within(event: EventT[Any], until: float) -> bool:
    """Whether a step that ends there may take it."""
    return _written_at(event) <= until


def _written_at(event: EventT[Any]) -> float:
    return event.message.timestamp or 0.0
