"""One notice as a channel gets it, for the tests of channels."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from sinks.channel import Telling
from sinks.message import read_notice
from tests.sinks.outbox import body

TASK = uuid.UUID("018f0000-0000-7000-8000-000000000001")
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


def telling(options: dict[str, Any], *, notice: dict[str, Any] | None = None, **given: Any) -> Telling:
    stored = json.dumps(body(**(notice or {})))
    return Telling(
        **{
            "id": TASK,
            "target": "t",
            "options": options,
            "notice": read_notice(stored, send_resolved=True),
            "reason": "first firing",
            "made_at": MADE_AT,
            **given,
        }
    )
