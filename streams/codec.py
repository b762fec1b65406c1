"""Record <-> bytes: the one place where our own wire format is read or written.

MessagePack with the record's tag first; a decoder refuses what is not one of
the records that its topic may carry.
"""

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from streams.records import Alert, AlertBody, AlertsRecord, InputsRecord, TaskHint

T = TypeVar("T")

_FIXARRAY: Final = 0x90
_ARRAY16: Final = 0xDC
_NO_TAG: Final = 0x80  # above MessagePack's one-byte numbers


class UndecodableRecordError(ValueError):
    """Raised for bytes that are not a record of the topic; it becomes a dead letter."""


class UnknownVersionError(RuntimeError):
    """Raised for a table's value that a later, or a much earlier, version of this program wrote."""


_encoder = msgspec.msgpack.Encoder()
_alerts = msgspec.msgpack.Decoder(AlertsRecord)
_inputs = msgspec.msgpack.Decoder(InputsRecord)
_hint = msgspec.msgpack.Decoder(TaskHint)
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


def decode_alert(data: bytes) -> Alert:
    """Read one packed alert, as a dead letter keeps it."""
    return _decoded(_alert, data)


def decode_body(data: bytes) -> AlertBody:
    """Unpack the body of an `Alert`."""
    return _body.decode(data)


def version_of(value: bytes) -> int:
    """The version of a table's value: the tag its array begins with, read without decoding. -1: there is none."""
    head = value[0] if value else 0
    place = 1 if head & 0xF0 == _FIXARRAY else 3 if head == _ARRAY16 else len(value)
    tag = value[place] if place < len(value) else _NO_TAG
    return tag if tag < _NO_TAG else -1


def refuse_versions(table: str, values: Mapping[str, bytes], version: int) -> None:
    """Check that every value of a table is of one version.

    Raises:
        UnknownVersionError: one is not; it names table, key and versions.
    """
    for key, value in values.items():
        if version_of(value) != version:
            raise UnknownVersionError(
                f"table {table}: the value of {key} is of version {version_of(value)}, this program reads {version}"
            )


def _decoded(decoder: "msgspec.msgpack.Decoder[T]", data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise UndecodableRecordError(str(error) or type(error).__name__) from error
