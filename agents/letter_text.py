"""Dead letters as people read them: one line, a table, a body as far as it can be decoded. Pure.

All of it came from outside, so nothing that could steer a terminal is let through.
"""

import shutil
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from agents.record_replay import record_in
from agents.terminal import cut, printable
from agents.unhandled import RECORD
from sinks.dead_letter_rows import PACKED_ALERT, Letter
from streams import codec
from streams.records import Alert, AlertBatch, MemberChange

_DUMPED: Final = 512
_WIDEST: Final = {"event_id": 44, "source": 24, "reason": 1000}
_COLUMNS: Final = ("event_id", "received_at", "state", "source", "via", "size", "reason")


def line_of(letter: Letter) -> dict[str, Any]:
    """What a list says of a letter."""
    return {
        "event_id": letter.event_id,
        "state": letter.state.value,
        "received_at": letter.received_at.isoformat(timespec="milliseconds"),
        "changed_at": letter.changed_at.isoformat(timespec="milliseconds"),
        "source": letter.source,
        "via": letter.via,
        "team": letter.team,
        "field": letter.field,
        "reason": letter.reason,
        "content_type": letter.content_type,
        "size": letter.size,
    }


def table_of(letters: Sequence[Letter], *, narrow: bool) -> Iterator[str]:
    """The letters in columns; `narrow` cuts what is too wide for the terminal."""
    lines = [[printable(str(line_of(letter)[name])) for name in _COLUMNS] for letter in letters]
    lines.insert(0, [name.replace("_", " ") for name in _COLUMNS])
    if narrow:
        lines = [
            [cut(cell, _WIDEST.get(name, 40)) for name, cell in zip(_COLUMNS, line, strict=True)] for line in lines
        ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        row = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        yield cut(row, shutil.get_terminal_size().columns) if narrow else row


def body_text(letter: Letter) -> str:
    """The body as JSON where it is JSON or one of our records, else as text, else in hexadecimal digits."""
    value = _value(letter)
    if value is not None:
        return _shown(msgspec.json.format(msgspec.json.encode(value, order="deterministic")).decode())
    try:
        msgspec.json.decode(letter.body)
        return _shown(msgspec.json.format(letter.body).decode())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return _shown(letter.body.decode())
    except UnicodeDecodeError:
        rest = f"\n... {letter.size - _DUMPED} bytes more; --raw gives all" if letter.size > _DUMPED else ""
        return letter.body[:_DUMPED].hex(" ", 4) + rest


def _value(letter: Letter) -> Any:  # noqa: ANN401 - whatever JSON can say
    """One of our own records as plain values; None when the body is none."""
    try:
        if letter.content_type == PACKED_ALERT:
            return _alert(codec.decode_alert(letter.body))
        if letter.content_type == RECORD:
            return _record(record_in(letter))
        if letter.via == "kafka":
            record = codec.decode_alerts(letter.body)
            items = record.items if isinstance(record, AlertBatch) else ()
            return [_alert(item) for item in items if isinstance(item, Alert)]
    except (ValueError, msgspec.MsgspecError):
        return None
    return None


def _record(value: Any) -> Any:  # noqa: ANN401 - a record, or anything in one
    """A record with the names of its fields, packed bodies opened."""
    if isinstance(value, msgspec.Struct):
        named = {name: _record(getattr(value, name)) for name in value.__struct_fields__}
        if isinstance(value, MemberChange) and value.body:
            named["body"] = _record(codec.decode_body(value.body))
        return {"record": type(value).__name__, **named}
    if isinstance(value, list | tuple):
        return [_record(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _record(one) for key, one in value.items()}
    return value.hex() if isinstance(value, bytes) else value


def _alert(alert: Alert) -> dict[str, Any]:
    header = {name: getattr(alert, name) for name in Alert.__struct_fields__}
    body = codec.decode_body(alert.body)
    return {
        **header,
        "content": alert.content.hex(),
        "body": {
            **{name: getattr(body, name) for name in body.__struct_fields__},
            "links": [{"href": link.href, "text": link.text} for link in body.links],
        },
    }


def _shown(text: str) -> str:
    return "\n".join(printable(line.expandtabs()) for line in text.split("\n"))
