"""L9: the tables in Redis, and what a rebuild from Postgres makes of them, compared key by key.

Read with plain Redis commands: `{<app>:<topic>:<partition>}:t:<table>` is a
hash of MessagePack arrays that begin with their version. What a value says about its own row (when and how
far that was written) may differ, and the ids of recent events are compared as
the set they are, since a rebuild finds them grouped in another way. What each
partition of `alerts` said last may be later: a rebuild tells an alert at its
newest event, be that a repeat that told nothing when it came.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

Dump = dict[str, dict[str, bytes]]
"""Of each table of each partition: key -> encoded value."""

_ABOUT_THE_ROW: Final = {"pulses": frozenset({13, 14, 15})}
_SETS: Final = frozenset({"recent"})
_OF_THE_REBUILD: Final = frozenset({"say again", "unsent"})
"""What a rebuild leaves for the owner to do first."""
_HEARD: Final = ("rules", "causes")
_ID_BYTES: Final = 8


async def dump(url: str) -> Dump:
    """Every table of every partition."""
    redis: Redis = Redis.from_url(url, socket_timeout=30)
    try:
        names = [key.decode() async for key in redis.scan_iter(match="{*}:t:*", count=1000)]
        answers: list[Mapping[bytes, bytes]] = [await redis.hgetall(name) for name in names]  # type: ignore[misc]
    finally:
        await redis.aclose()
    return {
        name: {key.decode(): value for key, value in answer.items()}
        for name, answer in zip(names, answers, strict=True)
    }


def differences(before: Dump, after: Dump) -> list[str]:
    """What a rebuild did not give back as it was."""
    return list(_differences(before, after))


def _differences(before: Dump, after: Dump) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        old, new, table = before.get(name, {}), after.get(name, {}), name.rpartition(":")[2]
        if table in _SETS:
            lost, more = _ids(old) - _ids(new), _ids(new) - _ids(old)
            if lost or more:
                yield f"{name}: {len(lost)} event ids are missing, {len(more)} are new"
            continue
        for key in sorted((old.keys() | new.keys()) - _OF_THE_REBUILD):
            if key not in new:
                yield f"{name} {key}: missing"
            elif key not in old:
                yield f"{name} {key}: was not there"
            elif (table, key) == _HEARD and _is_later(old[key], new[key]):
                continue
            elif old[key] != new[key] and (unlike := _unlike(table, old[key], new[key])):
                yield f"{name} {key}: {unlike}"


def _is_later(old: bytes, new: bytes) -> bool:
    """The same log, and of each partition the same offset, with what came of it, or a later one."""
    (*was, before, heard), (*now, after, hears) = msgspec.msgpack.decode(old), msgspec.msgpack.decode(new)
    if was != now or before.keys() != after.keys():
        return False
    return all(
        after[one] > before[one] or (after[one], hears.get(one)) == (before[one], heard.get(one)) for one in before
    )


def _unlike(table: str, old: bytes, new: bytes) -> str:
    left, right = msgspec.msgpack.decode(old), msgspec.msgpack.decode(new)
    if not isinstance(left, list) or not isinstance(right, list):
        return f"{left!r} became {right!r}"
    apart = _ABOUT_THE_ROW.get(table, frozenset())
    pairs = [(place, _at(left, place), _at(right, place)) for place in range(max(len(left), len(right)))]
    wrong = [f"[{place}] {was!r} became {now!r}" for place, was, now in pairs if place not in apart and was != now]
    return ", ".join(wrong)


def _at(values: list[Any], place: int) -> object:
    return values[place] if place < len(values) else None


def _ids(values: Mapping[str, bytes]) -> set[bytes]:
    return {one for value in values.values() for one in _split(msgspec.msgpack.decode(value)[2])}


def _split(packed: bytes) -> Iterable[bytes]:
    return (packed[at : at + _ID_BYTES] for at in range(0, len(packed), _ID_BYTES))
