"""How every process logs: structlog, one event a hop, as JSON lines or readable text that cannot steer a terminal.

Library loggers come through the same way from `warning` up; secrets in URLs are masked.
"""

import json
import logging
import re
import sys
from typing import Any, Final, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from streams import trace_context
from streams.settings import Settings

_LIBRARIES: Final = (
    "faust", "mode", "aiokafka", "uvicorn", "aio_pika", "aiormq", "litestar", "asyncio", "httpx", "httpcore",
)  # fmt: skip
_PASSWORD: Final = re.compile(r"(?<=://)([^\s:/@]{0,256}):([^\s@]{1,1024})@")
_encode = msgspec.json.Encoder(enc_hook=str).encode


def configure(settings: Settings, role: str, stream: TextIO | None = None) -> None:
    """Set logging up for this process; the last call wins."""
    out = stream or sys.stderr
    text = settings.log_format == "text" or (settings.log_format == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _tracing,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _naming(role, settings.worker_name),
        structlog.processors.StackInfoRenderer(),
    ]
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(text=text, colors=out.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(level, logging.WARNING))


def _naming(role: str, worker: str) -> Processor:
    def named(_logger: object, _method: str, event: EventDict) -> EventDict:
        event.setdefault("role", role)
        event.setdefault("worker", worker)
        return event

    return named


def _tracing(_logger: object, _method: str, event: EventDict) -> EventDict:
    context = trace_context.current.get()
    if context:
        event.setdefault("trace_id", trace_context.trace_id(context))
        event.setdefault("span_id", context[36:52])
    return event


def _rendering(*, text: bool, colors: bool) -> list[Processor]:
    if text:
        # The renderer's own way with exceptions prints local variables, and with them secrets.
        plain = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
        return [structlog.processors.format_exc_info, _masked, _plain, plain]
    return [structlog.processors.format_exc_info, _masked, structlog.processors.JSONRenderer(serializer=_json)]


def _masked(_logger: object, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if isinstance(value, str) and "://" in value:
            event[name] = _PASSWORD.sub(r"\1:***@", value)
    return event


def _plain(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Without what would steer a terminal or begin a line; the renderer itself escapes all but these."""
    event["event"] = _escaped(str(event["event"]))
    for name in {"exception", "stack"} & event.keys():
        event[name] = "\n".join(_escaped(line.expandtabs()) for line in str(event[name]).split("\n"))
    return event


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _json(event: EventDict, **_options: Any) -> str:  # noqa: ANN401 - structlog's signature
    try:
        return _escaped(_encode(event).decode())
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(event, default=str)
