"""A rules file is read as Alertmanager reads it, or refused with its line."""

import time
from datetime import timedelta

import pytest

from streams.rules_config import BUILT_IN, ConfigError, Matcher, load
from streams.rules_matchers import MatcherError, parse
from streams.rules_yaml import duration

BASE = """\
route:
  receiver: a
{route}
receivers:
  - name: a
  - name: b
{more}
"""


def rules(route: str = "", more: str = "") -> str:
    return BASE.format(route=route, more=more)


def test_the_built_in_rules_group_by_name_and_service_and_tell_nobody() -> None:
    route = BUILT_IN.route
    assert (BUILT_IN.version, route.id, route.receiver) == (0, "{}", "default")
    assert route.group_by == ("alertname", "service")
    assert route.group_wait == timedelta(seconds=30)
    assert route.group_interval == timedelta(minutes=5)
    assert route.repeat_interval == timedelta(hours=4)
    assert BUILT_IN.receivers["default"].integrations == ()
    assert BUILT_IN.route_by_id("{}") is route


def test_children_inherit_what_they_do_not_set() -> None:
    config = load(
        rules("""
  group_by: [x]
  group_wait: 1s
  routes:
    - receiver: b
      group_by: []
      repeat_interval: 1h30m
      routes:
        - group_by: ['...']
          matchers: ['severity="critical"']
""")
    )
    child = config.route.routes[0]
    grandchild = child.routes[0]
    assert (child.receiver, child.group_by, child.group_wait) == ("b", ("x",), timedelta(seconds=1))
    assert grandchild.repeat_interval == timedelta(minutes=90)
    assert grandchild.group_by is None
    assert grandchild.id == '{}/{}/{severity="critical"}'
    assert config.route_by_id(grandchild.id) == grandchild
    assert config.route_by_id("{}/nowhere") is None


def test_equal_siblings_after_the_first_carry_their_place() -> None:
    config = load(rules("  routes: [{match: {a: b}}, {match: {a: c}}, {matchers: [a=b]}]"))
    assert [route.id for route in config.route.routes] == ['{}/{a="b"}', '{}/{a="c"}', '{}/{a="b"}/2']


def test_old_and_new_matchers_are_sorted_together() -> None:
    config = load(rules("  routes: [{match: {b: x}, match_re: {a: 'y|z'}, matchers: ['c!=d,  a!~q']}]"))
    assert config.route.routes[0].id == '{}/{a!~"q",a=~"y|z",b="x",c!="d"}'


def test_a_webhook_is_read_with_its_authentication() -> None:
    config = load(
        rules(
            more="""
    webhook_configs:
      - url: http://127.0.0.1:9/x
        send_resolved: false
        max_alerts: 3
        http_config:
          authorization: {credentials: token}
          http_headers: {X-Team: {values: [one, two]}}
      - url: https://u:p@hooks.example.org
        http_config: {basic_auth: {username: u, password: p}}
global:
  resolve_timeout: 1m
"""
        )
    )
    first, second = config.receivers["b"].integrations
    assert (first.index, first.channel, first.send_resolved) == (0, "webhook", False)
    assert first.options == {
        "url": "http://127.0.0.1:9/x",
        "authorization": "Bearer token",
        "headers": [["X-Team", "one"], ["X-Team", "two"]],
        "max_alerts": 3,
        "send_resolved": False,
    }
    assert (second.index, second.send_resolved) == (1, True)
    assert second.options == {"url": "https://u:p@hooks.example.org", "basic_auth": ["u", "p"]}
    assert config.resolve_timeout == timedelta(minutes=1)
    assert "token" not in repr(first)
    assert "token" not in repr(config)


def test_merge_keys_and_anchors_are_followed() -> None:
    config = load(
        rules("""
  routes:
    - &one {receiver: b, group_wait: 2s, matchers: [a=b]}
    - <<: *one
      group_wait: 3s
""")
    )
    assert [route.group_wait.seconds for route in config.route.routes] == [2, 3]
    assert [route.receiver for route in config.route.routes] == ["b", "b"]


