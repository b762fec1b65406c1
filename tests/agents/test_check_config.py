"""`incidents check-config` says everything that is wrong, and which way labels take."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agents.__main__ import main

RULES = """\
route:
  receiver: desk
  group_by: [alertname]
  routes:
    - matchers: [team="a"]
      receiver: a
      continue: true
      mute_time_intervals: [always]
      active_time_intervals: [never]
    - matchers: [severity=~"crit.*"]
      group_by: ['...']
      group_wait: 5s
receivers:
  - name: desk
  - name: a
    webhook_configs: [{url: 'http://127.0.0.1:9'}]
    email_configs: [{to: x@example.org, from: y@example.org, smarthost: 'mx.example.org:25'}]
time_intervals:
  - {name: always, time_intervals: [{}]}
  - {name: never, time_intervals: [{years: ['1999']}]}
inhibit_rules:
  - {source_matchers: [a=b], target_matchers: [c=d]}
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "alertmanager.yml"
    file.write_text(RULES)
    return file


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["check-config", *map(str, arguments)])


def test_a_good_file_is_counted(rules: Path) -> None:
    done = run(rules)
    assert done.exit_code == 0
    assert done.stdout == f"{rules}: 3 routes, 2 receivers, 2 integrations, 1 inhibition rules, 2 time intervals\n"


def test_labels_are_followed_through_every_route_that_takes_them(rules: Path) -> None:
    done = run(rules, "-l", "team=a", "-l", "severity=critical", "-l", "alertname=x=y")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1:] == [
        '  {}/{team="a"} -> a (webhook, email)',
        "      group {alertname='x=y'}",
        "      waits 30 s, then every 300 s, repeats after 14400 s",
        "      muted in always",
        "      active in never",
        "      muted now by always, never",
        '  {}/{severity=~"crit.*"} -> desk (tells nobody)',
        "      group {team='a', severity='critical', alertname='x=y'}",
        "      waits 5 s, then every 300 s, repeats after 14400 s",
    ]


def test_everything_wrong_is_said_with_line_field_and_remedy(rules: Path) -> None:
    rules.write_text(RULES.replace("receiver: desk", "receiver: nobody").replace("group_wait: 5s", "group_wait: 5"))
    done = run(rules)
    assert done.exit_code == 1
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first == (f"{rules}:2: route.receiver: no receiver is named 'nobody'; name one from `receivers`")
    assert second.startswith(f"{rules}:12: route.routes[1].group_wait: '5' is not a duration; write it like")


def test_templates_are_part_of_it(rules: Path) -> None:
    (rules.parent / "bad.tmpl").write_text("one\n{{ nope }}")
    rules.write_text(RULES + "templates: ['*.tmpl']\n")
    done = run(rules)
    assert done.exit_code == 1
    assert f"templates: {rules.parent / 'bad.tmpl'}, line 2: function 'nope' not defined" in done.stderr


def test_json_has_the_same(rules: Path) -> None:
    good = json.loads(run(rules, "--json", "-l", "team=a").stdout)
    assert (good["ok"], good["errors"], good["summary"]["routes"]) == (True, [], 3)
    assert [way["receiver"] for way in good["ways"]] == ["a"]
    assert good["ways"][0]["muted_now"] == ["always", "never"]
    assert json.loads(run(rules, "--json").stdout)["ways"] is None
    rules.write_text("route: {receiver: a}\n")
    done = run(rules, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["errors"] == [
        {"line": 1, "field": "receivers", "reason": "is missing", "remedy": "write `receivers:`"}
    ]


def test_labels_that_are_none_are_a_mistake_of_the_command(rules: Path) -> None:
    assert run(rules, "-l", "team").exit_code == 2
    assert run("/nowhere").exit_code == 2


def test_what_is_read_over_is_a_warning_and_no_fault(rules: Path) -> None:
    rules.write_text(f"{RULES}tracing: {{endpoint: 'localhost:4317'}}\n")
    done = run(rules)
    assert done.exit_code == 0
    assert f"{rules}:{RULES.count(chr(10)) + 1}: tracing: is read over: it changes no notice" in done.stderr
    assert [one["field"] for one in json.loads(run(rules, "--json").stdout)["warnings"]] == ["tracing"]


PAGED = (
    RULES
    + """\
incidents:
  people: {ada: {webhook_configs: [{url: 'http://127.0.0.1:9/ada'}]}}
  policies:
    on-call: {steps: [{targets: [{person: ada}]}]}
    slow: {steps: [{delay: 1h, targets: [{person: ada}]}]}
  escalation:
    - {policy: on-call, severities: [critical, error]}
    - {policy: slow, receivers: [a]}
"""
)


def test_it_says_who_escalates_what(rules: Path) -> None:
    rules.write_text(PAGED)
    done = run(rules, "-l", "team=a")
    assert done.exit_code == 0, done.stderr
    said = done.stdout.splitlines()
    assert "1 people, 2 policies" in said[0]
    assert "      escalated by on-call (critical, error)" in said
    assert "      escalated by slow (warning, info, unknown)" in said
    way = json.loads(run(rules, "--json", "-l", "team=b").stdout)["ways"][0]
    assert way["policy"] == {"on-call": ["critical", "error"]}
    rules.write_text(PAGED.replace("{person: ada}]}]}\n    slow", "{person: eve}]}]}\n    slow"))
    wrong = run(rules)
    assert wrong.exit_code == 1
    assert "incidents.policies.on-call.steps[0].targets[0].person: no person is named 'eve'" in wrong.stderr
