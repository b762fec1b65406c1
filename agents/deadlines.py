"""What falls due in one partition: a heap over deadlines that live in the state."""

import heapq
from datetime import datetime

Entry = tuple[datetime, str, str]
"""When, what, and of whom."""


class Deadlines:
    """One deadline for each (what, key): a later push replaces it.

    It may still be stale, as not every change of the state is pushed: whoever
    takes an entry asks the state again.
    """

    def __init__(self) -> None:
        self._heaps: dict[str, list[tuple[datetime, str]]] = {}
        self._live: dict[str, dict[str, datetime]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._live.values()))

    def push(self, due_at: datetime, what: str, key: str) -> None:
        """Remember a deadline."""
        live = self._live.get(what)
        if live is None:
            live = self._live[what] = {}
            self._heaps[what] = []
        if live.get(key) != due_at:
            live[key] = due_at
            heapq.heappush(self._heaps[what], (due_at, key))

    def first(self, only: str | None = None) -> Entry | None:
        """The entry that is due first, of all or of one kind only."""
        found: Entry | None = None
        for what in (only,) if only is not None else self._heaps:
            entry = self._first_of(what)
            if entry is not None and (found is None or entry < found):
                found = entry
        return found

    def _first_of(self, what: str) -> Entry | None:
        heap, live = self._heaps.get(what, []), self._live.get(what, {})
        while heap:
            due_at, key = heap[0]
            if live.get(key) == due_at:
                return due_at, what, key
            heapq.heappop(heap)
        return None

    def next_at(self) -> datetime | None:
        """When the first entry is due."""
        entry = self.first()
        return entry[0] if entry is not None else None

    def take(self, due_at: datetime, only: str | None = None) -> Entry | None:
        """Remove and return the first entry, of all or of one kind only, if it is due."""
        entry = self.first(only)
        if entry is None or entry[0] > due_at:
            return None
        heapq.heappop(self._heaps[entry[1]])
        del self._live[entry[1]][entry[2]]
        return entry

    def entries(self) -> list[Entry]:
        """All of them, in no order."""
        return [(due_at, what, key) for what, live in self._live.items() for key, due_at in live.items()]


class StepDeadlines:
    """A partition's deadlines as one step sees them: what it pushes counts at once, and goes when it is given up."""

    def __init__(self, partition: Deadlines) -> None:
        self._partition = partition
        self._own = Deadlines()
        self._pushed: set[tuple[str, str]] = set()
        self._taken: list[Entry] = []

    def push(self, due_at: datetime, what: str, key: str) -> None:
        """Remember a deadline."""
        self._pushed.add((what, key))
        self._own.push(due_at, what, key)

    def take(self, due_at: datetime, only: str | None = None) -> Entry | None:
        """Remove and return the first entry, of all or of one kind only, if it is due."""
        while True:
            mine, theirs = self._own.first(only), self._partition.first(only)
            if theirs is None or (mine is not None and mine <= theirs):
                return self._own.take(due_at, only)
            entry = self._partition.take(due_at, only)
            if entry is None:
                return None
            self._taken.append(entry)
            if entry[1:] not in self._pushed:
                return entry

    def abort(self) -> None:
        """Give back what was taken, forget what was pushed."""
        for entry in self._taken:
            self._partition.push(*entry)
        self._taken = []

    def commit(self) -> None:
        """Fold what was pushed into the partition's."""
        for entry in self._own.entries():
            self._partition.push(*entry)
