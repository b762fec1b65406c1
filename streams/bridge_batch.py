"""What a batch of AMQP messages says: pure, from delivered messages to records and dead letters."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import aio_pika
import msgspec

from streams import codec, trace_context
from streams.amqp import HANDOVER_TYPE
from streams.amqp_bursts import Delivery
from streams.intake import Parsed, parse_own
from streams.intake_payload import without_nul
from streams.records import WAITED, Alert, AlertBatch, Rejected, Traced
from streams.settings import Settings

_GZIP: Final = 31
_HEADER: Final = 1024
_NONE_TRACED: Final[Mapping[int, str]] = {}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused event and the text to keep of it on RabbitMQ."""

    rejected: Rejected
    body: bytes
    routing_key: str
    message_id: str | None


@dataclass(slots=True)
class Gathered:
    """All that one batch of messages comes to."""

    batches: list[AlertBatch] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    accepted: int = 0


def gathered(messages: Sequence[Delivery], settings: Settings, contexts: Mapping[int, str] = _NONE_TRACED) -> Gathered:
    """Judge every message. Order is kept: a handed-over batch stands between what came before and after it.

    `contexts` are the traces of those messages, by their place, that are recorded.
    """
    accepted_at = datetime.now(UTC)
    found = Gathered()
    items: list[Alert | Rejected] = []
    traced: list[Traced] = []
    trace = ""
    for place, message in enumerate(messages):
        if message.content_type == HANDOVER_TYPE:
            batch = _handed_over(message, accepted_at)
            if batch is not None:
                _close(found, items, accepted_at, trace, traced)
                items, trace, traced = [], "", []
                found.batches.append(batch)
                found.accepted += len(batch.items)
                continue
        parsed = judged(message, accepted_at, settings)
        if contexts and place in contexts:
            first = len(items)
            traced.append(Traced(contexts[place], tuple(range(first, first + len(parsed.items)))))
        items.extend(parsed.items)
        if message.headers and not trace:
            trace = trace_of(message)
        _sort_out(found, parsed, message)
    _close(found, items, accepted_at, trace, traced)
    return found


def _close(
    found: Gathered, items: list[Alert | Rejected], accepted_at: datetime, trace: str, traced: list[Traced]
) -> None:
    if items:
        found.batches.append(
            AlertBatch(accepted_at=accepted_at, items=tuple(items), via="amqp", trace=trace, traced=tuple(traced))
        )


def _handed_over(message: Delivery, now: datetime) -> AlertBatch | None:
    """What a gateway accepted, never later than now, whatever the clock that it was accepted by."""
    try:
        record = codec.decode_alerts(message.body)
    except codec.UndecodableRecordError:
        return None
    if not isinstance(record, AlertBatch):
        return None
    traced = tuple(one for one in record.traced if _fits(one, len(record.items)))
    return msgspec.structs.replace(record, accepted_at=min(record.accepted_at, now), via=WAITED, traced=traced)


def _fits(traced: Traced, items: int) -> bool:
    """Whoever may publish may have written it: only what is a context, of items that are there, goes on."""
    sound = trace_context.usable(traced.context) == traced.context
    return sound and all(0 <= index < items for index in traced.items)


def judged(message: Delivery, accepted_at: datetime, settings: Settings) -> Parsed:
    """The verdicts of intake on one message."""
    return parse_own(
        _unpacked(message.body, message.content_encoding, settings.max_message_bytes),
        accepted_at=accepted_at,
        limits=settings,
        header_event_id=without_nul(message.message_id) if message.message_id else None,
        content_type=message.content_type,
    )


def _unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """The body, one byte past the limit at most; what claims to be gzip and is not is judged as it stands."""
    if encoding not in {"gzip", "x-gzip"}:
        return body
    try:
        return zlib.decompressobj(_GZIP).decompress(body, limit + 1)
    except zlib.error:
        return body


def _sort_out(found: Gathered, parsed: Parsed, message: Delivery) -> None:
    alone = len(parsed.items) == 1
    for item in parsed.items:
        if isinstance(item, Alert):
            found.accepted += 1
        else:
            body = message.body if alone else item.body
            named = message.message_id or None if alone else item.event_id[:255]
            found.dead.append(DeadLetter(item, body, message.routing_key, named))


def trace_of(message: Delivery) -> str:
    """What the sender says of its trace in the header `traceparent`; empty where that is no context."""
    said = message.header("traceparent") if message.headers else None
    return trace_context.usable(said) if isinstance(said, str) else ""


def dead_message(letter: DeadLetter) -> aio_pika.Message:
    """The copy for the dead-letter queue; its headers say why, and which field."""
    rejected = letter.rejected
    return aio_pika.Message(
        letter.body,
        headers={
            "x-reason": _short(rejected.reason),
            "x-field": _short(rejected.field),
            "x-event-id": rejected.event_id,
        },
        content_type=rejected.content_type or None,
        message_id=letter.message_id,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


def _short(text: str) -> str:
    return text.encode()[:_HEADER].decode("utf-8", "ignore")
