"""What a step works on and with: a partition between steps, its part of a step, and what an agent's logic does."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from agents.deadlines import Deadlines
from agents.step_traces import Told
from sinks.postgres import Advance, Connection
from streams.redis_tables import Overlay, View

Batch = list[tuple[int, Any]]
"""Offsets and records of one partition, in order."""
Batches = Mapping[int, Batch]
Part = int | str
"""Of a record: the place of an item in it, 0 where it has none, or what a tick found due and of whom."""
Poisoned = dict[tuple[int, Part], str]
"""(offset, part) -> why it cannot be handled. An empty reason: it is left out, and nothing is said of it."""


@dataclass(kw_only=True)
class Partition:
    """What the owner of one partition holds between steps."""

    view: View
    pg_applied: int
    config_version: int
    watermark: datetime
    deadlines: Deadlines = field(default_factory=Deadlines)
    versions: set[int] = field(default_factory=set)
    """Versions of the rules that what was loaded names, beside the one in force."""
    tick_sent: bool = False

    @property
    def next_offset(self) -> int:
        """The offset that the next step must begin with."""
        return self.view.offset + 1


@dataclass(frozen=True)
class Outgoing:
    """One record to send on."""

    topic: str
    partition: int
    key: bytes
    value: bytes


class Waiting(Protocol):
    """Is told which dependency something waits for, and when it is back."""

    def __call__(self, dependency: str, *, ok: bool) -> None: ...


class Work(Protocol):
    """One partition's part of a step: pure changes, gathered."""

    partition: Partition
    overlay: Overlay
    replaying: bool
    told: Sequence[Told]
    due: Sequence[tuple[int, Part]]
    """(offset, part) of what its ticks found due."""

    def apply(self, offset: int, record: Any) -> None:  # noqa: ANN401 - the topic's record type
        """Decide about one record."""

    def finish(self) -> None:
        """Encode what the records left, after the last of them."""

    def abort(self) -> None:
        """Give back what was taken out of the partition."""

    def committed(self) -> None:
        """Fold what the step changed into the partition."""

    def advance(self, offset: int) -> Advance:
        """The progress row after the step."""

    def outgoing(self) -> Iterable[Outgoing]:
        """What goes on."""


class Logic(Protocol):
    """What one agent decides and writes."""

    topic: str

    def decode(self, data: bytes) -> Any:  # noqa: ANN401 - the topic's record type
        """Bytes to a record; raises UndecodableRecordError."""

    def size(self, record: Any) -> int:  # noqa: ANN401 - the topic's record type
        """How many items the record carries."""

    def undecodable(self, data: bytes, offset: int, partition: int, reason: str) -> Any:  # noqa: ANN401 - the topic's record type
        """The record that stands for bytes which are none."""

    async def prepare(self, records: Sequence[Any]) -> None:
        """Fetch immutable things that the records name."""

    def begin(self, partition: Partition, *, poisoned: Poisoned, replaying: bool) -> Work:
        """Start one partition's part of a step."""

    def at_once(self, works: Sequence[Any]) -> tuple[str, list[list[object]]] | None:
        """A statement of `postgres.at_once` and its rows, where one is enough for the step."""

    async def refused(self, conn: Connection, batches: Batches, since: datetime) -> Mapping[int, Poisoned]:
        """Partition -> the parts of replayed records that the first run, not before `since`, could not handle."""

    async def write(self, conn: Connection, works: Sequence[Any]) -> None:
        """Write the rows of a step inside its transaction."""


class Poison(Exception):  # noqa: N818 - a word of the field
    """Raised by a work for the part of a record whose handling failed."""

    def __init__(self, offset: int, part: Part, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.at = (offset, part)
