"""How the commands speak: columns, colours and times, and text that cannot steer a terminal."""

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import click

_LEAST: Final = 16
COLOURS: Final[Mapping[str, Mapping[str, Any]]] = {
    "critical": {"fg": "red", "bold": True},
    "error": {"fg": "red"},
    "warning": {"fg": "yellow"},
    "info": {"fg": "blue"},
    "unknown": {"dim": True},
    "open": {"fg": "red"},
    "firing": {"fg": "red"},
    "failed": {"fg": "red"},
    "acknowledged": {"fg": "cyan"},
    "resolved": {"fg": "green"},
    "sent": {"fg": "green"},
    "succeeded": {"fg": "green"},
    "merged": {"dim": True},
}
"""How a word that is a severity or a state looks."""


class Column(NamedTuple):
    """One column: its head, and whether it is what gives way on a narrow terminal, or holds numbers."""

    head: str
    yields: bool = False
    right: bool = False


def printable(text: str) -> str:
    """The text on one line, control and formatting characters escaped."""
    valid = text.encode("utf-8", "replace").decode()
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in valid)


def plain_json(packed: bytes) -> str:
    """JSON for reading, and for other programs, in ASCII alone."""
    return json.dumps(json.loads(packed), indent=2)


def cut(text: str, width: int) -> str:
    """The text in at most so many cells, with a mark where something is left out."""
    if cells(text) <= width:
        return text
    kept, taken = "", 0
    for char in text:
        taken += cells(char)
        if taken > width - 1:
            break
        kept += char
    return f"{kept}…" if width > 0 else ""


def cells(text: str) -> int:
    """How many cells of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None) -> Iterator[str]:
    """Lines of a table; words that have a colour carry it. `width` in cells: None cuts nothing."""
    texts = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cells, each)) for each in zip([column.head for column in columns], *texts, strict=True)]
    if width is not None:
        widths = _narrowed(columns, widths, width)
    heads = (_filled(c.head, w, right=c.right) for c, w in zip(columns, widths, strict=True))
    yield click.style("  ".join(heads).rstrip(), bold=True)
    for row in texts:
        shown = (_shown(text, w, right=c.right) for text, c, w in zip(row, columns, widths, strict=True))
        yield "  ".join(shown).rstrip()


def coloured(word: str) -> str:
    """The word as it looks on a terminal; click takes the colour away elsewhere."""
    return click.style(word, **COLOURS[word]) if word in COLOURS else word


def terminal_width() -> int | None:
    """Cells in a line of the terminal; None where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def colour_wanted() -> bool | None:
    """What the environment says of colours (no-color.org); None leaves it to whether there is a terminal."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def say(line: str) -> None:
    """One line; senders wrote parts of it, so nothing in it steers the terminal."""
    click.echo(printable(line))


def local(moment: str | None) -> str:
    """An ISO moment in the zone of whoever reads it."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else "-"


def age(moment: str, until: str | None = None) -> str:
    """How long ago a moment was, in the two largest units."""
    end = datetime.fromisoformat(until) if until else datetime.now(UTC)
    seconds = max(0, int((end - datetime.fromisoformat(moment)).total_seconds()))
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m" if minutes else f"{seconds}s"


def _narrowed(columns: Sequence[Column], widths: list[int], width: int) -> list[int]:
    over = sum(widths) + 2 * (len(widths) - 1) - width
    return [
        max(_LEAST, taken - over) if column.yields and over > 0 and taken > _LEAST else taken
        for column, taken in zip(columns, widths, strict=True)
    ]


def _shown(text: str, width: int, *, right: bool) -> str:
    kept = cut(text, width)
    return (
        _filled(kept, width, right=right).replace(kept, coloured(kept), 1)
        if kept in COLOURS
        else _filled(kept, width, right=right)
    )


def _filled(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - cells(text))
    return space + text if right else text + space
