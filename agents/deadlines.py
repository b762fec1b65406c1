"""What falls due in one partition: a heap over deadlines that live in the state."""

import heapq
from datetime import datetime


class Deadlines:
    """Entries of (due, what, key). An entry may be stale: whoever takes it asks the state again."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, str, str]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, due_at: datetime, what: str, key: str) -> None:
        """Remember a deadline."""
        heapq.heappush(self._heap, (due_at, what, key))

    def next_at(self) -> datetime | None:
        """When the first entry is due."""
        return self._heap[0][0] if self._heap else None

    def take(self, due_at: datetime, limit: int) -> list[tuple[datetime, str, str]]:
        """Remove and return at most `limit` entries that are due."""
        taken: list[tuple[datetime, str, str]] = []
        while self._heap and self._heap[0][0] <= due_at and len(taken) < limit:
            taken.append(heapq.heappop(self._heap))
        return taken

    def put_back(self, entries: list[tuple[datetime, str, str]]) -> None:
        """Undo a `take` whose step came to nothing."""
        for entry in entries:
            heapq.heappush(self._heap, entry)
