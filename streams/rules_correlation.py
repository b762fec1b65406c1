"""The part `incidents: correlation:` of a rules file: which incidents belong together although their groups differ."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import msgspec

from streams.rules_conditions import matchers_of
from streams.rules_matchers import Matcher
from streams.rules_yaml import Node, Problems

MOST_ALERTS: Final = 1000
LONGEST: Final = timedelta(hours=24)
_RULE: Final = frozenset({"name", "labels", "within", "alerts", "matchers"})


class CorrelationRule(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts that share the values of `labels` and follow each other belong together.

    Of `alerts` distinct ones within `within` of each other; 1 means that each alert
    belongs to those within `within` before it: a session. Only alerts that meet all
    matchers, and have all the labels, count.
    """

    name: str
    labels: tuple[str, ...]
    within: timedelta
    alerts: int = 1
    matchers: tuple[Matcher, ...] = ()

    def values_of(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        """What an alert shares with others by this rule; None where the rule says nothing of it."""
        values = {name: labels.get(name, "") for name in self.labels}
        if not all(values.values()) or not all(matcher.matches(labels) for matcher in self.matchers):
            return None
        return values


def correlation_of(node: Node | None, problems: Problems) -> tuple[CorrelationRule, ...]:
    """Read the list `correlation`."""
    rules: dict[str, CorrelationRule] = {}
    for item in node.items() if node is not None else []:
        with problems.noted():
            rule = _rule(item)
            if rule.name in rules:
                raise item.error(f"{rule.name!r} is given twice", "give each rule its own name")
            rules[rule.name] = rule
    return tuple(rules.values())


def _rule(node: Node) -> CorrelationRule:
    fields = node.fields(_RULE)
    for key in ("name", "within"):
        if key not in fields:
            raise node.error(f"has no {key}", f"give it `{key}`")
    return CorrelationRule(
        name=fields["name"].filled(),
        labels=_labels(node, fields),
        within=_within(fields["within"]),
        alerts=_alerts(fields["alerts"]) if "alerts" in fields else 1,
        matchers=matchers_of(fields),
    )


def _labels(node: Node, fields: Mapping[str, Node]) -> tuple[str, ...]:
    names: list[str] = []
    for item in fields["labels"].items() if "labels" in fields else []:
        if item.filled() in names:
            raise item.error(f"{item.text()!r} is given twice", "keep one of them")
        names.append(item.text())
    if not names and "alerts" not in fields:
        raise node.error(
            "has no labels, so everything would belong together", "name `labels`, or say how many `alerts`"
        )
    return tuple(sorted(names))


def _within(node: Node) -> timedelta:
    value = node.duration()
    if not timedelta(0) < value <= LONGEST:
        raise node.error("must be longer than zero and at most a day", "write a duration such as 5m")
    return value


def _alerts(node: Node) -> int:
    value = node.count()
    if not 1 < value <= MOST_ALERTS:
        raise node.error(f"must be from 2 to {MOST_ALERTS}", "leave it out to let every alert count")
    return value
