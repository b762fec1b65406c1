"""A notice as an e-mail: plain and HTML parts, a Message-ID that is the same at every attempt, one thread an incident.

What came from outside is cleaned before it gets into a header. Pure.
"""

from collections.abc import Mapping
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, getaddresses
from typing import Final

import msgspec

from sinks.channel import Telling
from sinks.wording import account, cut, headline

MAX_SUBJECT: Final = 400
MAX_PART: Final = 1 << 20
_SUBJECT: Final = '{{ template "email.default.subject" . }}'
_OURS: Final = frozenset(
    {
        "message-id", "date", "from", "to", "subject", "mime-version", "content-type", "content-transfer-encoding",
        "content-disposition", "traceparent",
    }
)  # fmt: skip
# Servers that cannot take eight bits are still about.
_POLICY: Final = SMTP.clone(cte_type="7bit")


class UnusableMailError(ValueError):
    """Raised for a mail that nobody can be sent: no sender or no recipient."""


class Mail(msgspec.Struct, frozen=True):
    """The envelope and the message's bytes."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes


def mail(telling: Telling, trace: str = "") -> Mail:
    """Write the mail; `trace` is the W3C context that it is sent in, empty where there is none.

    Raises:
        UnusableMailError: the sender or every recipient is no address.
    """
    senders, recipients = _addresses(telling.option("from")), _addresses(telling.option("to"))
    if not senders or not recipients:
        raise UnusableMailError("the sender or the recipients are no addresses")
    made = EmailMessage(_POLICY)
    headers = {name: cleaned(telling.texts.text(text)) for name, text in telling.options.get("headers", {}).items()}
    domain = senders[0].domain or "localhost"
    named = {name.lower(): value for name, value in headers.items()}
    made["Message-ID"] = f"<{telling.id}@{domain}>"
    made["Date"] = format_datetime(telling.made_at)
    made["From"] = _addresses(named.get("from", "")) or senders[0]
    made["To"] = _addresses(named.get("to", "")) or recipients
    subject = named.get("subject") or cleaned(telling.texts.text(_SUBJECT)) or headline(telling.notice)
    made["Subject"] = cut(subject, MAX_SUBJECT)
    _thread(made, telling, domain, named)
    if trace:
        made["traceparent"] = trace
    _others(made, headers)
    made.set_content(_plain(telling))
    html = telling.texts.html(telling.options.get("html") or "")
    if html and len(html) <= MAX_PART:
        made.add_alternative(html, subtype="html")
        made.set_boundary(f"=={telling.id.hex}==")  # the same bytes at every attempt
    envelope = tuple(dict.fromkeys(one.addr_spec for one in recipients))
    return Mail(senders[0].addr_spec, envelope, made.as_bytes())


def cleaned(text: str) -> str:
    """Text that may stand in a header: on one line, nothing that is not printed."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _thread(made: EmailMessage, telling: Telling, domain: str, named: Mapping[str, str]) -> None:
    root = f"<{cleaned(telling.notice.incident.id)}@{domain}>"
    for name in ("In-Reply-To", "References"):
        if name.lower() not in named:
            made[name] = root


def _others(made: EmailMessage, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if name.lower() not in _OURS and value:
            made[name] = value
    if "Auto-Submitted" not in made:
        made["Auto-Submitted"] = "auto-generated"


def _plain(telling: Telling) -> str:
    text = telling.option("text").strip() or f"{headline(telling.notice)}\n\n{account(telling.notice)}"
    return cut(text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", " "), MAX_PART)


def _addresses(text: str) -> list[Address]:
    found: list[Address] = []
    for name, spec in getaddresses([cleaned(text)]):
        try:
            address = Address(display_name=name, addr_spec=spec)
        except (HeaderParseError, ValueError, IndexError):
            continue
        if address.username:
            found.append(address)
    return found
