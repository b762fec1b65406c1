"""Spans of this process and their way to an OTLP collector. Loaded only where tracing is on: see `streams.tracing`.

Spans are made afterwards, of times that are known by then: what is not traced costs nothing, and what turns out to be
slow or to fail is traced although nobody had picked it. Where one batch serves several traces, each has a span of its
own and these are linked.
"""

import contextlib
import math
import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from opentelemetry import trace as api
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from streams import trace_context
from streams.settings import Settings

MOST_A_SECOND: Final = 100
"""Traces that one process begins or joins at most in a second, on average: what else is asked for goes untraced."""
MOST_LINKS: Final = 16
_QUEUE: Final = 4096
_SERVICE: Final = "llm-incident-manager"
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SCOPE: Final = InstrumentationScope(_SERVICE)
_FINE: Final = Status(StatusCode.UNSET)
_GRPC: Final = "grpc"

Attributes = Mapping[str, str | int | float | bool]


class Tracer:
    """What this process traces, and where its spans go."""

    def __init__(self, settings: Settings, role: str, exporter: SpanExporter | None = None) -> None:
        self.slow = settings.trace_slow
        self._share = settings.trace_share
        self._resource = Resource(
            {
                "service.name": _SERVICE,
                "service.namespace": settings.app_prefix,
                "service.instance.id": settings.worker_name,
                "incidents.role": role,
            }
        )
        exporter = exporter_to(settings.otlp_url) if exporter is None else exporter
        self._processor = BatchSpanProcessor(exporter, max_queue_size=_QUEUE, schedule_delay_millis=1000)
        self._provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), resource=self._resource)
        self._provider.add_span_processor(self._processor)
        self._left = self._gap()
        self._tokens, self._filled_at = float(MOST_A_SECOND), time.monotonic()

    def chosen(self, said: Sequence[str]) -> dict[int, str]:
        """Which of so many messages are traced: place -> the parent to continue, empty for a new trace.

        `said` is what each sender said of its trace. Whoever records his is followed, of the others a share is.
        """
        picked = {place: text for place, text in enumerate(said) if text and trace_context.is_sampled(text)}
        self._left -= len(said)
        while self._left < 0:
            picked.setdefault(len(said) + self._left, said[self._left])
            self._left += 1 + self._gap()
        return {place: parent for place, parent in picked.items() if self.may()} if picked else {}

    def may(self) -> bool:
        """Whether one more trace may begin now."""
        now = time.monotonic()
        self._tokens = min(float(MOST_A_SECOND), self._tokens + (now - self._filled_at) * MOST_A_SECOND)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def record(
        self,
        context: str,
        parent: str,
        name: str,
        began: float,
        *,
        ended: float | None = None,
        kind: str = "internal",
        attributes: Attributes | None = None,
        links: Iterable[str] = (),
        error: str = "",
    ) -> None:
        """One span. `began` and `ended` are of `time.perf_counter`; without an end it is now."""
        now, clock = time.time_ns(), time.perf_counter()
        span = ReadableSpan(
            name,
            context=_span(context),
            parent=_span(parent) if parent else None,
            resource=self._resource,
            attributes=attributes or {},
            links=[Link(_span(one)) for one in list(links)[:MOST_LINKS] if one != context],
            kind=SpanKind[kind.upper()],
            status=Status(StatusCode.ERROR, error) if error else _FINE,
            start_time=now - int((clock - began) * 1e9),
            end_time=now if ended is None else now - int((clock - ended) * 1e9),
            instrumentation_scope=_SCOPE,
        )
        self._processor.on_end(span)

    @contextlib.contextmanager
    def around(self, context: str) -> Iterator[None]:
        """Spans of the instrumented libraries belong to this context inside the block."""
        with api.use_span(NonRecordingSpan(_span(context)), record_exception=False, set_status_on_exception=False):
            yield

    @contextlib.contextmanager
    def instrumented(self) -> Iterator[None]:
        """Queries and Redis commands inside the block have spans where `around` says that something is traced."""
        libraries = AsyncPGInstrumentor(), RedisInstrumentor()  # type: ignore[no-untyped-call]
        for library in libraries:
            library.instrument(tracer_provider=self._provider)
        try:
            yield
        finally:
            for library in libraries:
                library.uninstrument()

    def close(self) -> None:
        """Send what is left, for a second at most; a collector that is away holds nobody up."""
        closing = threading.Thread(target=self._processor.shutdown, daemon=True)
        closing.start()
        closing.join(1.0)

    def _gap(self) -> int:
        """How many go by before the next is picked: geometric, so that a whole batch costs one subtraction."""
        if self._share >= 1:
            return 0
        if self._share <= 0:
            return 1 << 62
        return int(math.log(1 - random.random()) / math.log1p(-self._share))  # noqa: S311 - a sample, no secret


def exporter_to(url: str) -> SpanExporter:
    """OTLP over gRPC for `grpc://` and `grpcs://`, else over HTTP; the standard's OTEL_EXPORTER_OTLP_* count too."""
    scheme, _, rest = url.partition("://")
    if scheme.startswith(_GRPC):
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc  # noqa: PLC0415

        return Grpc(endpoint=rest, insecure=scheme == _GRPC)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http  # noqa: PLC0415

    return Http(endpoint=url if "/" in rest else f"{url}/v1/traces")


def _span(context: str) -> SpanContext:
    return SpanContext(int(context[3:35], 16), int(context[36:52], 16), is_remote=True, trace_flags=_SAMPLED)
