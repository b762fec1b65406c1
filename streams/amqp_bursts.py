"""Deliveries off an AMQP connection many at a time, instead of a task for each.

aiormq keeps the connection: handshake, heartbeats, channels, acknowledgements.
Its reader is given every byte but those of Basic.Deliver and the content that
follows it; those become `Delivery` records here. aiormq spends about 80 us of
CPU on a delivery, this a few (AMQP 0-9-1, sections 2.3.5 and 4.2).
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

import aio_pika
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from pamqp import decode
from yarl import URL

READ_BYTES: Final = 262_144
_BEAT_S: Final = 1.0
_HEARTBEAT: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"
_FRAME_END: Final = 0xCE
_METHOD, _HEADER, _BODY = 1, 2, 3
_DELIVER: Final = (60 << 16) | 60
_HEAD: Final = struct.Struct(">BHI")
_LONG: Final = struct.Struct(">I")
_TAG: Final = struct.Struct(">Q")
_CONTENT: Final = struct.Struct(">QH")
# Property flags in their order on the wire, up to message-id; what follows is not looked at.
_CONTENT_TYPE, _ENCODING, _HEADERS, _MODE = 0x8000, 0x4000, 0x2000, 0x1000
_PRIORITY, _CORRELATION, _REPLY_TO, _EXPIRATION, _MESSAGE_ID = 0x0800, 0x0400, 0x0200, 0x0100, 0x0080


class Delivery(NamedTuple):
    """One message that RabbitMQ delivered; `headers` is the encoded table, see `header_of`."""

    tag: int
    routing_key: str
    body: bytes
    content_type: str = ""
    content_encoding: str = ""
    message_id: str = ""
    headers: bytes = b""

    def header(self, name: str) -> object:
        """One header's value; None where there is none, or where the table cannot be read."""
        if name.encode() not in self.headers:
            return None
        try:
            return decode.field_table(self.headers)[1].get(name)
        except (ValueError, struct.error):
            return None


Deliver = Callable[[list[Delivery]], None]


class _Content:
    """A message whose content has begun: what was delivered, and what of it is here."""

    __slots__ = ("left", "parts", "properties", "routing_key", "tag")

    def __init__(self, tag: int, routing_key: str) -> None:
        self.tag = tag
        self.routing_key = routing_key
        self.left = -1
        self.properties: tuple[str, str, str, bytes] = ("", "", "", b"")
        self.parts: list[bytes] = []


class Sieve:
    """Cuts a connection's bytes into frames: deliveries are put together, all others pass as they came."""

    def __init__(self) -> None:
        self._rest = b""
        self._open: dict[int, _Content] = {}
        self._texts: dict[bytes, str] = {}

    def feed(self, data: bytes) -> tuple[bytes, list[Delivery]]:
        """The bytes that aiormq must see, and the deliveries that are complete."""
        buffer = self._rest + data if self._rest else data
        passed: list[bytes] = []
        found: list[Delivery] = []
        at, end = 0, len(buffer)
        while end - at >= _HEAD.size:
            kind, channel, size = _HEAD.unpack_from(buffer, at)
            stop = at + _HEAD.size + size + 1
            if stop > end:
                break
            if buffer[stop - 1] != _FRAME_END:
                passed.append(buffer[at:])  # for aiormq to refuse
                at = end
                break
            if not self._take(kind, channel, buffer, at + _HEAD.size, stop - 1, found):
                passed.append(buffer[at:stop])
            at = stop
        self._rest = buffer[at:]
        return b"".join(passed), found

    def _take(self, kind: int, channel: int, buffer: bytes, start: int, stop: int, found: list[Delivery]) -> bool:
        """Whether this frame belongs to a delivery; one that is complete then is added to `found`."""
        if kind == _METHOD:
            if stop - start < _LONG.size or _LONG.unpack_from(buffer, start)[0] != _DELIVER:
                return False
            self._open[channel] = self._begun(buffer, start + _LONG.size)
            return True
        content = self._open.get(channel)
        if content is None:
            return False
        if kind == _HEADER:
            content.left, content.properties = self._read_header(buffer, start, stop)
        elif kind == _BODY:
            content.parts.append(buffer[start:stop])
            content.left -= stop - start
        else:
            return False
        if content.left <= 0:
            del self._open[channel]
            parts = content.parts
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            found.append(Delivery(content.tag, content.routing_key, body, *content.properties))
        return True

    def _begun(self, buffer: bytes, at: int) -> _Content:
        at += 1 + buffer[at]  # the consumer's tag: there is one
        tag = _TAG.unpack_from(buffer, at)[0]
        at += _TAG.size + 1
        at += 1 + buffer[at]  # the exchange
        return _Content(tag, self._text(buffer[at + 1 : at + 1 + buffer[at]]))

    def _read_header(self, buffer: bytes, start: int, stop: int) -> tuple[int, tuple[str, str, str, bytes]]:
        size, flags = _CONTENT.unpack_from(buffer, start + 4)
        at = start + 4 + _CONTENT.size
        if flags & 1 or at > stop:
            return size, ("", "", "", b"")  # more flags than AMQP defines properties
        content_type = encoding = message_id = ""
        headers = b""
        if flags & _CONTENT_TYPE:
            content_type = self._text(buffer[at + 1 : at + 1 + buffer[at]])
            at += 1 + buffer[at]
        if flags & _ENCODING:
            encoding = self._text(buffer[at + 1 : at + 1 + buffer[at]])
            at += 1 + buffer[at]
        if flags & _HEADERS:
            length = _LONG.size + _LONG.unpack_from(buffer, at)[0]
            headers = buffer[at : at + length]
            at += length
        at += bool(flags & _MODE) + bool(flags & _PRIORITY)
        for flag in (_CORRELATION, _REPLY_TO, _EXPIRATION):
            if flags & flag:
                at += 1 + buffer[at]
        if flags & _MESSAGE_ID:
            message_id = buffer[at + 1 : at + 1 + buffer[at]].decode(errors="replace")
        return size, (content_type, encoding, message_id, headers)

    def _text(self, raw: bytes) -> str:
        """Short texts that come again with every message."""
        text = self._texts.get(raw)
        if text is None:
            text = raw.decode(errors="replace")
            if len(self._texts) < 1000:  # noqa: PLR2004 - routing keys may be many
                self._texts[raw] = text
        return text


