"""A firing source mutes what has the same values, never itself or its like, and only while it fires."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agents.rules import inhibition
from agents.rules.inhibition import HELD, Inhibitors
from streams import keys
from streams.records import Inhibitor
from streams.rules_inhibit import InhibitRule
from streams.rules_matchers import parse

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)


def rule(source: str, target: str, *equal: str) -> InhibitRule:
    return InhibitRule(tuple(parse(source)), tuple(parse(target)), equal)


CRITICAL = rule('severity="critical"', 'severity=~"warning|info"', "service", "region")
LIKE = rule('alertname=~"a|b"', 'alertname=~"b|c"', "service")


def source(
    rules: Iterable[InhibitRule], labels: dict[str, str], *, revision: int = 1, firing: bool = True
) -> Inhibitor:
    entries = inhibition.entries_of(rules, labels) if firing else ()
    identity = keys.hashed(keys.identity_of_labels("default", labels))
    return Inhibitor(identity=identity, fingerprint=keys.fingerprint(labels), revision=revision, entries=entries)


def muted(found: Inhibitors, rules: Iterable[InhibitRule], labels: dict[str, str]) -> str:
    return found.muting(inhibition.targets_of(rules, labels))


@pytest.mark.parametrize(
    ("firing", "target", "is_muted"),
    [
        ({"severity": "critical", "service": "x"}, {"severity": "warning", "service": "x"}, True),
        ({"severity": "critical", "service": "x"}, {"severity": "warning", "service": "y"}, False),
        ({"severity": "critical", "service": "x"}, {"severity": "warning", "service": "x", "region": ""}, True),
        ({"severity": "critical", "service": "x"}, {"severity": "warning", "service": "x", "region": "eu"}, False),
        ({"severity": "critical"}, {"severity": "info"}, True),
        ({"severity": "critical", "service": "x"}, {"severity": "error", "service": "x"}, False),
        ({"severity": "warning", "service": "x"}, {"severity": "info", "service": "x"}, False),
    ],
)
def test_a_target_is_muted_by_equal_values(firing: dict[str, str], target: dict[str, str], is_muted: bool) -> None:
    found = Inhibitors()
    found.hear([source([CRITICAL], firing)], T0)
    assert muted(found, [CRITICAL], target) == (keys.fingerprint(firing) if is_muted else "")


@pytest.mark.parametrize(
    ("firing", "target", "is_muted"),
    [
        ("a", "b", True),
        ("a", "c", True),
        ("b", "c", True),
        ("b", "b", False),  # itself, or one of its kind
        ("c", "c", False),
        ("c", "b", False),
    ],
)
def test_what_meets_both_sides_is_muted_by_neither_itself_nor_its_like(
    firing: str, target: str, is_muted: bool
) -> None:
    found = Inhibitors()
    found.hear([source([LIKE], {"alertname": firing, "instance": "1"})], T0)
    for instance in ("1", "2"):
        assert bool(muted(found, [LIKE], {"alertname": target, "instance": instance})) is is_muted


def test_it_ends_as_soon_as_the_last_source_has_resolved() -> None:
    one, two = ({"severity": "critical", "instance": name} for name in "12")
    target, found = {"severity": "info"}, Inhibitors()
    found.hear([source([CRITICAL], one), source([CRITICAL], two)], T0)
    found.hear([source([CRITICAL], one, revision=2, firing=False)], T0)
    assert muted(found, [CRITICAL], target) == keys.fingerprint(two)
    found.hear([source([CRITICAL], two, revision=2, firing=False)], T0)
    assert not muted(found, [CRITICAL], target)


def test_an_older_word_come_late_changes_nothing_and_twice_is_once() -> None:
    labels, found = {"severity": "critical"}, Inhibitors()
    first, ended = source([CRITICAL], labels), source([CRITICAL], labels, revision=2, firing=False)
    assert len(found.hear([first, first], T0)) == 1
    assert len(found.hear([ended], T0)) == 1
    assert found.hear([first, ended], T0) == []
    assert not muted(found, [CRITICAL], {"severity": "info"})


def test_an_ended_source_is_forgotten_after_a_while_unless_it_fires_again() -> None:
    found = Inhibitors()
    for name in "12":
        labels = {"severity": "critical", "instance": name}
        found.hear([source([CRITICAL], labels, revision=2, firing=False)], T0)
    found.hear([source([CRITICAL], {"severity": "critical", "instance": "1"}, revision=3)], T0)
    assert found.forgettable(T0 + HELD - timedelta(seconds=1)) == []
    [gone] = found.forgettable(T0 + HELD)
    assert gone == source([CRITICAL], {"severity": "critical", "instance": "2"}).identity
    found.forget([gone])
    assert found.held(gone) is None


def test_a_step_sees_its_own_changes_and_the_partition_only_what_is_folded() -> None:
    known: Any = {"severity": "critical", "instance": "1"}
    new: Any = {"severity": "critical", "instance": "2"}
    partition, target = Inhibitors(), {"severity": "info"}
    partition.hear([source([CRITICAL], known)], T0)
    step = Inhibitors(under=partition)
    step.hear([source([CRITICAL], known, revision=2, firing=False)], T0)
    assert not muted(step, [CRITICAL], target)
    step.hear([source([CRITICAL], new)], T0)
    assert muted(step, [CRITICAL], target) == keys.fingerprint(new)
    assert muted(partition, [CRITICAL], target) == keys.fingerprint(known)
    partition.fold(step)
    assert muted(partition, [CRITICAL], target) == keys.fingerprint(new)


def test_a_rule_keeps_its_name_wherever_it_stands_and_however_its_labels_are_ordered() -> None:
    assert rule('b="2",a="1"', 'c="3"', "y", "x").id == rule('a="1",b="2"', 'c="3"', "x", "y").id
    assert rule('a="1"', 'c="3"').id != rule('c="3"', 'a="1"').id
