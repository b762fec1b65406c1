"""How long the next try of a password must wait: pure, by how often an account and an address failed, and when."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

WINDOW: Final = timedelta(minutes=15)
"""Failures are forgotten when nobody tried for so long."""


@dataclass(frozen=True)
class Patience:
    """The first `free` failures cost nothing; each further one doubles the wait from a second to `longest`."""

    free: int
    longest: timedelta

    def wait_after(self, failures: int) -> timedelta:
        """The least time between the latest failure and the next try."""
        if failures < self.free:
            return timedelta(0)
        return min(self.longest, timedelta(seconds=2 ** min(failures - self.free, 20)))


# One who guesses from one place is stopped for long; a stranger who guesses from many places
# delays an account's owner for half a minute at most, and a large office shares one address.
_BOTH: Final = Patience(free=5, longest=WINDOW)
_ACCOUNT: Final = Patience(free=20, longest=timedelta(seconds=30))
_ADDRESS: Final = Patience(free=50, longest=WINDOW)


def keys_of(account: str, address: str) -> dict[str, Patience]:
    """Under what a try is counted; accounts that do not exist count just so."""
    named = hashlib.sha256(account.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return {f"both:{named}:{address}": _BOTH, f"account:{named}": _ACCOUNT, f"address:{address}": _ADDRESS}


def wait_of(
    keys: Mapping[str, Patience], failures: Mapping[str, tuple[int, datetime]], now: datetime
) -> timedelta:  # fmt: skip
    """How long a try must still wait; zero or less: not at all."""
    waits = [last_at + keys[key].wait_after(count) - now for key, (count, last_at) in failures.items() if key in keys]
    return max(waits, default=timedelta(0))
