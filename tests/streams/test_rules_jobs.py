"""The part `incidents: jobs:`: read whole, or refused with line and field."""

from typing import Any

import pytest

from streams.rules_config import BUILT_IN, ConfigError, RulesConfig, load
from streams.rules_jobs import Action, JobError, JobRule, arguments_of
from streams.rules_schedule import Missed

BASE = """\
route: {receiver: desk}
receivers: [{name: desk}]
incidents:
"""


def jobs(lines: str) -> dict[str, JobRule]:
    config: RulesConfig = load(BASE + lines)
    return {rule.name: rule for rule in config.ours.jobs}


def test_built_in_jobs_are_there_whatever_the_file_says_unless_it_says_so() -> None:
    names = {rule.name for rule in BUILT_IN.ours.jobs}
    assert {"retention", "canary", "stale-incidents"} == names
    assert set(jobs("  kinds: []\n")) == names
    assert set(jobs("  jobs: {canary: {enabled: false}}\n")) == names - {"canary"}
    changed = jobs("  jobs: {stale-incidents: {with: {after: 12h}}}\n")["stale-incidents"]
    assert (changed.action, changed.arguments, changed.schedule) == (Action.STALE, {"after": "12h"}, "*/10 * * * *")


def test_a_job_of_the_file_has_all_that_it_says() -> None:
    found = jobs("""\
  jobs:
    report:
      {action: webhook, schedule: "30 2 * * MON", zone: Europe/Berlin, missed: run_once, attempts: 5,
       with: {url: "http://127.0.0.1:9000/x", body: {n: 1, list: [a, 2.5, true, null]}}}
""")["report"]
    assert found == JobRule(
        name="report", action=Action.WEBHOOK, schedule="30 2 * * MON", zone="Europe/Berlin", missed=Missed.RUN_ONCE,
        max_attempts=5, arguments={"url": "http://127.0.0.1:9000/x", "body": {"n": 1, "list": ["a", 2.5, True, None]}},
    )  # fmt: skip


def test_a_receiver_has_its_day_told_by_a_job() -> None:
    found = jobs('  receivers: {desk: {digest: {schedule: "0 8 * * *", zone: Europe/Berlin}}}\n')["digest:desk"]
    assert (found.action, found.arguments, found.missed) == (Action.DIGEST, {"receiver": "desk"}, Missed.RUN_ONCE)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("{x: {}}", "incidents.jobs.x"),
        ("{x: {action: dance}}", "incidents.jobs.x.action"),
        ("{x: {action: alert}}", "incidents.jobs.x"),
        ("{x: {action: alert, with: {summary: x, colour: red}}}", "incidents.jobs.x.with"),
        ("{x: {action: alert, with: {summary: x}, schedule: '* * * *'}}", "incidents.jobs.x.schedule"),
        ("{x: {action: alert, with: {summary: x}, schedule: '1 * * * *', zone: Moon}}", "incidents.jobs.x.zone"),
        ("{x: {action: alert, with: {summary: x}, zone: UTC}}", "incidents.jobs.x.zone"),
        ("{x: {action: alert, with: {summary: x}, missed: never}}", "incidents.jobs.x.missed"),
        ("{x: {action: alert, with: {summary: x}, attempts: 0}}", "incidents.jobs.x.attempts"),
        ("{x: {action: alert, with: [summary]}}", "incidents.jobs.x.with"),
        ("{retention: {action: alert}}", "incidents.jobs.retention.action"),
        ("{'a b': {action: alert}}", "incidents.jobs.a b"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(line: str, field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(f"{BASE}  jobs: {line}\n")
    assert (refused.value.field, refused.value.line) == (field, 4)


@pytest.mark.parametrize(
    ("action", "given", "field"),
    [
        (Action.WEBHOOK, {"url": "http://169.254.169.254/x"}, "arguments.url"),
        (Action.WEBHOOK, {"url": "http://["}, "arguments.url"),
        (Action.STALE, {"after": "0"}, "arguments.after"),
        (Action.RETENTION, {"audit": "30d"}, "arguments.audit"),
        (Action.EXPORT, {"what": "secrets"}, "arguments"),
        (Action.ALERT, {"summary": "x" * 20_000}, "arguments"),
        (Action.CANARY, {"within": 5}, "arguments"),
    ],
)
def test_what_an_action_cannot_be_told_is_refused(action: Action, given: dict[str, Any], field: str) -> None:
    with pytest.raises(JobError) as refused:
        arguments_of(action, given)
    assert refused.value.field == field
