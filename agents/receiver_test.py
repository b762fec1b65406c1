"""`incidents receiver test`: a marked notice through the real channels of a receiver or person, and how each ended."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from agents.channels import Rules, all_channels, rules_of
from sinks.amqp import Amqp
from sinks.channel import Channel, Telling
from sinks.email import Email
from sinks.http import Http
from sinks.message import NoticeAlert, NoticeBody, NoticeIncident
from sinks.outcome import Failed, Outcome, Reason, Sent
from sinks.texts import NoticeTexts
from streams.rules_config import ConfigError, Integration, load
from streams.rules_files import Disk
from streams.rules_people import MARK
from streams.settings import Settings

UNUSABLE: Final = 2
_SUMMARY: Final = "This is a test, sent by hand: nothing is wrong"


async def try_receiver(settings: Settings, name: str, path: Path, say: Callable[[str], None]) -> int:
    """Tell every integration of a receiver that something fires and, where it wants recoveries, that it ended.

    Gives the exit code: 0 all sent, 1 some not, 2 the file or the receiver cannot be used.
    """
    try:
        rules = _read(path)
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        say(f"{path}: {error}")
        return UNUSABLE
    receiver = rules.config.told_as(name)
    if receiver is None:
        known = (*sorted(rules.config.receivers), *sorted(MARK + person for person in rules.config.ours.people))
        say(f"no receiver is named {name!r}; there are {', '.join(known)}")
        return UNUSABLE
    http, amqp = Http(settings.delivery_timeout), Amqp(settings.delivery_timeout)
    channels = all_channels(http, Email(settings.mail_timeout), amqp)
    well = True
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(http.close)
        stack.push_async_callback(amqp.close)
        for integration in receiver.integrations:
            for telling in _tellings(settings, rules, name, integration):
                outcome = await _sent(channels, integration, telling)
                well = well and isinstance(outcome, Sent)
                say(_line(name, integration, telling, outcome))
    if not receiver.integrations:
        say(f"{name} has no integrations: nobody is told")
    return 0 if well else 1


def _read(path: Path) -> Rules:
    return rules_of(load(path.read_text(encoding="utf-8"), files=Disk(path.parent)))


async def _sent(channels: dict[str, Channel], integration: Integration, telling: Telling) -> Outcome:
    channel = channels.get(integration.channel)
    return await channel(telling) if channel else Failed(Reason.UNKNOWN_CHANNEL, integration.channel)


def _tellings(settings: Settings, rules: Rules, receiver: str, integration: Integration) -> Iterator[Telling]:
    now = datetime.now(UTC)
    firing = marked_notice(receiver, now, settings.page_url)
    for notice in (firing, ended(firing, now)) if integration.send_resolved else (firing,):
        yield Telling(
            id=uuid.uuid4(),
            target=integration.target,
            options=integration.options,
            notice=notice,
            reason="test",
            made_at=now,
            texts=NoticeTexts(rules.templates, notice),
        )


def marked_notice(receiver: str, now: datetime, page_url: str) -> NoticeBody:
    """A notice that nobody can take for a real one."""
    labels = {"alertname": "TestNotification", "severity": "info", "test": "true", "receiver": receiver}
    alert = NoticeAlert(
        status="firing",
        labels=labels,
        annotations={"summary": _SUMMARY},
        starts_at=now.isoformat(),
        fingerprint="0000000000000000",
        generator_url=f"{page_url}/",
    )
    incident = NoticeIncident(
        id=str(uuid.uuid4()),
        title="TestNotification",
        severity="info",
        status="open",
        kind="other",
        team="default",
        url=f"{page_url}/",
    )
    return NoticeBody(
        receiver=receiver,
        group_key=f"test/{incident.id}",
        group_labels={"alertname": "TestNotification"},
        route="{}",
        incident=incident,
        alerts=(alert,),
        external_url=page_url,
    )


def ended(notice: NoticeBody, now: datetime) -> NoticeBody:
    """The same, resolved."""
    alerts = tuple(
        msgspec.structs.replace(alert, status="resolved", ends_at=now.isoformat()) for alert in notice.alerts
    )
    incident = msgspec.structs.replace(notice.incident, status="resolved")
    return msgspec.structs.replace(notice, alerts=alerts, incident=incident)


def _line(name: str, integration: Integration, telling: Telling, outcome: Outcome) -> str:
    status = telling.notice.alerts[0].status
    said = "sent" if isinstance(outcome, Sent) else f"NOT SENT, {outcome.reason}"
    host = urlsplit(integration.target).hostname or "?"
    return f"{name}/{integration.index} {integration.channel} at {host}, {status}: {said} {outcome.detail}".rstrip()
