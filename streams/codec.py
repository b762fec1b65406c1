"""Record <-> bytes: the one place where our own wire format is read or written.

MessagePack with the record's tag first; a decoder refuses what is not one of
the records that its topic may carry.
"""

from typing import TypeVar

import msgspec

from streams.records import Alert, AlertBody, AlertsRecord, InputsRecord, Rejected, TaskHint

T = TypeVar("T")


class UndecodableRecordError(ValueError):
    """Raised for bytes that are not a record of the topic; it becomes a dead letter."""


_encoder = msgspec.msgpack.Encoder()
_alerts = msgspec.msgpack.Decoder(AlertsRecord)
_inputs = msgspec.msgpack.Decoder(InputsRecord)
_hint = msgspec.msgpack.Decoder(TaskHint)
_rejected = msgspec.msgpack.Decoder(Rejected)
_alert = msgspec.msgpack.Decoder(Alert)
_body = msgspec.msgpack.Decoder(AlertBody)

_json = msgspec.json.Encoder()

encode = _encoder.encode


def to_json(value: object) -> str:
    """A value as JSON text, for a jsonb column."""
    return _json.encode(value).decode()


def decode_alerts(data: bytes) -> AlertsRecord:
    """Read one record of `alerts`."""
    record: AlertsRecord = _decoded(_alerts, data)
    return record


def decode_inputs(data: bytes) -> InputsRecord:
    """Read one record of `incident-inputs`."""
    record: InputsRecord = _decoded(_inputs, data)
    return record


def decode_hint(data: bytes) -> TaskHint:
    """Read one record of `notification-tasks`."""
    return _decoded(_hint, data)


def decode_rejected(data: bytes) -> Rejected:
    """Read one record of `dead-letters`."""
    return _decoded(_rejected, data)


def decode_alert(data: bytes) -> Alert:
    """Read one packed alert, as a dead letter keeps it."""
    return _decoded(_alert, data)


def decode_body(data: bytes) -> AlertBody:
    """Unpack the body of an `Alert`."""
    return _body.decode(data)


def _decoded(decoder: "msgspec.msgpack.Decoder[T]", data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise UndecodableRecordError(str(error) or type(error).__name__) from error
