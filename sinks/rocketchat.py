"""The Rocket.Chat channel: a message of a user by `chat.postMessage`."""

from collections.abc import Mapping
from typing import Any, Final

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.outcome import Failed, Outcome, Reason, Sent
from sinks.request import Answer, Request, encode, quoted
from sinks.wording import account, cut, headline, unpinging

MAX_TITLE: Final = 1024
MAX_TEXT: Final = 5000
_PLAIN: Final = ("title_link", "image_url", "thumb_url", "color")

Said = dict[str, Any]


def over(http: Http) -> Channel:
    """The channel over this client."""

    async def tell(telling: Telling) -> Outcome:
        options = telling.options
        who = [["X-User-Id", options["token_id"]], ["X-Auth-Token", options["token"]]]
        answer = await http.send(
            Request(
                url=f"{options['api_url']}api/v1/chat.postMessage",
                key=str(telling.id),
                body=encode(message(telling)),
                options={**options, "headers": [*options.get("headers", ()), *who]},
            )
        )
        return _judged(answer) if isinstance(answer, Answer) else answer

    return tell


def message(telling: Telling) -> Said:
    """What is sent: one attachment."""
    said = {
        "channel": telling.option("channel"),
        "emoji": telling.option("emoji"),
        "avatar": telling.option("icon_url"),
        "attachments": [_attachment(telling)],
    }
    return {name: value for name, value in said.items() if value}


def _attachment(telling: Telling) -> Said:
    options, texts = telling.options, telling.texts
    title, text = telling.option("title", escape=unpinging), telling.option("text", escape=unpinging)
    said: Said = {
        "title": cut(title.strip() or unpinging(headline(telling.notice)), MAX_TITLE),
        # Alertmanager's own text is empty: then the title is all.
        "text": cut(text if title.strip() else text or unpinging(account(telling.notice)), MAX_TEXT),
        **{name: cut(telling.option(name), MAX_TITLE) for name in _PLAIN},
        "fields": [
            {
                "title": cut(texts.text(field["title"], escape=unpinging), MAX_TITLE),
                "value": cut(texts.text(field["value"], escape=unpinging), MAX_TEXT),
                "short": bool(field.get("short", options.get("short_fields", False))),
            }
            for field in options.get("fields", ())
        ],
        "actions": [_action(telling, action) for action in options.get("actions", ())],
    }
    return {name: value for name, value in said.items() if value}


def _action(telling: Telling, action: Mapping[str, Any]) -> Said:
    said = {name: telling.texts.text(action.get(name) or "") for name in ("text", "url", "msg")}
    return {"type": "button", **{name: value for name, value in said.items() if value}}


def _judged(answer: Answer) -> Outcome:
    """What the answer means: refusals come as 200 with `success: false`, too."""
    outcome = answer.outcome
    if isinstance(outcome, Sent) and answer.json().get("success") is not True:
        return Failed(Reason.CLIENT_ERROR, f"Rocket.Chat says {quoted(answer.body)}")
    return outcome
