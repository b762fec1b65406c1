"""The functions that a template may call: text/template's own and Alertmanager's (up to 0.28)."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

import re2

from sinks.gotemplate.errors import ValueProblemError
from sinks.gotemplate.formatting import shown, sprint, sprintf, sprintln
from sinks.gotemplate.times import Duration, Time, humanized
from sinks.gotemplate.values import (
    MAX_LENGTH,
    Html,
    Map,
    Method,
    Missing,
    Slice,
    Strings,
    Url,
    bounded,
    length,
    truth,
    type_name,
)

_HTML: Final = str.maketrans({'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"})
_JS: Final = {
    "\\": r"\\", "'": r"\'", '"': r"\"", "<": r"\u003C", ">": r"\u003E", "&": r"\u0026", "=": r"\u003D",
}  # fmt: skip
_REFERENCE: Final = re.compile(r"\$(?:\$|\{(\w*)\}|(\w+)|)", re.ASCII)
_WORD: Final = re.compile("\\w(?:[\\w'\u2019.:]*\\w)?")
_FIRST: Final = re.compile(r"[^\W\d_]")
_MAX_PATTERN: Final = 4096


def texted(values: tuple[Any, ...]) -> str:
    """Arguments as one text, as html, js and urlquery take them."""
    if len(values) == 1 and isinstance(values[0], str):
        return str(values[0])
    return sprint(["<no value>" if value is None else value for value in values])


def escaped_html(text: str) -> str:
    """Text for an HTML element, by text/template's function html."""
    return text.translate(_HTML)


def escaped_js(text: str) -> str:
    """Text for a JavaScript string."""
    out = ""
    for letter in text:
        if letter in _JS:
            out += _JS[letter]
        elif letter < " " or not (letter.isprintable() or letter.isascii()):
            out += f"\\u{ord(letter):04X}"
        else:
            out += letter
    return out


def url_query(text: str) -> str:
    """Text for the query of an address."""
    return quote(text, safe=" ", errors="replace").replace(" ", "+")


def _all(first: Any, *others: Any) -> Any:  # noqa: ANN401 - any values
    return next((value for value in (first, *others) if not truth(value)), (first, *others)[-1])


def _any(first: Any, *others: Any) -> Any:  # noqa: ANN401 - any values
    return next((value for value in (first, *others) if truth(value)), (first, *others)[-1])


def _index(value: Any, *keys: Any) -> Any:  # noqa: ANN401 - any values
    for key in keys:
        value = _one(value, key)
    return value


def _one(value: Any, key: Any) -> Any:  # noqa: ANN401 - any values
    if isinstance(value, Map):
        if not isinstance(key, str):
            raise ValueProblemError(f"value has type {type_name(key)}; should be string")
        return value.get(key, "")
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        return data[_place(key, len(data))]
    if isinstance(value, Slice):
        return value[_place(key, len(value))]
    raise ValueProblemError(
        "index of untyped nil"
        if value is None or isinstance(value, Missing)
        else f"can't index item of type {type_name(value)}"
    )


def _place(key: Any, size: int, *, inclusive: bool = False) -> int:  # noqa: ANN401 - any value
    if not isinstance(key, int) or isinstance(key, bool):
        raise ValueProblemError(f"cannot index slice/array with type {type_name(key)}")
    if not 0 <= key < size + inclusive:
        raise ValueProblemError(f"index out of range: {int(key)}")
    return int(key)


def _slice(value: Any, *places: Any) -> Any:  # noqa: ANN401 - any values
    if len(places) > 3 or (isinstance(value, str) and len(places) > 2):  # noqa: PLR2004 - start, end and capacity
        raise ValueProblemError(f"too many slice indexes: {len(places)}")
    if not isinstance(value, str | Slice):
        raise ValueProblemError(f"can't slice item of type {type_name(value)}")
    whole = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    bounds = [_place(place, len(whole), inclusive=True) for place in places]
    start, end = (*bounds, 0, len(whole))[:2] if len(bounds) > 1 else ((bounds or [0])[0], len(whole))
    if start > end:
        raise ValueProblemError(f"invalid slice index: {start} > {end}")
    if isinstance(whole, bytes):
        return whole[start:end].decode(errors="replace")
    return type(value)(whole[start:end])