@pytest.mark.parametrize(
    ("text", "line", "field", "reason"),
    [
        ("", 1, "route", "no route"),
        ("route: [", 1, "", "not valid YAML"),
        ("a: b\n", 1, "a", "not a key"),
        ("- a\n", 1, "", "must be a mapping"),
        ("route: {receiver: a}\n", 1, "receivers", "is missing"),
        (rules("  reciever: b"), 3, "route.reciever", "not a key"),
        (rules("  group_wait: 1x"), 3, "route.group_wait", "not a duration"),
        (rules("  group_interval: 0s"), 3, "route.group_interval", "zero"),
        (rules("  repeat_interval: 0"), 3, "route.repeat_interval", "zero"),
        (rules("  group_by: ['...', x]"), 3, "route.group_by", "all labels"),
        (rules("  group_by: [x, x]"), 3, "route.group_by[1]", "twice"),
        (rules("  group_by: x"), 3, "route.group_by", "must be a list"),
        (rules("  receiver: b"), 3, "route.receiver", "given twice"),
        (rules("  matchers: [a=b]"), 3, "route.matchers", "not allowed on the first route"),
        (rules("  routes: [{receiver: z}]"), 3, "route.routes[0].receiver", "no receiver is named 'z'"),
        (rules("  routes: [{matchers: ['a=~(']}]"), 3, "route.routes[0].matchers[0]", "refused"),
        (rules("  routes: [{matchers: ['a']}]"), 3, "route.routes[0].matchers[0]", "not a matcher"),
        (rules("  routes: [{continue: maybe}]"), 3, "route.routes[0].continue", "true or false"),
        (rules("  routes: [{mute_time_intervals: [x]}]"), 3, "route.routes[0].mute_time_intervals[0]", "no time"),
        (rules("  mute_time_intervals: [x]"), 3, "route.mute_time_intervals", "not allowed on the first route"),
        (rules(more="inhibit_rules: [{source: x}]"), 7, "inhibit_rules[0].source", "not a key"),
        (rules(more="inhibit_rules: [{source_matchers: ['a']}]"), 7, "inhibit_rules[0].source_matchers[0]", "not a ma"),
        (rules(more="time_intervals: [{time_intervals: []}]"), 7, "time_intervals[0]", "no name"),
        (rules(more="incidents: {x: 1}"), 7, "incidents.x", "not a key"),
        (rules(more="incidents: {correlation: [{name: a}]}"), 7, "incidents.correlation[0]", "no within"),
        (rules(more="incidents: {correlation: [{name: a, within: 1m}]}"), 7, "incidents.correlation[0]", "no labels"),
        (
            rules(more="incidents: {correlation: [{name: a, labels: [b], within: 2d}]}"),
            7,
            "incidents.correlation[0].within",
            "at most a day",
        ),
        (
            rules(more="incidents: {correlation: [{name: a, alerts: 1, within: 2m}]}"),
            7,
            "incidents.correlation[0].alerts",
            "from 2 to 1000",
        ),
        (
            rules(more="incidents: {correlation: [{name: a, labels: [b, b], within: 2m}]}"),
            7,
            "incidents.correlation[0].labels[1]",
            "given twice",
        ),
        (
            rules(more="incidents:\n  correlation:\n" + 2 * "    - {name: a, labels: [b], within: 2m}\n"),
            10,
            "incidents.correlation[1]",
            "'a' is given twice",
        ),
        (rules(more="incidents: {severities: {a: bad}}"), 7, "incidents.severities.a", "not a severity"),
        (rules(more="incidents: {kinds: [{kind: x, matchers: [a=b]}]}"), 7, "incidents.kinds[0].kind", "not a kind"),
        (rules(more="incidents: {receivers: {z: {}}}"), 7, "incidents.receivers.z", "no receiver is named"),
        (rules(more="incidents: {receivers: {a: {format: incidents}}}"), 7, "incidents.receivers.a", "webhook"),
        (rules(more="global: {smtp_smarthost: 'x:post'}"), 7, "global.smtp_smarthost", "not a port"),
        (rules(more="global: {smtp_smarthost: 'x:0'}"), 7, "global.smtp_smarthost", "not a port"),
        (
            rules(more="    pagerduty_configs: [{service_key: abc}]"),
            7,
            "receivers[1].pagerduty_configs[0].service_key",
            "Events API v1",
        ),
        (rules(more="global: {smtp_smarthost: x}"), 7, "global.smtp_smarthost", "not a host and a port"),
        (rules(more="global: {resolve_timeout: 0s}"), 7, "global.resolve_timeout", "zero"),
        (rules(more="    wechat_configs: []"), 7, "receivers[1].wechat_configs", "not supported yet"),
        (rules(more="    slack_configs: [{}]"), 7, "receivers[1].slack_configs[0]", "no api_url"),
        (rules(more="    webhook_configs: [{}]"), 7, "receivers[1].webhook_configs[0]", "no url"),
        (rules(more="    webhook_configs: [{url: 'ftp://x'}]"), 7, "receivers[1].webhook_configs[0].url", "http"),
        (
            rules(more="    webhook_configs: [{url: 'http://169.254.169.254/x'}]"),
            7,
            "receivers[1].webhook_configs[0].url",
            "nothing",
        ),
        (rules(more="    webhook_configs: [{url: 'http:///'}]"), 7, "receivers[1].webhook_configs[0].url", "host"),
        (rules(more="  - name: a"), 7, "receivers[2].name", "two receivers"),
        (rules(more="  - {}"), 7, "receivers[2]", "no name"),
        ("route: &r {receiver: a, routes: [*r]}\nreceivers: [{name: a}]\n", 1, None, "too large"),
        ("? [a]\n: b\n", 1, "", "not text"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(
    text: str, line: int, field: str | None, reason: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load(text)
    assert reason in refused.value.reason
    assert refused.value.line == line
    assert field is None or refused.value.field == field
    assert refused.value.remedy


def test_an_absent_or_empty_part_of_ours_is_accepted() -> None:
    assert load(rules(more="incidents:")).receivers == load(rules(more="incidents: {}")).receivers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("1d", 86400), ("1w", 604800), ("100ms", 0.1)],
)
def test_durations_are_read_as_prometheus_writes_them(text: str, seconds: float) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "1m1h", "-1s", "1.5h", "s", "9999999y", "1 s"])
def test_other_texts_are_not_durations(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", [("a", "=", "b")]),
        (' a != "b c" ', [("a", "!=", "b c")]),
        ('{a="b",c=~"d,e"}', [("a", "=", "b"), ("c", "=~", "d,e")]),
        ("a=", [("a", "=", "")]),
        (r'a="\"\n\d"', [("a", "=", '"\n\\d')]),
        ("a=~b=c", [("a", "=~", "b=c")]),
        ('"a b"="c"', [("a b", "=", "c")]),
        ('{"ü"=~"x.*",}', [("ü", "=~", "x.*")]),
        (r'"\u00fc\x41"!~ y', [("üA", "!~", "y")]),
        ("service.name=api", [("service.name", "=", "api")]),
        ("{}", []),
        ("\n a\t=~\n b  c \n", [("a", "=~", "b  c")]),
        ('a="b" ', [("a", "=", "b")]),
    ],
)
def test_both_grammars_of_matchers_are_read(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert parse(text) == [Matcher(*parts) for parts in expected]


@pytest.mark.parametrize("text", ["a=x{}x", 'a="x{}x"', "a=x{}"])
def test_long_matchers_take_no_longer_than_they_are(text: str) -> None:
    started = time.process_time()
    (matcher,) = parse(text.format(" " * 64_000))
    assert time.process_time() - started < 20, "with backtracking it takes minutes"
    assert matcher.value.startswith("x")


@pytest.mark.parametrize(
    "text", ["a", "=b", 'a="b', r'a="b\"', 'a=b"', '{a.b="c"', '""=a', r'"\xff"=a', r'"\q"=a', "a=~*"]
)
def test_what_neither_grammar_reads_is_refused(text: str) -> None:
    with pytest.raises(MatcherError):
        parse(text)


@pytest.mark.parametrize(
    ("matcher", "labels", "matches"),
    [
        (Matcher("a", "=", "b"), {"a": "b"}, True),
        (Matcher("a", "=", ""), {}, True),
        (Matcher("a", "!=", "b"), {}, True),
        (Matcher("a", "=~", "b"), {"a": "abc"}, False),
        (Matcher("a", "=~", "x|b"), {"a": "b"}, True),
        (Matcher("a", "=~", "x|b"), {"a": "xb"}, False),
        (Matcher("a", "=~", ".*"), {}, True),
        (Matcher("a", "!~", "b.*"), {"a": "bcd"}, False),
        (Matcher("a", "!~", ".+"), {}, True),
        (Matcher("a", "=~", "(a+)+$"), {"a": "a" * 5000 + "!"}, False),
    ],
)
def test_an_absent_label_is_empty_and_expressions_match_whole_values(
    matcher: Matcher, labels: dict[str, str], matches: bool
) -> None:
    assert matcher.matches(labels) is matches
