"""The Telegram channel: one message of a bot for each notice."""

import re
from datetime import timedelta
from html import escape, unescape
from typing import Any, Final

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.outcome import Outcome, Reason, RetryLater, Sent
from sinks.request import Answer, Request, encode
from sinks.wording import account, cut, headline

MAX_MESSAGE: Final = 4096
_TAG: Final = re.compile(r"<[^<>]*>")
_UNPARSABLE: Final = "can't parse entities"


def over(http: Http) -> Channel:
    """The channel over this client."""

    async def tell(telling: Telling) -> Outcome:
        said = message(telling)
        outcome = await _posted(http, telling, said)
        if said.get("parse_mode") and not isinstance(outcome, Sent) and _UNPARSABLE in outcome.detail:
            # The markup is wrong, by the template or by what alerts said: the words still go out.
            return await _posted(http, telling, {**said, "parse_mode": "", "text": _plain(said["text"])})
        return outcome

    return tell


def message(telling: Telling) -> dict[str, Any]:
    """What is sent; a text that is too long loses its markup before it is cut."""
    options = telling.options
    mode = options.get("parse_mode", "HTML")
    template = options.get("message", "")
    text = telling.texts.html(template) if mode == "HTML" else telling.texts.text(template)
    if not text.strip():
        plain = f"{headline(telling.notice)}\n{account(telling.notice)}"
        text = escape(plain, quote=False) if mode == "HTML" else plain
    if len(text) > MAX_MESSAGE:
        text, mode = cut(_plain(text), MAX_MESSAGE), ""
    said = {
        "chat_id": str(options["chat_id"]),
        "text": text,
        "parse_mode": mode,
        "message_thread_id": options.get("message_thread_id"),
        "disable_notification": bool(options.get("disable_notifications")),
        "disable_web_page_preview": True,
    }
    return {name: value for name, value in said.items() if value is not None}


async def _posted(http: Http, telling: Telling, said: dict[str, Any]) -> Outcome:
    options = telling.options
    url = f"{options['api_url'].rstrip('/')}/bot{options['bot_token']}/sendMessage"
    body = encode({name: value for name, value in said.items() if value != ""})
    answer = await http.send(Request(url=url, key=str(telling.id), body=body, options=options))
    return _judged(answer) if isinstance(answer, Answer) else answer


def _judged(answer: Answer) -> Outcome:
    outcome = answer.outcome
    parameters = answer.json().get("parameters")
    wished = parameters.get("retry_after") if isinstance(parameters, dict) else None
    if isinstance(outcome, RetryLater) and outcome.reason is Reason.RATE_LIMITED and isinstance(wished, int):
        return RetryLater(Reason.RATE_LIMITED, outcome.detail, timedelta(seconds=min(max(wished, 0), 86_400)))
    return outcome


def _plain(text: str) -> str:
    return unescape(_TAG.sub("", text))
