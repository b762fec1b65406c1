"""The section `global` of a rules file: what receivers fall back to."""

from typing import Any, Final

from streams.rules_files import Reader
from streams.rules_http import http_options, one_secret, refuse_host, tls_options, url
from streams.rules_yaml import Node

_TEXTS: Final = ("smtp_from", "smtp_hello", "smtp_auth_username", "smtp_auth_identity")
_SECRETS: Final = (
    "smtp_auth_password", "smtp_auth_secret", "slack_api_url", "opsgenie_api_key", "victorops_api_key",
    "telegram_bot_token", "slack_app_token", "mattermost_webhook_url", "rocketchat_token", "rocketchat_token_id",
)  # fmt: skip
_ADDRESSES: Final = {
    "pagerduty_url": "https://events.pagerduty.com/v2/enqueue",
    "opsgenie_api_url": "https://api.opsgenie.com/",
    "victorops_api_url": "https://alert.victorops.com/integrations/generic/20131114/alert/",
    "telegram_api_url": "https://api.telegram.org",
    "slack_app_url": "https://slack.com/api/chat.postMessage",
    "webex_api_url": "https://webexapis.com/v1/messages",
    "rocketchat_api_url": "https://open.rocket.chat/",
}
_FLAGS: Final = {"smtp_require_tls": True, "smtp_force_implicit_tls": None}
_FILES: Final = frozenset(f"{key}_file" for key in _SECRETS)
_PORTS: Final = {"smtp": "25", "submissions": "465", "smtps": "465", "submission": "587"}
_LAST_PORT: Final = 65535
_DIGITS: Final = 5
# Keys of receivers that nothing is sent to: read over, since they do nothing by themselves.
_UNUSED: Final = frozenset(
    {
        "wechat_api_url", "wechat_api_secret", "wechat_api_secret_file", "wechat_api_corp_id", "jira_api_url",
    }
)  # fmt: skip
_KNOWN: Final = frozenset(
    {
        "resolve_timeout", "http_config", "smtp_smarthost", "smtp_tls_config",
        *_TEXTS, *_SECRETS, *_FILES, *_ADDRESSES, *_FLAGS, *_UNUSED,
    }
)  # fmt: skip


def globals_of(node: Node | None, reader: Reader) -> dict[str, Any]:
    """Every key with its value or default; `http_config` and `smtp_tls_config` as options."""
    found: dict[str, Any] = {
        "smtp_from": "", "smtp_hello": "localhost", "smtp_auth_username": "", "smtp_auth_identity": "",
        "smtp_smarthost": "", **dict.fromkeys(_SECRETS, ""), **_ADDRESSES, **_FLAGS, "http_config": {},
        "smtp_tls_config": {},
    }  # fmt: skip
    fields = node.fields(_KNOWN) if node is not None else {}
    for key in (*_TEXTS, *_SECRETS, *_ADDRESSES, *_FLAGS, "smtp_smarthost", "http_config", "smtp_tls_config"):
        if key in fields or f"{key}_file" in fields:
            with reader.problems.noted():
                found[key] = _value(key, fields, reader)
    return found


def _value(key: str, fields: dict[str, Node], reader: Reader) -> Any:  # noqa: ANN401 - as the key says
    if key == "slack_api_url" and key in fields and fields[key].text():
        url(fields[key])
    if key in _SECRETS:
        return one_secret(fields, key, reader)
    node = fields[key]
    if key in _FLAGS:
        return node.flag()
    if key in _ADDRESSES:
        return url(node)
    if key == "smtp_smarthost":
        return smarthost(node)
    if key == "http_config":
        return http_options(node, reader)
    return tls_options(node, reader) if key == "smtp_tls_config" else node.text()


def smarthost(node: Node) -> str:
    """An address `host:port` of a mail server; a port may have been written by its name."""
    value = node.text()
    host, colon, port = value.rpartition(":")
    if not value:
        return ""
    if not (colon and port and host.count(":") == (0 if not host.startswith("[") else host.count(":"))):
        raise node.error(f"{value!r} is not a host and a port", "write it like mail.example.org:587")
    number = _PORTS.get(port, port)
    if not (number.isascii() and number.isdecimal() and len(number) <= _DIGITS and 0 < int(number) <= _LAST_PORT):
        raise node.error(f"{port!r} is not a port", f"use 1 to {_LAST_PORT}, or one of {', '.join(sorted(_PORTS))}")
    refuse_host(host, node)
    return f"{host}:{number}"
