"""Connections to the gateway: whoever is slow to ask or to read, or asks with endless headers, is cut off."""

import asyncio
import socket
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar.exceptions import HTTPException
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from streams import metrics
from streams.observe import App, Receive, Scope, Send
from web.problems import MEDIA_TYPE, Problem
from web.room import Room

MAX_HEAD: Final = 64 << 10
HEAD_WITHIN: Final = 20.0
"""Seconds from a connection, or the first byte of another request on it, until the request's headers are there."""
BODY_WITHIN: Final = 30.0
"""Seconds from the headers until the whole body is there."""
READ_WITHIN: Final = 30.0
"""Seconds in which `READ_LEAST` bytes of what is left of an answer, or all of it, are taken."""
READ_LEAST: Final = 32 << 10
_KEPT: Final = 16 << 10
_SENT: Final = 128 << 10
"""Bytes of an answer that are kept here and by the system before more is made; megabytes, if nobody said."""


class SlowBodyError(HTTPException):
    """Raised to whoever reads a body that is not there in time."""

    def __init__(self) -> None:
        super().__init__(
            f"The body was not there within {BODY_WITHIN:g} s", status_code=HTTPStatus.REQUEST_TIMEOUT
        )  # fmt: skip


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which waits only for a while, for headers and for its answers to be read."""

    _waiting: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _unread = 0
    _head = 0
    _has_begun = _in_body = False

    def __init__(self, room: Room, **given: Any) -> None:  # noqa: ANN401 - what uvicorn gives its own
        super().__init__(**given)
        self._room = room

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        transport.set_write_buffer_limits(_KEPT)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT)
        if self._room.has_room(len(self.connections)):
            self._room.wait(self)
            self._wait()
        else:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections are open")

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        self._room.leave(self)
        super().connection_lost(exc)
        self._read_on()

    def cut(self) -> None:
        """End it at once, whatever is not read yet."""
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_by()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_on()

    def data_received(self, data: bytes) -> None:
        if self._waiting is None and self._is_idle():
            self._wait()
        if not self._in_body:  # of a request that was answered before all of it was there
            self._head += len(data)
        super().data_received(data)
        if self._waiting is not None and self._head > MAX_HEAD:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The headers are longer than {MAX_HEAD} bytes")

    def on_message_begin(self) -> None:
        self._has_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._has_begun, self._in_body = False, True
        self._wait_no_more()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()
        if not self._is_idle():
            self._room.leave(self)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._room.wait(self)
        if self.transport.is_closing():
            self._read_by()
        if self._has_begun and self._waiting is None:  # behind the request that was answered
            self._wait()

    def _is_idle(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._read_by()

    def _read_by(self) -> None:
        self._read_on()
        self._unread = self.transport.get_write_buffer_size()
        if self._unread:
            self._reading = self.loop.call_later(READ_WITHIN, self._look)

    def _read_on(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _look(self) -> None:
        unread = self.transport.get_write_buffer_size()
        if self._unread - unread < READ_LEAST:
            metrics.connections_unread.inc()
            self.cut()
            return
        self._read_by()

    def _wait(self) -> None:
        self._head = 0
        self._waiting = self.loop.call_later(HEAD_WITHIN, self._give_up)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        if self._has_begun:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"The headers were not there within {HEAD_WITHIN:g} s")
        else:
            self.transport.close()
            self._read_by()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        self._wait_no_more()
        if self.transport.is_closing():
            return
        body = msgspec.json.encode(Problem(title=status.phrase, status=status, detail=detail))
        head = (
            f"HTTP/1.1 {int(status)} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
        self._read_by()


def in_time(app: App) -> App:
    """The app, which hears of a body that does not come.

    Raises:
        SlowBodyError: to whoever receives it.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        until = asyncio.get_running_loop().time() + BODY_WITHIN
        is_whole = is_late = False

        async def received() -> MutableMapping[str, Any]:
            nonlocal is_whole, is_late
            if is_whole:
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError as error:
                is_late = True
                raise SlowBodyError from error
            is_whole = not message.get("more_body", False)
            return message

        async def sending(message: MutableMapping[str, Any]) -> None:
            if is_late and message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await app(scope, received, sending)

    return wrapped
