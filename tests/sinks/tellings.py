"""One notice as a channel gets it, for the tests of channels."""

import html
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sinks.channel import Telling
from sinks.message import NoticeBody, read_notice
from tests.sinks.outbox import body

TASK = uuid.UUID("018f0000-0000-7000-8000-000000000001")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MADE_AT = datetime(2026, 1, 1, 0, 5, tzinfo=UTC)
RESOLVED = {
    "status": "resolved",
    "labels": {"alertname": "Down", "service": "db"},
    "annotations": {"summary": "it was down"},
    "startsAt": "2026-01-01T00:00:00Z",
    "endsAt": "2026-01-01T00:05:00Z",
    "generatorURL": "",
    "fingerprint": "00000000000000bb",
}


class Titles:
    """Knows one expression, the incident's title, so that a test sees what was rendered and how it was escaped."""

    def __init__(self, notice: NoticeBody) -> None:
        self._title = notice.incident.title

    def text(self, template: str, *, escape: Callable[[str], str] | None = None) -> str:
        return template.replace("{{ .Title }}", escape(self._title) if escape else self._title)

    def html(self, template: str) -> str:
        return template.replace("{{ .Title }}", html.escape(self._title))


def telling(
    options: dict[str, Any], *, title: str = "Down", resolved: bool = False, notice: Any = None, **given: Any
) -> Telling:
    stored = body(**(notice or {}))
    stored["incident"]["title"] = title
    if resolved:
        stored["alerts"] = [RESOLVED]
    read = read_notice(json.dumps(stored), send_resolved=True)
    return Telling(
        **{
            "id": TASK,
            "target": "t",
            "options": options,
            "notice": read,
            "reason": "first firing",
            "made_at": MADE_AT,
            "texts": Titles(read),
            **given,
        }
    )
