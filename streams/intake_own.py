"""Our own JSON format: one alert or a list of them -> `Alert` or `Rejected`, judged once."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from streams import codec, keys
from streams.intake_limits import (
    AHEAD,
    EARLIEST,
    LATEST,
    MAX_EVENT_ID,
    MAX_LINKS,
    content_of,
    flaw_of_body,
    identity_of,
    is_web_address,
    new_event_id,
    refused,
    too_long,
    with_raw,
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
from streams.records import Alert, AlertBody, Kind, Link, Rejected, Severity
from streams.settings import Settings

JSON: Final = "application/json"
_SHAPES: Final = {
    "source": Shape.TEXT,
    "status": Shape.TEXT,
    "summary": Shape.TEXT,
    "labels": Shape.TEXTS,
    "event_id": Shape.TEXT,
    "dedup_key": Shape.TEXT,
    "severity": Shape.TEXT,
    "kind": Shape.TEXT,
    "description": Shape.TEXT,
    "annotations": Shape.TEXTS,
    "starts_at": Shape.TIME,
    "ends_at": Shape.TIME,
    "links": Shape.LINKS,
}
_REQUIRED: Final = ("source", "status", "summary", "labels")


class OwnLink(msgspec.Struct):
    """Somewhere to look further."""

    href: str
    text: str = ""


class OwnAlert(msgspec.Struct, forbid_unknown_fields=True):
    """One alert as our own senders write it."""

    source: str
    status: Literal["firing", "resolved"]
    summary: str
    labels: dict[str, str]
    event_id: str | None = None
    dedup_key: str | None = None
    severity: str | None = None
    kind: str | None = None
    description: str | None = None
    annotations: dict[str, str] | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    links: list[OwnLink | str] | None = None


class _WithMore(OwnAlert, forbid_unknown_fields=False):
    """The same with fields that we do not know; the alert then keeps the sender's text as `raw`."""


_exact = msgspec.json.Decoder(list[OwnAlert] | OwnAlert)
_loose = msgspec.json.Decoder(_WithMore)


class _Intake(msgspec.Struct, frozen=True):
    """What holds for every item of one body."""

    accepted_at: datetime
    limits: Settings
    team: str
    event_id: str
    content_type: str
    listed: bool

    def event_id_of(self, index: int) -> str:
        return f"{self.event_id}#{index}" if self.listed else self.event_id


def parse_own(
    body: bytes,
    *,
    accepted_at: datetime,
    limits: Settings,
    team: str = "default",
    header_event_id: str | None = None,
    content_type: str = JSON,
) -> Parsed:
    """Judge one body. `header_event_id` names its event where an item names none (in a list with `#index`)."""
    text = cleaned(body)
    event_id = header_event_id or new_event_id()
    listed = text.lstrip(b" \t\r\n")[:1] == b"["
    intake = _Intake(accepted_at, limits, team, event_id, content_type, listed)
    if len(text) > limits.max_message_bytes:
        return _refused_whole(
            intake, text, Flaw("body", f"longer than {limits.max_message_bytes} bytes"), Refusal.TOO_LARGE
        )
    try:
        decoded = _exact.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _one_by_one(text, intake)
    if isinstance(decoded, OwnAlert):
        return Parsed([_judged(decoded, text, None, intake, 0)])
    if len(decoded) > limits.max_items:
        return _refused_whole(intake, text, Flaw("body", f"more than {limits.max_items} alerts"), Refusal.TOO_MANY)
    return Parsed([_judged(own, None, None, intake, index) for index, own in enumerate(decoded)])


def _refused_whole(intake: _Intake, text: bytes, flaw: Flaw, refusal: Refusal) -> Parsed:
    rejected = refused(
        flaw, text, event_id=intake.event_id, source="", team=intake.team, content_type=intake.content_type
    )
    return Parsed([rejected], refusal)


def _one_by_one(text: bytes, intake: _Intake) -> Parsed:
    """Something in the body is not as the format says: find out what, and take the rest."""
    try:
        pieces = pieces_of(text, max_depth=intake.limits.max_depth, max_items=intake.limits.max_items)
    except UnusableBodyError as error:
        return _refused_whole(intake, text, error.flaw, error.refusal)
    return Parsed([_piece(piece, intake, index) for index, piece in enumerate(pieces)])


