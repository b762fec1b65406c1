"""Texts kept within a service's bounds, and plain words for a notice where no template gives any. Pure."""

from hashlib import sha256
from typing import Final

from sinks.message import Digest, NoticeBody, status_of

_ELLIPSIS: Final = "…"
_LINES: Final = 20


def cut(text: str, limit: int) -> str:
    """The text in at most so many letters."""
    return text if len(text) <= limit else text[: limit - 1] + _ELLIPSIS


def cut_bytes(text: str, limit: int) -> str:
    """The text in at most so many bytes of UTF-8."""
    data = text.encode()
    if len(data) <= limit:
        return text
    return data[: limit - len(_ELLIPSIS.encode())].decode(errors="ignore") + _ELLIPSIS


def unpinging(text: str) -> str:
    """What came from an alert, so that it mentions nobody where `@` does; the operator's own words may."""
    return text.replace("@", "@\u200b")


def headline(notice: NoticeBody) -> str:
    """One line: status, how many fire, and what it is about; of a digest, how much is in it."""
    if notice.digest is not None:
        return f"[DIGEST] {notice.incident.title}"
    firing = sum(1 for alert in notice.alerts if alert.status == "firing")
    status = f"FIRING:{firing}" if firing else "RESOLVED"
    return f"[{status}] {notice.incident.title}"


def account(notice: NoticeBody) -> str:
    """A few lines: each alert with its labels, and where to look."""
    if notice.digest is not None:
        return _of_digest(notice.digest, notice.incident.url)
    lines = [f"{alert.status}: {_labels(alert.labels)}" for alert in notice.alerts[:_LINES]]
    left = len(notice.alerts) - _LINES + notice.truncated_alerts
    if left > 0:
        lines.append(f"and {left} more")
    return "\n".join([*lines, notice.incident.url])


def group_hash(notice: NoticeBody) -> str:
    """Names the group towards services that keep one incident for each key, as Alertmanager does."""
    return sha256(notice.group_key.encode()).hexdigest()


def is_firing(notice: NoticeBody) -> bool:
    """Whether one of its alerts fires."""
    return status_of(notice) == "firing"


def _of_digest(digest: Digest, url: str) -> str:
    lines = [
        f"{one.severity}, {one.status}: {one.title} ({one.notices} notices) {one.url}"
        for one in digest.incidents[:_LINES]
    ]
    if digest.count > len(lines):
        lines.append(f"and {digest.count - len(lines)} more incidents")
    return "\n".join([*lines, url])


def _labels(labels: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
