"""Rows that the tests of the outbox start from."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from sinks.postgres import Connection
from sinks.task_rows import Notice, Task, insert

MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)

_INCIDENT = """
INSERT INTO incidents (id, title, description, severity, status, created_at, updated_at, team, kind, group_key,
    group_labels, route, receiver, partition, revision)
VALUES ($1, 'Down', '', 'critical', 'open', $2, $2, 'default', 'other', $3, '{}', '{}', 'ops', 0, 1)
"""


def body(**changed: Any) -> dict[str, Any]:
    alert = {
        "status": "firing",
        "labels": {"alertname": "Down", "service": "api"},
        "annotations": {"summary": "it is down"},
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": None,
        "generatorURL": "",
        "fingerprint": "00000000000000aa",
    }
    incident = {
        "id": "i", "title": "Down", "severity": "critical", "status": "open", "kind": "other", "team": "default",
        "url": "http://127.0.0.1:8080/incidents/i",
    }  # fmt: skip
    return {
        "receiver": "ops",
        "groupKey": "ab" * 16,
        "groupLabels": {"alertname": "Down"},
        "route": "{}",
        "incident": incident,
        "alerts": [alert],
        "externalURL": "http://127.0.0.1:8080",
        "truncatedAlerts": 0,
        **changed,
    }


async def incident(conn: Connection) -> uuid.UUID:
    made = uuid.uuid4()
    await conn.execute(_INCIDENT, made, MADE_AT, made.hex)
    return made


async def task(
    conn: Connection,
    incident_id: uuid.UUID,
    decision: int = 1,
    *,
    target: str = "http://127.0.0.1:9/hook",
    config_version: int = 0,
    urgency: int = 4,
    stored: str | None = None,
    made_at: datetime = MADE_AT,
    channel: str = "webhook",
    integration: int = 0,
    receiver: str = "ops",
) -> uuid.UUID:
    notice = Notice(
        id=uuid.uuid4(),
        incident_id=incident_id,
        decision=decision,
        body=stored or json.dumps(body()),
        created_at=made_at,
    )
    row = Task(
        id=uuid.uuid4(),
        notice_id=notice.id,
        incident_id=incident_id,
        group_key=incident_id.hex,
        team="default",
        decision=decision,
        config_version=config_version,
        receiver=receiver,
        integration=integration,
        channel=channel,
        target=target,
        urgency=urgency,
        reason="first",
        due_at=made_at,
        created_at=made_at,
    )
    await insert(conn, [notice], [row])
    await insert(conn, [notice], [row])
    return row.id
