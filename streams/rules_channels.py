"""What each channel of a receiver may say in a rules file, with Alertmanager's defaults: tables."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from streams.rules_files import Reader
from streams.rules_global import smarthost
from streams.rules_http import tls_options, url
from streams.rules_yaml import Node

Read = Callable[[Node, Reader], Any]


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of one channel beside `send_resolved` and `http_config`, and what they are when not written.

    `secrets` may also be given as `KEY_file`. A default of None means that the option is left out.
    """

    name: str
    fields: dict[str, Read]
    secrets: tuple[str, ...] = ()
    defaults: dict[str, Any] = {}
    send_resolved: bool
    http: bool = True
    not_yet: tuple[str, ...] = ()


def _text(node: Node, _reader: Reader) -> str:
    return node.text()


def _template(node: Node, reader: Reader) -> str:
    return reader.template(node)


def _html(node: Node, reader: Reader) -> str:
    return reader.template(node, html=True)


def _flag(node: Node, _reader: Reader) -> bool:
    return node.flag()


def _count(node: Node, _reader: Reader) -> int:
    return node.count()


def _whole(node: Node, _reader: Reader) -> int:
    return node.whole()


def _seconds(node: Node, _reader: Reader) -> float:
    return node.duration().total_seconds()


def _url(node: Node, _reader: Reader) -> str:
    return url(node)


def _smarthost(node: Node, _reader: Reader) -> str:
    return smarthost(node)


def _texts(node: Node, _reader: Reader) -> list[str]:
    return [item.text() for item in node.items()]


def _templates(node: Node, reader: Reader) -> dict[str, str]:
    return {} if node.empty else {name: reader.template(value) for name, value in node.entries().items()}


def _headers(node: Node, reader: Reader) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in node.entries().items():
        canonical = "-".join(part.capitalize() for part in name.split("-"))
        if canonical in found:
            raise value.error(f"the header {canonical} is given twice", "keep one of them")
        found[canonical] = reader.template(value)
    return found


def _record(fields: Mapping[str, Read], *needed: str) -> Read:
    def read(node: Node, reader: Reader) -> dict[str, Any]:
        given = node.fields(fields)
        for key in needed:
            if key not in given or not given[key].text():
                raise node.error(f"has no {key}", f"give it a `{key}`")
        return {key: fields[key](value, reader) for key, value in given.items()}

    return read


def _list(one: Read) -> Read:
    return lambda node, reader: [one(item, reader) for item in node.items()]


def _action(node: Node, reader: Reader) -> dict[str, Any]:
    action: dict[str, Any] = _ACTION(node, reader)
    if not action.get("url") and not action.get("name"):
        raise node.error("has neither url nor name", "give it one of them")
    return action


def _responder(node: Node, reader: Reader) -> dict[str, Any]:
    responder: dict[str, Any] = _RESPONDER(node, reader)
    if not any(responder.get(key) for key in ("id", "name", "username")):
        raise node.error("names nobody", "give it one of id, username or name")
    kind = str(responder["type"])
    if "{{" not in kind and kind.lower() not in _RESPONDER_TYPES:
        raise node.error(f"{kind!r} is not a type of responder", f"use {', '.join(sorted(_RESPONDER_TYPES))}")
    return {**responder, "type": kind.lower() if "{{" not in kind else kind}


_RESPONDER_TYPES: Final = frozenset({"team", "teams", "user", "escalation", "schedule"})
_CONFIRM: Final = _record(dict.fromkeys(("text", "title", "ok_text", "dismiss_text"), _template), "text")
_ACTION: Final = _record(
    {**dict.fromkeys(("type", "text", "url", "style", "name", "value"), _template), "confirm": _CONFIRM},
    "type", "text",
)  # fmt: skip
_RESPONDER: Final = _record(dict.fromkeys(("id", "name", "username", "type"), _template), "type")
_BUTTON: Final = _record(
    {
        **dict.fromkeys(("type", "text", "url", "msg"), _template),
        **dict.fromkeys(("imageurl", "webviewheightratio", "msgprocessingtype"), _text),
        **dict.fromkeys(("iswebview", "msginchatwindow"), _flag),
    }
)
_SLACK_FIELD: Final = _record({"title": _template, "value": _template, "short": _flag}, "title", "value")


