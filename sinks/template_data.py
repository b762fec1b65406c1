"""A notice as the data that Alertmanager's templates see; pure."""

from datetime import UTC, datetime
from typing import Final

from sinks.gotemplate.data import KV, Alert, Alerts, Data
from sinks.gotemplate.times import Time
from sinks.message import NoticeAlert, NoticeBody, common

_ZERO: Final = datetime(1, 1, 1, tzinfo=UTC)


def data_of(notice: NoticeBody) -> Data:
    """Receiver, Status, Alerts, GroupLabels, CommonLabels, CommonAnnotations, ExternalURL."""
    firing = any(alert.status == "firing" for alert in notice.alerts)
    return Data(
        Receiver=notice.receiver,
        Status="firing" if firing else "resolved",
        Alerts=Alerts(_alert(alert) for alert in notice.alerts),
        GroupLabels=KV(notice.group_labels),
        CommonLabels=KV(common([alert.labels for alert in notice.alerts])),
        CommonAnnotations=KV(common([alert.annotations for alert in notice.alerts])),
        ExternalURL=notice.external_url,
    )


def _alert(alert: NoticeAlert) -> Alert:
    return Alert(
        Status=alert.status,
        Labels=KV(alert.labels),
        Annotations=KV(alert.annotations),
        StartsAt=_time(alert.starts_at),
        EndsAt=_time(alert.ends_at if alert.status != "firing" else None),
        GeneratorURL=alert.generator_url,
        Fingerprint=alert.fingerprint,
    )


def _time(text: str | None) -> Time:
    try:
        return Time(datetime.fromisoformat(text) if text else _ZERO)
    except ValueError:
        return Time(_ZERO)
