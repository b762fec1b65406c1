"""Connections to the gateway: whoever is slow to ask, or asks with endless headers, is cut off."""

import asyncio
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar.exceptions import HTTPException
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from streams.observe import App, Receive, Scope, Send
from web.problems import MEDIA_TYPE, Problem

MAX_HEAD: Final = 64 << 10
HEAD_WITHIN: Final = 20.0
"""Seconds from a connection, or the first byte of another request on it, until the request's headers are there."""
BODY_WITHIN: Final = 30.0
"""Seconds from the headers until the whole body is there."""


class SlowBodyError(HTTPException):
    """Raised to whoever reads a body that is not there in time."""

    def __init__(self) -> None:
        super().__init__(
            f"The body was not there within {BODY_WITHIN:g} s", status_code=HTTPStatus.REQUEST_TIMEOUT
        )  # fmt: skip


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which waits for headers only for a while and takes only so many of them."""

    _waiting: asyncio.TimerHandle | None = None
    _head = 0
    _has_begun = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._waiting is None and self._is_idle():
            self._wait()
        self._head += len(data)
        super().data_received(data)
        if self._waiting is not None and self._head > MAX_HEAD:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The headers are longer than {MAX_HEAD} bytes")

    def on_message_begin(self) -> None:
        self._has_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._has_begun = False
        self._wait_no_more()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._has_begun and self._waiting is None:  # behind the request that was answered
            self._wait()

    def _is_idle(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

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