def _piece(piece: Piece, intake: _Intake, index: int) -> Alert | Rejected:
    if piece.too_deep is not None:
        return _reject(
            Flaw(piece.too_deep, f"nested deeper than {intake.limits.max_depth} levels"),
            piece.text,
            None,
            intake,
            index,
        )
    try:
        own = _loose.decode(piece.text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _explained(piece.text, error, intake, index)
    return _judged(own, piece.text, piece.text, intake, index)


def _explained(text: bytes, error: Exception, intake: _Intake, index: int) -> Rejected:
    try:
        value = read_loosely(text)
    except ValueError:
        return _reject(Flaw("body", f"is not JSON: {error}"), text, None, intake, index)
    flaw = explain(value, _SHAPES, _REQUIRED)
    if flaw is None and value["status"] not in {"firing", "resolved"}:
        flaw = Flaw("status", "must be firing or resolved")
    return _reject(flaw or Flaw("body", str(error)), text, value if isinstance(value, dict) else None, intake, index)


def _reject(flaw: Flaw, text: bytes, value: dict[str, object] | None, intake: _Intake, index: int) -> Rejected:
    named, source = (value or {}).get("event_id"), (value or {}).get("source")
    usable = isinstance(named, str) and named and _event_id_flaw(named) is None and named.isprintable()
    return refused(
        flaw,
        text,
        event_id=str(named) if usable else intake.event_id_of(index),
        source=source if isinstance(source, str) else "",
        team=intake.team,
        content_type=intake.content_type,
    )


def _judged(own: OwnAlert, text: bytes | None, raw: bytes | None, intake: _Intake, index: int) -> Alert | Rejected:
    """The alert, or why not. `text` is what a `Rejected` keeps, `raw` what the alert keeps."""
    flaw = _flaw(own, intake.limits)
    if flaw is None:
        made = _alert(own, raw, intake, index)
        if isinstance(made, Alert):
            return made
        flaw = made
    kept = msgspec.json.encode(own) if text is None else text
    return _reject(flaw, kept, {"event_id": own.event_id, "source": own.source}, intake, index)


def _flaw(own: OwnAlert, limits: Settings) -> Flaw | None:
    if not own.source or not own.summary:
        return Flaw("summary" if own.source else "source", "is empty")
    if own.event_id is not None and (flaw := _event_id_flaw(own.event_id)):
        return flaw
    if own.dedup_key is not None and (flaw := too_long("dedup_key", own.dedup_key, limits.max_label_bytes)):
        return flaw
    if (own.starts_at or own.ends_at) and (flaw := _times_flaw(own.starts_at, own.ends_at)):
        return flaw
    return _links_flaw(own.links) if own.links else None


def _event_id_flaw(event_id: str) -> Flaw | None:
    return too_long("event_id", event_id, MAX_EVENT_ID)


def _times_flaw(starts_at: datetime | None, ends_at: datetime | None) -> Flaw | None:
    flaw = None if starts_at is None else _time_flaw("starts_at", starts_at)
    if flaw is None and ends_at is not None:
        flaw = _time_flaw("ends_at", ends_at)
        if flaw is None and starts_at is not None and ends_at < starts_at:
            flaw = Flaw("ends_at", "is before starts_at")
    return flaw


def _time_flaw(name: str, at: datetime) -> Flaw | None:
    if at.tzinfo is None:
        return Flaw(name, "has no time zone: end it with Z or an offset")
    if not EARLIEST <= at < LATEST:
        return Flaw(name, f"must be between the years {EARLIEST.year} and {LATEST.year - 1}")
    return None


def _links_flaw(links: Iterable[OwnLink | str]) -> Flaw | None:
    for index, link in enumerate(links):
        if index >= MAX_LINKS:
            return Flaw("links", f"more than {MAX_LINKS}")
        if not is_web_address(link if isinstance(link, str) else link.href):
            return Flaw(f"links.{index}.href", "must begin with http:// or https://")
    return None


def _alert(own: OwnAlert, raw: bytes | None, intake: _Intake, index: int) -> Alert | Flaw:
    labels = own.labels
    if "" in labels.values():
        labels = {name: value for name, value in labels.items() if value}
    if not labels and not own.dedup_key:
        return Flaw("labels", "at least one label that is not empty is needed where there is no dedup_key")
    body = _body_of(own, labels)
    packed = codec.encode(body)
    flaw = flaw_of_body(body, packed, intake.limits)
    if flaw is not None:
        return flaw
    content = content_of(packed)
    if raw is not None:
        packed = with_raw(body, packed, raw, intake.limits)
    firing = own.status == "firing"
    ends_at = _utc(own.ends_at) if firing else _utc(own.ends_at) or intake.accepted_at
    said_at = _utc(own.starts_at) if firing else ends_at
    return Alert(
        event_id=own.event_id or intake.event_id_of(index),
        team=intake.team,
        identity=_identity(own, labels, intake.team),
        content=content,
        firing=firing,
        event_at=min(said_at or intake.accepted_at, intake.accepted_at + AHEAD),
        body=packed,
        starts_at=_utc(own.starts_at),
        ends_at=ends_at,
    )


def _utc(at: datetime | None) -> datetime | None:
    return at if at is None or at.tzinfo is UTC else at.astimezone(UTC)


def _identity(own: OwnAlert, labels: dict[str, str], team: str) -> str:
    if own.dedup_key:
        return keys.hashed(keys.identity_of_key(team, own.source, own.dedup_key))
    return identity_of(team, labels)


def _body_of(own: OwnAlert, labels: dict[str, str]) -> AlertBody:
    return AlertBody(
        source=own.source,
        severity=severity_of(own.severity or labels.get("severity")) or Severity.UNKNOWN,
        kind=kind_of(own.kind or labels.get("kind")) or Kind.OTHER,
        summary=own.summary,
        description=own.description or "",
        labels=labels,
        annotations=own.annotations or {},
        links=_links_of(own.links) if own.links else (),
    )


def _links_of(links: Iterable[OwnLink | str]) -> tuple[Link, ...]:
    return tuple(Link(link) if isinstance(link, str) else Link(link.href, link.text) for link in links)
