"""How many items go into one record: no more than its readers take at once, nor than Kafka takes of bytes. Pure."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

AT_ONCE: Final = 512
BYTES: Final = 768 << 10
"""By the sizes of what is large in an item; with all the rest a record stays below the 2 MiB that a topic takes."""

Item = TypeVar("Item")


def cut(items: Sequence[Item], size_of: Callable[[Item], int]) -> Iterator[tuple[Item, ...]]:
    """The items in pieces, each of one item at least."""
    start = size = 0
    for at, item in enumerate(items):
        own = size_of(item)
        size += own
        if at > start and (at - start == AT_ONCE or size > BYTES):
            yield tuple(items[start:at])
            start, size = at, own
    if items:
        yield tuple(items[start:])
