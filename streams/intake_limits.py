"""The limits one alert must keep, and the canonical `Alert` made of what kept them."""

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final

from streams import codec, keys
from streams.intake_payload import KEPT_BODY, Flaw, shown, without_nul
from streams.records import AlertBody, Rejected
from streams.settings import Settings

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
AHEAD: Final = timedelta(minutes=5)
MAX_EVENT_ID: Final = 512
MAX_LINKS: Final = 64
RAW_BYTES: Final = 16_384
_WEB: Final = ("http://", "https://")


def flaw_of_body(body: AlertBody, packed: bytes, limits: Settings) -> Flaw | None:
    """The first limit that the body breaks. Its packed size alone clears nearly every alert."""
    labels = body.labels
    if len(labels) > limits.max_labels:
        return Flaw("labels", f"{len(labels)} labels, at most {limits.max_labels} are taken")
    if "" in labels or "" in body.annotations:
        return Flaw("labels" if "" in labels else "annotations", "a name is empty")
    size = len(packed)
    if size <= limits.max_label_bytes and size <= limits.max_annotation_bytes and size <= limits.max_alert_bytes:
        return None
    for name, text, most in _measured(body, limits):
        if len(text) > most // 4 and len(text.encode()) > most:
            return Flaw(name, f"longer than {most} bytes")
    if len(packed) > limits.max_alert_bytes:
        largest = max(_measured(body, limits), key=lambda part: len(part[1]))[0]
        return Flaw(
            largest,
            f"the alert has {len(packed)} bytes, at most {limits.max_alert_bytes} are taken; this is its largest part",
        )
    return None


def _measured(body: AlertBody, limits: Settings) -> Iterable[tuple[str, str, int]]:
    short, long = limits.max_label_bytes, limits.max_annotation_bytes
    yield "source", body.source, short
    yield "summary", body.summary, long
    yield "description", body.description, long
    yield "generatorURL", body.generator_url, short
    for name, value in body.labels.items():
        yield f"labels.{shown(name)}", name, short
        yield f"labels.{shown(name)}", value, short
    for name, value in body.annotations.items():
        yield f"annotations.{shown(name)}", name, short
        yield f"annotations.{shown(name)}", value, long
    for index, link in enumerate(body.links):
        yield f"links.{index}.href", link.href, short
        yield f"links.{index}.text", link.text, short


def new_event_id() -> str:
    """An id for an event whose sender gave it none."""
    return os.urandom(16).hex()


def too_long(field: str, text: str, most: int) -> Flaw | None:
    """A flaw if `text` has more than `most` bytes."""
    if len(text) > most // 4 and len(text.encode()) > most:
        return Flaw(field, f"longer than {most} bytes")
    return None


def is_web_address(href: str) -> bool:
    """Whether the page may make a link of it (never javascript: and the like)."""
    return href.startswith(_WEB) or href[:8].lower().startswith(_WEB)


def content_of(packed: bytes) -> bytes:
    """blake2b-64 of a packed body whose `raw` is empty."""
    return blake2b(packed, digest_size=8).digest()


def identity_of(team: str, labels: Mapping[str, str]) -> str:
    """The identity of an alert that is known by its labels."""
    return keys.hashed(keys.identity_of_labels(team, labels))


def with_raw(body: AlertBody, packed: bytes, text: bytes, limits: Settings) -> bytes:
    """The packed body with as much of the sender's text as the alert's size leaves room for."""
    room = min(RAW_BYTES, limits.max_alert_bytes - len(packed) - 8)
    if room <= 0:
        return packed
    raw = text[:room].decode("utf-8", "ignore")
    return codec.encode(
        AlertBody(
            source=body.source,
            severity=body.severity,
            kind=body.kind,
            summary=body.summary,
            description=body.description,
            labels=body.labels,
            annotations=body.annotations,
            links=body.links,
            raw=raw,
            generator_url=body.generator_url,
        )
    )


def refused(flaw: Flaw, text: bytes, *, event_id: str, source: str, team: str, content_type: str) -> Rejected:
    """The record of an event that is not taken, with at most 64 KiB of what came."""
    return Rejected(
        event_id=event_id,
        source=shown(source),
        field=flaw.field,
        reason=flaw.reason,
        body=bytes(text[:KEPT_BODY]),
        content_type=without_nul(content_type[:200]),
        team=team,
    )
