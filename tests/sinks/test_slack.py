"""A bot keeps one message for each incident: it edits it, and says in its thread what people should hear of."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from sinks import slack
from sinks.channel import Channel
from sinks.http import Http
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from tests.sinks.services import Service, SlackApi, serving
from tests.sinks.tellings import telling


@pytest.fixture
async def channel() -> AsyncIterator[Channel]:
    http = Http(2.0)
    yield slack.over(http)
    await http.close()


@pytest.fixture
def api() -> SlackApi:
    return SlackApi()


@pytest.fixture
async def service(api: SlackApi) -> AsyncIterator[Service]:
    async with serving(api) as service:
        yield service


async def tell(channel: Channel, service: Service, memory: dict[str, str] | None = None, **given: Any) -> Outcome:
    options = {
        "api_url": f"{service.url}/api/chat.postMessage",
        "authorization": "Bearer xoxb-1",
        "channel": "#ops",
        "title": "{{ .Title }}",
    }
    return await channel(telling(options, memory=memory or {}, **given))


def memory_of(outcome: Outcome) -> dict[str, str]:
    assert isinstance(outcome, Sent)
    assert outcome.memory is not None
    return outcome.memory


async def test_the_first_notice_posts_a_message_and_remembers_it(
    channel: Channel, service: Service, api: SlackApi
) -> None:
    assert memory_of(await tell(channel, service)) == {"ts": "1.0", "channel": "C1"}
    [said] = api.messages.values()
    assert said["attachments"][0]["title"] == "Down"


async def test_later_notices_edit_it_and_speak_in_its_thread(channel: Channel, service: Service, api: SlackApi) -> None:
    kept = memory_of(await tell(channel, service))
    outcome = await tell(channel, service, kept, title="Up again", resolved=True, reason="all resolved")
    assert isinstance(outcome, Sent)
    assert outcome.memory is None
    root, reply = api.messages.values()
    assert root["attachments"][0]["title"] == "Up again"
    assert (reply["thread_ts"], reply["text"].split("\n")[0]) == ("1.0", "[RESOLVED] Up again: all resolved")


async def test_a_repeat_only_edits(channel: Channel, service: Service, api: SlackApi) -> None:
    kept = memory_of(await tell(channel, service))
    await tell(channel, service, kept, reason="repeat interval passed")
    assert len(api.messages) == 1


async def test_the_same_notice_sent_again_says_nothing_twice(channel: Channel, service: Service, api: SlackApi) -> None:
    kept = memory_of(await tell(channel, service))
    await tell(channel, service)
    for _ in range(2):
        await tell(channel, service, kept, reason="new alerts")
    assert len(api.messages) == 2


async def test_a_message_that_is_gone_is_posted_anew(channel: Channel, service: Service, api: SlackApi) -> None:
    assert memory_of(await tell(channel, service, {"ts": "9.9", "channel": "C1"})) == {"ts": "1.0", "channel": "C1"}


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        ("invalid_auth", Failed, Reason.AUTH),
        ("channel_not_found", Failed, Reason.CLIENT_ERROR),
        ("ratelimited", RetryLater, Reason.RATE_LIMITED),
        ("internal_error", RetryLater, Reason.SERVER_ERROR),
    ],
)
async def test_errors_that_come_as_200_have_their_outcome(
    channel: Channel, service: Service, api: SlackApi, error: str, kind: type[Outcome], reason: Reason
) -> None:
    api.error = error
    outcome = await tell(channel, service)
    assert (type(outcome), outcome.reason) == (kind, reason)
    assert error in outcome.detail


@pytest.mark.parametrize(
    ("options", "bot"),
    [
        ({"api_url": "https://hooks.slack.com/services/T/B/x"}, False),
        ({"api_url": "https://slack.com/api/chat.postMessage"}, True),
        ({"app_token": "xoxb"}, True),
    ],
)
def test_a_bot_is_known_by_its_address_or_token(options: dict[str, str], bot: bool) -> None:
    assert slack.is_bot(options) is bot
