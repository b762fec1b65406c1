"""A source's body, before any format is known: cleaned, measured, cut into items, its flaws put in words.

NUL cannot be stored by Postgres: its JSON escape becomes U+FFFD here, before
anything is decoded. Bad UTF-8 and lone surrogates are refused, by field.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from streams.records import Alert, Rejected

KEPT_BODY: Final = 65_536
_BLANK: Final = b" \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},]', re.DOTALL)
_QUOTE, _COMMA = b'",'
_OPENING: Final = frozenset(b"[{")
_JSON_TYPES: Final[Mapping[type, str]] = {
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    list: "a list",
    dict: "an object",
}


class Refusal(StrEnum):
    """Why nothing of a body was looked at, as HTTP needs to know it."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    TOO_MANY = "too_many"
    MISSING_LABELS = "missing_labels"


class Parsed(msgspec.Struct, frozen=True):
    """The verdicts of intake in the order of the body; with `refusal` it is one `Rejected` for the whole."""

    items: list[Alert | Rejected]
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing wrong with an item: where, and what."""

    field: str
    what: str

    @property
    def reason(self) -> str:
        """The sentence that people read; it opens with the field."""
        return f"{self.field}: {self.what}"


class UnusableBodyError(ValueError):
    """Raised for a body that cannot be cut into items; carries the flaw and the refusal."""

    def __init__(self, flaw: Flaw, refusal: Refusal) -> None:
        super().__init__(flaw.reason)
        self.flaw = flaw
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Piece:
    """The JSON text of one item; `too_deep` names the field that is nested beyond the limit."""

    text: bytes
    too_deep: str | None = None


class Shape(StrEnum):
    """What a field of an item must be."""

    TEXT = "a string"
    TIME = "a time"
    TEXTS = "an object of strings"
    LINKS = "a list of links"


def cleaned(body: bytes) -> bytes:
    """The body without a byte order mark, escaped NULs replaced by U+FFFD."""
    body = body.removeprefix(_BOM)
    if b"\\u0000" in body:
        body = _NUL.sub(rb"\1\\ufffd", body)
    return body


def without_nul(text: str) -> str:
    """A header's text as Postgres can keep it."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def pieces_of(body: bytes, *, max_depth: int, max_items: int) -> list[Piece]:
    """Cut a body into its items, one for an object; nothing is decoded, so nesting cannot exhaust the stack.

    Raises:
        UnusableBodyError: brackets do not match, or there are too many items.
    """
    text = body.strip(_BLANK)
    if not text:
        raise UnusableBodyError(Flaw("body", "is empty"), Refusal.MALFORMED)
    if text[0] not in _OPENING:
        raise UnusableBodyError(Flaw("body", "must be a JSON object or a list of them"), Refusal.MALFORMED)
    pieces = _Cutter(text, max_depth=max_depth, max_items=max_items).cut()
    if len(pieces) == 1 and not pieces[0].text:
        return []
    if any(not piece.text for piece in pieces):
        raise UnusableBodyError(Flaw("body", "is not JSON: a list has an empty place"), Refusal.MALFORMED)
    return pieces


class _Cutter:
    """Walks over a body's brackets and commas; strings are passed over whole."""

    def __init__(self, text: bytes, *, max_depth: int, max_items: int) -> None:
        self.text = text
        self.max_depth = max_depth
        self.max_items = max_items
        self.home = int(text.startswith(b"["))
        self.pieces: list[Piece] = []
        self.start = self.home
        self.depth = 0
        self.last_text = b""
        self.too_deep: str | None = None

    def cut(self) -> list[Piece]:
        for match in _TOKEN.finditer(self.text):
            at = match.start()
            token = self.text[at]
            if token == _QUOTE:
                if self.depth == self.home + 1:
                    self.last_text = match.group()
            elif token in _OPENING:
                self._open()
            elif token == _COMMA:
                if self.depth == self.home == 1:
                    self._take(at)
                    self._start(at + 1)
            else:
                self.depth -= 1
                if self.depth == 0:
                    if at != len(self.text) - 1:
                        break
                    self._take(at + 1 - self.home)
                    return self.pieces
        raise UnusableBodyError(
            Flaw("body", "is not JSON: it is cut short, or its brackets do not match"), Refusal.MALFORMED
        )

    def _open(self) -> None:
        self.depth += 1
        if self.depth > self.max_depth and self.too_deep is None:
            self.too_deep = shown(self.last_text[1:-1].decode("utf-8", "replace")) or "body"

    def _take(self, end: int) -> None:
        if len(self.pieces) >= self.max_items:
            raise UnusableBodyError(Flaw("body", f"more than {self.max_items} alerts"), Refusal.TOO_MANY)
        self.pieces.append(Piece(self.text[self.start : end].strip(_BLANK), self.too_deep))

    def _start(self, at: int) -> None:
        self.start, self.too_deep, self.last_text = at, None, b""


