"""Each channel says what its service takes, however long or hostile an alert is, and reads every answer rightly."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from agents.channels import all_channels
from sinks import pushover
from sinks.amqp import Amqp
from sinks.channel import Channel
from sinks.email import Email
from sinks.http import Http
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from streams import metrics
from tests.sinks import services
from tests.sinks.http_server import Answer, Server, plain, running
from tests.sinks.outbox import body
from tests.sinks.services import Service, serving
from tests.sinks.tellings import telling

T = "{{ .Title }}"


class Case(NamedTuple):
    """A channel, the service behind it, and options that point there."""

    judge: Callable[..., Any]
    options: Callable[[str], dict[str, Any]]


CASES = {
    "pagerduty": Case(
        services.pagerduty,
        lambda url: {
            "url": f"{url}/v2/enqueue",
            "routing_key": "r" * 32,
            "description": T,
            "source": T,
            "severity": T,
            "class": T,
            "client": T,
            "client_url": "http://a",
            "details": {"firing": T, "num_firing": "1"},
            "links": [{"href": "http://a", "text": T}, {"href": ""}],
            "images": [{"src": "http://a"}],
        },
    ),
    "slack": Case(
        services.slack_webhook,
        lambda url: {
            "api_url": f"{url}/services/T/B/x",
            "channel": "#ops",
            "title": T,
            "text": T,
            "pretext": T,
            "fallback": T,
            "footer": T,
            "color": "danger",
            "username": T,
            "fields": [{"title": T, "value": T}] * 30,
            "actions": [{"type": "button", "text": T, "url": "http://a", "confirm": {"text": T}}],
        },
    ),
    "opsgenie": Case(
        services.opsgenie,
        lambda url: {
            "api_url": f"{url}/",
            "api_key": "key",
            "message": T,
            "description": T,
            "source": T,
            "tags": f"a, {T},",
            "note": T,
            "details": {"a": T, "b": T},
            "responders": [{"type": "teams", "name": "a, b"}, {"type": "user", "username": T}],
            "update_alerts": True,
        },
    ),
    "discord": Case(
        services.discord,
        lambda url: {"webhook_url": url, "title": T, "message": T, "content": f"@here {T}", "username": T},
    ),
    "msteams": Case(services.teams, lambda url: {"webhook_url": url, "title": T, "summary": T, "text": T}),
    "msteamsv2": Case(services.teams, lambda url: {"webhook_url": url, "title": T, "text": T}),
    "telegram": Case(
        services.telegram,
        lambda url: {
            "api_url": url,
            "bot_token": "12:ab",
            "chat_id": -7,
            "message": f"<b>{T}</b>",
            "parse_mode": "HTML",
            "disable_notifications": False,
        },
    ),
    "pushover": Case(
        services.pushover,
        lambda url: {
            "api": url,
            "token": "t" * 30,
            "user_key": "u" * 30,
            "title": T,
            "message": T,
            "url": "http://a",
            "priority": "2",
            "retry": 1.0,
            "expire": 99_999.0,
        },
    ),
    "victorops": Case(
        services.victorops,
        lambda url: {
            "api_url": f"{url}/alert/",
            "api_key": "key",
            "routing_key": "team",
            "message_type": "CRITICAL",
            "state_message": T,
            "entity_display_name": T,
            "monitoring_tool": "x",
            "custom_fields": {"a": T},
        },
    ),
    "webex": Case(
        services.webex,
        lambda url: {"api_url": url, "room_id": "r", "message": T, "authorization": "Bearer w"},
    ),
    "mattermost": Case(
        services.mattermost,
        lambda url: {
            "webhook_url": f"{url}/hooks/x",
            "channel": "ops",
            "title": T,
            "text": T,
            "pretext": T,
            "fallback": T,
            "fields": [{"title": T, "value": T, "short": True}],
            "props": {"card": T},
            "priority": {"priority": T, "requested_ack": True, "persistent_notifications": True},
        },
    ),
    "rocketchat": Case(
        services.rocketchat,
        lambda url: {
            "api_url": f"{url}/",
            "token": "token",
            "token_id": "user",
            "channel": "#ops",
            "title": T,
            "text": T,
            "fields": [{"title": T, "value": T}],
            "actions": [{"text": T, "url": "http://a"}],
        },
    ),
    "incidentio": Case(
        services.incidentio, lambda url: {"url": f"{url}/v2/alert_events/alertmanager/x", "authorization": "Bearer i"}
    ),
}


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    http = Http(1.5)
    yield http
    await http.close()


def channel_of(name: str, http: Http, options: dict[str, Any]) -> Channel:
    return pushover.over(http, options["api"]) if name == "pushover" else channels(http)[name]


def channels(http: Http) -> dict[str, Channel]:
    return all_channels(http, Email(1.0), Amqp(1.0))


async def told(http: Http, service: Service, name: str, **given: Any) -> Outcome:
    options = CASES[name].options(service.url)
    return await channel_of(name, http, options)(telling(options, **given))


async def test_every_channel_has_a_case_here_and_is_counted(http: Http) -> None:
    assert set(channels(http)) - {"webhook", "email", "amqp"} == set(CASES)
    assert set(channels(http)) | {"canary"} == set(metrics.CHANNELS)


@pytest.mark.parametrize("resolved", [False, True])
@pytest.mark.parametrize(
    "title",
    [
        "Down",
        "x" * 600_000,
        "😀" * 30_000,
        "<b>&<!channel> @everyone [a](http://b) */_`~",
        "</b></b><script>",
        '"\\\n\r\t\x00\u2028',
    ],
    ids=["plain", "long", "emoji", "markup", "tags", "controls"],
)
@pytest.mark.parametrize("name", CASES)
async def test_a_service_takes_what_its_channel_says(http: Http, name: str, title: str, resolved: bool) -> None:
    async with serving(CASES[name].judge) as service:
        outcome = await told(http, service, name, title=title, resolved=resolved)
    assert service.refused == []
    assert isinstance(outcome, Sent), outcome
    assert service.taken


@pytest.mark.parametrize("name", CASES)
async def test_a_channel_without_templates_still_has_something_to_say(http: Http, name: str) -> None:
    async with serving(CASES[name].judge) as service:
        options = {
            key: "" if isinstance(value, str) and "{{" in value else value
            for key, value in CASES[name].options(service.url).items()
        }
        outcome = await channel_of(name, http, options)(telling(options))
    assert service.refused == []
    assert isinstance(outcome, Sent)


async def hang(_request: bytes, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def cut(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (plain(400), Failed, Reason.CLIENT_ERROR),
        (plain(401), Failed, Reason.AUTH),
        (plain(404), Failed, Reason.CLIENT_ERROR),
        (plain(422), Failed, Reason.CLIENT_ERROR),
        (plain(429, "Retry-After: 7\r\n"), RetryLater, Reason.RATE_LIMITED),
        (plain(500), RetryLater, Reason.SERVER_ERROR),
        (plain(503), RetryLater, Reason.SERVER_ERROR),
        (hang, RetryLater, Reason.TIMEOUT),
        (cut, RetryLater, Reason.NETWORK),
    ],
    ids=["400", "401", "404", "422", "429", "500", "503", "hang", "cut"],
)
@pytest.mark.parametrize("name", CASES)
async def test_every_answer_of_a_service_has_its_outcome(
    http: Http, name: str, answer: Answer, kind: type[Outcome], reason: Reason
) -> None:
    async with running() as server:
        server.answer = answer
        outcome = await to_raw(http, server, name)
    assert (type(outcome), outcome.reason) == (kind, reason)
    if isinstance(outcome, RetryLater) and reason is Reason.RATE_LIMITED:
        assert outcome.after == timedelta(seconds=7)


async def to_raw(http: Http, server: Server, name: str) -> Outcome:
    options = CASES[name].options(server.url.removesuffix("/hook"))
    return await channel_of(name, http, options)(telling(options))


async def test_pagerduty_and_opsgenie_end_what_they_began_under_the_same_key(http: Http) -> None:
    async with serving(services.pagerduty) as service:
        await told(http, service, "pagerduty")
        await told(http, service, "pagerduty", resolved=True)
    (_, began), (_, ended) = service.taken
    assert (began["event_action"], ended["event_action"]) == ("trigger", "resolve")
    assert began["dedup_key"] == ended["dedup_key"]
    async with serving(services.opsgenie) as service:
        await told(http, service, "opsgenie")
        await told(http, service, "opsgenie", resolved=True)
    created, *updates, closed = service.taken
    assert closed[0] == f"/v2/alerts/{created[1]['alias']}/close?identifierType=alias"
    assert [path.rpartition("/")[2] for path, _ in updates] == [
        "message?identifierType=alias",
        "description?identifierType=alias",
    ]
    assert created[1]["responders"] == [
        {"name": "a", "type": "team"},
        {"name": "b", "type": "team"},
        {"type": "user", "username": "Down"},
    ]


@pytest.mark.parametrize("name", ["pagerduty", "pushover"])
async def test_a_key_in_the_body_follows_no_redirect_to_another_origin(http: Http, name: str) -> None:
    async with running() as server, running() as other:
        server.answer = plain(307, f"Location: {other.url}\r\n")
        outcome = await to_raw(http, server, name)
        assert (type(outcome), outcome.reason, other.requests) == (Failed, Reason.REDIRECTED, [])


async def test_a_routing_key_that_is_empty_once_rendered_is_refused_by_name(http: Http) -> None:
    outcome = await channels(http)["pagerduty"](telling({"url": "http://127.0.0.1:9", "routing_key": " "}))
    assert isinstance(outcome, Failed)
    assert "routing_key" in outcome.detail


async def test_what_an_alert_says_mentions_nobody(http: Http) -> None:
    hostile = "<!channel> <@U1> <http://evil|ok> @everyone &"
    async with serving(services.slack_webhook) as service:
        await told(http, service, "slack", title=hostile)
    [(_, said)] = service.taken
    [attachment] = said["attachments"]
    for name in ("title", "text", "pretext", "fallback", "footer"):
        assert attachment[name] == "&lt;!channel&gt; &lt;@U1&gt; &lt;http://evil|ok&gt; @everyone &amp;"
    async with serving(services.discord) as service:
        await told(http, service, "discord", title=hostile)
    [(_, said)] = service.taken
    assert said["content"].startswith("@here <!channel> <@\u200bU1>")
    assert "@everyone" not in said["content"]
    async with serving(services.webex) as service:
        await told(http, service, "webex", title=hostile)
        await channels(http)["webex"](telling({**CASES["webex"].options(service.url), "message": ""}, title=hostile))
    assert [said["markdown"].count("<") for _, said in service.taken] == [0, 0]
    assert service.taken[0][1]["markdown"] == "&lt;!channel> &lt;@U1> &lt;http://evil|ok> @everyone &amp;"


async def test_mattermost_and_rocket_chat_call_nobody_either(http: Http) -> None:
    options = {**CASES["mattermost"].options(""), "attachments": [{"text": f"@here {T}"}, {"title": T, "text": T}]}
    for name, judge in (("mattermost", services.mattermost), ("rocketchat", services.rocketchat)):
        async with serving(judge) as service:
            given = {**CASES[name].options(service.url)}
            if name == "mattermost":
                given["attachments"] = options["attachments"]
            assert isinstance(await channels(http)[name](telling(given, title="@all")), Sent)
        [(_, said)] = service.taken
        texts = [one.get("text") for one in said["attachments"]]
        assert texts == (["@here @\u200ball", "@\u200ball"] if name == "mattermost" else ["@\u200ball"])


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [("urgent", (True, True)), ("Important", (True, False)), ("standard", (False, False)), ("loud", (False, False))],
)
async def test_mattermost_asks_for_an_answer_only_where_the_priority_allows(
    http: Http, wanted: str, asked: tuple[bool, bool]
) -> None:
    async with serving(services.mattermost) as service:
        options = CASES["mattermost"].options(service.url)
        options["priority"]["priority"] = wanted
        assert isinstance(await channels(http)["mattermost"](telling(options)), Sent)
    [(_, said)] = service.taken
    assert (said["priority"]["requested_ack"], said["priority"]["persistent_notifications"]) == asked


async def test_rocket_chat_refuses_with_200_and_its_token_goes_to_no_other_origin(http: Http) -> None:
    async with serving(services.rocketchat) as service:
        options = {**CASES["rocketchat"].options(service.url), "channel": ""}
        refused = await channels(http)["rocketchat"](telling(options))
    assert (type(refused), refused.reason) == (Failed, Reason.CLIENT_ERROR)
    assert "error-invalid" in refused.detail
    async with running() as server, running() as other:
        server.answer = plain(307, f"Location: {other.url}\r\n")
        await to_raw(http, server, "rocketchat")
    assert b"X-Auth-Token: token" in server.requests[0]
    assert b"X-Auth-Token" not in other.requests[0]


async def test_of_what_incident_io_does_not_take_whole_the_first_alert_is_sent(http: Http) -> None:
    alerts = [{**body()["alerts"][0], "annotations": {"summary": "x" * 400_000}} for _ in range(2)]
    async with serving(services.incidentio) as service:
        options = CASES["incidentio"].options(service.url)
        assert isinstance(await channels(http)["incidentio"](telling(options, notice={"alerts": alerts})), Sent)
    [(_, said)] = service.taken
    assert (len(said["alerts"]), said["truncatedAlerts"]) == (1, 1)


async def test_opsgenie_s_details_are_the_common_labels_and_then_one_s_own(http: Http) -> None:
    async with serving(services.opsgenie) as service:
        options = {**CASES["opsgenie"].options(service.url), "details": {"service": T, "own": "x"}}
        await channels(http)["opsgenie"](telling(options))
    assert service.taken[0][1]["details"] == {"alertname": "Down", "service": "Down", "own": "x"}


async def test_telegram_sends_the_words_when_the_markup_cannot_be_read(http: Http) -> None:
    async with serving(services.telegram) as service:
        options = {**CASES["telegram"].options(service.url), "message": "<b>not closed {{ .Title }} &amp;"}
        outcome = await channels(http)["telegram"](telling(options))
    assert isinstance(outcome, Sent)
    assert len(service.refused) == 1
    assert [said["text"] for _, said in service.taken] == ["not closed Down &"]


async def test_telegram_says_in_its_body_how_long_to_wait(http: Http) -> None:
    async with running() as server:
        server.answer = plain(429, "", b'{"ok":false,"error_code":429,"parameters":{"retry_after":9}}')
        outcome = await to_raw(http, server, "telegram")
    assert isinstance(outcome, RetryLater)
    assert outcome.after == timedelta(seconds=9)
