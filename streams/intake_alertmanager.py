"""Alertmanager's `POST /api/v2/alerts`: its list of alerts -> `Alert` or `Rejected`, by its own rules.

The label set is the identity; what arrives last decides. Nothing of the
sender's text is lost in the canonical form, so `raw` stays empty.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from streams import codec
from streams.intake_limits import (
    EARLIEST,
    LATEST,
    content_of,
    flaw_of_body,
    identity_of,
    is_web_address,
    new_event_id,
    refused,
)
from streams.intake_payload import (
    Flaw,
    Parsed,
    Piece,
    Refusal,
    Shape,
    UnusableBodyError,
    cleaned,
    explain,
    pieces_of,
    read_loosely,
)
from streams.intake_words import kind_of, severity_of
from streams.records import Alert, AlertBody, Kind, Rejected, Severity
from streams.settings import Settings

JSON: Final = "application/json"
SOURCE: Final = "alertmanager"
_SHAPES: Final = {
    "labels": Shape.TEXTS,
    "annotations": Shape.TEXTS,
    "startsAt": Shape.TIME,
    "endsAt": Shape.TIME,
    "generatorURL": Shape.TEXT,
}
_UNSET: Final = datetime(1, 1, 1, tzinfo=UTC)


class _Posted(msgspec.Struct, forbid_unknown_fields=True):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    starts_at: datetime | None = msgspec.field(default=None, name="startsAt")
    ends_at: datetime | None = msgspec.field(default=None, name="endsAt")
    generator_url: str | None = msgspec.field(default=None, name="generatorURL")


class _PostedMore(_Posted, forbid_unknown_fields=False):
    """The same with fields that Alertmanager would pass over too."""


_exact = msgspec.json.Decoder(list[_Posted])
_loose = msgspec.json.Decoder(_PostedMore)


class _Intake(msgspec.Struct, frozen=True):
    """What holds for every alert of one body."""

    accepted_at: datetime
    times_out_at: datetime
    limits: Settings
    team: str
    event_id: str
    content_type: str


def parse_alertmanager(
    body: bytes,
    *,
    accepted_at: datetime,
    limits: Settings,
    team: str = "default",
    header_event_id: str | None = None,
    content_type: str = JSON,
) -> Parsed:
    """Judge one body. An alert without the key `labels` refuses the whole, as it does there (422)."""
    text = cleaned(body)
    times_out_at = accepted_at + timedelta(seconds=limits.resolve_timeout)
    intake = _Intake(accepted_at, times_out_at, limits, team, header_event_id or new_event_id(), content_type)
    if len(text) > limits.max_message_bytes:
        return _refused_whole(
            intake, text, Flaw("body", f"longer than {limits.max_message_bytes} bytes"), Refusal.TOO_LARGE
        )
    try:
        posted = _exact.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _one_by_one(text, intake)
    if len(posted) > limits.max_items:
        return _refused_whole(intake, text, Flaw("body", f"more than {limits.max_items} alerts"), Refusal.TOO_MANY)
    for index, alert in enumerate(posted):
        if alert.labels is None:
            return _without_labels(intake, text, index)
    return Parsed([_judged(alert, None, intake, index) for index, alert in enumerate(posted)])


def _refused_whole(intake: _Intake, text: bytes, flaw: Flaw, refusal: Refusal) -> Parsed:
    rejected = refused(
        flaw, text, event_id=intake.event_id, source=SOURCE, team=intake.team, content_type=intake.content_type
    )
    return Parsed([rejected], refusal)


def _without_labels(intake: _Intake, text: bytes, index: int) -> Parsed:
    return _refused_whole(intake, text, Flaw(f"{index}.labels", "is missing"), Refusal.MISSING_LABELS)


def _one_by_one(text: bytes, intake: _Intake) -> Parsed:
    """Something in the body is not as the format says: find out what, and take the rest."""
    if text.lstrip(b" \t\r\n")[:1] == b"{":
        return _refused_whole(intake, text, Flaw("body", "must be a list of alerts, not an object"), Refusal.MALFORMED)
    try:
        pieces = pieces_of(text, max_depth=intake.limits.max_depth, max_items=intake.limits.max_items)
    except UnusableBodyError as error:
        return _refused_whole(intake, text, error.flaw, error.refusal)
    judged = []
    for index, piece in enumerate(pieces):
        verdict = _piece(piece, intake, index)
        if verdict is None:
            return _without_labels(intake, text, index)
        judged.append(verdict)
    return Parsed(judged)


def _piece(piece: Piece, intake: _Intake, index: int) -> Alert | Rejected | None:
    """The verdict on one alert; None when the key `labels` is not there."""
    if piece.too_deep is not None:
        return _reject(
            Flaw(piece.too_deep, f"nested deeper than {intake.limits.max_depth} levels"), piece.text, intake, index
        )
    try:
        posted = _loose.decode(piece.text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _explained(piece.text, error, intake, index)
    return None if posted.labels is None else _judged(posted, piece.text, intake, index)


def _explained(text: bytes, error: Exception, intake: _Intake, index: int) -> Rejected:
    try:
        value = read_loosely(text)
    except ValueError:
        return _reject(Flaw("body", f"is not JSON: {error}"), text, intake, index)
    flaw = explain(value, _SHAPES, ("labels",))
    return _reject(flaw or Flaw("body", str(error)), text, intake, index)


def _reject(flaw: Flaw, text: bytes, intake: _Intake, index: int) -> Rejected:
    event_id = f"{intake.event_id}#{index}"
    return refused(flaw, text, event_id=event_id, source=SOURCE, team=intake.team, content_type=intake.content_type)


def _judged(posted: _Posted, text: bytes | None, intake: _Intake, index: int) -> Alert | Rejected:
    made = _alert(posted, intake, index)
    if isinstance(made, Alert):
        return made
    return _reject(made, msgspec.json.encode(posted) if text is None else text, intake, index)


def _alert(posted: _Posted, intake: _Intake, index: int) -> Alert | Flaw:
    labels = posted.labels or {}
    if "" in labels.values():
        labels = {name: value for name, value in labels.items() if value}
    if not labels:
        return Flaw("labels", "at least one label that is not empty is needed")
    body = _body_of(labels, posted.annotations or {}, posted.generator_url or "")
    packed = codec.encode(body)
    flaw = flaw_of_body(body, packed, intake.limits)
    if flaw is not None:
        return flaw
    starts_at = posted.starts_at and _set(posted.starts_at)
    ends_at = posted.ends_at and _set(posted.ends_at)
    timeout = ends_at is None
    starts_at = starts_at or ends_at or intake.accepted_at
    ends_at = ends_at or intake.times_out_at
    if ends_at < starts_at:
        return Flaw("endsAt", "is before startsAt")
    return Alert(
        event_id=f"{intake.event_id}#{index}",
        team=intake.team,
        identity=identity_of(intake.team, labels),
        content=content_of(packed),
        firing=ends_at > intake.accepted_at,
        event_at=intake.accepted_at,
        body=packed,
        starts_at=starts_at,
        ends_at=ends_at,
        timeout=timeout,
    )


def _set(at: datetime) -> datetime | None:
    """A posted time in UTC, within what the stores can count with; None for the zero time, which means unset."""
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    if at <= EARLIEST:
        return None if at == _UNSET else EARLIEST
    if at >= LATEST:
        return LATEST
    return at if at.tzinfo is UTC else at.astimezone(UTC)


def _body_of(labels: dict[str, str], annotations: dict[str, str], generator_url: str) -> AlertBody:
    named = labels.get("alertname", "")
    return AlertBody(
        source=SOURCE,
        severity=severity_of(labels.get("severity")) or Severity.UNKNOWN,
        kind=kind_of(labels.get("kind")) or Kind.OTHER,
        summary=annotations.get("summary") or annotations.get("title") or named or "alert",
        description=annotations.get("description") or annotations.get("message") or "",
        labels=labels,
        annotations=annotations,
        generator_url=generator_url if not generator_url or is_web_address(generator_url) else "",
    )
