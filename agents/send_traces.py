"""A send as a span: the alert's trace goes on to the receiver, and what fails is recorded in any case."""

import time
from datetime import datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from sinks.outcome import Outcome, Sent
from sinks.task_rows import Claimed
from streams import trace_context
from streams.tracing import tracer

if TYPE_CHECKING:
    from streams.spans import Tracer


FIRST: Final = "acceptedAt"
"""Stands in a stored notice that is the first of its group."""


class _Body(msgspec.Struct, rename="camel"):
    traceparent: str = ""
    accepted_at: datetime | None = None


_decode = msgspec.json.Decoder(_Body).decode


class Sending:
    """One attempt while tracing is on. The request that goes out carries its context."""

    def __init__(self, tracer: "Tracer", task: Claimed) -> None:
        self._tracer = tracer
        self._task = task
        self._parent = trace_context.usable(_decode(task.body).traceparent) if "traceparent" in task.body else ""
        self._context = trace_context.child(self._parent, task.id, task.attempt)
        trace_context.current.set(self._context)  # each send is a task of its own

    def ended(self, began: float, outcome: Outcome) -> None:
        """Write its span down. `began` is of `time.perf_counter`."""
        context, sent = self._context, isinstance(outcome, Sent)
        if not context:
            slow = time.perf_counter() - began > self._tracer.slow
            if (sent and not slow) or not self._tracer.may():
                return
            context = trace_context.new()
        task = self._task
        self._tracer.record(
            context, self._parent, f"notify {task.channel}", began, kind="client",
            attributes={
                "incidents.incident_id": str(task.incident_id or ""),
                "incidents.task_id": str(task.id),
                "incidents.receiver": task.receiver,
                "incidents.attempt": task.attempt,
                "incidents.outcome": str(outcome.reason),
                "server.address": urlsplit(task.target).hostname or "",
            },
            error="" if sent else outcome.detail,
        )  # fmt: skip


def follow(task: Claimed) -> Sending | None:
    """An attempt as something to trace; None while tracing is off."""
    mine = tracer()
    return Sending(mine, task) if mine is not None else None


def trace_of(task: Claimed) -> dict[str, str]:
    """The id of the trace that a task is in, for its log line; empty where it is in none."""
    if "traceparent" not in task.body:
        return {}
    return {"trace_id": trace_context.trace_id(trace_context.usable(_decode(task.body).traceparent))}


def accepted_at_of(task: Claimed) -> datetime | None:
    """When the first of the alerts was accepted that a group's first notice tells of."""
    return _decode(task.body).accepted_at
