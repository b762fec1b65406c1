"""The senders' ledger on disk: a line for each thing that became known of an event, fsynced as it grows."""

import os
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from loadtests.ledger_file import Entry, Outcome, entries_of

_SYNC_S: Final = 0.5
_BEST: Final = {Outcome.CONFIRMED: 2, Outcome.UNKNOWN: 1, Outcome.REFUSED: 0}


class LedgerFile:
    """Appends what became known of each event, and brings it to the disk twice a second."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._synced_at = 0.0

    def close(self) -> None:
        self.sync(always=True)
        self._file.close()

    def told(self, event_id: str, sent_us: int, outcome: Outcome) -> None:
        with self._lock:
            self._file.write(f"{event_id}\t{sent_us}\t{time.time_ns() // 1000}\t{outcome}\n")

    def sync(self, *, always: bool = False) -> None:
        now = time.monotonic()
        if always or now - self._synced_at > _SYNC_S:
            self._synced_at = now
            with self._lock:
                self._file.flush()
            os.fsync(self._file.fileno())


def known(path: Path) -> list[Entry]:
    """One entry for each event: the best that was heard of it, sent when it was sent first."""
    best: dict[str, Entry] = {}
    for entry in entries_of(path):
        before = best.get(entry.event_id)
        if before is None or _BEST[entry.outcome] > _BEST[before.outcome]:
            sent_us = entry.sent_us if before is None else before.sent_us
            best[entry.event_id] = msgspec.structs.replace(entry, sent_us=sent_us)
    return list(best.values())