def _kind(value: Any) -> str:  # noqa: ANN401 - any value
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    return "string" if isinstance(value, str) else ""


def _equal(first: Any, *others: Any) -> bool:  # noqa: ANN401 - any values
    if not others:
        raise ValueProblemError("missing argument for comparison")
    return any(_same(first, other) for other in others)


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401 - any values
    nothing = [value is None or isinstance(value, Missing) for value in (one, other)]
    if any(nothing):
        return all(nothing)
    for value in (one, other):
        if isinstance(value, Slice | Map):
            raise ValueProblemError(f"non-comparable type {type_name(value)}")
    if _kind(one) != _kind(other):
        raise ValueProblemError("incompatible types for comparison")
    return bool(str(one) == str(other) if isinstance(one, str) else one == other)


def _less(one: Any, other: Any) -> bool:  # noqa: ANN401 - any values
    kinds = _kind(one), _kind(other)
    if kinds[0] != kinds[1]:
        raise ValueProblemError("incompatible types for comparison")
    if kinds[0] not in {"int", "float", "string"}:
        raise ValueProblemError("invalid type for comparison")
    return bool(one < other)


def _less_or_equal(one: Any, other: Any) -> bool:  # noqa: ANN401 - any values
    return _less(one, other) or _same(one, other)


@lru_cache(maxsize=256)
def _expression(pattern: str) -> Any:  # noqa: ANN401 - google-re2 has no types
    if len(pattern) > _MAX_PATTERN:
        raise ValueProblemError(f"the regular expression is longer than {_MAX_PATTERN}")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 8 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ValueProblemError(f"the regular expression {pattern!r} is refused") from error


def _match(pattern: str, text: str) -> bool:
    return _expression(pattern).search(text) is not None


def _replace_all(pattern: str, replacement: str, text: str) -> str:
    out: list[str] = []
    size, position, last_end = 0, 0, -1
    references = len(_REFERENCE.findall(replacement))
    for found in _expression(pattern).finditer(text):
        start, end = found.span()
        if start == end == last_end:
            continue  # Go takes no empty match right after another one
        if size + len(replacement) + references * (end - start) > MAX_LENGTH:
            raise ValueProblemError(f"makes a text of more than {MAX_LENGTH} bytes")
        out.append(text[position:start])
        out.append(_REFERENCE.sub(lambda name, found=found: _group(found, name), replacement))  # type: ignore[misc]
        size += len(out[-2]) + len(out[-1])
        position = last_end = end
    out.append(text[position:])
    return bounded("".join(out))


def _group(found: Any, name: "re.Match[str]") -> str:  # noqa: ANN401 - google-re2 has no types
    if name.group() == "$$":
        return "$"
    wanted = name.group(1) if name.group(1) is not None else name.group(2)
    if wanted is None:
        return "$"
    key: int | str = int(wanted) if wanted.isdecimal() and len(wanted) < 4 else wanted  # noqa: PLR2004
    try:
        return found.group(key) or ""
    except (IndexError, KeyError):
        return ""


def _title(text: str) -> str:
    """Of each word the first letter large and the rest small; an apostrophe does not end a word."""
    return _WORD.sub(lambda word: _FIRST.sub(lambda first: first.group().title(), word.group().lower(), count=1), text)


def _join(separator: str, parts: Strings) -> str:
    return bounded(separator.join(parts))


def _humanized(value: Any) -> str:  # noqa: ANN401 - any value
    if isinstance(value, Duration):
        return humanized(int(value) / 1e9)
    try:
        return humanized(float(value))
    except (TypeError, ValueError) as error:
        raise ValueProblemError(f"{shown(value)} is not a number of seconds") from error


