"""The action `export`: incidents or alerts as JSON lines or CSV, a piece in each transaction.

An attempt goes on where the one before it had committed, so no line is missing and none is there twice.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from agents.jobs import FailedForGoodError, Work
from sinks import export_rows, job_rows
from sinks.export_rows import Line, Place
from streams.rules_jobs import Export

_LINES: Final = 500
_FIRST: Final = datetime(1, 1, 2, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 30, tzinfo=UTC)

_place = msgspec.json.Decoder(Place)


async def export(work: Work) -> Mapping[str, Any]:
    """Write what was asked for."""
    told: Export = work.told
    since, until = _moment(told.since, _FIRST), _moment(told.until, _LAST)
    at = _place.decode(work.run.cursor) if work.run.cursor else Place(_FIRST, "", 0, 0)
    if at.part:
        await work.say(f"it goes on after {at.done} lines")
    async with work.pool.acquire(timeout=5) as conn:
        total = await export_rows.count(conn, told.what, work.run.team, since, until)
    while True:
        async with work.writing() as conn:
            lines = await export_rows.piece(conn, told.what, work.run.team, since, until, at, _LINES)
            if not lines and at.part:
                return {"lines": at.done, "format": told.format}
            await export_rows.put(conn, work.run.id, at.part, written(lines, told.format, head=at.part == 0))
            last = lines[-1] if lines else Line(at.at, at.key, "")
            at = Place(last.at, last.key, at.part + 1, at.done + len(lines))
            cursor = msgspec.json.encode(at).decode()
            await job_rows.progress(conn, work.run, at.done, max(total, at.done), cursor)


def written(lines: Sequence[Line], form: str, *, head: bool) -> bytes:
    """Lines of the file; in CSV lists and mappings are JSON, and the first line names the columns."""
    if form == "jsonl":
        return "".join(f"{line.body}\n" for line in lines).encode()
    out = io.StringIO()
    writer = csv.writer(out)
    for number, line in enumerate(lines):
        row: dict[str, Any] = msgspec.json.decode(line.body)
        if head and number == 0:
            writer.writerow(row)
        writer.writerow(_cell(value) for value in row.values())
    return out.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    # A program for tables would take such a text for a formula.
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value


def _moment(text: str, default: datetime) -> datetime:
    if not text:
        return default
    try:
        at = datetime.fromisoformat(text)
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    except ValueError as error:
        raise FailedForGoodError(f"{text} is not a moment") from error
