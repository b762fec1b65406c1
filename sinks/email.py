"""The e-mail channel: one SMTP dialogue for each notice.

With `require_tls` nothing goes out in clear: a server that offers no STARTTLS,
or one that somebody between has cut it out of, gets no mail. Of several
recipients one that is refused does not lose the rest.
"""

import asyncio
import contextlib
import socket
import ssl
import uuid
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import aiosmtplib
import httpcore

from sinks.addresses import RefusedAddressError, connected_socket
from sinks.channel import Telling
from sinks.mail_message import Mail, UnusableMailError, mail
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from sinks.tls import client_context
from streams import trace_context

SUBMISSIONS: Final = 465
_GOODBYE: Final = 1.0
_REMEMBERED: Final = 10_000
_MAX_DETAIL: Final = 300
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_AUTH_CODES: Final = frozenset({530, 534, 535, 538})

Refused = dict[str, tuple[int, str]]


class NoTlsError(Exception):
    """Raised where mail or password would have to go in clear and may not."""


class Email:
    """Sends mails; one for each process. `deadline` is of a whole dialogue [s]."""

    def __init__(self, deadline: float, trusted: str | None = None) -> None:
        self._deadline = deadline
        self._trusted = trusted
        self._had: OrderedDict[uuid.UUID, set[str]] = OrderedDict()  # who has a mail that others wait for

    async def tell(self, telling: Telling) -> Outcome:
        """Send to all who have not had it."""
        try:
            written = mail(telling, trace_context.current.get())
            async with asyncio.timeout(self._deadline):
                refused = await self._dialogue(telling, written)
        except TimeoutError:
            return RetryLater(Reason.TIMEOUT, f"not done within {self._deadline:g} s")
        except UnusableMailError as error:
            return Failed(Reason.BAD_NOTICE, str(error))
        except (aiosmtplib.SMTPException, NoTlsError, httpcore.ConnectError, OSError, ValueError) as error:
            return of_error(error)
        return self._of_recipients(telling.id, written, refused)

    async def _dialogue(self, telling: Telling, written: Mail) -> Refused:
        options = telling.options
        host, _, port = options["smarthost"].rpartition(":")
        host = host.strip("[]")
        tls = options.get("tls_config") or {}
        implicit = options.get("implicit_tls")
        implicit = int(port) == SUBMISSIONS if implicit is None else bool(implicit)
        client = aiosmtplib.SMTP(
            hostname=tls.get("server_name") or host,
            sock=await connected_socket(host, int(port)),
            local_hostname=options.get("hello") or "localhost",
            use_tls=implicit,
            start_tls=False,
            tls_context=client_context(tls, self._trusted),
            timeout=None,
        )
        try:
            await client.connect()
            if not implicit:
                await _encrypt(client, required=options.get("require_tls", True))
            await _log_in(client, options, is_private=_is_private(client, host))
            had = self._had.get(telling.id, set())
            refused, _ = await client.sendmail(
                written.sender, [one for one in written.recipients if one not in had], written.data
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            return {one.recipient: (one.code, one.message) for one in error.recipients}
        finally:
            await _leave(client)
        return {name: (answer.code, answer.message) for name, answer in refused.items()}

    def _of_recipients(self, task: uuid.UUID, written: Mail, refused: Refused) -> Outcome:
        detail = "; ".join(f"{name}: {code} {text}" for name, (code, text) in sorted(refused.items()))[:_MAX_DETAIL]
        later = [name for name, (code, _) in refused.items() if code < 500]  # noqa: PLR2004 - the class of codes
        had = self._had.pop(task, set()) | (set(written.recipients) - refused.keys())
        if later:
            if had:
                self._had[task] = had
                while len(self._had) > _REMEMBERED:
                    self._had.popitem(last=False)
            return RetryLater(Reason.SERVER_ERROR, detail)
        if not had:
            return Failed(Reason.CLIENT_ERROR, detail)
        return Sent(f"not to {detail}" if detail else "250")


def of_error(error: Exception) -> Outcome:
    """What it means that the dialogue ended early."""
    text = " ".join(str(error).split())[:_MAX_DETAIL]
    if isinstance(error, RefusedAddressError):
        return Failed(Reason.REFUSED_TARGET, text)
    if isinstance(error, NoTlsError | ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return RetryLater(Reason.TLS, text)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return _of_code(error.code, f"{error.code} {error.message}"[:_MAX_DETAIL])
    if isinstance(error, aiosmtplib.SMTPNotSupported | ValueError):
        return Failed(Reason.CLIENT_ERROR, text)
    return RetryLater(Reason.NETWORK, f"{type(error).__name__}: {text}"[:_MAX_DETAIL])


def _of_code(code: int, detail: str) -> Outcome:
    if code in _AUTH_CODES:
        return Failed(Reason.AUTH, detail)
    if 400 <= code < 500:  # noqa: PLR2004 - the class of codes
        return RetryLater(Reason.SERVER_ERROR, detail)
    if code >= 500:  # noqa: PLR2004
        return Failed(Reason.CLIENT_ERROR, detail)
    return RetryLater(Reason.NETWORK, detail)


async def _encrypt(client: aiosmtplib.SMTP, *, required: bool) -> None:
    if not required:
        return
    await client.ehlo()
    if not client.supports_extension("starttls"):
        raise NoTlsError("the server offers no STARTTLS, and require_tls is on")
    await client.starttls()


async def _log_in(client: aiosmtplib.SMTP, options: Mapping[str, Any], *, is_private: bool) -> None:
    """The first way that the server offers and we have what it takes for; a server that offers none needs none."""
    user, password, secret = (options.get(f"auth_{name}") or "" for name in ("username", "password", "secret"))
    if not user:
        return
    await client.ehlo()
    if not client.supports_extension("auth"):
        return  # a relay that knows us by our address
    for way in client.supported_auth_methods:
        if way == "cram-md5" and secret:
            await client.auth_crammd5(user, secret)
            return
        if way in {"plain", "login"} and password:
            if not is_private:
                raise NoTlsError("a password is not sent over a connection that is not encrypted")
            await (_auth_plain(client, options) if way == "plain" else client.auth_login(user, password))
            return
    raise aiosmtplib.SMTPAuthenticationError(535, "the server offers no way to log in that the settings allow")


async def _auth_plain(client: aiosmtplib.SMTP, options: Mapping[str, Any]) -> None:
    parts = (options.get("auth_identity") or "", options["auth_username"], options["auth_password"])
    answer = await client.execute_command(b"AUTH", b"PLAIN", b64encode("\0".join(parts).encode()))
    if answer.code != aiosmtplib.SMTPStatus.auth_successful:
        raise aiosmtplib.SMTPAuthenticationError(answer.code, answer.message)


def _is_private(client: aiosmtplib.SMTP, host: str) -> bool:
    return client.get_transport_info("sslcontext") is not None or host in _LOOPBACK


async def _leave(client: aiosmtplib.SMTP) -> None:
    """Say goodbye, not for long: how the mail ended is known by now."""
    with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError, socket.error):
        async with asyncio.timeout(_GOODBYE):
            await client.quit()
    client.close()
