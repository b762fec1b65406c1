"""Mail against a real server: what it answers, how it fails, and that nothing goes out in clear that must not."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sinks.email import Email
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from streams import trace_context
from tests.sinks.certificates import self_signed
from tests.sinks.smtp_server import mail_server, server_tls
from tests.sinks.tellings import TASK, TRACE, telling

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Certificate:
    key: Path
    file: Path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("tls")
    made = Certificate(folder / "key.pem", folder / "cert.pem")
    self_signed(made.key, made.file)
    return made


def options(port: int, **given: Any) -> dict[str, Any]:
    return {
        "smarthost": f"127.0.0.1:{port}",
        "from": "Incidents <incidents@example.org>",
        "to": "ann@example.org, Bob <bob@example.org>",
        "hello": "incidents.example.org",
        "require_tls": False,
        "headers": {"Subject": "{{ .Title }}"},
        "html": "<h1>{{ .Title }}</h1>",
        "text": "{{ .Title }}",
        **given,
    }


async def sent(port: int, *, email: Email | None = None, title: str = "Down", **given: Any) -> Outcome:
    return await (email or Email(2.0)).tell(telling(options(port, **given), title=title))


async def test_a_mail_has_both_parts_a_stable_id_and_the_incident_s_thread() -> None:
    async with mail_server() as box:
        for _ in range(2):
            assert isinstance(await sent(box.port, title="Größe <b>"), Sent)
    first, again = box.mails
    assert first["Message-ID"] == again["Message-ID"] == f"<{TASK}@example.org>"
    assert first["References"] == first["In-Reply-To"] == "<i@example.org>"
    assert first["Subject"] == "Größe <b>"
    assert first["To"] == "ann@example.org, Bob <bob@example.org>"
    assert first.as_bytes() == again.as_bytes()
    plain, html = first.iter_parts()
    assert (plain.get_content_type(), plain.get_content().strip()) == ("text/plain", "Größe <b>")
    assert (html.get_content_type(), html.get_content().strip()) == ("text/html", "<h1>Größe &lt;b&gt;</h1>")
    assert box.envelopes[0].mail_from == "incidents@example.org"
    assert box.envelopes[0].rcpt_tos == ["ann@example.org", "bob@example.org"]


async def test_a_mail_carries_the_trace_that_it_is_sent_in() -> None:
    async with mail_server() as box:
        await sent(box.port)
        trace_context.current.set(TRACE)
        await sent(box.port, headers={"Traceparent": "{{ .Title }}"})
    assert [mail.get_all("traceparent") for mail in box.mails] == [None, [TRACE]]


@pytest.mark.parametrize("field", ["subject", "header", "to", "from"])
@pytest.mark.parametrize(
    "hostile", ["x\r\nBcc: eve@example.org\r\n\r\nbody", "x\nSubject: other", "x\rTo: eve@example.org", "a\x00\u2028b"]
)
async def test_line_breaks_in_a_field_start_no_header(field: str, hostile: str) -> None:
    headers = {"Subject": "s", "X-Team": "t"}
    given: dict[str, Any] = {"headers": headers}
    if field == "subject":
        headers["Subject"] = "{{ .Title }}"
    elif field == "header":
        headers["X-Team"] = "{{ .Title }}"
    else:
        given[field] = '"{{ .Title }}" <ann@example.org>'
    async with mail_server() as box:
        assert isinstance(await sent(box.port, title=hostile, **given), Sent)
    [made] = box.mails
    assert len(made.get_all("Subject") or []) == 1
    assert made["Bcc"] is None
    assert "eve@example.org" not in box.envelopes[0].rcpt_tos
    assert made.is_multipart()


@pytest.mark.parametrize("given", [{"to": "nobody at all"}, {"from": "{{ .Title }}"}, {"to": ""}])
async def test_without_a_usable_address_there_is_no_mail(given: dict[str, Any]) -> None:
    async with mail_server() as box:
        outcome = await sent(box.port, **given)
    assert (type(outcome), outcome.reason, box.mails) == (Failed, Reason.BAD_NOTICE, [])


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        ("421 closing", RetryLater, Reason.SERVER_ERROR),
        ("450 busy", RetryLater, Reason.SERVER_ERROR),
        ("451 local error", RetryLater, Reason.SERVER_ERROR),
        ("452 full", RetryLater, Reason.SERVER_ERROR),
        ("550 no", Failed, Reason.CLIENT_ERROR),
        ("552 too large", Failed, Reason.CLIENT_ERROR),
        ("554 spam", Failed, Reason.CLIENT_ERROR),
        ("530 log in", Failed, Reason.AUTH),
    ],
)
@pytest.mark.parametrize("at", ["rcpt", "data"])
async def test_every_refusal_of_a_server_has_its_outcome(
    at: str, answer: str, kind: type[Outcome], reason: Reason
) -> None:
    async with mail_server() as box:
        if at == "rcpt":
            box.rcpt = dict.fromkeys(("ann@example.org", "bob@example.org"), answer)
            reason = Reason.CLIENT_ERROR if reason is Reason.AUTH else reason
        else:
            box.data = answer
        outcome = await sent(box.port)
    assert isinstance(outcome, kind)
    if not (at == "rcpt" and answer.startswith("421")):  # after which the server is gone
        assert outcome.reason is reason
        assert answer[:3] in outcome.detail


async def test_one_bad_recipient_does_not_lose_the_rest() -> None:
    async with mail_server() as box:
        box.rcpt = {"bob@example.org": "550 no such user"}
        outcome = await sent(box.port)
    assert isinstance(outcome, Sent)
    assert "bob@example.org: 550" in outcome.detail
    assert box.envelopes[0].rcpt_tos == ["ann@example.org"]


async def test_who_has_a_mail_does_not_get_it_again_while_another_waits() -> None:
    email = Email(2.0)
    async with mail_server() as box:
        box.rcpt = {"bob@example.org": "450 greylisted"}
        for _ in range(2):
            outcome = await sent(box.port, email=email)
            assert (type(outcome), outcome.reason) == (RetryLater, Reason.SERVER_ERROR)
        box.rcpt = {}
        assert isinstance(await sent(box.port, email=email), Sent)
    assert [one.rcpt_tos for one in box.envelopes] == [["ann@example.org"], ["bob@example.org"]]


async def test_a_server_that_hangs_after_the_data_is_left_at_the_deadline_and_the_mail_comes_again() -> None:
    async with mail_server() as box:
        box.hang = True
        began = time.monotonic()
        outcome = await sent(box.port, email=Email(0.7))
        assert (type(outcome), outcome.reason) == (RetryLater, Reason.TIMEOUT)
        assert time.monotonic() - began < 30
        box.hang = False
        assert isinstance(await sent(box.port), Sent)
    assert box.mails[0]["Message-ID"] == box.mails[1]["Message-ID"]


async def test_starttls_is_used_when_it_is_required(certificate: Certificate) -> None:
    async with mail_server(starttls=server_tls(certificate.key, certificate.file)) as box:
        email = Email(2.0, str(certificate.file))
        assert isinstance(await sent(box.port, email=email, require_tls=True), Sent)
    assert box.encrypted == [True]


async def test_a_server_without_starttls_gets_nothing_when_it_is_required() -> None:
    async with mail_server() as box:
        outcome = await sent(box.port, require_tls=True, auth_username="u", auth_password="p")
    assert (type(outcome), outcome.reason) == (RetryLater, Reason.TLS)
    assert (box.mails, box.logins) == ([], [])


async def test_tls_from_the_start(certificate: Certificate) -> None:
    async with mail_server(implicit=server_tls(certificate.key, certificate.file)) as box:
        trusting = Email(2.0, str(certificate.file))
        assert isinstance(await sent(box.port, email=trusting, implicit_tls=True), Sent)
        skipping = await sent(box.port, implicit_tls=True, tls_config={"insecure_skip_verify": True})
        assert isinstance(skipping, Sent)
        doubting = await sent(box.port, implicit_tls=True)
        assert (type(doubting), doubting.reason) == (RetryLater, Reason.TLS)
        other = await sent(box.port, email=trusting, implicit_tls=True, tls_config={"server_name": "other.example.org"})
        assert (type(other), other.reason) == (RetryLater, Reason.TLS)
    assert len(box.mails) == 2


async def test_a_certificate_that_nobody_vouches_for_ends_starttls(certificate: Certificate) -> None:
    async with mail_server(starttls=server_tls(certificate.key, certificate.file)) as box:
        outcome = await sent(box.port, require_tls=True)
    assert (type(outcome), outcome.reason, box.mails) == (RetryLater, Reason.TLS, [])


@pytest.mark.parametrize("way", ["LOGIN", "PLAIN"])
async def test_it_logs_in_the_way_the_server_offers(way: str) -> None:
    others = [other for other in ("LOGIN", "PLAIN") if other != way]
    async with mail_server(auth_require_tls=False, auth_exclude_mechanism=others) as box:
        assert isinstance(await sent(box.port, auth_username="user", auth_password="secret"), Sent)
        wrong = await sent(box.port, auth_username="user", auth_password="wrong")
        assert (type(wrong), wrong.reason) == (Failed, Reason.AUTH)
    assert box.logins == [(way, b"user", b"secret"), (way, b"user", b"wrong")]
    assert len(box.mails) == 1


async def test_a_relay_that_asks_for_no_login_is_given_the_mail_and_no_password() -> None:
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (b"220 hello\r\n", b"250 mail.test\r\n", b"250 ok\r\n"):
            writer.write(answer)
            await writer.drain()
            heard.append(await reader.readuntil(b"\r\n"))

    async with talking(talk) as port:
        await sent(port, auth_username="user", auth_password="never")
    assert heard[1].startswith(b"MAIL FROM:<incidents@example.org>")
    assert b"never" not in b"".join(heard)


async def test_who_a_mail_is_from_may_be_written_as_a_header() -> None:
    async with mail_server() as box:
        headers = {"from": "Ops {{ .Title }} <ops@example.org>"}
        assert isinstance(await sent(box.port, headers=headers), Sent)
        assert isinstance(await sent(box.port, headers={"From": "no address"}), Sent)
    assert [mail["From"] for mail in box.mails] == [
        "Ops Down <ops@example.org>",
        "Incidents <incidents@example.org>",
    ]


@contextlib.asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[int]:
    """A server that says what a test tells it."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await talk(reader, writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.get_running_loop().create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def saying(*answers: bytes) -> Talk:
    """Greets with the first answer, and gives one more for each line that comes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            writer.write(answer)
            await writer.drain()
            await reader.readuntil(b"\r\n")

    return talk


async def late(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


EHLO = b"250-mail.test\r\n250-AUTH CRAM-MD5 PLAIN\r\n250 STARTTLS\r\n"


async def cut_at_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for answer in (b"220 hello\r\n", EHLO):
        writer.write(answer)
        await reader.readuntil(b"\r\n")
    writer.write(b"220 go\r\n")
    await reader.read(5)


@pytest.mark.parametrize(
    ("talk", "kind", "reason"),
    [
        (late, RetryLater, Reason.TIMEOUT),
        (saying(), RetryLater, Reason.NETWORK),
        (saying(b"421 busy\r\n"), RetryLater, Reason.SERVER_ERROR),
        (saying(b"554 go away\r\n"), Failed, Reason.CLIENT_ERROR),
        (saying(b"what is this\r\n", b""), RetryLater, Reason.NETWORK),
        (saying(b"220 hello\r\n", EHLO, b"454 not now\r\n", b"221 bye\r\n"), RetryLater, Reason.SERVER_ERROR),
        (saying(b"220 hello\r\n", EHLO), RetryLater, Reason.NETWORK),
        (cut_at_tls, RetryLater, Reason.NETWORK),
    ],
    ids=["greets late", "cut", "421", "554", "no SMTP", "STARTTLS refused", "cut at STARTTLS", "TLS cut"],
)
async def test_a_dialogue_that_breaks_has_its_outcome(talk: Talk, kind: type[Outcome], reason: Reason) -> None:
    async with talking(talk) as port:
        outcome = await sent(port, email=Email(0.7), require_tls=True)
    assert (type(outcome), outcome.reason) == (kind, reason)


async def test_cram_md5_answers_the_server_s_challenge_and_sends_no_password() -> None:
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (b"220 hello\r\n", EHLO, b"334 PDE4OTYuNjk3MTcwOTUyQG1haWw+\r\n", b"235 ok\r\n"):
            writer.write(answer)
            await writer.drain()
            heard.append(await reader.readuntil(b"\r\n"))

    async with talking(talk) as port:
        await sent(port, auth_username="tim", auth_secret="tanstaafl", auth_password="never")
    assert heard[1].strip().upper() == b"AUTH CRAM-MD5"
    assert b"never" not in b"".join(heard)
    assert heard[3].startswith(b"MAIL FROM:<incidents@example.org>")


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "2852039166", "0.0.0.0"])
async def test_a_mail_server_is_judged_by_its_address(host: str) -> None:
    outcome = await Email(1.0).tell(telling(options(25, smarthost=f"{host}:25")))
    assert (type(outcome), outcome.reason) == (Failed, Reason.REFUSED_TARGET)


async def test_nobody_listening_is_a_network_error() -> None:
    outcome = await sent(1)
    assert (type(outcome), outcome.reason) == (RetryLater, Reason.NETWORK)
