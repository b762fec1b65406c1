"""The Slack channel: incoming webhooks, or a bot that keeps one message for each incident.

The bot edits its message as the incident changes, and says in the message's
thread what people should hear of. What came from alerts is escaped, so that it
mentions nobody and links nowhere; the operator's templates are not.
"""

import uuid
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from sinks.request import Answer, Request, encode, quoted
from sinks.wording import account, cut, headline

MAX_TEXT: Final = 3000
MAX_TITLE: Final = 1024
MAX_FIELDS: Final = 20
MAX_ACTIONS: Final = 5
POST: Final = "chat.postMessage"
UPDATE: Final = "chat.update"
_API: Final = "https://slack.com/api/chat.postMessage"
_QUIET: Final = "repeat interval passed"
_AUTH: Final = frozenset(
    {
        "account_inactive", "invalid_auth", "missing_scope", "no_permission", "not_authed", "not_allowed_token_type",
        "token_expired", "token_revoked", "access_denied", "ekm_access_denied", "org_login_required",
    }
)  # fmt: skip
_LATER: Final = frozenset(
    {"fatal_error", "internal_error", "request_timeout", "service_unavailable", "team_added_to_org", "rollup_error"}
)
_NOT_EDITABLE: Final = frozenset(
    {"cant_update_message", "edit_window_closed", "message_not_found", "is_inactive", "channel_not_found"}
)

Said = dict[str, Any]


def over(http: Http) -> Channel:
    """The channel over this client."""

    async def tell(telling: Telling) -> Outcome:
        if is_bot(telling.options):
            return await _Bot(http, telling).tell()
        url = telling.options["api_url"]
        body = encode({"channel": telling.option("channel"), **message(telling)})
        answer = await http.send(Request(url=url, key=str(telling.id), body=body, options=telling.options))
        return judged(answer) if isinstance(answer, Answer) else answer

    return tell


def is_bot(options: Mapping[str, Any]) -> bool:
    """Whether the address is a method of Slack's API, called with a bot's token."""
    if options.get("app_token"):
        return True
    return urlsplit(options.get("api_url") or "").path.rstrip("/").endswith(POST)


def escape(text: str) -> str:
    """Text from outside as Slack shows it literally."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def message(telling: Telling) -> Said:
    """The message, as Alertmanager's templates describe it: one attachment."""
    options = telling.options
    said = {
        "username": _plain(telling, "username", 80),
        "icon_emoji": _plain(telling, "icon_emoji", 100),
        "icon_url": _plain(telling, "icon_url", MAX_TITLE),
        "link_names": bool(options.get("link_names")),
        "attachments": [_attachment(telling)],
    }
    return {name: value for name, value in said.items() if value}


def judged(answer: Answer) -> Outcome:
    """What Slack's answer means: errors come as 200 with `ok: false`, too."""
    outcome, said = answer.outcome, answer.json()
    error = said.get("error")
    if not isinstance(outcome, Sent):
        return outcome
    if said.get("ok") is True or (not said and not quoted(answer.body).startswith("{")):
        return outcome
    detail = f"Slack says {error}" if error else f"Slack says {quoted(answer.body)}"
    if error in {"ratelimited", "rate_limited"}:
        return RetryLater(Reason.RATE_LIMITED, detail)
    if error in _LATER:
        return RetryLater(Reason.SERVER_ERROR, detail)
    return Failed(Reason.AUTH if error in _AUTH else Reason.CLIENT_ERROR, detail)


