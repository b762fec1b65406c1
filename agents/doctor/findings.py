"""What the doctor says: one line a thing that was looked at, with the remedy where it is not well."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final

import msgspec

from streams.settings import masked

LOOK_S: Final = 20.0
"""The longest that one part is looked at, in seconds."""


class Level(StrEnum):
    """How a thing is: well, well enough to run but not as it should be, or so that something does not work."""

    PASS = "pass"  # noqa: S105 - a level
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at; `part` is a service, a role, or what else it belongs to."""

    part: str
    level: Level
    said: str
    remedy: str = ""


def well(part: str, said: str) -> Finding:
    """It is as it should be."""
    return Finding(part=part, level=Level.PASS, said=said)


def warn(part: str, said: str, remedy: str) -> Finding:
    """It works, but not as it should in production."""
    return Finding(part=part, level=Level.WARN, said=said, remedy=remedy)


def fail(part: str, said: str, remedy: str) -> Finding:
    """Something does not work, or will not."""
    return Finding(part=part, level=Level.FAIL, said=said, remedy=remedy)


def judged(part: str, said: str, remedy: str, *, ok: bool, otherwise: Level = Level.FAIL) -> Finding:
    """Well where `ok`, else at the level given with the remedy."""
    return well(part, said) if ok else Finding(part=part, level=otherwise, said=said, remedy=remedy)


async def looked(
    part: str, url: str, look: Callable[[], Awaitable[list[Finding]]], remedy: str, *, within: float = LOOK_S
) -> list[Finding]:
    """What a look found; one that breaks off, or takes longer than so many seconds, is itself a finding."""
    try:
        async with asyncio.timeout(within):
            return await look()
    except TimeoutError:
        return [fail(part, f"{masked(url) or 'it'} does not answer in time", remedy)]
    except Exception as error:  # noqa: BLE001 - whatever stops a look is what it found
        said = str(error) or type(error).__name__
        return [fail(part, f"{masked(url)}: {said}" if url else said, remedy)]
