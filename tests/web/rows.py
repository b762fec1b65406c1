"""Rows as the worker would have written them."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from streams import keys

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]


async def add_incident(conn: "Conn", title: str, **given: Any) -> uuid.UUID:
    now = datetime.now(UTC)
    created = given.pop("created_at", now)
    labels = given.pop("group_labels", {"alertname": title})
    row = {
        "id": uuid.uuid4(), "title": title, "description": "", "severity": "warning", "status": "open",
        "created_at": created, "updated_at": given.pop("updated_at", created), "team": "default", "kind": "other",
        "group_key": uuid.uuid4().hex, "group_labels": json.dumps(labels), "route": "{}", "receiver": "on-call",
        "partition": 0, "revision": 1, **given,
    }  # fmt: skip
    await _insert(conn, "incidents", row)
    identifier: uuid.UUID = row["id"]
    return identifier


async def add_alert(conn: "Conn", incident: uuid.UUID | None, labels: dict[str, str], **given: Any) -> str:
    now = datetime.now(UTC)
    identity = keys.hashed(keys.identity_of_labels("default", labels))
    starts = given.pop("starts_at", now - timedelta(minutes=2))
    for name in ("annotations", "links"):
        if name in given:
            given[name] = json.dumps(given[name])
    row = {
        "identity": identity, "occurrence": 1, "partition": 0, "team": "default",
        "fingerprint": keys.fingerprint(labels), "source": "alertmanager", "status": "firing",
        "severity": labels.get("severity", "warning"), "kind": "other", "summary": labels.get("alertname", ""),
        "description": "", "labels": json.dumps(labels), "annotations": "{}", "links": "[]", "starts_at": starts,
        "first_seen_at": starts, "last_seen_at": now, "event_count": 1, "revision": 1, "state": b"", "pulse": b"",
        **given,
    }  # fmt: skip
    await _insert(conn, "alerts", row)
    if incident is not None:
        link = {
            "incident_id": incident, "identity": identity, "occurrence": row["occurrence"], "group_key": "g",
            "partition": 0, "firing": row["status"] == "firing", "revision": 1, "joined_at": starts,
        }  # fmt: skip
        await _insert(conn, "incident_alerts", link)
    return identity


async def add_entry(conn: "Conn", incident: uuid.UUID, seq: int, event: str, **given: Any) -> None:
    row = {
        "incident_id": incident, "seq": seq, "at": given.pop("at", datetime.now(UTC)), "event": event,
        "actor": given.pop("actor", "stream"), "detail": json.dumps(given),
    }  # fmt: skip
    await _insert(conn, "timeline", row)


async def add_task(conn: "Conn", incident: uuid.UUID, decision: int, **given: Any) -> None:
    now = datetime.now(UTC)
    notice = uuid.uuid4()
    await _insert(conn, "notices", {
        "id": notice, "incident_id": incident, "decision": decision, "body": "[]", "created_at": now,
    })  # fmt: skip
    row = {
        "id": uuid.uuid4(), "notice_id": notice, "incident_id": incident, "group_key": "g", "team": "default",
        "decision": decision, "receiver": "on-call", "integration": 0, "channel": "webhook",
        "target": "https://hooks.example.net/T0/secret", "reason": "group_opened", "due_at": now,
        "created_at": now, **given,
    }  # fmt: skip
    await _insert(conn, "notification_tasks", row)


async def add_progress(conn: "Conn", partition: int, log_id: str = "life-1", **sums: int) -> None:
    await conn.execute("INSERT INTO log_lives (log_id) VALUES ($1) ON CONFLICT DO NOTHING", log_id)
    columns = {"received": sum(sums.values()), **sums}
    await conn.execute(
        "DELETE FROM stream_progress WHERE log_id = $1 AND topic = 'alerts' AND partition = $2", log_id, partition
    )
    row = {"log_id": log_id, "topic": "alerts", "partition": partition, "epoch": 3, "applied": 41, "safe": 40}
    await _insert(conn, "stream_progress", {**row, **columns})


async def _insert(conn: "Conn", table: str, row: dict[str, Any]) -> None:
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await conn.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", *row.values())
