"""A real SMTP server (aiosmtpd) that a test can make fail, and what it was given."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


class Mailbox:
    """The handler: `rcpt` and `data` are answers by recipient and for the mail; None lets it pass."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.envelopes: list[Envelope] = []
        self.encrypted: list[bool] = []
        self.rcpt: dict[str, str] = {}
        self.data: str | None = None
        self.hang = False
        self.port = 0
        self.logins: list[tuple[str, bytes, bytes]] = []
        self.password = b"secret"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.rcpt:
            return self.rcpt[address]
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        content = envelope.content
        assert isinstance(content, bytes)
        self.mails.append(message_from_bytes(content, policy=default))
        self.envelopes.append(envelope)
        self.encrypted.append(session.ssl is not None)
        if self.hang:
            await asyncio.sleep(60)
        return self.data or "250 OK"

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, mechanism: str, given: Any
    ) -> AuthResult:
        assert isinstance(given, LoginPassword)
        self.logins.append((mechanism, given.login, given.password))
        return AuthResult(success=given.password == self.password, handled=False)


@asynccontextmanager
async def mail_server(
    starttls: ssl.SSLContext | None = None, implicit: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[Mailbox]:
    mailbox = Mailbox()

    opened: list[asyncio.Transport] = []

    class Server(SMTP):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            if isinstance(transport, asyncio.Transport):
                opened.append(transport)
            super().connection_made(transport)

    def protocol() -> SMTP:
        return Server(
            mailbox,
            hostname="mail.test",
            tls_context=starttls,
            authenticator=mailbox.authenticate,
            enable_SMTPUTF8=True,
            **options,
        )

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, ssl=implicit)
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        server.close()
        for transport in opened:
            transport.abort()
        await asyncio.sleep(0.01)  # what closes does so in the loop's next rounds
        await server.wait_closed()


def server_tls(key: Path, certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context
