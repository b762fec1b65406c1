"""Cutting a connection's bytes: deliveries come out whole, everything else reaches aiormq as it came."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body as content
from pamqp import commands, frame, header, heartbeat

from streams.amqp_bursts import BurstReader, Delivery, Sieve

BEAT = heartbeat.Heartbeat().marshal()
OTHER = frame.marshal(commands.Queue.DeclareOk("q", 1, 2), 1)
RETURNED = frame.marshal(commands.Basic.Return(312, "NO_ROUTE", "x", "y"), 2)


def delivered(tag: int, body: bytes, channel: int = 1, piece: int = 4, **properties: Any) -> bytes:
    """A delivery as RabbitMQ writes it, its body in pieces of so many bytes."""
    said = commands.Basic.Deliver("ctag1.1", tag, redelivered=False, exchange="alerts", routing_key="llm.alert")
    head = header.ContentHeader(0, len(body), commands.Basic.Properties(**properties))
    parts = b"".join(
        frame.marshal(content.ContentBody(body[at : at + piece]), channel) for at in range(0, len(body), piece)
    )
    return frame.marshal(said, channel) + frame.marshal(head, channel) + parts


def sifted(data: bytes, cuts: list[int]) -> tuple[bytes, list[Delivery]]:
    sieve, passed, found = Sieve(), b"", []
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in pairwise(bounds):
        some, more = sieve.feed(data[start:stop])
        passed += some
        found += more
    return passed, found


@given(
    bodies=st.lists(st.binary(max_size=30), max_size=5),
    between=st.lists(st.sampled_from([BEAT, OTHER, RETURNED, b""]), min_size=5, max_size=5),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_however_the_bytes_are_cut_the_same_comes_out(
    bodies: list[bytes], between: list[bytes], cuts: list[int]
) -> None:
    sent = [delivered(tag, body, message_id=f"m{tag}") for tag, body in enumerate(bodies, 1)]
    stream = b"".join(part for pair in zip(sent, between, strict=False) for part in pair)
    passed, found = sifted(stream, cuts)
    assert passed == b"".join(between[: len(sent)])
    assert [(each.tag, each.body, each.message_id) for each in found] == [
        (tag, body, f"m{tag}") for tag, body in enumerate(bodies, 1)
    ]


def test_every_property_before_the_message_id_is_stepped_over() -> None:
    data = delivered(
        7,
        b"{}",
        content_type="application/json",
        content_encoding="gzip",
        headers={"traceparent": "00-abc-def-01", "n": 5},
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        reply_to="r",
        expiration="1000",
        message_id="the-id",
        app_id="a",
    )
    [found] = Sieve().feed(data)[1]
    assert (found.routing_key, found.content_type, found.content_encoding, found.message_id) == (
        "llm.alert", "application/json", "gzip", "the-id",
    )  # fmt: skip
    assert found.header("traceparent") == "00-abc-def-01"
    assert found.header("n") == 5
    assert found.header("missing") is None


def test_a_header_table_that_cannot_be_read_has_no_headers() -> None:
    assert Delivery(1, "", b"", headers=b"\x00\x00\x00\x63\x0btraceparentS\xff").header("traceparent") is None


def test_content_on_two_channels_is_kept_apart() -> None:
    returned = RETURNED + frame.marshal(header.ContentHeader(0, 2, commands.Basic.Properties(message_id="x")), 2)
    returned_body = frame.marshal(content.ContentBody(b"no"), 2)
    mine = delivered(1, b"yes!")
    passed, found = Sieve().feed(mine[:-12] + mine[-12:] + returned + returned_body)
    assert passed == returned + returned_body
    assert [each.body for each in found] == [b"yes!"]


def test_bytes_that_are_no_frames_are_aiormqs_to_refuse() -> None:
    broken = b"\x01\x00\x01\x00\x00\x00\x02ab\x00rest"
    assert Sieve().feed(broken) == (broken, [])


async def test_a_peer_that_only_delivers_is_not_taken_for_dead() -> None:
    source = asyncio.StreamReader()
    got: list[Delivery] = []
    reader = BurstReader(source, got.extend, pace=0.0)
    reader._beat_at -= 60
    source.feed_data(delivered(1, b"a") + delivered(2, b"b"))
    assert await reader.readexactly(8) == BEAT
    assert [each.tag for each in got] == [1, 2]
    source.feed_data(OTHER)
    assert await reader.readexactly(len(OTHER)) == OTHER
    source.feed_eof()
    with pytest.raises(asyncio.IncompleteReadError):
        await reader.readexactly(1)
    assert reader.at_eof()
