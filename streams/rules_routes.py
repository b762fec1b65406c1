"""The route tree of a rules file; which route an alert takes is decided by `agents.rules.routing`."""

from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

import msgspec

from streams.rules_conditions import matchers_of
from streams.rules_matchers import Matcher, text_of
from streams.rules_yaml import MAX_DEPTH, Node, Problems

T = TypeVar("T")

MAX_ROUTES: Final = 20_000
_MUTES: Final = ("mute_time_intervals", "active_time_intervals")
_ROUTE: Final = frozenset(
    {
        "receiver", "group_by", "group_wait", "group_interval", "repeat_interval", "match", "match_re", "matchers",
        "continue", "routes", *_MUTES,
    }
)  # fmt: skip


class Route(msgspec.Struct, frozen=True):
    """One node of the route tree, with everything it inherits filled in.

    `id` is the path of matchers from the root, which outlives a reordering of
    the file; an equal sibling after the first adds its place. `group_by` None
    means all labels. The two lists name time intervals; they are not inherited.
    """

    id: str
    receiver: str
    group_by: tuple[str, ...] | None
    group_wait: timedelta
    group_interval: timedelta
    repeat_interval: timedelta
    matchers: tuple[Matcher, ...]
    continue_: bool
    routes: tuple["Route", ...]
    mute_time_intervals: tuple[str, ...] = ()
    active_time_intervals: tuple[str, ...] = ()

    def walk(self) -> Iterator["Route"]:
        """Go through the tree from here, depth first."""
        yield self
        for child in self.routes:
            yield from child.walk()


class Tree:
    """Reads the route tree; children inherit what they do not set."""

    def __init__(self, receivers: Collection[str], intervals: Collection[str], problems: Problems) -> None:
        self._receivers = receivers
        self._intervals = intervals
        self._problems = problems
        self._left = MAX_ROUTES

    def root(self, node: Node) -> Route:
        """Read the first route and all below it."""
        fields = node.fields(_ROUTE)
        for key in ("match", "match_re", "matchers", "continue", *_MUTES):
            if key in fields and not (fields[key].flag() is False if key == "continue" else fields[key].bare):
                raise fields[key].error("is not allowed on the first route", "it takes every alert; leave this out")
        if "receiver" not in fields:
            raise node.error("has no receiver", "the first route needs a `receiver`")
        defaults = Route(
            id="",
            receiver="",
            group_by=(),
            group_wait=timedelta(seconds=30),
            group_interval=timedelta(minutes=5),
            repeat_interval=timedelta(hours=4),
            matchers=(),
            continue_=False,
            routes=(),
        )
        return self._route(fields, defaults, "{}", (), 0)

    def _route(
        self, fields: dict[str, Node], parent: Route, route_id: str, matchers: tuple[Matcher, ...], depth: int
    ) -> Route:
        read = partial(self._read, fields)
        own = Route(
            id=route_id,
            receiver=read("receiver", self._receiver, parent.receiver),
            group_by=read("group_by", partial(_group_by, parent.group_by), parent.group_by),
            group_wait=read("group_wait", Node.duration, parent.group_wait),
            group_interval=read("group_interval", positive, parent.group_interval),
            repeat_interval=read("repeat_interval", positive, parent.repeat_interval),
            matchers=matchers,
            continue_=read("continue", Node.flag, otherwise=False),
            routes=(),
            mute_time_intervals=read("mute_time_intervals", self._times, ()),
            active_time_intervals=read("active_time_intervals", self._times, ()),
        )
        if "routes" not in fields:
            return own
        return msgspec.structs.replace(own, routes=tuple(self._children(fields["routes"], own, depth + 1)))

    def _children(self, node: Node, parent: Route, depth: int) -> Iterator[Route]:
        taken: set[str] = set()
        for index, item in enumerate(node.items()):
            self._left -= 1
            if depth > MAX_DEPTH or self._left < 0:
                raise item.error("the route tree is too large", f"keep to {MAX_DEPTH} levels and {MAX_ROUTES} routes")
            with self._problems.noted():
                fields = item.fields(_ROUTE)
                matchers = matchers_of(fields)
                route_id = f"{parent.id}/{text_of(matchers)}"
                if route_id in taken:
                    route_id = f"{route_id}/{index}"
                taken.add(route_id)
                yield self._route(fields, parent, route_id, matchers, depth)

    def _read(self, fields: dict[str, Node], key: str, read: Callable[[Node], T], otherwise: T) -> T:
        if key in fields:
            with self._problems.noted():
                return read(fields[key])
        return otherwise

    def _receiver(self, node: Node) -> str:
        name = node.filled()
        if name not in self._receivers:
            raise node.error(f"no receiver is named {name!r}", "name one from `receivers`")
        return name

    def _times(self, node: Node) -> tuple[str, ...]:
        names: list[str] = []
        for item in node.items():
            name = item.filled()
            if name not in self._intervals:
                raise item.error(f"no time interval is named {name!r}", "name one from `time_intervals`")
            names.append(name)
        return tuple(names)


def _group_by(inherited: tuple[str, ...] | None, node: Node) -> tuple[str, ...] | None:
    names: list[str] = []
    for item in node.items():
        name = item.filled()
        if name in names:
            raise item.error(f"{name!r} is given twice", "keep one of them")
        names.append(name)
    if not names:
        return inherited
    if "..." not in names:
        return tuple(names)
    if len(names) > 1:
        raise node.error("'...' already means all labels", "write '...' alone or name the labels")
    return None


def positive(node: Node) -> timedelta:
    """A duration that is not zero."""
    value = node.duration()
    if not value:
        raise node.error("must not be zero", "write a duration such as 5m")
    return value
