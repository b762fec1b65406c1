"""The events that a partition of `alerts` remembers, as one step sees them and leaves them."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from agents.alert_partition import RECENT, AlertsPartition, chunk_of
from streams.redis_tables import Overlay


class StepMemory:
    """Which events were seen within `window`, at most `cap` of them; what a step adds counts at once."""

    def __init__(self, partition: AlertsPartition, overlay: Overlay, window: timedelta, cap: int) -> None:
        self._partition = partition
        self._overlay = overlay
        self._window = window
        self._cap = cap
        self._seen: set[int] = set()
        self._unseen: set[int] = set()
        self._kept: dict[str, tuple[datetime, tuple[int, ...]]] = {}
        self._forgotten: list[str] = []
        self._chunks = iter(partition.chunks.items())
        self._oldest = next(self._chunks, None)
        self._count = len(partition.recent)

    def knows(self, number: int) -> bool:
        """Whether an event's hash is remembered."""
        return number in self._seen or (number in self._partition.recent and number not in self._unseen)

    def see(self, number: int) -> None:
        """Know an event within this step; `keep` makes it last."""
        self._seen.add(number)

    def keep(self, offset: int, ids: Sequence[int], now: datetime) -> None:
        """Remember one record's events."""
        key, value = chunk_of(now, offset, ids)
        self._kept[key] = (now, tuple(ids))
        self._count += len(ids)
        self._overlay.put(RECENT, key, value)

    def expire(self, now: datetime) -> None:
        """Forget the oldest events, those of this step included: how a log is cut into steps must not show."""
        before = now - self._window
        while (oldest := self._oldest or next(iter(self._kept.items()), None)) is not None:
            key, (at, ids) = oldest
            if at >= before and self._count <= self._cap:
                return
            self._count -= len(ids)
            self._overlay.put(RECENT, key, None)
            if self._oldest is None:
                del self._kept[key]
                self._seen.difference_update(ids)
            else:
                self._forgotten.append(key)
                self._unseen.update(ids)
                self._oldest = next(self._chunks, None)

    def commit(self) -> None:
        """Fold the step into the partition."""
        for key in self._forgotten:
            self._partition.forget(key)
        for key, (at, ids) in self._kept.items():
            self._partition.remember(key, at, ids)
