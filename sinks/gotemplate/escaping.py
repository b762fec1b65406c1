"""HTML mode: every value is escaped for the place where it lands, as Go's html/template does.

The output's own markup is followed letter by letter, so a value's place is known when it comes.
Values inside scripts, styles and event handlers are refused.
"""

import re
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from typing import Any, Final

from sinks.gotemplate import nodes
from sinks.gotemplate.errors import TemplateError, ValueProblemError
from sinks.gotemplate.functions import escaped_html, url_query
from sinks.gotemplate.nodes import Template
from sinks.gotemplate.values import Html, Url

_TEXT: Final = str.maketrans(
    {'"': "&#34;", "&": "&amp;", "'": "&#39;", "+": "&#43;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"}
)
_NORMAL: Final = str.maketrans({'"': "&#34;", "'": "&#39;", "+": "&#43;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"})
_UNQUOTED: Final = str.maketrans(
    {
        '"': "&#34;", "&": "&amp;", "'": "&#39;", "+": "&#43;", "<": "&lt;", ">": "&gt;", "\0": "&#xfffd;",
        "\t": "&#9;",
        "\n": "&#10;", "\v": "&#11;", "\f": "&#12;", "\r": "&#13;", " ": "&#32;", "=": "&#61;", "`": "&#96;",
    }
)  # fmt: skip
_TAG: Final = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:-]*)")
_SPACE: Final = re.compile(r"[ \t\n\f\r]*")
_ATTRIBUTE: Final = re.compile(r"[^ \t\n\f\r=>/\"'<]+|/")
_RAW: Final = frozenset({"script", "style", "textarea", "title"})
_ADDRESSES: Final = frozenset(
    {
        "action", "archive", "background", "cite", "classid", "codebase", "data", "formaction", "href", "icon",
        "longdesc", "manifest", "poster", "profile", "src", "usemap", "xmlns",
    }
)  # fmt: skip
_SAFE_SCHEMES: Final = frozenset({"http", "https", "mailto"})
_UNRESERVED: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
_UNSAFE: Final = "#ZgotmplZ"
_DOCTYPE: Final = "<!doctype"
_STRIPPED: Final = re.compile(r"<[^>]*>")


class _Place(Enum):
    TEXT = auto()
    COMMENT = auto()
    TAG = auto()
    NAME = auto()
    BEFORE_VALUE = auto()
    VALUE = auto()
    RAW = auto()


