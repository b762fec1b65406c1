"""W3C trace contexts as they travel: read, checked, and continued. Pure, but for the ids of a new trace.

A context is the text of the header `traceparent` (W3C Trace Context, section 3.2) and empty where there is none. The
span id of a later hop follows from the one before, so a record that is worked on again gives the same ids.
"""

import os
import re
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from hashlib import blake2b
from typing import Final

from streams.records import Traced

current: ContextVar[str] = ContextVar("trace", default="")
"""The context that is being worked on, for log lines and for requests that go out."""

MOST_TRACED: Final = 64
"""Contexts that one record carries at most."""

_FORM: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LENGTH: Final = 55
_SAMPLED: Final = 1


def usable(said: str) -> str:
    """What a sender said, cut to the parts of version 00; empty where it is no context."""
    context = said.strip()[:_LENGTH]
    return context if _FORM.fullmatch(context) else ""


def is_sampled(context: str) -> bool:
    """Whether the sender records it."""
    return bool(context) and bool(int(context[-2:], 16) & _SAMPLED)


def trace_id(context: str) -> str:
    """32 hexadecimal digits; empty where there is no context."""
    return context[3:35]


def new() -> str:
    """The root of a new trace, sampled."""
    return f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01"


def child(parent: str, *where: object) -> str:
    """The context of what follows `parent` at a place; the same place gives the same id. Empty follows from empty."""
    if not parent:
        return ""
    named = "/".join((parent, *map(str, where)))
    return f"{parent[:36]}{blake2b(named.encode(), digest_size=8).hexdigest()}-01"


def by_item(traced: Iterable[Traced]) -> dict[int, str]:
    """The context of each item of a record that has one."""
    return {index: one.context for one in traced for index in one.items}


def of_items(contexts: Sequence[str]) -> tuple[Traced, ...]:
    """The same the other way round: one entry for each context, in the order in which they come."""
    found: dict[str, list[int]] = {}
    for index, context in enumerate(contexts):
        if context and (context in found or len(found) < MOST_TRACED):
            found.setdefault(context, []).append(index)
    return tuple(Traced(context, tuple(items)) for context, items in found.items())
