"""How long what a partition's reader has not done yet has been waiting. Pure: seen from outside, one look at a time."""

from collections import deque
from typing import Final

MOST_LOOKS: Final = 4096


class Backlog:
    """One partition. The age is exact to the time between two looks."""

    def __init__(self) -> None:
        self._ends: deque[tuple[float, int]] = deque()

    def age(self, end: int, following: int, now: float) -> float:
        """Seconds since the record at `following`, the next to be read, was first seen; 0 when there is none.

        `end` is the offset that the log's next record will have.
        """
        if len(self._ends) < MOST_LOOKS and (not self._ends or end > self._ends[-1][1]):
            self._ends.append((now, end))
        while self._ends and self._ends[0][1] <= following:
            self._ends.popleft()
        return now - self._ends[0][0] if self._ends else 0.0
