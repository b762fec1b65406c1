"""One notice that speaks for many: what a digest says. Pure."""

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from sinks.message import Digest, DigestLine, NoticeBody, NoticeIncident
from streams.records import Severity

MAX_LINES: Final = 200
MAX_ALERTS: Final = 500
_SPACE: Final = uuid.UUID("7a0c3f64-5d3c-4f53-9a57-6f1b5e2e9a11")
_RANKS: Final = {severity.value: severity.rank for severity in Severity}


def digest_id(task_ids: Iterable[uuid.UUID]) -> uuid.UUID:
    """The id of the digest of these tasks, and so its idempotency key."""
    return uuid.uuid5(_SPACE, ",".join(sorted(map(str, task_ids))))


def digest_of(made: uuid.UUID, notices: Sequence[NoticeBody]) -> NoticeBody:
    """The digest of notices, given in the order in which they were made.

    Each incident is told as its last notice told it, the worst and those that fire first, with its alerts; what does
    not fit is counted.
    """
    last = {notice.incident.id: notice for notice in notices}
    said = Counter(notice.incident.id for notice in notices)
    ordered = sorted(last.values(), key=_weight)
    alerts = [alert for notice in ordered for alert in notice.alerts]
    shown = tuple(alerts[:MAX_ALERTS])
    lines = tuple(_line(notice.incident, said[notice.incident.id]) for notice in ordered[:MAX_LINES])
    first = ordered[0]
    return NoticeBody(
        receiver=first.receiver,
        group_key=f"digest/{made}",
        group_labels={},
        route="",
        incident=_spoken_for(made, first, ordered, len(notices)),
        alerts=shown,
        external_url=first.external_url,
        truncated_alerts=len(alerts) - len(shown) + sum(notice.truncated_alerts for notice in ordered),
        digest=Digest(len(notices), len(ordered), lines),
    )


def _weight(notice: NoticeBody) -> tuple[int, bool]:
    return _RANKS.get(notice.incident.severity, len(_RANKS)), notice.incident.status == "resolved"


def _line(incident: NoticeIncident, notices: int) -> DigestLine:
    return DigestLine(incident.id, incident.title, incident.severity, incident.status, incident.url, notices)


def _spoken_for(made: uuid.UUID, first: NoticeBody, ordered: Sequence[NoticeBody], count: int) -> NoticeIncident:
    critical = sum(1 for notice in ordered if notice.incident.severity == Severity.CRITICAL)
    title = f"{count} notices about {len(ordered)} incidents, {critical} critical"
    is_open = any(notice.incident.status != "resolved" for notice in ordered)
    return msgspec.structs.replace(
        first.incident,
        id=str(made),
        title=title,
        status="open" if is_open else "resolved",
        kind="other",
        url=f"{first.external_url}/",
    )
