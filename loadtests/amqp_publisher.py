"""One RabbitMQ connection that publishes with asynchronous confirms, at a few microseconds a message.

AMQP 0-9-1 over a plain socket (made cooperative by gevent): pamqp speaks the
handshake, the three frames of a message are put together here.
"""

import socket
import struct
from collections.abc import Callable
from itertools import takewhile
from typing import Final, NamedTuple, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from pamqp import commands, frame, header
from pamqp.base import Frame
from pamqp.constants import FRAME_METHOD

_FRAME_END: Final = b"\xce"
_HEAD: Final = struct.Struct(">BHI")
_METHOD: Final = struct.Struct(">HH")
_ACK: Final = struct.Struct(">QB")
_CONTENT: Final = struct.Struct(">HHQH")
_HAS_TYPE_MODE_ID: Final = 0x8000 | 0x1000 | 0x0080
_ACKED: Final = (60, 80)
_NACKED: Final = (60, 120)
_CHANNEL: Final = 1
_RECEIVE: Final = 65536
_CONNECT_TIMEOUT: Final = 10

Command = TypeVar("Command")


class PublisherError(ConnectionError):
    """Raised when RabbitMQ refuses or closes the connection; the message says why."""


class Sent(NamedTuple):
    """A message that was published and not yet confirmed."""

    event_ids: tuple[str, ...]
    sent_us: int
    size: int


Told = Callable[[Sent, bool], None]


class Publisher:
    """Publishes persistent messages; `told(sent, ok)` is called at most once for each, in any order."""

    def __init__(self, url: str, exchange: str, routing_key: str, told: Told) -> None:
        self._told = told
        self._link = _Link(url, exchange)
        self._out: list[bytes] = []
        self._tag = 0
        self._pending: dict[int, Sent] = {}
        self._unroutable = False
        publish = commands.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True)
        self._method = frame.marshal(publish, _CHANNEL)

    def publish(self, body: bytes, message_id: str, sent: Sent) -> None:
        """Put one message into the buffer; `flush` sends it."""
        name = message_id.encode()
        properties = b"".join(
            (
                _CONTENT.pack(60, 0, len(body), _HAS_TYPE_MODE_ID),
                b"\x10application/json\x02",
                bytes((len(name),)),
                name,
            )
        )
        out = self._out
        out += (self._method, _HEAD.pack(2, _CHANNEL, len(properties)), properties, _FRAME_END)
        room = self._link.frame_max - 8
        for start in range(0, len(body), room):
            part = body[start : start + room]
            out += (_HEAD.pack(3, _CHANNEL, len(part)), part, _FRAME_END)
        self._tag += 1
        self._pending[self._tag] = sent

    def flush(self) -> None:
        """Send what is in the buffer."""
        if self._out:
            out, self._out = b"".join(self._out), []
            self._link.socket.sendall(out)

    def listen(self) -> None:
        """Read confirms until the connection ends.

        Raises:
            OSError: it ended.
        """
        while True:
            for kind, channel, payload in self._link.frames():
                self._handle(kind, channel, payload)

    @property
    def waiting(self) -> int:
        """How many messages are not confirmed yet."""
        return len(self._pending)

    def close(self) -> list[Sent]:
        """Cut the connection; what was not confirmed until now."""
        self._link.socket.close()
        left, self._pending = list(self._pending.values()), {}
        return left

    def _handle(self, kind: int, channel: int, payload: bytes) -> None:
        method = _METHOD.unpack_from(payload) if kind == FRAME_METHOD else None
        if method in {_ACKED, _NACKED}:
            tag, multiple = _ACK.unpack_from(payload, 4)
            self._confirmed(tag, multiple=bool(multiple & 1), ok=method == _ACKED)
        elif method is not None:
            said = _command(kind, channel, payload)
            if isinstance(said, commands.Basic.Return):
                self._unroutable = True
            _raise_if_closed(said)

    def _confirmed(self, tag: int, *, multiple: bool, ok: bool) -> None:
        # A message that no queue takes is returned just before its own confirm.
        ok, self._unroutable = ok and not self._unroutable, False
        pending = self._pending
        tags = list(takewhile(lambda one: one <= tag, pending)) if multiple else [tag]
        for one in tags:
            sent = pending.pop(one, None)
            if sent is not None:
                self._told(sent, ok)


class _Link:
    """A connection that is logged in, with one channel that confirms: whole frames in, frames out."""

    def __init__(self, url: str, exchange: str) -> None:
        parts = urlsplit(url)
        address = (parts.hostname or "127.0.0.1", parts.port or 5672)
        self.socket = socket.create_connection(address, timeout=_CONNECT_TIMEOUT)
        self._buffer = bytearray()
        self.frame_max = 0
        try:
            self._log_in(parts)
            self.ask(commands.Channel.Open(), _CHANNEL, commands.Channel.OpenOk)
            declare = commands.Exchange.Declare(exchange=exchange, passive=True)
            self.ask(declare, _CHANNEL, commands.Exchange.DeclareOk)
            self.ask(commands.Confirm.Select(), _CHANNEL, commands.Confirm.SelectOk)
        except BaseException:
            self.socket.close()
            raise
        self.socket.settimeout(None)

    def _log_in(self, parts: SplitResult) -> None:
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(frame.marshal(header.ProtocolHeader(), 0))
        self.expect(commands.Connection.Start)
        login = f"\0{unquote(parts.username or 'guest')}\0{unquote(parts.password or 'guest')}"
        hello = commands.Connection.StartOk(client_properties={"product": "incidents-load"}, response=login)
        tune = self.ask(hello, 0, commands.Connection.Tune)
        self.frame_max = tune.frame_max or 131_072
        # No heartbeat: whoever waits for confirms has a bound of its own.
        self.socket.sendall(frame.marshal(commands.Connection.TuneOk(tune.channel_max, self.frame_max, 0), 0))
        self.ask(commands.Connection.Open(unquote(parts.path[1:]) or "/"), 0, commands.Connection.OpenOk)

    def ask(self, request: Frame, channel: int, answer: type[Command]) -> Command:
        """Send a request and wait for its answer."""
        self.socket.sendall(frame.marshal(request, channel))
        return self.expect(answer)

    def expect(self, answer: type[Command]) -> Command:
        """Wait for one method; anything that closes is an error."""
        while True:
            for kind, channel, payload in self.frames():
                said = _command(kind, channel, payload)
                if isinstance(said, answer):
                    return said
                _raise_if_closed(said)

    def frames(self) -> list[tuple[int, int, bytes]]:
        """The whole frames that are here, at least the bytes of one read: (type, channel, payload)."""
        data = self.socket.recv(_RECEIVE)
        if not data:
            raise PublisherError("RabbitMQ closed the connection (user, password and virtual host right?)")
        buffer = self._buffer
        buffer += data
        found, at = [], 0
        while len(buffer) - at >= _HEAD.size:
            kind, channel, size = _HEAD.unpack_from(buffer, at)
            end = at + _HEAD.size + size + 1
            if len(buffer) < end:
                break
            found.append((kind, channel, bytes(buffer[at + _HEAD.size : end - 1])))
            at = end
        del buffer[:at]
        return found


def _raise_if_closed(said: object) -> None:
    if isinstance(said, commands.Connection.Close | commands.Channel.Close):
        raise PublisherError(f"RabbitMQ refused: {said.reply_text}")


def _command(kind: int, channel: int, payload: bytes) -> object:
    return frame.unmarshal(_HEAD.pack(kind, channel, len(payload)) + payload + _FRAME_END)[2]
