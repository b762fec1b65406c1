"""A rules file as nodes that remember their lines; every complaint is a `ConfigError`.

What a field means belongs to the modules that read it; here is only its shape.
"""

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Final

import yaml

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 64

_MERGE: Final = "tag:yaml.org,2002:merge"
_NULL: Final = "tag:yaml.org,2002:null"
_BOOL: Final = "tag:yaml.org,2002:bool"
_TRUE: Final = frozenset({"true", "yes", "on", "y"})
_DURATION: Final = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII
)
_UNITS_MS: Final = (365 * 86_400_000, 7 * 86_400_000, 86_400_000, 3_600_000, 60_000, 1_000, 1)
_MAX_DIGITS: Final = 9
_MAX_DURATION_TEXT: Final = 60
_LONGEST: Final = timedelta(days=100 * 365)


class ConfigError(ValueError):
    """Raised for a rules file that cannot be used: where, what, why, and what to do.

    `others` are complaints about the same file that come after this one.
    """

    def __init__(self, line: int, field: str, reason: str, remedy: str) -> None:
        where = f"line {line}: " if line else ""
        what = f"{field}: " if field else ""
        super().__init__(f"{where}{what}{reason}; {remedy}")
        self.line = line
        self.field = field
        self.reason = reason
        self.remedy = remedy
        self.others: tuple[ConfigError, ...] = ()

    @property
    def all(self) -> tuple["ConfigError", ...]:
        """The complaint itself and the others, by line."""
        return (self, *self.others)