class BurstReader:
    """What aiormq reads from: a stream reader less the deliveries, which go to `deliver`.

    While deliveries come, reads are `pace` seconds apart, so that what gathers goes together.
    """

    def __init__(self, reader: asyncio.StreamReader, deliver: Deliver, pace: float) -> None:
        self._reader = reader
        self._deliver = deliver
        self._pace = pace
        self._sieve = Sieve()
        self._ready = bytearray()
        self._loop = asyncio.get_running_loop()
        self._next_at = 0.0
        self._beat_at = self._loop.time()

    def at_eof(self) -> bool:
        """Whether nothing is left."""
        return not self._ready and self._reader.at_eof()

    async def readexactly(self, count: int) -> bytes:
        """So many bytes that aiormq must see.

        Raises:
            asyncio.IncompleteReadError: the connection ended before.
        """
        while len(self._ready) < count:
            await self._more(count)
        taken = bytes(self._ready[:count])
        del self._ready[:count]
        return taken

    async def read(self, count: int = -1) -> bytes:
        """Whatever is here already; asked only to quote what was not understood."""
        taken = bytes(self._ready if count < 0 else self._ready[:count])
        del self._ready[: len(taken)]
        return taken

    async def _more(self, wanted: int) -> None:
        wait = self._next_at - self._loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        data = await self._reader.read(READ_BYTES)
        if not data:
            raise asyncio.IncompleteReadError(bytes(self._ready), wanted)
        passed, found = self._sieve.feed(data)
        self._ready += passed
        if not found:
            return
        now = self._loop.time()
        self._next_at = now + self._pace
        self._deliver(found)
        if not passed and now - self._beat_at > _BEAT_S:
            # RabbitMQ sends no heartbeat while it delivers, and aiormq would take the silence for a dead peer.
            self._beat_at = now
            self._ready += _HEARTBEAT


class _Factory(TransportFactory):
    """aiormq's own transport, read through a `BurstReader`."""

    def __init__(self, inner: TransportFactory, deliver: Deliver, pace: float) -> None:
        self._inner = inner
        self._deliver = deliver
        self._pace = pace

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:  # noqa: ANN401 - passed on
        reader, writer = await self._inner.create(url, **kwargs)
        return cast("asyncio.StreamReader", BurstReader(reader, self._deliver, self._pace)), writer


def bursting(deliver: Deliver, pace: float) -> type[aio_pika.Connection]:
    """A class of connections whose deliveries, of whatever consumer, go to `deliver`."""

    class BurstConnection(aio_pika.Connection):
        def __init__(self, url: URL, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on
            super().__init__(url, *args, **kwargs)
            inner = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
            self.kwargs["transport_factory"] = _Factory(inner, deliver, pace)

    return BurstConnection
