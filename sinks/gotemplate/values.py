"""Go's values as the evaluator sees them: what Python holds them, what they are called, what is true of them.

string, int, float64 and bool are Python's own; maps, slices and structs are the classes here and in `data`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from sinks.gotemplate.errors import ValueProblemError

MAX_LENGTH: Final = 1 << 20
"""Bytes that a value or the whole output may have."""


class Html(str):
    """Markup that is safe as it stands (`template.HTML`)."""

    __slots__ = ()


class Url(str):
    """An address that is safe as it stands (`template.URL`)."""

    __slots__ = ()


class Missing:
    """No value at all; Go prints it as <no value>."""


MISSING: Final = Missing()


class Method(msgspec.Struct, frozen=True):
    """Something that a template may call. `params` name the kinds of its arguments; the last may end in `...`."""

    run: Callable[..., Any]
    params: tuple[str, ...] = ()


class Struct:
    """A struct or another named type with fields and methods, by their Go names."""

    go_type: str = ""
    __slots__ = ()

    def fields(self) -> dict[str, Any]:
        """Every field in order."""
        return {}

    def methods(self) -> dict[str, Method]:
        """Every method."""
        return {}


class Slice(tuple[Any, ...]):
    """A slice; subclasses name their type."""

    go_type: str = "[]interface {}"
    __slots__ = ()

    def methods(self) -> dict[str, Method]:
        """Every method."""
        return {}


class Strings(Slice):
    """`[]string`."""

    go_type = "[]string"
    __slots__ = ()


class Map(dict[str, str]):
    """`map[string]string`."""

    go_type: str = "map[string]string"

    def methods(self) -> dict[str, Method]:
        """Every method."""
        return {}


class Named(int):
    """A whole number that prints as a name: a month or a weekday."""

    go_type: str = ""
    names: tuple[str, ...] = ()
    first: int = 0

    def __str__(self) -> str:
        return self.names[int(self) - self.first]


class Month(Named):
    """`time.Month`."""

    go_type = "time.Month"
    first = 1
    names = (
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December",
    )  # fmt: skip


class Weekday(Named):
    """`time.Weekday`."""

    go_type = "time.Weekday"
    names = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


def type_name(value: Any) -> str:  # noqa: ANN401, PLR0911 - any value, a line each
    """What Go calls its type."""
    if value is None or isinstance(value, Missing):
        return "<nil>"
    if isinstance(value, Html):
        return "template.HTML"
    if isinstance(value, Url):
        return "template.URL"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, float):
        return "float64"
    return getattr(value, "go_type", "int")


def truth(value: Any) -> bool:  # noqa: ANN401 - any value
    """Whether `if` takes it for true: not empty, not zero."""
    if value is None or isinstance(value, Missing):
        return False
    return True if isinstance(value, Struct) else bool(value)


def methods_of(value: Any) -> dict[str, Method]:  # noqa: ANN401 - any value
    """The methods that a template may call on it."""
    return value.methods() if isinstance(value, Struct | Slice | Map) else {}


def length(value: Any) -> int:  # noqa: ANN401 - any value
    """Its length; a text counts its bytes."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, Slice | Map):
        return len(value)
    raise ValueProblemError(f"len of type {type_name(value)}")


def bounded(text: str) -> str:
    """The text, if it is not longer than a template may make one."""
    if len(text) > MAX_LENGTH:
        raise ValueProblemError(f"makes a text of more than {MAX_LENGTH} bytes")
    return text


def items(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - any value
    """What `range` goes over: places or keys, and values."""
    if value is None or isinstance(value, Missing):
        return iter(())
    if isinstance(value, Slice):
        return iter(enumerate(value))
    if isinstance(value, Map):
        return iter(sorted(value.items()))
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueProblemError("range over a number is not supported")
    raise ValueProblemError(f"range can't iterate over {type_name(value)}")


def strings(values: Sequence[str]) -> Strings:
    """Texts as a slice."""
    return Strings(values)
