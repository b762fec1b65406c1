"""A template's text as tokens: text between actions, and what stands in the actions."""

import re
from collections.abc import Generator, Iterator
from enum import StrEnum
from typing import Final

import msgspec

from sinks.gotemplate.errors import TemplateError

_WHITE: Final = " \t\r\n"
_LEFT, _RIGHT = "{{", "}}"
_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_SPACE: Final = re.compile(r"[ \t\r\n]+")
_NAME: Final = r"[^\W\d]\w*"
_INSIDE: Final = re.compile(
    rf"""
    (?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<raw>`[^`]*`)
    |(?P<char>'(?:[^'\\\n]|\\.)+')
    |(?P<number>[+-]?(?:\d|\.\d)[\w.]*(?:(?<=[eEpP])[+-]\w+)?)
    |(?P<field>\.{_NAME})
    |(?P<variable>\$(?:{_NAME})?)
    |(?P<word>{_NAME})
    |(?P<dot>\.)
    |(?P<declare>:=)
    |(?P<assign>=)
    |(?P<comma>,)
    |(?P<pipe>\|)
    |(?P<open>\()
    |(?P<close>\))
    """,
    re.VERBOSE,
)
# What may follow a field, a variable or a word without a space.
_ENDS: Final = frozenset(" \t\r\n.,|:()=")


class Kind(StrEnum):
    """What a token is; the names are those of the pattern's groups."""

    TEXT = "text"
    STRING = "string"
    RAW = "raw"
    CHAR = "char"
    NUMBER = "number"
    FIELD = "field"
    VARIABLE = "variable"
    WORD = "word"
    DOT = "dot"
    DECLARE = "declare"
    ASSIGN = "assign"
    COMMA = "comma"
    PIPE = "pipe"
    OPEN = "open"
    CLOSE = "close"
    END = "end"  # of an action
    LEFT = "left"


class Token(msgspec.Struct, frozen=True):
    """A piece of a template; `spaced` says that white space stands before it."""

    kind: Kind
    text: str
    line: int
    spaced: bool = False


def tokens_of(text: str, name: str) -> list[Token]:
    """Cut a template into tokens; comments are gone and trim markers applied.

    Raises:
        TemplateError: an action is not closed, or holds what is no token.
    """
    return list(_Lexer(text, name).run())


class _Lexer:
    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        self._at = 0
        self._line = 1

    def run(self) -> Iterator[Token]:
        trim = False
        while True:
            left = self._text.find(_LEFT, self._at)
            raw = self._text[self._at : left if left >= 0 else len(self._text)]
            shown = raw.lstrip(_WHITE) if trim else raw
            line = self._line + raw[: len(raw) - len(shown)].count("\n")
            self._advance(raw)
            if left < 0:
                if shown:
                    yield Token(Kind.TEXT, shown, line)
                return
            self._advance(_LEFT)
            if self._text.startswith("-", self._at) and self._text[self._at + 1 : self._at + 2] in (*_WHITE,):
                self._advance(self._text[self._at : self._at + 2])
                shown = shown.rstrip(_WHITE)
            if shown:
                yield Token(Kind.TEXT, shown, line)
            if (comment := self._comment()) is not None:
                trim = comment
                continue
            yield Token(Kind.LEFT, _LEFT, self._line)
            trim = yield from self._action()

    def _comment(self) -> bool | None:
        """Pass over a comment; whether it trims what follows, None when there is none."""
        if not self._text.startswith("/*", self._at):
            return None
        found = _COMMENT.match(self._text, self._at)
        if found is None:
            raise self._error("unclosed comment", "close it with */")
        self._advance(found.group())
        if self._text.startswith(_RIGHT, self._at):
            self._advance(_RIGHT)
            return False
        if re.match(r"[ \t\r\n]-\}\}", self._text[self._at : self._at + 4]):
            self._advance(self._text[self._at : self._at + 4])
            return True
        raise self._error("comment ends before closing delimiter", "write nothing else between {{ and }}")

    def _action(self) -> Generator[Token, None, bool]:
        """The tokens of one action; whether it trims what follows."""
        depth = 0
        while True:
            space = _SPACE.match(self._text, self._at)
            if space is not None:
                self._advance(space.group())
            if space is not None and self._text.startswith("-}}", self._at):
                self._close(depth)
                self._advance("-}}")
                yield Token(Kind.END, _RIGHT, self._line)
                return True
            if self._text.startswith(_RIGHT, self._at):
                self._close(depth)
                self._advance(_RIGHT)
                yield Token(Kind.END, _RIGHT, self._line)
                return False
            token = self._token(spaced=space is not None)
            depth += (token.kind is Kind.OPEN) - (token.kind is Kind.CLOSE)
            if depth < 0:
                raise self._error("unexpected right paren", "open it first")
            yield token

    def _close(self, depth: int) -> None:
        if depth:
            raise self._error("unclosed left paren", "close it with )")

    def _token(self, *, spaced: bool) -> Token:
        found = _INSIDE.match(self._text, self._at)
        if found is None:
            rest = self._text[self._at : self._at + 1]
            if not rest:
                raise self._error("unclosed action", "close it with }}")
            raise self._error(f"unexpected {rest!r} in an action", "check quotes and brackets")
        kind = Kind(str(found.lastgroup))
        token = Token(kind, found.group(), self._line, spaced)
        self._advance(found.group())
        follows = self._text[self._at : self._at + 1]
        if (
            kind in {Kind.FIELD, Kind.VARIABLE, Kind.WORD}
            and follows
            and follows not in _ENDS
            and not self._text.startswith(_RIGHT, self._at)
        ):
            raise self._error(f"unexpected {follows!r} after {token.text}", "put a space between them")
        return token

    def _advance(self, text: str) -> None:
        self._at += len(text)
        self._line += text.count("\n")

    def _error(self, reason: str, remedy: str) -> TemplateError:
        return TemplateError(self._name, self._line, reason, remedy, always=True)
