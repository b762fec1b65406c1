"""Matchers as they stand in a rules file, and reading the inhibition rules made of them."""

from collections.abc import Callable
from functools import partial
from typing import Final

from streams.rules_inhibit import InhibitRule
from streams.rules_matchers import Matcher, MatcherError, checked, in_order, parse
from streams.rules_yaml import Node, Problems

_SIDES: Final = ("source", "target")
_INHIBIT: Final = frozenset(
    {"name", "equal", *(f"{side}_{how}" for side in _SIDES for how in ("match", "match_re", "matchers"))}
)


def inhibit_rules_of(node: Node | None, problems: Problems) -> tuple[InhibitRule, ...]:
    """Read the list `inhibit_rules`."""
    rules: list[InhibitRule] = []
    for item in node.items() if node is not None else []:
        with problems.noted():
            fields = item.fields(_INHIBIT)
            source, target = (matchers_of(fields, f"{side}_") for side in _SIDES)
            equal = tuple(name.filled() for name in fields["equal"].items()) if "equal" in fields else ()
            rules.append(InhibitRule(source, target, equal))
    return tuple(rules)


def matchers_of(fields: dict[str, Node], prefix: str = "") -> tuple[Matcher, ...]:
    """The old `match` and `match_re` and the new `matchers`, together and sorted."""
    matchers: list[Matcher] = []
    for key, op in ((f"{prefix}match", "="), (f"{prefix}match_re", "=~")):
        for name, value in fields[key].entries().items() if key in fields else ():
            matchers += _told(value, partial(_single, name, op, value))
    key = f"{prefix}matchers"
    for item in fields[key].items() if key in fields else ():
        matchers += _told(item, partial(_several, item))
    return in_order(matchers)


def _single(name: str, op: str, value: Node) -> list[Matcher]:
    return [checked(name, op, value.text())]


def _several(item: Node) -> list[Matcher]:
    return parse(item.text())


def _told(node: Node, read: Callable[[], list[Matcher]]) -> list[Matcher]:
    try:
        return read()
    except MatcherError as error:
        raise node.error(str(error), 'write it like severity="critical" or service=~"api|web"') from error
