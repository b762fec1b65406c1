"""Which messages are traced, how contexts go on, and what leaves the process."""

import io
import json
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
import structlog
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streams import codec, logs, trace_context
from streams.amqp import HANDOVER_TYPE
from streams.amqp_bursts import Delivery
from streams.bridge_batch import gathered
from streams.intake import parse_own
from streams.producer import pieces
from streams.records import AlertBatch, Traced
from streams.settings import Settings
from streams.spans import MOST_A_SECOND, Tracer
from streams.trace_context import by_item, child, new, of_items, usable
from streams.tracing import tracer, tracing

SENDER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = f"{SENDER[:-2]}00"
NOW = datetime.now(UTC)
BODY = b'{"source": "s", "status": "firing", "summary": "x", "labels": {"alertname": "A", "n": "%d"}}'


@pytest.fixture
def exported() -> Iterator[tuple[Tracer, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    mine = Tracer(Settings(trace_share=0.0), "test", exporter)
    yield mine, exporter
    mine.close()


@pytest.mark.parametrize(
    ("said", "context"),
    [
        (SENDER, SENDER),
        (f" {SENDER} ", SENDER),
        (f"01{SENDER[2:]}-more", f"01{SENDER[2:]}"),
        ("", ""),
        ("nothing", ""),
        (f"ff{SENDER[2:]}", ""),
        (SENDER.upper(), ""),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", ""),
        (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", ""),
        (f"{SENDER}\x00", SENDER),
    ],
)
def test_only_a_context_as_w3c_writes_it_is_usable(said: str, context: str) -> None:
    assert usable(said) == context


def test_a_child_is_of_the_same_trace_and_the_same_wherever_it_is_made_again() -> None:
    one, other = child(SENDER, "alerts", 3, 17), child(SENDER, "alerts", 3, 18)
    assert usable(one) == one
    assert trace_context.trace_id(one) == trace_context.trace_id(SENDER)
    assert one == child(SENDER, "alerts", 3, 17)
    assert len({one, other, SENDER}) == 3
    assert trace_context.is_sampled(child(UNSAMPLED, "late"))
    assert child("", "alerts") == ""


def test_contexts_of_items_are_packed_and_unpacked() -> None:
    said = ["", SENDER, "", SENDER, new()]
    traced = of_items(said)
    assert [one.items for one in traced] == [(1, 3), (4,)]
    assert [by_item(traced).get(place, "") for place in range(5)] == said


def test_senders_that_record_are_followed_and_of_the_others_a_share_is_picked() -> None:
    mine = Tracer(Settings(trace_share=0.02), "test", InMemorySpanExporter())
    counted = 0
    for _ in range(500):
        chosen = mine.chosen(["", SENDER, UNSAMPLED, *[""] * 47])
        mine._tokens = MOST_A_SECOND
        assert chosen[1] == SENDER
        assert chosen.get(2, UNSAMPLED) == UNSAMPLED
        counted += len(chosen) - 1
    assert 300 < counted < 700  # of 24,500, 490 are due
    mine.close()


def test_more_than_so_many_traces_a_second_are_not_begun() -> None:
    mine = Tracer(Settings(trace_share=1.0), "test", InMemorySpanExporter())
    assert len(mine.chosen([SENDER] * 1000)) <= MOST_A_SECOND + 10
    mine.close()


def test_a_span_has_the_times_the_parent_and_the_links_that_it_was_given(
    exported: tuple[Tracer, InMemorySpanExporter],
) -> None:
    mine, exporter = exported
    began, other = time.perf_counter() - 2.0, new()
    context = child(SENDER, "here")
    mine.record(
        context, SENDER, "work", began, ended=began + 0.5, attributes={"n": 1}, links=(context, other), error="broke"
    )
    mine.close()
    [span] = exporter.get_finished_spans()
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == trace_context.trace_id(SENDER)
    assert f"{span.parent.span_id:016x}" == SENDER[36:52]
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.end_time - span.start_time == pytest.approx(0.5e9, rel=0.01)
    assert abs(time.time_ns() - span.start_time - 2e9) < 60e9
    assert [f"{link.context.span_id:016x}" for link in span.links] == [other[36:52]]
    assert (span.status.is_ok, span.status.description) == (False, "broke")


def test_a_batch_of_messages_carries_the_contexts_of_those_that_are_traced() -> None:
    messages = [Delivery(tag, "k", BODY % tag) for tag in range(4)]
    [batch] = gathered(messages, Settings(), {2: SENDER}).batches
    assert batch.traced == (Traced(SENDER, (2,)),)
    again = codec.decode_alerts(codec.encode(batch))
    assert again == batch
    assert gathered(messages, Settings()).batches[0].traced == ()


def test_a_record_of_an_older_process_is_read() -> None:
    whole = codec.encode(AlertBatch(accepted_at=NOW, items=(), via="http", trace=""))
    older = bytes([whole[0] - 1]) + whole[1:-1]
    assert codec.decode_alerts(older) == AlertBatch(accepted_at=NOW, items=(), via="http", trace="")


def test_pieces_of_a_batch_keep_the_contexts_of_their_items() -> None:
    parsed = parse_own(
        b"[" + b",".join(BODY % n for n in range(1200)) + b"]", accepted_at=NOW, limits=Settings(max_items=2000)
    )
    batch = AlertBatch(accepted_at=NOW, items=tuple(parsed.items), traced=(Traced(SENDER, (3, 700, 1199)),))
    found = [part.items[index] for part in pieces(batch) for one in part.traced for index in one.items]
    assert [batch.items.index(item) for item in found] == [3, 700, 1199]


def test_what_anybody_may_have_published_brings_no_context_that_is_none() -> None:
    parsed = parse_own(BODY % 1, accepted_at=NOW, limits=Settings())
    forged = (Traced("no context", (0,)), Traced(SENDER, (0, 7)), Traced(SENDER, (0,)))
    body = codec.encode(AlertBatch(accepted_at=NOW, items=tuple(parsed.items), traced=forged))
    [batch] = gathered([Delivery(1, "k", body, HANDOVER_TYPE)], Settings()).batches
    assert batch.traced == (Traced(SENDER, (0,)),)


def test_without_an_address_nothing_is_traced_and_with_one_it_is_inside_the_block() -> None:
    with tracing(Settings(), "test"):
        assert tracer() is None
    with tracing(Settings(otlp_url="http://127.0.0.1:9"), "test"):
        assert tracer() is not None
    assert tracer() is None


def test_log_lines_carry_the_trace_that_is_worked_on() -> None:
    stream = io.StringIO()
    logs.configure(Settings(log_format="json"), "test", stream)
    token = trace_context.current.set(SENDER)
    structlog.get_logger().info("inside")
    trace_context.current.reset(token)
    structlog.get_logger().info("outside")
    inside, outside = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (inside["trace_id"], inside["span_id"]) == (SENDER[3:35], SENDER[36:52])
    assert "trace_id" not in outside
    structlog.reset_defaults()


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what is exported to it over gRPC."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.some = threading.Event()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name of the call
        spans = [span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans]
        self.names += [span.name for span in spans]
        self.some.set()
        return trace_service_pb2.ExportTraceServiceResponse()


def test_spans_go_out_over_grpc_where_the_address_says_so() -> None:
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        mine = Tracer(replace(Settings(), otlp_url=f"grpc://127.0.0.1:{port}"), "test")
        mine.record(new(), "", "over grpc", time.perf_counter())
        mine.close()
        assert collector.some.wait(60)
        assert collector.names == ["over grpc"]
    finally:
        server.stop(0)
