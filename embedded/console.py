"""What the supervisor says to people: one line a step, coloured only on a terminal."""

import os
import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol, TextIO
from urllib.parse import urlsplit, urlunsplit


class Tone(StrEnum):
    """What a line means."""

    STEP = "36"
    GOOD = "32"
    WARNING = "33"
    BAD = "31"


class Say(Protocol):
    """Tells people one thing."""

    def __call__(self, text: str, tone: Tone = Tone.STEP) -> None: ...


def silent(text: str, tone: Tone = Tone.STEP) -> None:
    """Says nothing: for tests and programs that use a stack."""


class Console:
    """Lines for a person who watches."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._coloured = out.isatty() and "NO_COLOR" not in os.environ

    def __call__(self, text: str, tone: Tone = Tone.STEP) -> None:
        mark = {Tone.STEP: "..", Tone.GOOD: "ok", Tone.WARNING: "!!", Tone.BAD: "xx"}[tone]
        if self._coloured:
            mark = f"\x1b[{tone.value}m{mark}\x1b[0m"
        print(f"{mark} {text}", file=self._out, flush=True)

    def table(self, rows: Iterable[tuple[str, str]]) -> None:
        """Two columns, the left one bold on a terminal."""
        rows = list(rows)
        width = max((len(name) for name, _ in rows), default=0)
        for name, text in rows:
            left = f"\x1b[1m{name:<{width}}\x1b[0m" if self._coloured else f"{name:<{width}}"
            print(f"   {left}  {text}", file=self._out, flush=True)


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}"))