class Problems:
    """Gathers complaints, so that one reading of a file shows all that is wrong with it."""

    def __init__(self) -> None:
        self._found: list[ConfigError] = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note a complaint raised inside the block and go on after it."""
        try:
            yield
        except ConfigError as error:
            self.add(error)

    def add(self, error: ConfigError) -> None:
        """Note one; of two about the same field the first counts."""
        known = {(one.line, one.field) for one in self._found}
        self._found += [one for one in error.all if (one.line, one.field) not in known]

    def check(self) -> None:
        """Go on only if nothing is wrong.

        Raises:
            ConfigError: the first complaint, with the others.
        """
        if not self._found:
            return
        first, *others = sorted(self._found, key=lambda error: error.line)
        first.others = tuple(others)
        raise first


class Node:
    """One value of the file, with its path and line.

    With `problems`, keys that should not be there are noted in it and reading goes on.
    """

    __slots__ = ("_problems", "path", "raw")

    def __init__(self, raw: yaml.Node, path: str, problems: Problems | None = None) -> None:
        self.raw = raw
        self.path = path
        self._problems = problems

    @property
    def line(self) -> int:
        """Counted from 1."""
        return int(self.raw.start_mark.line) + 1

    @property
    def empty(self) -> bool:
        """Whether nothing is written here, or null."""
        return bool(self.raw.tag == _NULL)

    @property
    def bare(self) -> bool:
        """Whether nothing is in it: null, an empty list, an empty mapping."""
        return self.empty or not self.raw.value

    def error(self, reason: str, remedy: str) -> ConfigError:
        """A complaint about this value."""
        return ConfigError(self.line, self.path, reason, remedy)

    def fields(self, known: Collection[str], not_yet: Collection[str] = ()) -> dict[str, "Node"]:
        """The values of a mapping that may have only `known` keys; empty ones are left out.

        Raises:
            ConfigError: not a mapping, a key twice, a key that does not exist, or
                one of `not_yet`, which exist but are not done here.
        """
        if self.empty:
            return {}
        if not isinstance(self.raw, yaml.MappingNode):
            raise self.error("must be a mapping", "write `key: value` lines here")
        found: dict[str, Node] = {}
        for key, value in self._pairs(self.raw):
            if key.value in not_yet:
                self._complain(value.error("is not supported yet", "leave it out for now"))
            elif key.value not in known:
                remedy = f"use {', '.join(sorted(known))}" if known else "leave it out"
                line = int(key.start_mark.line) + 1
                self._complain(ConfigError(line, value.path, "is not a key that exists here", remedy))
            elif not value.empty:
                found.setdefault(key.value, value)
        return found

    def _complain(self, error: ConfigError) -> None:
        if self._problems is None:
            raise error
        self._problems.add(error)

    def entries(self) -> dict[str, "Node"]:
        """The values of a mapping whose keys are free."""
        if not isinstance(self.raw, yaml.MappingNode):
            raise self.error("must be a mapping", "write `key: value` lines here")
        return {key.value: value for key, value in self._pairs(self.raw)}

    def items(self) -> list["Node"]:
        """The values of a list; none if nothing is written."""
        if self.empty:
            return []
        if not isinstance(self.raw, yaml.SequenceNode):
            raise self.error("must be a list", "write `- item` lines here")
        return [Node(item, f"{self.path}[{index}]", self._problems) for index, item in enumerate(self.raw.value)]

    def text(self) -> str:
        """A scalar as it is written."""
        if not isinstance(self.raw, yaml.ScalarNode):
            raise self.error("must be text", "write one value here")
        return "" if self.empty else str(self.raw.value)

    def filled(self) -> str:
        """Text that is not empty."""
        value = self.text()
        if not value:
            raise self.error("must not be empty", "write a value")
        return value

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.raw, yaml.ScalarNode) or self.raw.tag != _BOOL:
            raise self.error("must be true or false", "write true or false")
        return str(self.raw.value).lower() in _TRUE

    def count(self) -> int:
        """A whole number, not negative."""
        value = self.text()
        if not (value.isascii() and value.isdecimal() and len(value) <= _MAX_DIGITS):
            raise self.error(f"must be a whole number, not {value!r}", "write 0 or more")
        return int(value)

    def whole(self) -> int:
        """A whole number, perhaps negative."""
        value = self.text()
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_DIGITS * 2):
            raise self.error(f"must be a whole number, not {value!r}", "write digits only")
        return int(value)

    def duration(self) -> timedelta:
        """A length of time as Prometheus writes it: 1h30m."""
        value = self.text()
        try:
            return duration(value)
        except ValueError as error:
            raise self.error(f"{value!r} is not a duration", "write it like 30s, 5m or 1h30m") from error

    def _pairs(self, raw: yaml.MappingNode, depth: int = 0) -> Iterator[tuple[yaml.ScalarNode, "Node"]]:
        own: Mapping[str, int] = _lines_of_keys(raw, self.path)
        for key, value in raw.value:
            if key.tag != _MERGE:
                yield key, Node(value, f"{self.path}.{key.value}" if self.path else str(key.value), self._problems)
                continue
            if depth > MAX_DEPTH:
                raise self.error("merges itself", "remove the circular `<<`")
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(source, yaml.MappingNode):
                    raise self.error("`<<` must name a mapping", "merge an anchor of a mapping")
                yield from (pair for pair in self._pairs(source, depth + 1) if pair[0].value not in own)


def compose(text: str, problems: Problems | None = None) -> Node:
    """The file's one document.

    Raises:
        ConfigError: it is too large, not YAML, or not one document.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(0, "", f"the file is larger than {MAX_BYTES} bytes", "split it")
    try:
        raw = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(line, "", f"not valid YAML: {error.problem or error.context}", "mend the syntax") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(0, "", f"not valid YAML: {type(error).__name__}", "mend the syntax") from error
    if raw is None:
        raise ConfigError(1, "route", "no route is given", "write at least `route:` and `receivers:`")
    return Node(raw, "", problems)


def duration(value: str) -> timedelta:
    """Read a Prometheus duration.

    Raises:
        ValueError: it is not one, or longer than a hundred years.
    """
    if value == "0":
        return timedelta(0)
    match = _DURATION.fullmatch(value)
    if not value or match is None or len(value) > _MAX_DURATION_TEXT:
        raise ValueError(value)
    milliseconds = sum(int(part) * unit for part, unit in zip(match.groups(), _UNITS_MS, strict=True) if part)
    if milliseconds > _LONGEST.total_seconds() * 1000:
        raise ValueError(value)
    return timedelta(milliseconds=milliseconds)


def _lines_of_keys(raw: yaml.MappingNode, path: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    for key, _ in raw.value:
        line = int(key.start_mark.line) + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(line, path, "has a key that is not text", "write a plain key")
        if key.tag == _MERGE:
            continue
        if key.value in lines:
            name = f"{path}.{key.value}" if path else key.value
            raise ConfigError(line, name, f"is given twice, first in line {lines[key.value]}", "keep one of them")
        lines[key.value] = line
    return lines
