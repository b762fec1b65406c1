"""What becomes of a run that is due or whose worker is gone, and of one that failed. Pure."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

_FIRST: Final = timedelta(seconds=5)
_LONGEST: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class Start:
    """It is to start (again); `note` says what came before, if anything did."""

    deaths: int
    note: str = ""


@dataclass(frozen=True)
class End:
    """It ends without another attempt."""

    state: str
    why: str
    deaths: int


def taken(*, running: bool, attempt: int, max_attempts: int, deaths: int, owner: str, cancel_by: str) -> Start | End:
    """Judge a run that nobody holds; `running` means that its lease has ended, so its worker died.

    A death is an attempt like any other: after the last one it has failed.
    """
    died = deaths + 1 if running else deaths
    note = f"attempt {attempt}: the worker {owner} died" if running else ""
    if cancel_by:
        return End("cancelled", f"{note}; cancelled by {cancel_by}".lstrip("; "), died)
    if running and attempt >= max_attempts:
        return End("failed", f"{note}, and there is no attempt left of {max_attempts}", died)
    return Start(died, note)


def pause_after(attempt: int) -> timedelta:
    """How long to wait after a failed attempt: 5 s, then twice as long each time, up to ten minutes."""
    return min(_FIRST * (1 << min(attempt - 1, 16)), _LONGEST)
