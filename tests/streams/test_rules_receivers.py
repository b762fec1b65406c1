"""Every channel of an alertmanager.yml is read with Alertmanager's defaults, and its secrets stay secret."""

from pathlib import Path

import pytest

from streams.records import AlertBody, Kind, Severity
from streams.rules_config import ConfigError, Files, Integration, RulesConfig, load
from streams.rules_files import Disk

WHOLE = """\
global:
  smtp_smarthost: mail.example.org:587
  smtp_from: alerts@example.org
  smtp_auth_username: alerts
  smtp_auth_password_file: mail.secret
  slack_api_url: https://hooks.slack.com/services/T/B/slacksecret
  opsgenie_api_key: opsgeniesecret
  victorops_api_key: victoropssecret
  http_config:
    tls_config: {ca_file: ca.pem, insecure_skip_verify: true}
    proxy_url: http://user:proxysecret@proxy.example.org:3128
templates: ['*.tmpl']
route:
  receiver: everyone
  group_by: [alertname]
  routes:
    - matchers: [team="a"]
      mute_time_intervals: [weekend]
      active_time_intervals: [office]
inhibit_rules:
  - source_matchers: [severity="critical"]
    target_match: {severity: warning}
    target_match_re: {team: a|b}
    equal: [alertname, cluster]
time_intervals:
  - name: office
    time_intervals: [{times: [{start_time: '09:00', end_time: '17:00'}]}]
mute_time_intervals:
  - name: weekend
    time_intervals: [{weekdays: ['saturday', 'sunday']}]
receivers:
  - name: everyone
    webhook_configs: [{url: 'https://hooks.example.org/webhooksecret'}]
    email_configs: [{to: a@example.org, headers: {subject: '{{ .Status }}'}}]
    pagerduty_configs: [{routing_key: pagerdutysecret, details: {num_firing: '1', more: x}}]
    opsgenie_configs: [{responders: [{name: t, type: team}]}]
    slack_configs: [{channel: '#a', actions: [{type: button, text: x, url: 'https://example.org'}]}]
    victorops_configs: [{routing_key: r}]
    pushover_configs: [{user_key: pushoversecret, token: pushovertoken}]
    telegram_configs: [{bot_token: 'telegramsecret', chat_id: -5}]
    discord_configs: [{webhook_url: 'https://discord.com/api/webhooks/1/discordsecret'}]
    webex_configs: [{room_id: r, http_config: {authorization: {credentials: webexsecret}}}]
"""
FILES = Files(
    secrets={"mail.secret": "mailsecret\n", "ca.pem": "-----BEGIN CERTIFICATE-----"},
    templates={"*.tmpl": {"/x/a.tmpl": '{{ define "a" }}{{ end }}'}},
)


@pytest.fixture(scope="module")
def whole() -> RulesConfig:
    return load(WHOLE, files=FILES)


def channel(config: RulesConfig, name: str) -> Integration:
    return next(one for one in config.receivers["everyone"].integrations if one.channel == name)


def test_an_unchanged_file_is_read_whole(whole: RulesConfig) -> None:
    assert [one.index for one in whole.receivers["everyone"].integrations] == list(range(10))
    child = whole.route.routes[0]
    assert (child.mute_time_intervals, child.active_time_intervals) == (("weekend",), ("office",))
    assert whole.time_intervals.keys() == {"office", "weekend"}
    (rule,) = whole.inhibit_rules
    assert rule.equal == ("alertname", "cluster")
    assert [str(one) for one in rule.target] == ['severity="warning"', 'team=~"a|b"']
    assert whole.templates == FILES.templates["*.tmpl"]


def test_what_a_receiver_leaves_out_comes_from_global_and_from_alertmanagers_defaults(whole: RulesConfig) -> None:
    mail = channel(whole, "email").options
    assert (mail["smarthost"], mail["from"], mail["auth_password"]) == (
        "mail.example.org:587",
        "alerts@example.org",
        "mailsecret",
    )
    assert (mail["require_tls"], mail["headers"], mail["send_resolved"]) == (True, {"Subject": "{{ .Status }}"}, False)
    assert mail["html"] == '{{ template "email.default.html" . }}'
    slack = channel(whole, "slack").options
    assert slack["api_url"] == "https://hooks.slack.com/services/T/B/slacksecret"
    assert slack["title_link"] == '{{ template "slack.default.titlelink" . }}'
    assert slack["tls_config"] == {"ca": "-----BEGIN CERTIFICATE-----", "insecure_skip_verify": True}
    assert channel(whole, "pagerduty").options["url"] == "https://events.pagerduty.com/v2/enqueue"
    assert channel(whole, "pagerduty").options["details"]["num_firing"] == "1"
    assert channel(whole, "pagerduty").options["details"]["num_resolved"] == "{{ .Alerts.Resolved | len }}"
    assert channel(whole, "opsgenie").options["api_url"] == "https://api.opsgenie.com/"
    assert channel(whole, "pushover").options["expire"] == 3600
    assert channel(whole, "webex").options["authorization"] == "Bearer webexsecret"
    assert "proxy_url" not in channel(whole, "webex").options  # its own http_config takes the place of global's
    assert channel(whole, "discord").options["proxy_url"] == "http://user:proxysecret@proxy.example.org:3128"