_ATTACHMENT: Final[dict[str, Read]] = {
    **dict.fromkeys(
        (
            "fallback", "color", "pretext", "text", "author_name", "author_link", "author_icon", "title", "title_link",
            "thumb_url", "footer", "footer_icon", "image_url",
        ),
        _template,
    ),
    "fields": _list(_SLACK_FIELD),
}  # fmt: skip
_PRIORITY: Final = _record({"priority": _template, "requested_ack": _flag, "persistent_notifications": _flag})


def _default(channel: str, *names: str) -> dict[str, str]:
    return {name: f'{{{{ template "{channel}.default.{name.replace("_", "")}" . }}}}' for name in names}


_ALL: Final = (
    Channel(
        name="webhook",
        fields={"max_alerts": _count, "timeout": _seconds},
        secrets=("url",),
        send_resolved=True,
        not_yet=("payload",),
    ),
    Channel(
        name="email",
        fields={
            **dict.fromkeys(("to", "from"), _template),
            **dict.fromkeys(("hello", "auth_username", "auth_identity"), _text),
            "smarthost": _smarthost,
            "headers": _headers,
            "html": _html,
            "text": _template,
            "require_tls": _flag,
            "implicit_tls": _flag,
            "force_implicit_tls": _flag,
            "tls_config": tls_options,
        },
        secrets=("auth_password", "auth_secret"),
        defaults={"html": '{{ template "email.default.html" . }}', "text": ""},
        send_resolved=False,
        http=False,
        not_yet=("threading",),
    ),
    Channel(
        name="pagerduty",
        fields={
            **dict.fromkeys(
                ("client", "client_url", "description", "source", "severity", "class", "component", "group"), _template
            ),
            "url": _url,
            "details": _templates,
            "images": _list(_record(dict.fromkeys(("href", "src", "alt"), _template))),
            "links": _list(_record(dict.fromkeys(("href", "text"), _template))),
            "timeout": _seconds,
        },
        secrets=("service_key", "routing_key"),
        defaults={
            **_default("pagerduty", "description", "client"),
            "client_url": '{{ template "pagerduty.default.clientURL" . }}',
        },
        send_resolved=True,
    ),
    Channel(
        name="opsgenie",
        fields={
            **dict.fromkeys(
                ("message", "description", "source", "entity", "actions", "tags", "note", "priority"), _template
            ),
            "api_url": _url,
            "details": _templates,
            "responders": _list(_responder),
            "update_alerts": _flag,
        },
        secrets=("api_key",),
        defaults=_default("opsgenie", "message", "description", "source"),
        send_resolved=True,
    ),
    Channel(
        name="slack",
        fields={
            **dict.fromkeys(
                (
                    "channel", "username", "color", "title", "title_link", "pretext", "text", "footer", "fallback",
                    "callback_id", "icon_emoji", "icon_url", "image_url", "thumb_url",
                ),
                _template,
            ),
            "fields": _list(_SLACK_FIELD),
            "short_fields": _flag,
            "link_names": _flag,
            "mrkdwn_in": _texts,
            "actions": _list(_action),
            "timeout": _seconds,
            "app_url": _url,
        },
        secrets=("api_url", "app_token"),
        defaults={
            **_default(
                "slack", "username", "title", "title_link", "pretext", "text", "footer", "fallback", "callback_id",
                "icon_emoji", "icon_url",
            ),
            "color": '{{ if eq .Status "firing" }}danger{{ else }}good{{ end }}',
        },
        send_resolved=False,
    ),
    Channel(
        name="victorops",
        fields={
            **dict.fromkeys(
                ("routing_key", "message_type", "state_message", "entity_display_name", "monitoring_tool"), _template
            ),
            "api_url": _url,
            "custom_fields": _templates,
        },
        secrets=("api_key",),
        defaults={
            "message_type": "CRITICAL",
            "state_message": '{{ template "victorops.default.state_message" . }}',
            "entity_display_name": '{{ template "victorops.default.entity_display_name" . }}',
            "monitoring_tool": '{{ template "victorops.default.monitoring_tool" . }}',
        },
        send_resolved=True,
    ),
    Channel(
        name="pushover",
        fields={
            **dict.fromkeys(("title", "message", "url", "url_title", "device", "sound", "priority"), _template),
            **dict.fromkeys(("retry", "expire", "ttl"), _seconds),
            "html": _flag,
            "monospace": _flag,
        },
        secrets=("user_key", "token"),
        defaults={
            **_default("pushover", "title", "message", "url"),
            "priority": '{{ if eq .Status "firing" }}2{{ else }}0{{ end }}',
            "retry": 60.0,
            "expire": 3600.0,
        },
        send_resolved=True,
    ),
    Channel(
        name="telegram",
        fields={
            "api_url": _url,
            "chat_id": _whole,
            "message_thread_id": _whole,
            "message": _template,
            "disable_notifications": _flag,
            "parse_mode": _text,
        },
        secrets=("bot_token",),
        defaults={**_default("telegram", "message"), "parse_mode": "HTML", "disable_notifications": False},
        send_resolved=True,
        not_yet=("chat_id_file",),
    ),
    Channel(
        name="discord",
        fields={
            **dict.fromkeys(("title", "message", "content", "username"), _template),
            "avatar_url": _url,
        },
        secrets=("webhook_url",),
        defaults=_default("discord", "title", "message"),
        send_resolved=True,
    ),
    Channel(
        name="webex",
        fields={"api_url": _url, "room_id": _template, "message": _template},
        defaults=_default("webex", "message"),
        send_resolved=True,
    ),
    Channel(
        name="msteams",
        fields=dict.fromkeys(("title", "summary", "text"), _template),
        secrets=("webhook_url",),
        defaults=_default("msteams", "title", "summary", "text"),
        send_resolved=True,
    ),
    Channel(
        name="msteamsv2",
        fields=dict.fromkeys(("title", "text"), _template),
        secrets=("webhook_url",),
        defaults=_default("msteamsv2", "title", "text"),
        send_resolved=True,
    ),
    Channel(
        name="mattermost",
        fields={
            **_ATTACHMENT,
            **dict.fromkeys(("channel", "username", "icon_url", "icon_emoji", "type"), _template),
            "attachments": _list(_record(_ATTACHMENT)),
            "props": _record({"card": _template}),
            "priority": _PRIORITY,
        },
        secrets=("webhook_url",),
        defaults=_default("mattermost", "username", "color", "text", "title", "title_link", "fallback"),
        send_resolved=True,
    ),
    Channel(
        name="rocketchat",
        fields={
            **dict.fromkeys(
                ("channel", "color", "title", "title_link", "text", "emoji", "icon_url", "image_url", "thumb_url"),
                _template,
            ),
            "api_url": _url,
            "fields": _list(_SLACK_FIELD),
            "actions": _list(_BUTTON),
            **dict.fromkeys(("short_fields", "link_names"), _flag),
        },
        secrets=("token", "token_id"),
        defaults={
            **_default("rocketchat", "title", "title_link", "text", "emoji", "icon_url"),
            "color": '{{ if eq .Status "firing" }}red{{ else }}green{{ end }}',
        },
        send_resolved=False,
    ),
    Channel(
        name="incidentio",
        fields={"max_alerts": _count, "timeout": _seconds},
        secrets=("url", "alert_source_token"),
        send_resolved=True,
    ),
)  # fmt: skip
CHANNELS: Final = {f"{channel.name}_configs": channel for channel in _ALL}
"""By the key of a receiver, in the order in which integrations are counted."""
NOT_YET: Final = frozenset(f"{name}_configs" for name in ("jira", "sns", "wechat"))