class Escaping:
    """Output in HTML mode."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._place = _Place.TEXT
        self._element = ""
        self._closes = False
        self._attribute = ""
        self._quote = ""
        self._value = ""

    def allow(self) -> None:
        """Go on only where a value may stand.

        Raises:
            ValueProblemError: it may not.
        """
        if forbidden := self._forbidden():
            raise ValueProblemError(f"{forbidden} is not supported in HTML")

    def _forbidden(self) -> str:
        if self._place is _Place.RAW and self._element in {"script", "style"}:
            return f"a value inside <{self._element}>"
        if self._place in {_Place.VALUE, _Place.BEFORE_VALUE} and self._attribute.startswith("on"):
            return f"a value inside the attribute {self._attribute}"
        if self._place in {_Place.VALUE, _Place.BEFORE_VALUE} and self._attribute == "srcset":
            return "a value inside the attribute srcset"
        return "a value as the name of an attribute" if self._place in {_Place.TAG, _Place.NAME} else ""

    def text(self, text: str) -> None:
        """Take text of the template itself, and follow its markup."""
        position = 0
        while position < len(text):
            position = self._STEPS[self._place](self, text, position)

    def value(self, value: Any, text: str, closing: str = "") -> None:  # noqa: ANN401 - any value
        """Take a value, escaped for this place; a closing html takes the place of the last escaping."""
        self.allow()
        if self._place is _Place.COMMENT:
            return
        if self._place is _Place.BEFORE_VALUE:
            self._place, self._quote, self._value = _Place.VALUE, "", ""
        if self._place is _Place.VALUE:
            self._put(self._in_attribute(value, text, closing))
            self._value += text
        elif closing == "html":
            self._put(escaped_html(text))
        elif isinstance(value, Html) and self._place is _Place.TEXT:
            self._put(text)
        else:
            self._put(text.translate(_NORMAL if isinstance(value, Html) else _TEXT))

    def escapes(self, function: str) -> bool:
        """A closing html is done here, and so is urlquery within an address."""
        return function == "html" or (function == "urlquery" and self._in_address())

    def reserves(self, function: str) -> bool:
        """Escaping in the middle would be undone."""
        return function in {"html", "urlquery"}

    def finish(self) -> None:
        """See that the markup is whole.

        Raises:
            ValueProblemError: it ends within a tag or a comment.
        """
        if self._place is not _Place.TEXT:
            raise ValueProblemError("the markup ends inside a tag or comment")

    def _in_address(self) -> bool:
        in_value = self._place in {_Place.VALUE, _Place.BEFORE_VALUE}
        name = self._attribute
        return in_value and (name in _ADDRESSES or "src" in name or "uri" in name or "url" in name)

    def _in_attribute(self, value: Any, text: str, closing: str) -> str:  # noqa: ANN401
        if isinstance(value, Html):
            text = _without_tags(text)
        if closing == "urlquery":
            text = url_query(text)
        elif self._in_address():
            text = self._address(value, text)
        elif self._attribute == "style":
            text = _style(text)
        if closing != "html":
            return text.translate(_UNQUOTED if not self._quote else _NORMAL if isinstance(value, Html) else _TEXT)
        if not self._quote:
            raise ValueProblemError("the function html is not allowed in a value without quotes", always=True)
        return escaped_html(text)

    def _address(self, value: Any, text: str) -> str:  # noqa: ANN401
        if "?" in self._value or "#" in self._value:
            return _percent(text, _UNRESERVED)
        if not self._value and not isinstance(value, Url):
            scheme, colon, _ = text.partition(":")
            if colon and "/" not in scheme and scheme.lower() not in _SAFE_SCHEMES:
                return _UNSAFE
        return _normalised(text)

    def _put(self, text: str) -> None:
        self.parts.append(text)

    def _in_text(self, text: str, at: int) -> int:
        end = text.find("<", at)
        if end < 0:
            self._put(text[at:])
            return len(text)
        self._put(text[at:end])
        if text.startswith("<!--", end):
            self._place = _Place.COMMENT
            return end + 4
        tag = _TAG.match(text, end)
        if tag is None:
            is_doctype = text[end : end + len(_DOCTYPE)].lower() == _DOCTYPE
            self._put("<" if is_doctype else "&lt;")
            return end + 1
        self._put(tag.group())
        self._closes, self._element = bool(tag.group(1)), tag.group(2).lower()
        self._place = _Place.TAG
        return tag.end()

    def _in_comment(self, text: str, at: int) -> int:
        end = text.find("-->", at)
        if end < 0:
            return len(text)
        self._place = _Place.TEXT
        return end + 3

    def _in_tag(self, text: str, at: int) -> int:
        end = (_SPACE.match(text, at) or _never()).end()
        self._put(text[at:end])
        if end == len(text):
            return end
        if text[end] == ">":
            self._put(">")
            raw = self._element in _RAW and not self._closes
            self._place = _Place.RAW if raw else _Place.TEXT
            return end + 1
        found = _ATTRIBUTE.match(text, end)
        if found is None:
            raise ValueProblemError(f"{text[end]!r} is not expected in a tag")
        self._put(found.group())
        self._attribute = found.group().lower().removeprefix("data-").rpartition(":")[2]
        self._place = _Place.NAME
        return found.end()

    def _after_name(self, text: str, at: int) -> int:
        end = (_SPACE.match(text, at) or _never()).end()
        self._put(text[at:end])
        if end == len(text):
            return end
        if text[end] != "=":
            self._place = _Place.TAG
            return end
        self._put("=")
        self._place = _Place.BEFORE_VALUE
        return end + 1

    def _before_value(self, text: str, at: int) -> int:
        end = (_SPACE.match(text, at) or _never()).end()
        self._put(text[at:end])
        if end == len(text):
            return end
        self._place, self._value, self._quote = _Place.VALUE, "", text[end] if text[end] in "\"'" else ""
        self._put(self._quote)
        return end + len(self._quote)

    def _in_value(self, text: str, at: int) -> int:
        stop = re.compile(re.escape(self._quote) if self._quote else r"[ \t\n\f\r>]").search(text, at)
        end = stop.start() if stop is not None else len(text)
        self._put(text[at:end])
        self._value += text[at:end]
        if stop is None:
            return end
        self._put(self._quote)
        self._place = _Place.TAG
        return end + len(self._quote)

    def _in_raw(self, text: str, at: int) -> int:
        close = re.compile(rf"</{self._element}", re.IGNORECASE).search(text, at)
        end = close.start() if close is not None else len(text)
        shown = text[at:end]
        self._put(shown.replace("<", "&lt;") if self._element in {"textarea", "title"} else shown)
        if close is None:
            return end
        self._put(close.group())
        self._closes, self._place = True, _Place.TAG
        return close.end()

    _STEPS: Final = {
        _Place.TEXT: _in_text,
        _Place.COMMENT: _in_comment,
        _Place.TAG: _in_tag,
        _Place.NAME: _after_name,
        _Place.BEFORE_VALUE: _before_value,
        _Place.VALUE: _in_value,
        _Place.RAW: _in_raw,
    }


def refuse_scripts(template: Template, known: Mapping[str, Template]) -> None:
    """Refuse a template that puts values where HTML mode does not escape them.

    Raises:
        TemplateError: it does; the message names file and line.
    """
    follower = Escaping()
    for source, line, piece in _pieces(template, known, frozenset()):
        try:
            if piece is not None:
                follower.text(piece)
            else:
                follower.allow()
        except ValueProblemError as error:
            remedy = "put values into elements and attributes"
            raise TemplateError(source, line, str(error), remedy, always=True) from error


def _pieces(
    template: Template, known: Mapping[str, Template], inside: frozenset[str]
) -> Iterator[tuple[str, int, str | None]]:
    """Texts and, as None, values in the order of the template, both branches of an `if` one after the other."""
    waiting: list[nodes.Node] = list(reversed(template.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, nodes.Text):
            yield template.source, node.line, node.text
        elif isinstance(node, nodes.Action) and not node.pipe.variables:
            yield template.source, node.line, None
        elif isinstance(node, nodes.Branch):
            waiting += reversed((*node.body, *node.otherwise))
        elif isinstance(node, nodes.Call) and node.name in known and node.name not in inside:
            yield from _pieces(known[node.name], known, inside | {node.name})


def _normalised(text: str) -> str:
    return _percent(text, _UNRESERVED + "!#$&*+,/:;=?@[]%")


def _percent(text: str, kept: str) -> str:
    return "".join(
        letter if letter in kept else "".join(f"%{byte:02x}" for byte in letter.encode("utf-8", "replace"))
        for letter in text
    )


def _without_tags(text: str) -> str:
    """What is outside of tags; behind the last end of one nothing is looked for, so that it takes linear time."""
    whole = text.rfind(">") + 1
    return _STRIPPED.sub("", text[:whole]) + text[whole:]


def _style(text: str) -> str:
    """A value of a style, if it holds nothing that could be more than one."""
    if re.search(r"[\0\"'()/;@\[\\\]`{}<>]|-->|<!--", text) or re.search(r"expression|mozbinding", text, re.IGNORECASE):
        return "ZgotmplZ"
    return text


def _never() -> Any:  # noqa: ANN401
    raise AssertionError("a pattern that matches nothing too did not match")
