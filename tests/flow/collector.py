"""An OTLP receiver over HTTP: keeps every span that is sent to it, decoded."""

from typing import NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.listener import Listener


class Span(NamedTuple):
    """One span; ids are hexadecimal, `parent` is empty for a root."""

    trace: str
    id: str
    parent: str
    name: str
    role: str
    attributes: dict[str, str]
    error: bool


class Collector(Listener):
    """Listens on a port of its own."""

    def __init__(self) -> None:
        super().__init__("/v1/traces")
        self.spans: list[Span] = []

    def of(self, trace: str) -> list[Span]:
        """The spans of one trace."""
        return [span for span in self.spans if span.trace == trace]

    async def take(self, request: web.Request) -> web.Response:
        said = ExportTraceServiceRequest.FromString(await request.read())
        for of_process in said.resource_spans:
            resource = {one.key: one.value.string_value for one in of_process.resource.attributes}
            for scope in of_process.scope_spans:
                self.spans += [
                    Span(
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.name,
                        resource["incidents.role"],
                        {one.key: one.value.string_value for one in span.attributes},
                        span.status.code == span.status.STATUS_CODE_ERROR,
                    )
                    for span in scope.spans
                ]
        body = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=body, content_type="application/x-protobuf")
