"""Requests to the gateway as spans: a sender's trace is continued; what fails or is slow is recorded in any case."""

import time
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Final

from streams import trace_context
from streams.observe import App, Receive, Scope, Send
from streams.tracing import tracer

if TYPE_CHECKING:
    from streams.spans import Tracer

_FAILED: Final = 500


class Request:
    """One request while tracing is on. `context` is empty for one that nobody records."""

    def __init__(self, tracer: "Tracer", said: str) -> None:
        self._tracer = tracer
        self._said = said
        chosen = tracer.chosen([said])
        self.context = (trace_context.child(said, "gateway") or trace_context.new()) if chosen else ""
        trace_context.current.set(self.context)  # each request is a task of its own

    def ended(self, began: float, method: str, route: str, status: int) -> None:
        """Write its span down. `began` is of `time.perf_counter`."""
        context = self.context
        if not context:
            slow = time.perf_counter() - began > self._tracer.slow
            if not (slow or status >= _FAILED) or not self._tracer.may():
                return
            context = trace_context.child(self._said, "gateway") or trace_context.new()
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }
        error = f"HTTP {status}" if status >= _FAILED else ""
        self._tracer.record(
            context, self._said, f"{method} {route}", began, kind="server", attributes=attributes, error=error
        )


def follow(scope: Scope) -> Request | None:
    """The request as something to trace; None while tracing is off."""
    mine = tracer()
    if mine is None:
        return None
    said = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
    return Request(mine, trace_context.usable(said.decode("latin-1")))


def followed(app: App) -> App:
    """The app with a span for each request that is traced, and with those of its queries inside."""

    async def tracing(scope: Scope, receive: Receive, send: Send) -> None:
        request = follow(scope) if scope["type"] == "http" else None
        if request is None:
            await app(scope, receive, send)
            return
        began, status = time.perf_counter(), _FAILED

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            if request.context and (mine := tracer()) is not None:
                with mine.around(request.context):
                    await app(scope, receive, sending)
            else:
                await app(scope, receive, sending)
        finally:
            request.ended(began, scope["method"], _route(scope["path"]), status)

    return tracing


def _route(path: str) -> str:
    """The path without what names one thing in it, so that requests of a kind have one name."""
    return "/".join("{}" if any(letter.isdigit() for letter in part[2:]) else part for part in path.split("/"))
