"""Receivers of a rules file: named lists of integrations, each one channel and target."""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from streams.rules_yaml import Node

_CHANNELS: Final = {"webhook_configs": "webhook"}
_NOT_YET: Final = frozenset(
    f"{channel}_configs"
    for channel in (
        "discord", "email", "incidentio", "jira", "mattermost", "msteams", "msteamsv2", "opsgenie", "pagerduty",
        "pushover", "rocketchat", "slack", "sns", "telegram", "victorops", "webex", "wechat",
    )
)  # fmt: skip
_WEBHOOK: Final = frozenset({"url", "send_resolved", "max_alerts", "http_config"})
_WEBHOOK_NOT_YET: Final = frozenset({"url_file", "timeout", "payload"})
_HTTP: Final = frozenset({"basic_auth", "authorization", "bearer_token", "http_headers", "follow_redirects"})
_HTTP_NOT_YET: Final = frozenset(
    {
        "bearer_token_file", "oauth2", "tls_config", "proxy_url", "no_proxy", "proxy_from_environment",
        "proxy_connect_header", "enable_http2",
    }
)  # fmt: skip
_OURS: Final = frozenset({"content-length", "content-type", "host", "idempotency-key", "transfer-encoding"})


class Integration(msgspec.Struct, frozen=True):
    """One channel of a receiver; `index` counts within the receiver.

    `options` are what the channel's sink needs beside the target, secrets included.
    """

    channel: str
    index: int
    target: str
    send_resolved: bool
    options: dict[str, Any]

    def __repr__(self) -> str:
        return f"Integration({self.channel!r}, {self.index}, options={sorted(self.options)})"


class Receiver(msgspec.Struct, frozen=True):
    """A named set of targets."""

    name: str
    integrations: tuple[Integration, ...]


def receivers_of(node: Node, http_defaults: dict[str, Any]) -> dict[str, Receiver]:
    """Read the list of receivers; `http_defaults` serve where an integration has no `http_config`."""
    receivers: dict[str, Receiver] = {}
    for item in node.items():
        fields = item.fields({"name", *_CHANNELS}, _NOT_YET)
        if "name" not in fields:
            raise item.error("has no name", "give it a `name`")
        name = fields["name"].filled()
        if name in receivers:
            raise fields["name"].error(f"{name!r} is the name of two receivers", "rename one of them")
        receivers[name] = Receiver(name, tuple(_integrations(fields, http_defaults)))
    return receivers


def http_options(node: Node) -> dict[str, Any]:
    """Read an `http_config`: basic or other authorization, and headers."""
    fields = node.fields(_HTTP, _HTTP_NOT_YET)
    options: dict[str, Any] = {}
    if "follow_redirects" in fields and fields["follow_redirects"].flag():
        raise fields["follow_redirects"].error("redirects are never followed", "write false or leave it out")
    ways = [fields[key] for key in ("basic_auth", "authorization", "bearer_token") if key in fields]
    if len(ways) > 1:
        raise ways[1].error("is a second way to authenticate", "keep one of them")
    if "basic_auth" in fields:
        options["basic_auth"] = _basic(fields["basic_auth"])
    if "authorization" in fields:
        options["authorization"] = _authorization(fields["authorization"])
    if "bearer_token" in fields:
        options["authorization"] = f"Bearer {_header_value(fields['bearer_token'])}"
    if "http_headers" in fields:
        options["headers"] = list(_headers(fields["http_headers"]))
    return options


def _integrations(fields: dict[str, Node], http_defaults: dict[str, Any]) -> Iterator[Integration]:
    index = 0
    for key, channel in _CHANNELS.items():
        for item in fields[key].items() if key in fields else []:
            yield _webhook(item, channel, index, http_defaults)
            index += 1


def _webhook(node: Node, channel: str, index: int, http_defaults: dict[str, Any]) -> Integration:
    fields = node.fields(_WEBHOOK, _WEBHOOK_NOT_YET)
    if "url" not in fields:
        raise node.error("has no url", "give it a `url`")
    options = dict(http_options(fields["http_config"]) if "http_config" in fields else http_defaults)
    send_resolved = fields["send_resolved"].flag() if "send_resolved" in fields else True
    if not send_resolved:
        options["send_resolved"] = False
    if "max_alerts" in fields and (limit := fields["max_alerts"].count()):
        options["max_alerts"] = limit
    return Integration(
        channel=channel,
        index=index,
        target=_url(fields["url"]),
        send_resolved=send_resolved,
        options=options,
    )


def _url(node: Node) -> str:
    value = node.filled()
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not value.isprintable() or " " in value:
        raise node.error("is not an http or https URL with a host", "write it like https://hooks.example.org/x")
    return value


def _basic(node: Node) -> list[str]:
    fields = node.fields({"username", "password"}, {"username_file", "password_file"})
    return [fields[key].text() if key in fields else "" for key in ("username", "password")]


def _authorization(node: Node) -> str:
    fields = node.fields({"type", "credentials"}, {"credentials_file"})
    if "credentials" not in fields:
        raise node.error("has no credentials", "give it `credentials`")
    scheme = _header_value(fields["type"]) if "type" in fields else "Bearer"
    return f"{scheme} {_header_value(fields['credentials'])}"


def _headers(node: Node) -> Iterator[list[str]]:
    for name, entry in node.entries().items():
        if not name or not all(letter.isalnum() or letter in "-_" for letter in name) or not name.isascii():
            raise entry.error("is not a header name", "use letters, digits and -")
        if name.lower() in _OURS:
            raise entry.error("is a header that delivery sets itself", "leave it out")
        fields = entry.fields({"values", "secrets"}, {"files"})
        for key in ("values", "secrets"):
            for value in fields[key].items() if key in fields else []:
                yield [name, _header_value(value)]


def _header_value(node: Node) -> str:
    value = node.filled()
    if not value.isascii() or not value.isprintable():
        raise node.error("must be printable ASCII", "remove line breaks and other letters")
    return value
