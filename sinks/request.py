"""One HTTP request as data, and what an answer to it means: every status, every error; pure."""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import msgspec

from sinks.addresses import RefusedAddressError
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent

_MAX_DETAIL: Final = 300
_JSON: Final = "application/json"

encode = msgspec.json.Encoder().encode


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent where. `options` are the integration's `http_config`; `key` is the idempotency key, if any.

    Of a `secret` body no other origin is told.
    """

    url: str
    key: str
    body: bytes
    options: Mapping[str, Any] = {}
    headers: Mapping[str, str] = {}
    content_type: str = _JSON
    method: str = "POST"
    secret: bool = False

    def __repr__(self) -> str:
        return f"Request({self.method}, {self.key})"


class Answer(msgspec.Struct, frozen=True):
    """What a target answered; of a large or slow body only the start is there."""

    status: int
    retry_after: str | None
    body: bytes

    @property
    def outcome(self) -> Outcome:
        """What the status says, with the start of the body quoted."""
        return of_status(self.status, self.retry_after, quoted(self.body), datetime.now(UTC))

    def json(self) -> Mapping[str, Any]:
        """The body as a JSON object; empty where it is none."""
        try:
            said = msgspec.json.decode(self.body)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return {}
        return said if isinstance(said, dict) else {}


def of_status(status: int, retry_after: str | None, said: str, now: datetime) -> Outcome:
    """What an HTTP answer means: 2xx is taken, 429 and 5xx may pass later, all else never will."""
    detail = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    if 200 <= status < 300:  # noqa: PLR2004 - the class of codes
        return Sent(f"HTTP {status}")
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return RetryLater(Reason.RATE_LIMITED, detail, wish(retry_after, now))
    if status >= 500:  # noqa: PLR2004
        return RetryLater(Reason.SERVER_ERROR, detail, wish(retry_after, now))
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.PROXY_AUTHENTICATION_REQUIRED}:
        return Failed(Reason.AUTH, detail)
    if 300 <= status < 400:  # noqa: PLR2004
        return Failed(Reason.REDIRECTED, detail)
    return Failed(Reason.CLIENT_ERROR, detail)


def wish(retry_after: str | None, now: datetime) -> timedelta | None:
    """How long `Retry-After` asks to wait: seconds or a date; None where it says nothing usable."""
    text = (retry_after or "").strip()
    whole, _, part = text.partition(".")
    if whole.isascii() and whole.isdecimal() and (not part or (part.isascii() and part.isdecimal())):
        return timedelta(seconds=min(float(f"{whole[:9]}.{part[:3] or 0}"), 86_400))
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(timedelta(0), min(at - now, timedelta(days=1)))


def of_error(error: Exception) -> Outcome:
    """What it means that there was no answer; no text of it tells the address, which may be secret."""
    chain = _causes(error)
    if any(isinstance(cause, RefusedAddressError) for cause in chain):
        return Failed(Reason.REFUSED_TARGET, "the target's address is not one that notices may go to")
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        return RetryLater(Reason.TLS, str(error)[:_MAX_DETAIL])
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL | ValueError):
        return Failed(Reason.REFUSED_TARGET, f"the target is not a usable URL: {type(error).__name__}")
    if isinstance(error, httpx.TooManyRedirects):
        return Failed(Reason.REDIRECTED, str(error))
    if isinstance(error, httpx.LocalProtocolError):
        return Failed(Reason.BAD_NOTICE, "a header has letters that may not stand there")
    return RetryLater(Reason.NETWORK, f"{type(error).__name__}: {error}"[:_MAX_DETAIL])


def quoted(body: bytes) -> str:
    """The start of what a target said, on one line."""
    text = body[: 4 * _MAX_DETAIL].decode(errors="replace")
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()[:_MAX_DETAIL]


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
