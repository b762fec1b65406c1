"""Records of our own of which a part cannot be handled: what the part is called, where it stood, and it alone. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from agents.work import Part, Poisoned
from sinks.alert_rows import DeadRow
from streams import codec
from streams.records import (
    Action,
    AlertBatch,
    ConfigChanged,
    InhibitorChanged,
    InputBatch,
    MemberChange,
    Outcome,
    Rejected,
    Sighted,
    SilenceChanged,
)  # fmt: skip

UNHANDLED: Final = "could not be handled: "
RECORD: Final = "application/vnd.incidents.record"
"""Content type of a body that is one of our own records, packed, on the topic that is the letter's source."""
AGAIN: Final = timedelta(minutes=10)
"""After so long that which fell due, and could not be done, is tried once more."""
_LISTS: Final = (AlertBatch, InputBatch, SilenceChanged, InhibitorChanged, Sighted)
_ALONE: Final = (Outcome, Action, ConfigChanged)
_KEPT: Final = 65536
_NAME: Final = 500


@dataclass(frozen=True)
class Unhandled:
    """What could not be handled: its name, where it stood, why, and the record that it is alone."""

    name: str
    at: str
    reason: str
    body: bytes


def storable(text: str) -> str:
    """Text without what Postgres takes in none."""
    return text.replace("\x00", "\ufffd")


def parts_of(record: object) -> list[Part]:
    """The parts of a record that are handled each for itself; those of a tick are known once it was handled."""
    if isinstance(record, _LISTS):
        return list(range(len(record.items)))
    return [0] if isinstance(record, _ALONE) else []


def place(log_id: str, number: int, offset: int) -> tuple[int, int, str]:
    """Where a record stands: partition, offset, log."""
    return number, offset, log_id


def found_at(field: str, places: Collection[tuple[int, int, str]]) -> tuple[int, int, Part] | None:
    """(partition, offset, part) of what stood there, if that is one of the places."""
    at, _, log_id = field.partition("@")
    numbers = at.split("/", 2)
    if len(numbers) < 3 or not (numbers[0].isdecimal() and numbers[1].isdecimal()):  # noqa: PLR2004 - its three pieces
        return None
    number, offset, part = int(numbers[0]), int(numbers[1]), numbers[2]
    if (number, offset, log_id) not in places:
        return None
    return number, offset, int(part) if part.isdecimal() else part


def partition_in(field: str) -> int | None:
    """The partition that a letter's field names."""
    number = field.partition("/")[0]
    return int(number) if number.isdecimal() else None


class LeftOut:
    """What one step of a partition cannot handle, and leaves out. `due` is what it found due: (offset, part)."""

    def __init__(self, topic: str, log_id: str, number: int, poisoned: Poisoned) -> None:
        self.poisoned = poisoned
        self.found: list[Unhandled] = []
        self.due: list[tuple[int, Part]] = []
        self._topic = topic
        self._log_id = log_id
        self._number = number

    def has(self, offset: int, part: Part, record: object) -> bool:
        """Whether a part of a record is left out; it is kept for people to look at."""
        why = self.poisoned.get((offset, part))
        if why:
            at = place(self._log_id, self._number, offset)
            self.found.append(unhandled(self._topic, at, part, record, why))
        return why is not None

    def has_due(self, offset: int, part: Part, record: object) -> bool:
        """The same of a part that fell due."""
        self.due.append((offset, part))
        return bool(self.poisoned) and self.has(offset, part, record)


def unhandled(topic: str, at: tuple[int, int, str], part: Part, record: object, reason: str) -> Unhandled:
    """What is kept of a part of a record that stood at this place."""
    number, offset, log_id = at
    name, alone = _named(f"{topic}/{number}", part, record)
    where = f"{number}/{offset}/{part}@{log_id}"
    return Unhandled(storable(name)[:_NAME], storable(where)[:_NAME], storable(reason), codec.encode(alone)[:_KEPT])


def _named(prefix: str, part: Part, record: object) -> tuple[str, object]:
    """The name of a part, which is the same when it comes again, and the record that it is alone."""
    if isinstance(record, Action):
        return record.id, record
    if isinstance(record, Outcome):
        return f"{prefix}/outcome {record.task_id}", record
    if isinstance(record, ConfigChanged) and isinstance(part, int):
        return f"{prefix}/configuration {record.version}", record
    if isinstance(record, _LISTS) and isinstance(part, int) and part < len(record.items):
        item: Any = record.items[part]
        emptied = {"traced": ()} if isinstance(record, InputBatch) else {}
        return _name_of(item, prefix), msgspec.structs.replace(record, items=(item,), **emptied)
    return f"{prefix}/{part}", record


def _name_of(item: Any, prefix: str) -> str:  # noqa: ANN401 - an item of any record that lists some
    if isinstance(item, MemberChange):
        return f"{item.group}:{item.identity}:{item.revision}"
    named = (getattr(item, field, "") for field in ("key", "identity", "id", "incident_id", "sequence", "revision"))
    return f"{prefix}/{type(item).__name__.lower()} {' '.join(str(one) for one in named if one != '')}"


def dead_rows(found: Sequence[Unhandled], topic: str, now: datetime) -> list[DeadRow]:
    """The letters of a step, each name once."""
    return [
        DeadRow(
            event_id=one.name, team="default", source=topic, field=one.at, reason=one.reason, body=one.body,
            content_type=RECORD, via="kafka", received_at=now,
        )
        for one in {one.name: one for one in found}.values()
    ]  # fmt: skip


def rejected(one: Unhandled, topic: str) -> Rejected:
    """The same for the topic of dead letters."""
    return Rejected(
        event_id=one.name, source=topic, field=one.at, reason=one.reason, body=one.body, content_type=RECORD
    )
