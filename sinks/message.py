"""What a notice says: its stored body, made into what one channel sends. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

ZERO_TIME: Final = "0001-01-01T00:00:00Z"


class NoticeAlert(msgspec.Struct, frozen=True, rename="camel"):
    """One alert of a notice; times are RFC 3339, and one that fires has no end.

    `flapping` counts how often it fired again since it was told last.
    """

    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: str
    fingerprint: str
    ends_at: str | None = None
    generator_url: str = msgspec.field(default="", name="generatorURL")
    flapping: int = 0


class NoticeIncident(msgspec.Struct, frozen=True):
    """The incident as it stood when the notice was made."""

    id: str
    title: str
    severity: str
    status: str
    kind: str
    team: str
    url: str


class DigestLine(msgspec.Struct, frozen=True):
    """One incident of a digest, as its last folded notice told it."""

    id: str
    title: str
    severity: str
    status: str
    url: str
    notices: int


class Digest(msgspec.Struct, frozen=True):
    """What a digest speaks for; the worst incidents come first, and `incidents` may be fewer than there are."""

    notices: int
    count: int
    incidents: tuple[DigestLine, ...]


class NoticeBody(msgspec.Struct, frozen=True, kw_only=True):
    """What `notices.body` holds: the whole group at one flush, and the context of its trace where it is traced."""

    receiver: str
    group_key: str = msgspec.field(name="groupKey")
    group_labels: dict[str, str] = msgspec.field(name="groupLabels")
    route: str
    incident: NoticeIncident
    alerts: tuple[NoticeAlert, ...]
    external_url: str = msgspec.field(name="externalURL")
    truncated_alerts: int = msgspec.field(default=0, name="truncatedAlerts")
    digest: Digest | None = None
    traceparent: str = ""


class UnusableNoticeError(ValueError):
    """Raised for a body that cannot be read, or that leaves nothing to say to this integration."""


_decoder = msgspec.json.Decoder(NoticeBody)
_encode = msgspec.json.Encoder().encode


def read_notice(stored: str, *, send_resolved: bool) -> NoticeBody:
    """The notice as an integration is to hear of it: without `send_resolved`, only of what fires.

    Raises:
        UnusableNoticeError: nothing can be said.
    """
    try:
        notice = _decoder.decode(stored)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise UnusableNoticeError(f"the notice cannot be read: {error}") from error
    alerts = notice.alerts if send_resolved else tuple(alert for alert in notice.alerts if alert.status == "firing")
    if not alerts:
        raise UnusableNoticeError("no alert is left to tell of")
    return msgspec.structs.replace(notice, alerts=alerts)


def encoded(notice: NoticeBody) -> str:
    """The stored form."""
    return _encode(notice).decode()


def webhook_body(notice: NoticeBody, options: Mapping[str, Any], reason: str) -> bytes:
    """Alertmanager's webhook JSON, version 4, with our `incident` beside it.

    `reason` is why this integration is told. The same row always gives the same bytes, so a repeat can be recognised.
    """
    limit = int(options.get("max_alerts", 0)) or len(notice.alerts)
    shown = notice.alerts[:limit]
    return _encode(
        {
            "version": "4",
            "groupKey": notice.group_key,
            "truncatedAlerts": notice.truncated_alerts + len(notice.alerts) - len(shown),
            "status": "firing" if any(alert.status == "firing" for alert in shown) else "resolved",
            "receiver": notice.receiver,
            "groupLabels": notice.group_labels,
            "commonLabels": common([alert.labels for alert in shown]),
            "commonAnnotations": common([alert.annotations for alert in shown]),
            "externalURL": notice.external_url,
            "alerts": [_alert(alert) for alert in shown],
            "incident": {**msgspec.to_builtins(notice.incident), "reason": reason},
            **_digest(notice),
        }
    )


def incident_body(
    notice: NoticeBody, notice_id: str, reason: str, made_at: datetime, words: Mapping[str, str] | None = None
) -> bytes:
    """Our own JSON of a notice: the incident, why it is told, and its alerts. The same row gives the same bytes.

    `words` are the texts that the receiver's own templates gave, if it has any.
    """
    return _encode(
        {
            "version": "incidents/1",
            "id": notice_id,
            "reason": reason,
            "made_at": made_at,
            "receiver": notice.receiver,
            "incident": notice.incident,
            "group": {"key": notice.group_key, "labels": notice.group_labels, "route": notice.route},
            "status": status_of(notice),
            "alerts": [_alert(alert) for alert in notice.alerts],
            "truncated_alerts": notice.truncated_alerts,
            **({"message": words} if words else {}),
            **_digest(notice),
        }
    )


def status_of(notice: NoticeBody) -> str:
    """`firing` while one of the alerts fires, else `resolved`."""
    return "firing" if any(alert.status == "firing" for alert in notice.alerts) else "resolved"


def common(maps: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The entries that all maps share."""
    if not maps:
        return {}
    first, *others = maps
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _digest(notice: NoticeBody) -> dict[str, Any]:
    return {"digest": notice.digest} if notice.digest is not None else {}


def _alert(alert: NoticeAlert) -> dict[str, Any]:
    shown = {
        "status": alert.status,
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": alert.starts_at,
        "endsAt": ZERO_TIME if alert.status == "firing" else alert.ends_at or ZERO_TIME,
        "generatorURL": alert.generator_url,
        "fingerprint": alert.fingerprint,
    }
    return {**shown, "flapping": alert.flapping} if alert.flapping else shown
