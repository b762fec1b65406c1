"""The traces that one step is in: what of its records is traced, and the spans of the step and its parts."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from streams import trace_context
from streams.records import AlertBatch, InputBatch, Traced

if TYPE_CHECKING:
    from streams.spans import Tracer

DETAILED: Final = 8
"""Traces of one step that show its parts; the others are linked to the first of these."""

SHORT: Final = 0.001
"""Seconds of work inside the process that are not worth a span: each costs some 30 us here and in the exporter."""

_PARTS: Final[Mapping[str, tuple[str, str, dict[str, str]]]] = {
    "decode": ("decode", "internal", {}),
    "decide": ("decide", "internal", {}),
    "postgres": ("commit to postgres", "client", {"db.system.name": "postgresql"}),
    "produce": ("send to kafka", "producer", {"messaging.system": "kafka"}),
    "redis": ("write to redis", "client", {"db.system.name": "redis"}),
}


class Told(NamedTuple):
    """A flush of a group in a trace: its context, the one before, and the tasks that it made."""

    context: str
    parent: str
    incident_id: str
    tasks: int


class _Hop(NamedTuple):
    partition: int
    offset: int
    context: str
    parent: str
    items: int


class StepTraces:
    """Follows one step; made only while tracing is on."""

    def __init__(self, tracer: "Tracer", topic: str) -> None:
        self._tracer = tracer
        self._topic = topic
        self._began = time.perf_counter()
        self._hops: list[_Hop] = []
        self._parts: list[tuple[str, float, float]] = []
        self._failed: dict[tuple[int, int], str] = {}
        self._told: list[Told] = []

    def find(self, number: int, batch: list[tuple[int, Any]]) -> None:
        """Note which records of a partition are traced; one that has waited too long is from here on."""
        now = datetime.now(UTC)
        for place, (offset, record) in enumerate(batch):
            if type(record) is not AlertBatch and type(record) is not InputBatch:
                continue
            traced = record.traced or self._late(now, number, offset, record)
            if traced is not record.traced:
                batch[place] = (offset, msgspec.structs.replace(record, traced=traced))
            for one in traced:
                context = trace_context.child(one.context, self._topic, number, offset)
                self._hops.append(_Hop(number, offset, context, one.context, len(record.items)))

    def part(self, name: str, started: float) -> None:
        """A part of the step has ended now."""
        self._parts.append((name, started, time.perf_counter()))

    def failed(self, number: int, offset: int, reason: str) -> None:
        """Something of a record could not be handled."""
        self._failed[number, offset] = reason

    def tell(self, told: Iterable[Told]) -> None:
        """What the step told receivers of, and in which traces."""
        self._told += told

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Log lines inside the block carry the first trace, where there is one."""
        if not self._hops:
            yield
            return
        token = trace_context.current.set(self._hops[0].context)
        try:
            yield
        finally:
            trace_context.current.reset(token)

    def record(self) -> None:
        """Write the spans down, once the step is done."""
        ended = time.perf_counter()
        known = {(hop.partition, hop.offset) for hop in self._hops}
        for number, offset in self._failed.keys() - known:
            if self._tracer.may():
                self._hops.append(_Hop(number, offset, trace_context.new(), "", 0))
        links = tuple(hop.context for hop in self._hops)
        for place, hop in enumerate(self._hops):
            self._tracer.record(
                hop.context, hop.parent, f"process {self._topic}", self._began, ended=ended, kind="consumer",
                attributes={
                    "messaging.system": "kafka",
                    "messaging.operation.type": "process",
                    "messaging.destination.name": self._topic,
                    "messaging.destination.partition.id": str(hop.partition),
                    "messaging.kafka.offset": hop.offset,
                    "messaging.batch.message_count": hop.items,
                },
                links=links[1:] if place == 0 else links[:1],
                error=self._failed.get((hop.partition, hop.offset), ""),
            )  # fmt: skip
            if place < DETAILED:
                self._record_parts(hop.context)
        for told in self._told:
            self._record_flush(told, ended)

    def _record_flush(self, told: Told, ended: float) -> None:
        attributes: dict[str, str | int] = {"incidents.incident_id": told.incident_id, "incidents.notices": told.tasks}
        self._tracer.record(told.context, told.parent, "flush", self._began, ended=ended, attributes=attributes)
        self._record_parts(told.context)

    def _record_parts(self, context: str) -> None:
        for part, started, ended in self._parts:
            name, kind, attributes = _PARTS[part]
            if kind == "internal" and ended - started < SHORT:
                continue
            self._tracer.record(
                trace_context.child(context, part), context, name, started, ended=ended, kind=kind,
                attributes=attributes,
            )  # fmt: skip

    def _late(self, now: datetime, number: int, offset: int, record: AlertBatch | InputBatch) -> tuple[Traced, ...]:
        age = (now - record.accepted_at).total_seconds() if record.accepted_at.year > 1 else 0.0
        if age <= self._tracer.slow or not record.items or not self._tracer.may():
            return ()
        context = trace_context.child(record.trace, "late", number, offset) or trace_context.new()
        self._tracer.record(context, record.trace, f"wait for {self._topic}", time.perf_counter() - age)
        return (Traced(context, (0,)),)
