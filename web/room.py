"""Room for connections: there are only so many at once, and who only waits gives way to who comes."""

import resource
from collections import OrderedDict
from typing import Final, Protocol

import structlog

from streams import metrics

_KEPT_FREE: Final = 128
"""File descriptors for all that is no connection of a client."""

log = structlog.get_logger(__name__)


class Cut(Protocol):
    """A connection that can be cut off."""

    def cut(self) -> None:
        """End it at once, whatever it has not read yet."""


class Room:
    """At most so many connections; of those that wait to be asked something, the one that waits longest goes first.

    Nobody can keep others out with connections on which nothing, or never the whole of a request, is sent.
    """

    def __init__(self, most: int) -> None:
        self._most = min(most, max(1, _descriptors() - _KEPT_FREE))
        if self._most < most:
            log.warning("fewer_connections", most=self._most, wanted=most, why="too few open files are allowed")
        self._waiting: OrderedDict[Cut, None] = OrderedDict()

    def wait(self, connection: Cut) -> None:
        """From now on it waits for a whole request."""
        self._waiting[connection] = None
        self._waiting.move_to_end(connection)

    def leave(self, connection: Cut) -> None:
        """It has asked, or is gone."""
        self._waiting.pop(connection, None)

    def has_room(self, taken: int) -> bool:
        """Whether the newest of `taken` connections, which does not wait yet, can stay."""
        if taken <= self._most:
            return True
        metrics.connections_crowded.inc()
        if not self._waiting:
            return False
        longest, _ = self._waiting.popitem(last=False)
        longest.cut()
        return True


def _descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 30