class _Bot:
    """One notice told through a bot."""

    def __init__(self, http: Http, telling: Telling) -> None:
        self._http = http
        self._telling = telling
        self._url: str = telling.options.get("app_url") or telling.options.get("api_url") or _API

    async def tell(self) -> Outcome:
        said = message(self._telling)
        root = self._telling.memory
        if not root.get("ts"):
            return await self._new(said)
        outcome, _ = await self._call(UPDATE, {**said, "channel": root["channel"], "ts": root["ts"]})
        if isinstance(outcome, Failed) and any(error in outcome.detail for error in _NOT_EDITABLE):
            return await self._new(said)
        if not isinstance(outcome, Sent) or self._telling.reason == _QUIET:
            return outcome
        # Told again after a lost answer, the edit changes nothing and Slack knows the reply by its id.
        reply = {"channel": root["channel"], "thread_ts": root["ts"], "text": _news(self._telling)}
        outcome, _ = await self._call(POST, {**reply, "client_msg_id": self._message_id("reply")})
        return outcome

    async def _new(self, said: Said) -> Outcome:
        channel = self._telling.option("channel")
        outcome, answer = await self._call(
            POST, {**said, "channel": channel, "client_msg_id": self._message_id("message")}
        )
        if isinstance(outcome, Sent) and answer.get("ts"):
            return Sent(outcome.detail, {"ts": str(answer["ts"]), "channel": str(answer.get("channel") or channel)})
        return outcome

    async def _call(self, method: str, said: Said) -> tuple[Outcome, Mapping[str, Any]]:
        token = self._telling.options.get("app_token")
        parts = urlsplit(self._url)
        path = parts.path.rstrip("/").removesuffix(POST) + method
        answer = await self._http.send(
            Request(
                url=urlunsplit(parts._replace(path=path)),
                key=str(self._telling.id),
                body=encode(said),
                options=self._telling.options,
                headers={"Authorization": f"Bearer {token}"} if token else {},
                content_type="application/json; charset=utf-8",
            )
        )
        return (judged(answer), answer.json()) if isinstance(answer, Answer) else (answer, {})

    def _message_id(self, what: str) -> str:
        return str(uuid.uuid5(self._telling.id, what))


def _attachment(telling: Telling) -> Said:
    options = telling.options
    title = telling.option("title", escape=escape) or escape(headline(telling.notice))
    said = {
        "title": cut(title, MAX_TITLE),
        "title_link": _plain(telling, "title_link", MAX_TITLE),
        "pretext": _escaped(telling, "pretext"),
        "text": _escaped(telling, "text"),
        "fallback": _escaped(telling, "fallback") or cut(title, MAX_TEXT),
        "callback_id": _plain(telling, "callback_id", 255),
        "image_url": _plain(telling, "image_url", MAX_TITLE),
        "thumb_url": _plain(telling, "thumb_url", MAX_TITLE),
        "footer": cut(telling.option("footer", escape=escape), 300),
        "color": _plain(telling, "color", 50),
        "mrkdwn_in": options.get("mrkdwn_in") or ["fallback", "pretext", "text"],
        "fields": [_field(telling, field) for field in options.get("fields", ())[:MAX_FIELDS]],
        "actions": [_action(telling, action) for action in options.get("actions", ())[:MAX_ACTIONS]],
    }
    return {name: value for name, value in said.items() if value}


def _news(telling: Telling) -> str:
    return cut(f"{escape(headline(telling.notice))}: {telling.reason}\n{escape(account(telling.notice))}", MAX_TEXT)


def _field(telling: Telling, field: Mapping[str, Any]) -> Said:
    return {
        "title": cut(telling.texts.text(field.get("title", ""), escape=escape), MAX_TITLE),
        "value": cut(telling.texts.text(field.get("value", ""), escape=escape), MAX_TEXT),
        "short": bool(field.get("short", telling.options.get("short_fields", False))),
    }


def _action(telling: Telling, action: Mapping[str, Any]) -> Said:
    texts = telling.texts
    said: Said = {name: texts.text(text) for name, text in action.items() if isinstance(text, str)}
    if action.get("confirm"):
        said["confirm"] = {name: texts.text(text) for name, text in action["confirm"].items()}
    return {name: value for name, value in said.items() if value}


def _escaped(telling: Telling, name: str) -> str:
    return cut(telling.option(name, escape=escape), MAX_TEXT)


def _plain(telling: Telling, name: str, limit: int) -> str:
    return cut(telling.option(name), limit)