def shown(name: str) -> str:
    """A sender's own name as a reason may quote it: short, and valid text."""
    return without_nul(name[:100])


def read_loosely(piece: bytes) -> Any:  # noqa: ANN401 - whatever the sender wrote
    """The item as plain values, bad text and NaN included, for explaining; ValueError when it is not JSON at all."""
    try:
        return json.loads(piece.decode("utf-8", "surrogateescape"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def explain(value: object, shapes: Mapping[str, Shape], required: tuple[str, ...]) -> Flaw | None:
    """The first thing wrong with an item's types or text; None when it looks right from here."""
    if not isinstance(value, dict):
        return Flaw("body", f"must be an object, not {_type_of(value)}")
    for name in required:
        if name not in value:
            return Flaw(name, "is missing")
    for name, shape in shapes.items():
        found = value.get(name)
        if found is None and name not in required:
            continue
        flaw = _misshapen(name, found, shape)
        if flaw is not None:
            return flaw
    bad = _bad_text("", value)
    return None if bad is None else Flaw(*bad)


def _misshapen(name: str, found: object, shape: Shape) -> Flaw | None:
    match shape:
        case Shape.TEXT:
            return None if isinstance(found, str) else Flaw(name, f"must be a string, not {_type_of(found)}")
        case Shape.TIME:
            return _not_a_time(name, found)
        case Shape.TEXTS:
            return _not_texts(name, found)
        case Shape.LINKS:
            return _not_links(name, found)


def _not_a_time(name: str, found: object) -> Flaw | None:
    if not isinstance(found, str):
        return Flaw(name, f"must be a time as text (RFC 3339), not {_type_of(found)}")
    try:
        msgspec.convert(found, datetime)
    except msgspec.MsgspecError:
        return Flaw(name, f"not a time between the years 1 and 9999 in RFC 3339: {shown(found)!r}")
    return None


def _not_texts(name: str, found: object) -> Flaw | None:
    if not isinstance(found, dict):
        return Flaw(name, f"must be an object, not {_type_of(found)}")
    for key, value in found.items():
        if not isinstance(value, str):
            return Flaw(f"{name}.{shown(key)}", f"must be a string, not {_type_of(value)}")
    return None


def _not_links(name: str, found: object) -> Flaw | None:
    if not isinstance(found, list):
        return Flaw(name, f"must be a list, not {_type_of(found)}")
    for index, link in enumerate(found):
        where = f"{name}.{index}"
        if isinstance(link, dict):
            if not isinstance(link.get("href"), str):
                return Flaw(f"{where}.href", "is missing or not a string")
            if not isinstance(link.get("text", ""), str):
                return Flaw(f"{where}.text", "must be a string")
        elif not isinstance(link, str):
            return Flaw(where, f"must be an address or an object with href, not {_type_of(link)}")
    return None


def _bad_text(path: str, value: object) -> tuple[str, str] | None:
    """Where the first text is that is not Unicode, or the first number that JSON does not know."""
    if isinstance(value, str):
        return _bad_string(path, value)
    if isinstance(value, float) and (value != value or value in {float("inf"), float("-inf")}):  # noqa: PLR0124 - NaN is what differs from itself
        return path or "body", "NaN and Infinity are not JSON"
    if isinstance(value, dict):
        for key, inner in value.items():
            where = f"{path}.{shown(key)}" if path else shown(key)
            found = _bad_string(where, key) or _bad_text(where, inner)
            if found is not None:
                return found
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found = _bad_text(f"{path}.{index}" if path else str(index), inner)
            if found is not None:
                return found
    return None


def _bad_string(path: str, text: str) -> tuple[str, str] | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        from_bytes = "\udc80" <= text[error.start] <= "\udcff"
        return path or "body", "is not valid UTF-8" if from_bytes else "has a lone surrogate"
    return None


def _type_of(value: object) -> str:
    return _JSON_TYPES.get(type(value), type(value).__name__)
