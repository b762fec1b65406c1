"""Policies of a rules file, and which incidents have which."""

from datetime import timedelta

import pytest

from streams import rules_canary
from streams.records import Severity
from streams.rules_config import ConfigError, load
from streams.rules_escalation import Policy, Step

FILE = """\
route: {receiver: desk, group_by: [service]}
receivers:
  - {name: desk, webhook_configs: [{url: 'http://h.example/desk'}]}
  - {name: dba, webhook_configs: [{url: 'http://h.example/dba'}]}
  - {name: void}
incidents:
  people:
    ada: {webhook_configs: [{url: 'http://h.example/ada'}]}
  policies:
    on-call:
      steps:
        - targets: [{person: ada}]
        - {delay: 10m, targets: [{receiver: dba}, {person: ada}]}
      repeat: {times: 2, after: 15m}
    slow: {steps: [{delay: 1h, targets: [{receiver: dba}]}]}
  escalation:
    - {policy: none, severities: [info, unknown]}
    - {policy: slow, matchers: [service=~"batch.*"], receivers: [desk]}
    - {policy: on-call}
"""


def test_policies_are_read() -> None:
    policies = load(FILE).ours.escalations.policies
    assert policies["on-call"] == Policy(
        "on-call",
        (Step(timedelta(0), ("@ada",)), Step(timedelta(minutes=10), ("dba", "@ada"))),
        2,
        timedelta(minutes=15),
    )
    assert policies["slow"].steps[0].delay == timedelta(hours=1)


@pytest.mark.parametrize(
    ("service", "receiver", "severity", "policy"),
    [
        ("chat", "desk", Severity.ERROR, "on-call"),
        ("chat", "desk", Severity.INFO, None),
        ("batch-1", "desk", Severity.WARNING, "slow"),
        ("batch-1", "dba", Severity.WARNING, "on-call"),
        ("batch-1", "desk", Severity.UNKNOWN, None),
        ("chat", rules_canary.NAME, Severity.CRITICAL, None),
    ],
)
def test_the_first_entry_that_an_incident_meets_decides(
    service: str, receiver: str, severity: Severity, policy: str | None
) -> None:
    found = load(FILE).ours.escalations.policy_for({"service": service}, receiver, severity)
    assert (found.name if found else None) == policy


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "reason"),
    [
        ("[{person: ada}]", "[{person: bob}]", 12, "policies.on-call.steps[0].targets[0].person", "no person"),
        ("targets: [{person: ada}]", "targets: []", 12, "policies.on-call.steps[0]", "tells nobody"),
        (
            "targets: [{person: ada}]", "targets: [{schedule: primary}]", 12,
            "policies.on-call.steps[0].targets[0].schedule", "is not supported yet",
        ),
        ("targets: [{person: ada}]", "targets: [ada]", 12, "policies.on-call.steps[0].targets[0]", "must be a mapping"),
        (
            "targets: [{person: ada}]", "targets: [{person: ada, receiver: dba}]", 12,
            "policies.on-call.steps[0].targets[0]", "not one target",
        ),
        ("{person: ada}]}", "{receiver: dba}]}", 13, "policies.on-call.steps[1].targets[1]", "already"),
        ("{receiver: dba}, ", "{receiver: void}, ", 13, "policies.on-call.steps[1].targets[0].receiver", "no channel"),
        ("{receiver: dba}, ", "{receiver: x}, ", 13, "policies.on-call.steps[1].targets[0].receiver", "no receiver"),
        ("delay: 10m", "delay: soon", 13, "policies.on-call.steps[1].delay", "not a duration"),
        ("times: 2", "times: 0", 14, "policies.on-call.repeat.times", "from 1 to 100"),
        ("after: 15m", "after: 1ms", 14, "policies.on-call.repeat.after", "shorter than a second"),
        (", after: 15m", "", 14, "policies.on-call.repeat", "has no after"),
        ("slow: {steps: [{delay: 1h, targets: [{receiver: dba}]}]}", "slow: {}", 15, "policies.slow", "has no steps"),
        ("slow: {", "none: {", 15, "policies.none", "stands for no policy"),
        ("severities: [info, unknown]", "severities: []", 17, "escalation[0].severities", "is empty"),
        ("severities: [info, unknown]", "matchers: []", 17, "escalation[0].matchers", "is empty"),
        ("severities: [info, unknown]", "severities: [bad]", 17, "escalation[0].severities[0]", "not a severity"),
        ("policy: slow, ", "policy: fast, ", 18, "escalation[1].policy", "no policy is named 'fast'"),
        ("policy: slow, ", "", 18, "escalation[1]", "has no policy"),
        ("receivers: [desk]", "receivers: [x]", 18, "escalation[1].receivers[0]", "no receiver is named 'x'"),
        ("matchers: [service=~", "matchers: [team=~", 18, "escalation[1].matchers", "no route groups by"),
        (', matchers: [service=~"batch.*"], receivers: [desk]', "", 19, "escalation[2]", "is never reached"),
        ("    - {policy: on-call}\n", "", 11, "policies.on-call", "no incident has this policy"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(old: str, new: str, line: int, field: str, reason: str) -> None:
    assert old in FILE
    with pytest.raises(ConfigError) as told:
        load(FILE.replace(old, new, 1))
    found = {(one.line, one.field): str(one) for one in told.value.all}
    assert (line, f"incidents.{field}") in found
    assert reason in found[line, f"incidents.{field}"]