def test_a_target_names_the_endpoint_without_its_secret(whole: RulesConfig) -> None:
    targets = [one.target for one in whole.receivers["everyone"].integrations]
    assert len(set(targets)) == len(targets)
    assert not [target for target in targets if "secret" in target]
    assert channel(whole, "slack").target.startswith("https://hooks.slack.com/#")


def test_a_webhook_s_target_tells_neither_path_nor_password_and_differs_with_them() -> None:
    configs = ", ".join(f"{{url: 'https://u:pw@h.example:8/{path}?token=t0ken'}}" for path in ("s3cret", "s3cret", "x"))
    config = load(f"route: {{receiver: a}}\nreceivers: [{{name: a, webhook_configs: [{configs}]}}]\n")
    first, same, other = (one.target for one in config.receivers["a"].integrations)
    assert first == same != other
    assert first.startswith("https://h.example:8/#")
    assert not [word for word in ("u:", "pw", "s3cret", "t0ken") if word in first]


@pytest.mark.parametrize(
    "channel",
    [
        "webhook_configs: [{url: 'http://h/', http_config: {authorization: {credentials_file: token}}}]",
        "webhook_configs: [{url: 'http://h/', http_config: {bearer_token_file: token}}]",
        "webhook_configs: [{url: 'http://h/', http_config: {http_headers: {X-Key: {files: [token]}}}}]",
        "slack_configs: [{channel: c, app_token_file: token}]",
        "opsgenie_configs: [{api_key_file: token}]",
    ],
)
def test_a_file_whose_content_cannot_stand_in_a_header_is_refused_without_telling_it(channel: str) -> None:
    text = f"route: {{receiver: a}}\nreceivers: [{{name: a, {channel}}}]\n"
    with pytest.raises(ConfigError, match=r"line 2: .*must be printable ASCII") as refused:
        load(text, files=Files({"token": "CANARY\nmore\n"}, {}))
    assert "CANARY" not in str(refused.value)
    load(text, files=Files({"token": "one-line\n"}, {}))


def test_templates_in_the_file_are_known_with_their_lines(whole: RulesConfig) -> None:
    subject = next(use for use in whole.template_uses if use.field.endswith("headers.subject"))
    assert (subject.text, subject.line, subject.html) == ("{{ .Status }}", 34, False)


def test_the_text_that_others_see_has_no_secret_and_nothing_of_ours(whole: RulesConfig) -> None:
    ours = load(f"{WHOLE}incidents: {{severities: {{SEV9: critical}}}}\n", files=FILES)
    assert ours.original == whole.original
    shown = whole.original.replace("mail.secret", "").replace("<secret>", "")
    assert "secret" not in shown
    assert "incidents" not in shown


def test_names_of_labels_are_shown_whatever_they_are_and_no_address_shows_its_user() -> None:
    shown = load("""\
route:
  receiver: a
  routes: [{match: {key: kept1}, match_re: {password: kept2}}]
inhibit_rules: [{source_match: {credentials: kept3}, target_match_re: {secrets: kept4}, equal: [key]}]
receivers:
  - name: a
    pagerduty_configs: [{routing_key: hidden1, url: 'https://u:hidden2@h.example.org/x'}]
    slack_configs: [{api_url: 'https://s.example.org', title_link: 'https://hidden3@h.example.org/y?a@b'}]
    webhook_configs: [{url: 'http://u:hidden4@h.example.org/hidden5', http_config: {proxy_url: 'http://hidden6@p:1'}}]
""").original
    assert "hidden" not in shown
    for kept in ("kept1", "kept2", "kept3", "kept4", "https://h.example.org/x", "https://h.example.org/y?a@b"):
        assert kept in shown


