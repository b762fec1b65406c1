"""Matchers of labels: what they mean, and the two ways Alertmanager lets them be written.

`parse` tries the classic grammar first and the UTF-8 one (quoted names) second,
which is what Alertmanager's default mode comes to.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec
import re2

OPERATORS: Final = ("=", "!=", "=~", "!~")
_RESERVED: Final = re.compile(r"[\s{}!=~,\\\"'`]")
_NAME_AND_OP: Final = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|=|!=|!~)")
_IN_QUOTES: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_QUOTED: Final = r'"(?:[^"\\\n]|\\.)*"'
_WORD: Final = rf"(?:{_QUOTED}|[^\s{{}}!=~,\\\"'`]+)"
_UTF8: Final = re.compile(rf"\s*({_WORD})\s*(=~|!~|!=|=)\s*({_WORD})\s*(,|$)")
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL)
_LETTERS: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"',
}  # fmt: skip


class MatcherError(ValueError):
    """Raised for text that is not a matcher, or whose regular expression is refused."""


class Matcher(msgspec.Struct, frozen=True):
    """One condition on one label; a label that is absent counts as empty."""

    name: str
    op: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet the condition; regular expressions match the whole value."""
        actual = labels.get(self.name, "")
        if self.op == "=":
            return actual == self.value
        if self.op == "!=":
            return actual != self.value
        return (_compiled(self.value).fullmatch(actual) is not None) == (self.op == "=~")

    def __str__(self) -> str:
        if _RESERVED.search(self.name):
            return f"{_quote(self.name)}{self.op}{_quote(self.value)}"
        return f"{self.name}{self.op}{_quote(self.value)}"


def checked(name: str, op: str, value: str) -> Matcher:
    """A matcher whose regular expression, if it is one, compiles.

    Raises:
        MatcherError: the name is empty or the expression is refused.
    """
    if not name:
        raise MatcherError("a label name is missing")
    if op in {"=~", "!~"}:
        try:
            _compiled(value)
        except re2.error as error:
            reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
            raise MatcherError(f"the regular expression {value!r} is refused: {reason}") from error
    return Matcher(name, op, value)


def in_order(matchers: list[Matcher]) -> tuple[Matcher, ...]:
    """Sorted as Alertmanager sorts them, so that their text can name a route."""
    return tuple(sorted(matchers, key=lambda matcher: (matcher.name, matcher.value, OPERATORS.index(matcher.op))))


def text_of(matchers: tuple[Matcher, ...]) -> str:
    """`{a="b",c=~"d"}`."""
    return "{" + ",".join(map(str, matchers)) + "}"


def parse(text: str) -> list[Matcher]:
    """Read one entry of a `matchers` list; it may hold several, with or without braces.

    Raises:
        MatcherError: neither grammar accepts it.
    """
    try:
        return _parse_classic(text)
    except MatcherError as classic:
        try:
            return _parse_utf8(text)
        except MatcherError:
            raise classic from None


def _parse_classic(text: str) -> list[Matcher]:
    return [_classic(part) for part in _split(text.removeprefix("{").removesuffix("}"))]


def _split(text: str) -> list[str]:
    parts, start, quoted, escaped = [], 0, False, False
    for index, letter in enumerate(text):
        if letter == "," and not quoted:
            parts.append(text[start:index])
            start = index + 1
        if letter == '"' and not escaped:
            quoted = not quoted
        escaped = letter == "\\" and not escaped
    return [*parts, text[start:]] if text[start:].strip() else parts


def _classic(text: str) -> Matcher:
    match = _NAME_AND_OP.match(text)
    if match is None:
        raise MatcherError(f"{text!r} is not a matcher")
    name, op = match.groups()
    raw = text[match.end() :].strip()
    if not raw.startswith('"'):
        return checked(name, op, _unescaped(raw))
    if not _IN_QUOTES.fullmatch(raw):
        raise MatcherError(f"{text!r} is not quoted to its end")
    return checked(name, op, _unescaped(raw[1:-1]))


def _unescaped(raw: str) -> str:
    value, escaped = "", False
    for letter in raw:
        if escaped:
            value += {"n": "\n", '"': '"', "\\": "\\"}.get(letter, "\\" + letter)
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == '"':
            raise MatcherError(f"a quote inside {raw!r} is not escaped")
        else:
            value += letter
    return value + "\\" * escaped


def _parse_utf8(text: str) -> list[Matcher]:
    inner = text.strip()
    if inner.startswith("{") != inner.endswith("}"):
        raise MatcherError(f"{text!r} has only one of its braces")
    inner = inner.removeprefix("{").removesuffix("}").strip()
    matchers, position = [], 0
    while position < len(inner):
        match = _UTF8.match(inner, position)
        if match is None:
            raise MatcherError(f"{inner[position:]!r} is not a matcher")
        name, op, value, _ = match.groups()
        matchers.append(checked(_unquoted(name), op, _unquoted(value)))
        position = match.end()
    return matchers


def _unquoted(word: str) -> str:
    if not word.startswith('"'):
        return word
    out, position = bytearray(), 0
    inner = word[1:-1]
    for match in _ESCAPE.finditer(inner):
        out += inner[position : match.start()].encode() + _escape(match)
        position = match.end()
    try:
        return (out + inner[position:].encode()).decode()
    except UnicodeDecodeError as error:
        raise MatcherError(f"{word} is not UTF-8") from error


def _escape(match: "re.Match[str]") -> bytes:
    two, four, eight, octal, letter = match.groups()
    try:
        if two is not None or octal is not None:
            return bytes([int(two, 16) if two is not None else int(octal, 8)])
        if letter is None:
            return chr(int(four or eight, 16)).encode()
        return _LETTERS[letter].encode()
    except (KeyError, ValueError, OverflowError) as error:
        raise MatcherError(f"{match.group()} is not an escape") from error


def _quote(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'"{escaped}"'


@lru_cache(maxsize=10_000)
def _compiled(pattern: str) -> Any:  # noqa: ANN401 - google-re2 has no types
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 8 << 20
    return re2.compile(pattern, options)
