"""The producer's own account: one line for each event, written where the product cannot reach."""

from array import array
from enum import StrEnum
from pathlib import Path

import msgspec


class Outcome(StrEnum):
    """What the sender knows: confirmed or 2xx, told no, or nothing (time-out, cut)."""

    CONFIRMED = "confirmed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One event. Times in microseconds since 1970; `told_us` is when its outcome was known."""

    event_id: str
    sent_us: int
    told_us: int
    outcome: Outcome


class LedgerWriter:
    """Appends entries to a file and counts them."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self.counts = dict.fromkeys(Outcome, 0)
        self.confirm_us = array("q")

    def told(self, event_id: str, sent_us: int, told_us: int, outcome: Outcome) -> None:
        """Write what became known of one event."""
        self._file.write(f"{event_id}\t{sent_us}\t{told_us}\t{outcome}\n")
        self.counts[outcome] += 1
        if outcome is Outcome.CONFIRMED:
            self.confirm_us.append(told_us - sent_us)

    def close(self) -> None:
        """Write what is left and let the file go."""
        self._file.close()


def entries_in(folder: Path) -> list[Entry]:
    """Everything in the ledger files of a folder."""
    return [entry for path in sorted(folder.glob("*.tsv")) for entry in entries_of(path)]


def entries_of(path: Path) -> list[Entry]:
    """Everything in a ledger file."""
    entries = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            event_id, sent, told, outcome = line.rstrip("\n").split("\t")
            entries.append(Entry(event_id, int(sent), int(told), Outcome(outcome)))
    return entries
