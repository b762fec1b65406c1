"""Notices in the words of Alertmanager's own templates, through every channel of an unchanged alertmanager.yml."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agents.channels import all_channels
from sinks.amqp import Amqp
from sinks.channel import Channel, Telling
from sinks.email import Email
from sinks.gotemplate.templates import Templates
from sinks.http import Http
from sinks.message import read_notice
from sinks.outcome import Sent
from sinks.texts import NoticeTexts
from streams.rules_config import RulesConfig, load
from tests.sinks import services
from tests.sinks.outbox import body
from tests.sinks.services import serving
from tests.sinks.smtp_server import mail_server
from tests.sinks.tellings import MADE_AT, RESOLVED, TASK

RULES = """
global:
  smtp_smarthost: 127.0.0.1:{mail}
  smtp_from: incidents@example.org
  smtp_require_tls: false
route: {{receiver: all}}
receivers:
  - name: all
    email_configs: [{{to: ann@example.org}}]
    pagerduty_configs: [{{routing_key: {key}, url: "{url}/v2/enqueue"}}]
    opsgenie_configs: [{{api_key: key, api_url: "{url}/"}}]
    slack_configs: [{{api_url: "{url}/services/x", channel: "#ops"}}]
    victorops_configs: [{{api_key: key, routing_key: team, api_url: "{url}/alert/"}}]
    telegram_configs: [{{bot_token: "12:ab", chat_id: 7, api_url: "{url}"}}]
    discord_configs: [{{webhook_url: "{url}/d"}}]
    msteams_configs: [{{webhook_url: "{url}/t"}}]
    msteamsv2_configs: [{{webhook_url: "{url}/t2"}}]
    mattermost_configs: [{{webhook_url: "{url}/m"}}]
    rocketchat_configs: [{{api_url: "{url}", token: token, token_id: user, channel: "#ops", send_resolved: true}}]
    incidentio_configs: [{{url: "{url}/i", alert_source_token: i}}]
"""
JUDGES: dict[str, Callable[..., Any]] = {
    "pagerduty": services.pagerduty,
    "opsgenie": services.opsgenie,
    "slack": services.slack_webhook,
    "victorops": services.victorops,
    "telegram": services.telegram,
    "discord": services.discord,
    "msteams": services.teams,
    "msteamsv2": services.teams,
    "mattermost": services.mattermost,
    "rocketchat": services.rocketchat,
    "incidentio": services.incidentio,
}


@pytest.fixture
async def channels() -> AsyncIterator[dict[str, Channel]]:
    http = Http(2.0)
    yield all_channels(http, Email(2.0), Amqp(2.0))
    await http.close()


def telling(config: RulesConfig, channel: str) -> Telling:
    [to] = [one for one in config.receivers["all"].integrations if one.channel == channel]
    notice = read_notice(json.dumps(body(alerts=[*body()["alerts"], RESOLVED])), send_resolved=to.send_resolved)
    return Telling(
        id=TASK, target=to.target, options=to.options, notice=notice, reason="first firing", made_at=MADE_AT,
        texts=NoticeTexts(Templates(config.templates), notice),
    )  # fmt: skip


@pytest.mark.parametrize("name", JUDGES)
async def test_each_service_takes_what_the_default_templates_say(channels: dict[str, Channel], name: str) -> None:
    async with serving(JUDGES[name]) as service:
        config = load(RULES.format(url=service.url, mail=25, key="r" * 32))
        outcome = await channels[name](telling(config, name))
    assert service.refused == []
    assert isinstance(outcome, Sent), outcome
    [(_, said)] = service.taken
    assert "Down" in json.dumps(said)
    assert "{{" not in json.dumps(said)


def test_the_teams_text_lists_what_fires_and_what_ended() -> None:
    """Every letter counts: people's own templates are written around it. Debian's amtool does not know it yet."""
    notice = read_notice(json.dumps(body(alerts=[*body()["alerts"], RESOLVED])), send_resolved=True)
    texts = NoticeTexts(Templates({}), notice)
    firing = (
        "Labels:\n  - alertname = Down\n  - service = api\n\nAnnotations:\n  - summary = it is down\n\nSource: \n\n\n"
    )
    ended = (
        "Labels:\n  - alertname = Down\n  - service = db\n\nAnnotations:\n  - summary = it was down\n\nSource: \n\n\n"
    )
    for name in ("msteams", "msteamsv2", "mattermost"):
        text = texts.text(f'{{{{ template "{name}.default.text" . }}}}')
        assert text == f"\n\n# Alerts Firing:\n\n{firing}\n\n# Alerts Resolved:\n\n{ended}\n"


async def test_a_mail_has_the_default_subject_and_page(channels: dict[str, Channel]) -> None:
    async with mail_server() as box:
        config = load(RULES.format(url="http://127.0.0.1", mail=box.port, key="k"))
        assert isinstance(await channels["email"](telling(config, "email")), Sent)
    [mail] = box.mails
    assert mail["Subject"] == "[FIRING:1] Down (api)"
    html = mail.get_body(("html",))
    assert html is not None
    assert "1 alert for" in html.get_content()
    plain: Any = mail.get_body(("plain",))
    assert "alertname=Down" in plain.get_content()
