"""Escalation in a rules file: policies, their steps, and which incidents have which policy."""

from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Final

import msgspec

from streams import rules_canary
from streams.records import Severity
from streams.rules_conditions import matchers_of
from streams.rules_matchers import Matcher
from streams.rules_people import MARK, Person, severity_of
from streams.rules_receivers import Receiver
from streams.rules_yaml import Node, Problems

NONE: Final = "none"
"""In place of a policy's name: these incidents are not escalated."""
_POLICY: Final = frozenset({"steps", "repeat"})
_STEP: Final = frozenset({"delay", "targets"})
_TARGET: Final = ("person", "receiver")
_TARGETS_TO_COME: Final = frozenset({"schedule"})
_RULE: Final = frozenset({"policy", "receivers", "matchers", "severities"})
_MOST_ROUNDS: Final = 100
_SHORTEST_PAUSE: Final = timedelta(seconds=1)
_STEP_AS: Final = "write it like {delay: 10m, targets: [{person: ada}]}"
_REPEAT_AS: Final = "write it like {times: 2, after: 15m}"


class Step(msgspec.Struct, frozen=True):
    """Who is told, so long after the step before or, for the first, after the beginning.

    `targets` are names of receivers; a person's is theirs with `@` before it.
    """

    delay: timedelta
    targets: tuple[str, ...]


class Policy(msgspec.Struct, frozen=True):
    """Steps in order, gone through `repeat` times more; each time begins `pause` after the last step."""

    name: str
    steps: tuple[Step, ...]
    repeat: int = 0
    pause: timedelta = timedelta(0)


class PolicyRule(msgspec.Struct, frozen=True):
    """Incidents that meet all that is given have this policy, or none where `policy` is empty.

    `matchers` see the labels that the incident's group is named by, `receivers` are those of its route.
    """

    policy: str
    receivers: tuple[str, ...] = ()
    matchers: tuple[Matcher, ...] = ()
    severities: tuple[Severity, ...] = ()

    def meets(self, labels: Mapping[str, str], receiver: str, severity: Severity) -> bool:
        """Whether it is about such an incident."""
        return (
            (not self.receivers or receiver in self.receivers)
            and (not self.severities or severity in self.severities)
            and all(matcher.matches(labels) for matcher in self.matchers)
        )


class Escalations(msgspec.Struct, frozen=True):
    """All policies, and the rules that give them; the first rule that an incident meets decides."""

    policies: dict[str, Policy] = {}
    rules: tuple[PolicyRule, ...] = ()

    def policy_for(self, labels: Mapping[str, str], receiver: str, severity: Severity) -> Policy | None:
        """The policy of such an incident, None where it has none; the canary's wakes nobody."""
        if receiver == rules_canary.NAME:
            return None
        for rule in self.rules:
            if rule.meets(labels, receiver, severity):
                return self.policies.get(rule.policy)
        return None


def escalations_of(
    policies: Node | None, rules: Node | None, people: Mapping[str, Person], receivers: Mapping[str, Receiver],
    grouped_by: Collection[str] | None, problems: Problems,
) -> Escalations:  # fmt: skip
    """Read `policies`, and `escalation`, which gives them to incidents; `grouped_by` are labels they can have."""
    found: dict[str, Policy] = {}
    nodes = policies.entries() if policies is not None else {}
    for name, node in nodes.items():
        found[name] = Policy(name, ())
        with problems.noted():
            if name == NONE:
                raise node.error(f"{NONE!r} stands for no policy", "give it another name")
            found[name] = _policy(name, node, people, receivers, problems)
    given: list[PolicyRule] = []
    for item in rules.items() if rules is not None else ():
        with problems.noted():
            if given and given[-1] == PolicyRule(given[-1].policy):
                raise item.error("is never reached: the entry before it takes every incident", "put it first")
            given.append(_rule(item, found, receivers, grouped_by))
    used = {rule.policy for rule in given}
    for name, node in nodes.items():
        if name not in used and name != NONE:
            remedy = f"write `escalation: [{{policy: {name}}}]` below `incidents`, or leave the policy out"
            problems.add(node.error("no incident has this policy", remedy))
    return Escalations(found, tuple(given))


