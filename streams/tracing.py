"""Whether this process traces, and with what. While it does not, nothing of OpenTelemetry is loaded."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import structlog

from streams.settings import Settings, masked

if TYPE_CHECKING:
    from streams.spans import Tracer

_tracer: "list[Tracer]" = []

log = structlog.get_logger(__name__)


def tracer() -> "Tracer | None":
    """The process's tracer; None while tracing is off."""
    return _tracer[0] if _tracer else None


@contextlib.contextmanager
def tracing(settings: Settings, role: str) -> Iterator[None]:
    """Trace inside the block, where a place for spans is set."""
    if not settings.otlp_url:
        yield
        return
    from streams.spans import Tracer  # noqa: PLC0415 - costs some 20 MB, which a process without traces need not pay

    mine = Tracer(settings, role)
    _tracer.append(mine)
    log.info("tracing", to=masked(settings.otlp_url), share=settings.trace_share)
    try:
        yield
    finally:
        _tracer.remove(mine)
        mine.close()
