"""The rows that a step of dedup leads to: alerts, verdicts, and what was refused."""

from datetime import datetime

import msgspec

from agents.rules import dedup
from agents.rules.dedup import AlertState, Pulse
from agents.unhandled import UNHANDLED, storable
from sinks.alert_rows import AlertRow, DeadRow, VerdictRow, joined
from sinks.dead_letter_rows import PACKED_ALERT
from streams import codec
from streams.records import Alert, AlertBatch, Rejected, Verdict
from streams.rules_config import Ours


class Verdicts:
    """One step's verdict rows of one partition: events of one alert, record and verdict share a row."""

    def __init__(self, log_id: str, partition: int, keep_ids: str) -> None:
        self._log_id = log_id
        self._partition = partition
        self._keep_ids = keep_ids
        self._rows: dict[tuple[int, Verdict, str, int, str], tuple[VerdictRow, list[str]]] = {}

    def add(
        self, offset: int, verdict: Verdict, alert: Alert, occurrence: int, reason: str, batch: AlertBatch,
        accepted_at: datetime, now: datetime,
    ) -> None:  # fmt: skip
        """Count one event about an alert."""
        row, ids = self._row(offset, verdict, alert.identity, occurrence, reason, batch, accepted_at, now)
        row.events += 1
        keep = self._keep_ids
        if keep == "all" or alert.replay_of or (keep == "first" and not ids):
            ids.append(alert.event_id)

    def refuse(self, offset: int, item: Rejected, batch: AlertBatch, accepted_at: datetime, now: datetime) -> None:
        """Count one refused event, which is always named."""
        reason = f"{item.field}: {item.reason}" if item.field else item.reason
        row, ids = self._row(offset, Verdict.REJECTED, item.event_id, 0, reason, batch, accepted_at, now)
        row.events += 1
        ids[:] = [item.event_id]

    def rows(self) -> list[VerdictRow]:
        """All of them, with the event ids gathered for each."""
        for row, ids in self._rows.values():
            row.event_ids = joined(ids)
        return [row for row, _ in self._rows.values()]

    def _row(
        self, offset: int, verdict: Verdict, about: str, occurrence: int, reason: str, batch: AlertBatch,
        accepted_at: datetime, now: datetime,
    ) -> tuple[VerdictRow, list[str]]:  # fmt: skip
        key = (offset, verdict, about, occurrence, reason)
        found = self._rows.get(key)
        if found is None:
            refused = verdict is Verdict.REJECTED
            row = VerdictRow(
                self._log_id,
                self._partition,
                offset,
                verdict,
                None if refused else about,
                None if refused else occurrence,
                0,
                "",
                reason.replace("\x00", "\ufffd"),
                batch.via,
                accepted_at,
                now,
            )
            found = self._rows[key] = (row, [])
        return found


def dead(item: Rejected, via: str, accepted_at: datetime) -> DeadRow:
    """What is kept of a refused event."""
    return DeadRow(
        event_id=item.event_id,
        team=item.team,
        source=item.source,
        field=item.field,
        reason=item.reason.replace("\x00", "\ufffd"),
        body=item.body[:65536],
        content_type=item.content_type,
        via=via,
        received_at=accepted_at,
    )


def poison(item: Alert | Rejected, why: str) -> Rejected:
    """The refused event that stands for an item which cannot be handled."""
    if type(item) is Rejected:
        texts = ("event_id", "team", "source", "field", "content_type")
        stored = {name: storable(getattr(item, name)) for name in texts}
        return msgspec.structs.replace(item, **stored, reason=f"{item.reason}; {why}", body=b"")
    return Rejected(
        event_id=storable(item.event_id),
        source="poison",
        field="",
        reason=f"{UNHANDLED}{why}",
        body=codec.encode(item)[:65536],
        content_type=PACKED_ALERT,
        team=storable(item.team),
        replay_of=item.replay_of,
    )


def row(identity: str, partition: int, state: AlertState, pulse: Pulse, ours: Ours) -> AlertRow:
    """The whole row of an alert, its severity and kind as the rules say."""
    body = ours.classified(codec.decode_body(state.body))
    return AlertRow(
        identity=identity,
        occurrence=pulse.occurrence,
        partition=partition,
        team=state.team,
        fingerprint=state.fingerprint,
        source=body.source,
        status="firing" if pulse.firing else "resolved",
        severity=body.severity,
        kind=body.kind,
        summary=body.summary,
        description=body.description,
        labels=codec.to_json(body.labels),
        annotations=codec.to_json(body.annotations),
        links=codec.to_json([{"href": link.href, "text": link.text} for link in body.links]),
        starts_at=pulse.starts_at,
        ends_at=pulse.ends_at,
        first_seen_at=pulse.first_seen_at,
        last_seen_at=pulse.last_seen_at,
        event_count=pulse.count,
        revision=pulse.revision,
        groups=",".join(ref.group for ref in state.groups),
        state=codec.encode(state),
        pulse=codec.encode(dedup.in_row(pulse, pulse.row_at)),
    )