def _unescaped(text: str) -> str:
    if re.search(r"%(?![0-9a-fA-F]{2})", text):
        raise ValueProblemError("invalid URL escape")
    return unquote_to_bytes(text.replace("+", " ")).decode(errors="replace")


def _call_of(run: Callable[..., Any], *params: str) -> Method:
    return Method(run, params)


FUNCTIONS: Final[dict[str, Method]] = {
    "and": _call_of(_all, "any", "any..."),
    "or": _call_of(_any, "any", "any..."),
    "not": _call_of(lambda value: not truth(value), "any"),
    "len": _call_of(length, "any"),
    "index": _call_of(_index, "any", "any..."),
    "slice": _call_of(_slice, "any", "any..."),
    "print": _call_of(lambda *values: sprint(values), "any..."),
    "printf": _call_of(lambda form, *values: sprintf(form, values), "string", "any..."),
    "println": _call_of(lambda *values: sprintln(values), "any..."),
    "html": _call_of(lambda *values: bounded(escaped_html(texted(values))), "any..."),
    "js": _call_of(lambda *values: bounded(escaped_js(texted(values))), "any..."),
    "urlquery": _call_of(lambda *values: bounded(url_query(texted(values))), "any..."),
    "eq": _call_of(_equal, "any", "any..."),
    "ne": _call_of(lambda one, other: not _same(one, other), "any", "any"),
    "lt": _call_of(_less, "any", "any"),
    "le": _call_of(_less_or_equal, "any", "any"),
    "gt": _call_of(lambda one, other: not _less_or_equal(one, other), "any", "any"),
    "ge": _call_of(lambda one, other: not _less(one, other), "any", "any"),
    "toUpper": _call_of(lambda text: bounded(text.upper()), "string"),
    "toLower": _call_of(lambda text: text.lower(), "string"),
    "title": _call_of(_title, "string"),
    "trimSpace": _call_of(lambda text: text.strip(), "string"),
    "join": _call_of(_join, "string", "strings"),
    "match": _call_of(_match, "string", "string"),
    "safeHtml": _call_of(Html, "string"),
    "safeUrl": _call_of(Url, "string"),
    "urlUnescape": _call_of(_unescaped, "string"),
    "reReplaceAll": _call_of(_replace_all, "string", "string", "string"),
    "stringSlice": _call_of(lambda *parts: Strings(parts), "string..."),
    "date": _call_of(lambda layout, at: at.text(layout), "string", "time"),
    "tz": _call_of(lambda zone, at: at.within(zone), "string", "time"),
    "since": _call_of(lambda at: Time(datetime.now(UTC)).minus(at), "time"),
    "humanizeDuration": _call_of(_humanized, "any"),
}

_CHECKS: Final[dict[str, Callable[[Any], bool]]] = {
    "any": lambda _value: True,
    "string": lambda value: type(value) is str,
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "strings": lambda value: isinstance(value, Strings),
    "time": lambda value: isinstance(value, Time),
    "duration": lambda value: isinstance(value, Duration) or type(value) is int,
}
_GO: Final = {"strings": "[]string", "time": "time.Time", "duration": "time.Duration"}


def called(name: str, method: Method, values: list[Any]) -> Any:  # noqa: ANN401 - what it gives
    """Call it with arguments that fit, or say which does not."""
    params = list(method.params)
    many = params.pop().removesuffix("...") if params and params[-1].endswith("...") else None
    if len(values) < len(params) or (many is None and len(values) > len(params)):
        raise ValueProblemError(
            f"wrong number of args for {name}: want {'at least ' if many else ''}{len(params)} got {len(values)}",
            always=True,
        )
    for value, param in zip(values, [*params, *[many or ""] * (len(values) - len(params))], strict=True):
        if not _CHECKS[param](value):
            raise ValueProblemError(
                f"wrong type for value; expected {_GO.get(param, param)}; got {type_name(value)}", always=True
            )
    return method.run(*values)