def test_our_own_part_gives_severity_kind_and_channels() -> None:
    config = load(
        f"""{WHOLE}
incidents:
  severities: {{SEV9: critical}}
  kinds:
    - {{kind: cost, matchers: [alertname=~"Cost.*"]}}
  receivers:
    everyone:
      rate_limit: {{notices: 30, per: 1m}}
      format: incidents
      signing_secrets: [one, two]
      title: "{{{{ incident.title }}}}"
      amqp_configs:
        - {{url: 'amqp://u:p@mq.example.org/v', exchange: changes, routing_key: x}}
""",
        files=FILES,
    )
    body = AlertBody(
        source="s",
        severity=Severity.UNKNOWN,
        kind=Kind.OTHER,
        summary="",
        description="",
        labels={"alertname": "CostBurn", "severity": "SEV9"},
    )
    after = config.ours.classified(body)
    assert (after.severity, after.kind) == (Severity.CRITICAL, Kind.COST)
    assert channel(config, "webhook").options["signing_secrets"] == ["one", "two"]
    assert channel(config, "webhook").options["title"] == "{{ incident.title }}"
    amqp = config.receivers["everyone"].integrations[-1]
    assert (amqp.channel, amqp.index, amqp.options["exchange"]) == ("amqp", 10, "changes")
    assert amqp.options["title"] == "{{ incident.title }}"
    assert "p@" not in amqp.target
    limit = config.ours.receivers["everyone"].rate_limit
    assert limit is not None
    assert (limit.notices, limit.per.total_seconds()) == (30, 60)


def test_a_port_of_a_mail_server_may_be_written_by_its_name() -> None:
    mails = "[{to: x@example.org, from: a@example.org, smarthost: 'localhost:smtp'}, {to: y@example.org}]"
    config = load(
        "global: {smtp_smarthost: '[::1]:submission', smtp_from: a@example.org}\n"
        f"route: {{receiver: a}}\nreceivers: [{{name: a, email_configs: {mails}}}]\n"
    )
    shown = [one.options["smarthost"] for one in config.receivers["a"].integrations]
    assert shown == ["localhost:25", "[::1]:587"]


def test_the_kind_that_a_sender_gave_stays() -> None:
    rules = load(
        "route: {receiver: a}\nreceivers: [{name: a}]\n"
        "incidents: {kinds: [{kind: cost, matchers: [a=b]}, {kind: drift, matchers: [a=~'.*']}]}\n"
    ).ours
    body = AlertBody(source="s", severity=Severity.INFO, kind=Kind.LATENCY, summary="", description="", labels={})
    assert rules.classified(body) is body


def test_all_that_is_wrong_is_said_at_once_by_line() -> None:
    with pytest.raises(ConfigError) as refused:
        load("""\
route:
  receiver: nobody
  frobnicate: 1
  routes: [{group_wait: x}, {matchers: ['=']}]
receivers:
  - name: a
    slack_configs: [{api_url: 'https://x.example.org', colour: red, actions: [{}]}]
    webhook_configs: [{url: ftp://x}]
frob: 1
""")
    assert [error.line for error in refused.value.all] == [2, 3, 4, 4, 7, 7, 8, 9]
    assert refused.value.all[0].field == "route.receiver"


def test_named_files_are_read_once_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mail.secret").write_text(" one \n")
    (tmp_path / "ca.pem").write_text("two")
    (tmp_path / "b.tmpl").write_text("b")
    (tmp_path / "a.tmpl").write_text("a")
    disk = Disk(tmp_path)
    read = load(WHOLE, files=disk)
    kept = disk.files
    (tmp_path / "mail.secret").unlink()
    again = load(WHOLE, files=kept)
    assert again == read
    assert list(again.templates.values()) == ["a", "b"]
    assert channel(again, "email").options["auth_password"] == "one"
    with pytest.raises(ConfigError, match=r"line 5: global.smtp_auth_password_file: mail.secret: .* No such file"):
        load(WHOLE, files=Disk(tmp_path))


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "2852039166", "metadata.google.internal"])
def test_an_address_that_nothing_is_sent_to_is_refused_when_the_file_is_read(host: str) -> None:
    for channel in (
        f"webhook_configs: [{{url: 'http://{host}/x'}}]",
        f"email_configs: [{{to: a@b.c, from: a@b.c, smarthost: '{host}:25'}}]",
    ):
        with pytest.raises(ConfigError, match="nothing is sent to"):
            load(f"route: {{receiver: r}}\nreceivers: [{{name: r, {channel}}}]\n")
