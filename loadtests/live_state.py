"""Rows of live alerts, as the workers would have left them: alerts, their groups, incidents, links, progress."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

import asyncpg

from agents.rules import dedup
from agents.rules.dedup import AlertState, GroupRef
from agents.rules.group_state import GroupState, Member
from sinks import postgres
from streams import codec, keys
from streams.records import Alert, AlertBody, IncidentStatus, Kind, Severity
from streams.topics import ALERTS, INPUTS

PER_GROUP: Final = 20
APPLIED: Final = 1_000_000
LOG_ID: Final = "handover"
_PIECE: Final = 20_000


async def write_live_alerts(conn: "asyncpg.Connection[Any]", count: int, partitions: int) -> None:
    """Write `count` firing alerts in groups of 20, all of them applied and sent on."""
    now = datetime.now(UTC)
    for first in range(0, count, _PIECE):
        rows = [_rows(number, partitions, now) for number in range(first, min(first + _PIECE, count))]
        starts = range(first, first + len(rows), PER_GROUP)
        groups = [row for number in starts for row in _group(number, partitions, now)]
        async with conn.transaction():
            await _copy(conn, "incidents", (incident for incident, _ in _pairs(groups)))
            await _copy(conn, "groups", (group for _, group in _pairs(groups)))
            await _copy(conn, "alerts", (alert for alert, _ in rows))
            await _copy(conn, "incident_alerts", (link for _, link in rows))
    await postgres.register_log(conn, LOG_ID, forgets=False)
    for topic in (ALERTS, INPUTS):
        await postgres.claim(conn, LOG_ID, topic, range(partitions))
    await conn.execute("UPDATE stream_progress SET applied = $1, safe = $1, watermark = $2", APPLIED, now)
    await conn.execute("ANALYZE")


def _pairs(groups: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    return zip(groups[::2], groups[1::2], strict=True)


async def _copy(conn: "asyncpg.Connection[Any]", table: str, rows: Iterator[dict[str, Any]]) -> None:
    records = list(rows)
    columns = list(records[0])
    await conn.copy_records_to_table(table, records=[tuple(row.values()) for row in records], columns=columns)


def _labels(number: int) -> dict[str, str]:
    return {
        "alertname": f"ProviderErrors{number // PER_GROUP}",
        "service": f"chat-{number // PER_GROUP % 400}",
        "model": f"model-{number % 7}",
        "region": f"region-{number % 5}",
        "instance": f"10.0.{number // 250 % 250}.{number % 250}:9090",
    }


def _body(number: int) -> AlertBody:
    return AlertBody(
        source="load",
        severity=Severity.ERROR,
        kind=Kind.PROVIDER_OUTAGE,
        summary=f"The provider refuses {number % 100} of 100 requests",
        description="Requests of this instance are refused; users wait or see an error.",
        labels=_labels(number),
        annotations={"runbook": "https://runbooks.example/provider-errors"},
    )


def _group_of(number: int) -> GroupRef:
    labels = {name: _labels(number)[name] for name in ("alertname", "service")}
    return GroupRef(keys.hashed(keys.group_of("default", "root", labels.items())), "root", labels)


def _incident_of(group: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, group)


def _rows(number: int, partitions: int, now: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
    body, ref = _body(number), _group_of(number)
    packed = codec.encode(body)
    identity = keys.hashed(keys.identity_of_labels("default", body.labels))
    fingerprint = keys.fingerprint(body.labels)
    began = now - timedelta(seconds=number % 3600)
    alert = Alert(
        event_id=str(number), team="default", identity=identity, content=blake2b(packed, digest_size=8).digest(),
        firing=True, event_at=began, body=packed, starts_at=began, ends_at=now + timedelta(hours=1),
    )  # fmt: skip
    pulse = dedup.decide(None, alert, now=began, accepted_at=began, offset=number % APPLIED).pulse
    state = AlertState(team="default", fingerprint=fingerprint, body=packed, groups=(ref,), config_version=0)
    row = {
        "identity": identity, "occurrence": pulse.occurrence, "partition": keys.partition_of(identity, partitions),
        "team": "default", "fingerprint": fingerprint, "source": body.source, "status": "firing",
        "severity": body.severity.value, "kind": body.kind.value, "summary": body.summary,
        "description": body.description, "labels": codec.to_json(body.labels),
        "annotations": codec.to_json(body.annotations), "links": "[]", "starts_at": began, "ends_at": None,
        "first_seen_at": began, "last_seen_at": began, "event_count": 1, "revision": pulse.revision,
        "groups": [ref.group], "state": codec.encode(state), "pulse": codec.encode(pulse),
    }  # fmt: skip
    member = Member(
        identity=identity, fingerprint=fingerprint, occurrence=pulse.occurrence, revision=pulse.revision, firing=True,
        severity=body.severity, starts_at=began, ends_at=None, joined_at=began,
        incident_id=str(_incident_of(ref.group)), body=packed,
    )  # fmt: skip
    link = {
        "incident_id": _incident_of(ref.group), "identity": identity, "occurrence": pulse.occurrence,
        "group_key": ref.group, "partition": keys.partition_of(ref.group, partitions), "firing": True,
        "revision": pulse.revision, "joined_at": began, "ended_at": None, "state": codec.encode(member),
    }  # fmt: skip
    return row, link


def _group(number: int, partitions: int, now: datetime) -> list[dict[str, Any]]:
    """The rows of the incident and of the group that begin with this alert."""
    body, ref = _body(number), _group_of(number)
    incident, partition = _incident_of(ref.group), keys.partition_of(ref.group, partitions)
    state = GroupState(
        team="default", route="root", labels=ref.labels, receiver="default", config_version=0, revision=1,
        incident_id=str(incident), status=IncidentStatus.OPEN, severity=body.severity, kind=body.kind,
        title=body.summary, description=body.description, opened_at=now, updated_at=now,
        firing=(0, PER_GROUP, 0, 0, 0), members=PER_GROUP, next_flush_at=now + timedelta(minutes=5),
    )  # fmt: skip
    labels = codec.to_json(ref.labels)
    return [
        {
            "id": incident, "title": body.summary, "description": body.description, "severity": "error",
            "status": "open", "created_at": now, "updated_at": now, "team": "default", "kind": body.kind.value,
            "group_key": ref.group, "group_labels": labels, "route": "root", "receiver": "default",
            "partition": partition, "revision": 1,
        },
        {
            "group_key": ref.group, "partition": partition, "team": "default", "route": "root", "labels": labels,
            "revision": 1, "state": codec.encode(state), "updated_at": now,
        },
    ]  # fmt: skip
