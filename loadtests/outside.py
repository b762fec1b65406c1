"""An outside reader that checks `committed_at`: when others could really see a row.

It looks at `incidents`, whose clock is read earlier in the same transaction
than that of the links which latency is measured by.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from loadtests.sums import Connection

_LOOK: Final = """
    SELECT i.id, i.committed_at, began_at, clock_timestamp() AS seen_at
    FROM (SELECT statement_timestamp() AS began_at) AS clock LEFT JOIN incidents i ON i.committed_at > $1
"""
_OVERLAP: Final = timedelta(milliseconds=500)
_POLL_S: Final = 0.025


class Honesty(msgspec.Struct, frozen=True, kw_only=True):
    """How far `committed_at` was from what a reader saw, in milliseconds.

    `surely_ms`: the row was still invisible this long after it. `at_most_ms`:
    it was visible this long after it, a poll's length included.
    """

    rows: int = 0
    surely_ms: float = 0
    at_most_ms: float = 0


class OutsideReader:
    """Polls for incident rows that are new to it until it is stopped."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stop = asyncio.Event()
        self._seen: dict[tuple[UUID, datetime], None] = {}
        self.honesty = Honesty()

    def stop(self) -> None:
        """End after the look that is going on."""
        self._stop.set()

    async def run(self, since_at: datetime) -> Honesty:
        """Look until stopped; rows that were there before the first look prove nothing."""
        before_at, first = since_at, True
        while not self._stop.is_set():
            rows = await self._connection.fetch(_LOOK, before_at - _OVERLAP)
            for row in rows:
                key = (row["id"], row["committed_at"])
                if row["id"] is not None and key not in self._seen:
                    self._seen[key] = None
                    if not first:
                        self._note(row["committed_at"], before_at, row["seen_at"])
            before_at, first = rows[0]["began_at"], False
            self._forget(before_at - 2 * _OVERLAP)
            await _pause(self._stop)
        return self.honesty

    def _note(self, committed_at: datetime, before_at: datetime, seen_at: datetime) -> None:
        surely, at_most = _ms(before_at - committed_at), _ms(seen_at - committed_at)
        self.honesty = Honesty(
            rows=self.honesty.rows + 1,
            surely_ms=max(self.honesty.surely_ms, surely),
            at_most_ms=max(self.honesty.at_most_ms, at_most),
        )

    def _forget(self, oldest: datetime) -> None:
        for key in [key for key in self._seen if key[1] < oldest]:
            del self._seen[key]


async def _pause(stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), _POLL_S)
    except TimeoutError:
        return


def _ms(length: timedelta) -> float:
    return length / timedelta(milliseconds=1)
