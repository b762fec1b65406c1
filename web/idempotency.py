"""A POST with an Idempotency-Key is done once: whoever repeats it within a day gets the first one's answer.

Only what went well and is final is kept. Another request under a used key is refused. What senders of alerts mean by
the header is theirs: it names the event.
"""

import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog

from sinks import answer_rows
from sinks.answer_rows import KeptAnswer
from streams.observe import App, Receive, Scope, Send
from web.connection import SlowBodyError
from web.database import Database, DatabaseAwayError, UnkeptTextError
from web.http_body import headers_of
from web.principal import KEY, Principal, anonymous
from web.problems import MEDIA_TYPE, RETRY_AFTER, Problem

MAX_KEY: Final = 255
_PREFIX: Final = "/api/v1/"
_NOT: Final = frozenset({"/api/v1/session", "/api/v1/session/password"})
_SECRETS: Final = frozenset({"/api/v1/tokens", "/api/v1/users"})
"""Their answers hold what is shown once, and are never kept."""
_MOST_KEPT: Final = 1 << 20

log = structlog.get_logger(__name__)


def idempotent(app: App, database: Database, limit: int) -> App:
    """The app, which does a POST under one key once; bodies have at most `limit` bytes."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        key = _key_of(scope)
        if not key:
            await app(scope, receive, send)
            return
        if len(key) > MAX_KEY or not key.isprintable():
            await _refuse(send, HTTPStatus.BAD_REQUEST, f"Idempotency-Key: at most {MAX_KEY} printable characters")
            return
        try:
            body = await _body_of(receive, limit)
        except SlowBodyError as error:
            await _refuse(send, HTTPStatus.REQUEST_TIMEOUT, error.detail)
            return
        if body is None:
            await _refuse(send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"body: longer than {limit} bytes")
            return
        actor, request = _actor_of(scope), _hashed(scope, body)
        try:
            async with database.writing() as conn:
                kept = await answer_rows.take(conn, actor, key, request)
        except (DatabaseAwayError, UnkeptTextError) as error:
            await _refuse(send, HTTPStatus.SERVICE_UNAVAILABLE, str(error))
            return
        if kept is not None:
            await _repeat(send, kept, request)
            return
        answer = _Answer(send, lambda known: _settle(database, actor, key, known, scope["path"]))
        try:
            await app(scope, _given(body, receive), answer)
        finally:
            await answer.settled()

    return wrapped


class _Answer:
    """Remembers an answer, and sends it on once it is settled: whoever has it may repeat the request at once."""

    def __init__(self, send: Send, settle: Callable[["_Answer"], Awaitable[None]]) -> None:
        self._send = send
        self._settle = settle
        self._is_settled = False
        self._held: list[MutableMapping[str, Any]] = []
        self.status = 0
        self.content_type = self.etag = ""
        self.body = b""

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = dict(message["headers"])
            self.content_type = headers.get(b"content-type", b"").decode("latin-1")
            self.etag = headers.get(b"etag", b"").decode("latin-1")
        elif len(self.body) <= _MOST_KEPT:
            self.body += message.get("body", b"")
        self._held.append(message)
        if message["type"] == "http.response.start":
            return
        if not message.get("more_body", False):
            await self.settled()
        held, self._held = self._held, []
        for one in held:
            await self._send(one)

    async def settled(self) -> None:
        """Keep it, or give the key back, the first time this is called."""
        if not self._is_settled:
            self._is_settled = True
            await self._settle(self)

    @property
    def is_final(self) -> bool:
        """Whether a repeat may be answered the same for a day."""
        is_good = HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES and self.status != HTTPStatus.ACCEPTED
        return is_good and len(self.body) <= _MOST_KEPT


async def _settle(database: Database, actor: str, key: str, answer: _Answer, path: str) -> None:
    """Keep the answer, or give the key back."""
    try:
        async with database.writing() as conn:
            if not answer.is_final:
                await answer_rows.release(conn, actor, key)
            elif path in _SECRETS:
                said = Problem(title="Conflict", status=409, detail="Idempotency-Key: used; secrets are shown once")
                await answer_rows.keep(conn, actor, key, 409, MEDIA_TYPE, msgspec.json.encode(said))
            else:
                await answer_rows.keep(conn, actor, key, answer.status, answer.content_type, answer.body, answer.etag)
    except DatabaseAwayError as error:
        log.warning("answer_not_kept", path=path, reason=str(error))


async def _repeat(send: Send, kept: KeptAnswer, request: bytes) -> None:
    if kept.request != request:
        await _refuse(send, HTTPStatus.UNPROCESSABLE_ENTITY, "Idempotency-Key: it was used for another request")
    elif kept.status is None:
        await _refuse(send, HTTPStatus.CONFLICT, "Idempotency-Key: the first request under it is under way")
    else:
        tag = [(b"etag", kept.etag.encode("latin-1"))] if kept.etag else []
        await _respond(send, kept.status, kept.content_type, kept.body, (b"idempotent-replayed", b"true"), *tag)


def _key_of(scope: Scope) -> str:
    if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] in _NOT:
        return ""
    if not scope["path"].startswith(_PREFIX):
        return ""
    return headers_of(scope).get(b"idempotency-key", b"").decode("latin-1").strip()


def _actor_of(scope: Scope) -> str:
    found = scope.get(KEY)
    who = found if isinstance(found, Principal) else anonymous("")
    return f"{who.kind}:{who.name}"


def _hashed(scope: Scope, body: bytes) -> bytes:
    said = b"\n".join((scope["path"].encode("utf-8", "surrogatepass"), scope.get("query_string", b""), body))
    return hashlib.sha256(said).digest()


async def _body_of(receive: Receive, limit: int) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return bytes(body)


def _given(body: bytes, receive: Receive) -> Receive:
    """A body that was read, to be read again."""
    left = [body]

    async def again() -> MutableMapping[str, Any]:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return again


async def _refuse(send: Send, status: HTTPStatus, detail: str) -> None:
    body = msgspec.json.encode(Problem(title=status.phrase, status=status, detail=detail))
    await _respond(send, status, MEDIA_TYPE, body, (b"retry-after", RETRY_AFTER.encode()))


async def _respond(send: Send, status: int, content_type: str, body: bytes, *more: tuple[bytes, bytes]) -> None:
    headers = [
        (b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"), *more,
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
