"""Reads a request's body within bounds: its size, unpacked too, and what all requests together may hold."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final

from streams import metrics
from streams.observe import Receive, Scope
from web.connection import SlowBodyError

MAX_HELD: Final = 64 * 1024 * 1024
_GZIP: Final = 31
_DRAINED: Final = 2 << 20
_DRAINED_WITHIN: Final = 1.0
_JSON_TYPES: Final = (b"application/json", b"text/json")


class BodyError(Exception):
    """Raised for a body that is not read; `busy` when it was not the body's fault."""

    def __init__(self, status: HTTPStatus, detail: str, *, busy: bool = False) -> None:
        super().__init__(detail)
        self.status = status
        self.busy = busy


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The request's headers; of a repeated one the last."""
    return dict(scope["headers"])


async def is_drained(receive: Receive) -> bool:
    """Whether a body that nobody wants is read to its end, within bounds: a connection that is closed before may be
    reset, and its answer lost.
    """
    left = _DRAINED
    try:
        async with asyncio.timeout(_DRAINED_WITHIN):
            while left >= 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return True
    except TimeoutError:
        pass
    return False


class BodyReader:
    """Reads bodies of at most `limit` bytes; together they hold at most `MAX_HELD`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        metrics.buffer_fill_ratio.labels("bodies").set_function(lambda: self._held / MAX_HELD)

    @contextlib.asynccontextmanager
    async def read(self, headers: dict[bytes, bytes], receive: Receive) -> AsyncIterator[bytes]:
        """The body, unpacked; its memory counts as held inside the block.

        Raises:
            BodyError: too large, of another type or encoding, cut off, or too much is held already.
        """
        packed = _is_packed(headers)
        _check_type(headers)
        self._check_length(headers)
        held = _Held(self)
        try:
            body = await self._received(receive, held)
            yield self._unpacked(body, held) if packed else body
        finally:
            self._held -= held.size

    def _check_length(self, headers: dict[bytes, bytes]) -> None:
        said = headers.get(b"content-length", b"")
        if said.isdigit() and int(said) > self._limit:
            raise self._too_large()

    def _too_large(self) -> BodyError:
        return BodyError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"body: longer than {self._limit} bytes")

    def hold(self, size: int) -> None:
        """Count `size` more bytes as held."""
        if self._held + size > MAX_HELD:
            raise BodyError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests are being read", busy=True)
        self._held += size

    async def _received(self, receive: Receive, held: "_Held") -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            try:
                message = await receive()
            except SlowBodyError as error:
                raise BodyError(HTTPStatus.REQUEST_TIMEOUT, f"body: {error.detail}") from error
            if message["type"] == "http.disconnect":
                raise BodyError(HTTPStatus.BAD_REQUEST, "body: the sender went away")
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self._limit:
                raise self._too_large()
            held.grow(len(chunk))
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _unpacked(self, body: bytes, held: "_Held") -> bytes:
        unpacker = zlib.decompressobj(_GZIP)
        try:
            text = unpacker.decompress(body, self._limit + 1)
        except zlib.error as error:
            raise BodyError(HTTPStatus.BAD_REQUEST, f"body: is not gzip: {error}") from error
        if len(text) > self._limit:
            raise self._too_large()
        if not unpacker.eof:
            raise BodyError(HTTPStatus.BAD_REQUEST, "body: the gzip data is cut short")
        held.grow(len(text))
        return text


class _Held:
    """What one request holds of the reader's memory."""

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader
        self.size = 0

    def grow(self, size: int) -> None:
        self._reader.hold(size)
        self.size += size


def _is_packed(headers: dict[bytes, bytes]) -> bool:
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding in {b"", b"identity"}:
        return False
    if encoding in {b"gzip", b"x-gzip"}:
        return True
    raise BodyError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Encoding: only gzip is understood")


def _check_type(headers: dict[bytes, bytes]) -> None:
    said = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if said and said not in _JSON_TYPES and not said.endswith(b"+json"):
        raise BodyError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type: must be application/json")