def _policy(
    name: str, node: Node, people: Mapping[str, Person], receivers: Mapping[str, Receiver], problems: Problems
) -> Policy:
    fields = node.fields(_POLICY)
    steps: list[Step] = []
    for item in fields["steps"].items() if "steps" in fields else ():
        with problems.noted():
            steps.append(_step(item, people, receivers, problems))
    if "steps" not in fields or fields["steps"].bare:
        raise node.error("has no steps", f"give it `steps`, and {_STEP_AS}")
    repeat, pause = _repeat(fields["repeat"]) if "repeat" in fields else (0, timedelta(0))
    return Policy(name, tuple(steps), repeat, pause)


def _repeat(node: Node) -> tuple[int, timedelta]:
    fields = node.fields({"times", "after"})
    for key in ("times", "after"):
        if key not in fields:
            raise node.error(f"has no {key}", _REPEAT_AS)
    times, after = fields["times"].count(), fields["after"].duration()
    if not 1 <= times <= _MOST_ROUNDS:
        raise fields["times"].error(f"must be from 1 to {_MOST_ROUNDS}", "leave `repeat` out to go through it once")
    if after < _SHORTEST_PAUSE:
        raise fields["after"].error("is shorter than a second", _REPEAT_AS)
    return times, after


def _step(node: Node, people: Mapping[str, Person], receivers: Mapping[str, Receiver], problems: Problems) -> Step:
    fields = node.fields(_STEP)
    delay = fields["delay"].duration() if "delay" in fields else timedelta(0)
    targets: list[str] = []
    for item in fields["targets"].items() if "targets" in fields else ():
        with problems.noted():
            name = _target(item, people, receivers)
            if name in targets:
                raise item.error("is told by this step already", "leave it out")
            targets.append(name)
    if "targets" not in fields or fields["targets"].bare:
        raise node.error("tells nobody", _STEP_AS)
    return Step(delay, tuple(targets))


def _target(node: Node, people: Mapping[str, Person], receivers: Mapping[str, Receiver]) -> str:
    fields = node.fields(_TARGET, _TARGETS_TO_COME)
    if len(fields) != 1:
        if any(key.value in _TARGETS_TO_COME for key, _ in node.raw.value):
            return ""  # complained of
        raise node.error("is not one target", "write {person: NAME} or {receiver: NAME}")
    [(key, value)] = fields.items()
    name = value.filled()
    if key == "person":
        if name not in people:
            raise value.error(f"no person is named {name!r}", "name one from `people`")
        return MARK + name
    if name not in receivers:
        raise value.error(f"no receiver is named {name!r}", "name one from `receivers`")
    if not receivers[name].integrations:
        raise value.error(f"receiver {name!r} has no channel: nobody would be told", "give it one, or name another")
    return name


def _rule(
    node: Node, policies: Collection[str], receivers: Mapping[str, Receiver], grouped_by: Collection[str] | None
) -> PolicyRule:
    fields = node.fields(_RULE)
    if "policy" not in fields:
        raise node.error("has no policy", f"name one from `policies`, or {NONE}")
    policy = fields["policy"].filled()
    if policy != NONE and policy not in policies:
        raise fields["policy"].error(f"no policy is named {policy!r}", f"name one from `policies`, or {NONE}")
    return PolicyRule(
        "" if policy == NONE else policy,
        tuple(_receiver(item, receivers) for item in _listed(fields, "receivers")),
        _matchers(fields, grouped_by),
        tuple(severity_of(item) for item in _listed(fields, "severities")),
    )


def _matchers(fields: dict[str, Node], grouped_by: Collection[str] | None) -> tuple[Matcher, ...]:
    if not list(_listed(fields, "matchers")):
        return ()
    matchers = matchers_of({"matchers": fields["matchers"]})
    for one in matchers:
        if grouped_by is not None and one.name not in grouped_by:
            remedy = f"add it to a `group_by`, or match one of {', '.join(sorted(grouped_by))}"
            raise fields["matchers"].error(f"no route groups by {one.name}, so no incident has it", remedy)
    return matchers


def _listed(fields: dict[str, Node], key: str) -> Iterator[Node]:
    """The items of a list that, where it is given, is not empty: an empty one would take every incident."""
    if key in fields:
        if fields[key].bare:
            raise fields[key].error("is empty", "name at least one, or leave it out")
        yield from fields[key].items()


def _receiver(node: Node, receivers: Mapping[str, Receiver]) -> str:
    if node.filled() not in receivers:
        raise node.error(f"no receiver is named {node.text()!r}", "name one from `receivers`")
    return node.text()
