"""Whether Kafka still has the log that was applied: looked at while partitions are owned, decided purely.

A topic that was deleted or made anew hands a consumer nothing, or offsets that
look applied already: without a look at it that would pass for having caught up.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

LOOKS: Final = 3
"""So many looks in a row must show a flaw: a broker that starts shows less than it has for a moment."""


@dataclass(frozen=True)
class Owned:
    """One partition: the last offset applied, and where the broker says that its log ends (None: not known yet)."""

    topic: str
    partition: int
    applied: int
    end: int | None


class LogWatch:
    """Remembers how often in a row the same flaw was seen."""

    def __init__(self) -> None:
        self._flaw = ""
        self._looks = 0

    def look(self, partitions_of: Mapping[str, int], owned: Iterable[Owned]) -> str:
        """Why the log is lost; empty while it is not, or not surely. Takes how many partitions the broker shows."""
        flaw = flaw_of(partitions_of, owned)
        self._looks = self._looks + 1 if flaw and flaw == self._flaw else 1
        self._flaw = flaw
        return flaw if self._looks >= LOOKS else ""


def flaw_of(partitions_of: Mapping[str, int], owned: Iterable[Owned]) -> str:
    """What one look shows; empty when all is there."""
    missing = sorted(topic for topic, count in partitions_of.items() if not count)
    if missing:
        return f"Kafka has no topic {', '.join(missing)} any more"
    for one in sorted(owned, key=lambda one: (one.topic, one.partition)):
        if one.end is not None and one.end <= one.applied:
            return f"{one.topic}/{one.partition}: {one.applied} was applied, but Kafka's log ends at {one.end}"
    return ""
