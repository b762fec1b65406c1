"""Receivers of a rules file: named lists of integrations, each one channel and target."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from streams.rules_channels import CHANNELS, NOT_YET, Channel
from streams.rules_files import Reader
from streams.rules_http import address, header_secret, http_options, one_secret, place_of
from streams.rules_yaml import Node

_TEMPLATED_SECRETS: Final = frozenset({"pagerduty", "opsgenie", "pushover"})
_IN_HEADERS: Final = frozenset(
    {
        ("slack", "app_token"), ("opsgenie", "api_key"), ("rocketchat", "token"), ("rocketchat", "token_id"),
        ("incidentio", "alert_source_token"),
    }
)  # fmt: skip
_PUSHOVER: Final = "https://api.pushover.net/1/messages.json"
_PARSE_MODES: Final = frozenset({"", "Markdown", "MarkdownV2", "HTML"})
_VICTOROPS_OWN: Final = frozenset(
    {"routing_key", "message_type", "state_message", "entity_display_name", "monitoring_tool", "entity_id"}
)
_DETAILS: Final = {
    "firing": '{{ template "pagerduty.default.instances" .Alerts.Firing }}',
    "resolved": '{{ template "pagerduty.default.instances" .Alerts.Resolved }}',
    "num_firing": "{{ .Alerts.Firing | len }}",
    "num_resolved": "{{ .Alerts.Resolved | len }}",
}
_MAIL_FROM_GLOBAL: Final = {
    "from": "smtp_from",
    "hello": "smtp_hello",
    "smarthost": "smtp_smarthost",
    "auth_username": "smtp_auth_username",
    "auth_password": "smtp_auth_password",
    "auth_secret": "smtp_auth_secret",
    "auth_identity": "smtp_auth_identity",
    "tls_config": "smtp_tls_config",
}

Options = dict[str, Any]


class Integration(msgspec.Struct, frozen=True):
    """One channel of a receiver; `index` counts within the receiver.

    `options` are the channel's keys as the rules file writes them, with the defaults and what `global` says
    filled in, templates unrendered, durations in seconds, secrets included; beside them what
    `streams.rules_http.http_options` made of `http_config`. `target` names the endpoint and is no secret.
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


def receivers_of(node: Node, shared: Options, reader: Reader) -> dict[str, Receiver]:
    """Read the list of receivers; `shared` is what `rules_global.globals_of` gives."""
    receivers: dict[str, Receiver] = {}
    for item in node.items():
        with reader.problems.noted():
            fields = item.fields({"name", *CHANNELS}, NOT_YET)
            if "name" not in fields:
                raise item.error("has no name", "give it a `name`")
            name = fields["name"].filled()
            if name in receivers:
                raise fields["name"].error(f"{name!r} is the name of two receivers", "rename one of them")
            receivers[name] = Receiver(name, ())  # there, whatever is wrong with its channels
            receivers[name] = Receiver(name, tuple(integrations_of(fields, shared, reader)))
    return receivers


def integrations_of(fields: dict[str, Node], shared: Options, reader: Reader) -> Iterator[Integration]:
    """The channels among the keys of a receiver or person, in their order."""
    index = 0
    for key, channel in CHANNELS.items():
        for item in fields[key].items() if key in fields else []:
            with reader.problems.noted():
                yield _integration(item, channel, index, shared, reader)
            index += 1


def _integration(node: Node, channel: Channel, index: int, shared: Options, reader: Reader) -> Integration:
    secrets = {name for key in channel.secrets for name in (key, f"{key}_file")}
    known = {"send_resolved", *channel.fields, *secrets, *(("http_config",) if channel.http else ())}
    fields = node.fields(known, channel.not_yet)
    options: Options = dict(channel.defaults)
    if channel.http:
        options |= http_options(fields["http_config"], reader) if "http_config" in fields else shared["http_config"]
    for key, read in channel.fields.items():
        if key in fields:
            with reader.problems.noted():
                options[key] = read(fields[key], reader)
    for key in channel.secrets:
        read_secret = header_secret if (channel.name, key) in _IN_HEADERS else one_secret
        if secret := read_secret(fields, key, reader):
            options[key] = secret
            if channel.name in _TEMPLATED_SECRETS and key in fields:
                reader.template(fields[key])
    send_resolved = fields["send_resolved"].flag() if "send_resolved" in fields else channel.send_resolved
    if not send_resolved:
        options["send_resolved"] = False
    target = _FINISH[channel.name](node, fields, options, shared, reader)
    return Integration(channel.name, index, target, send_resolved, options)


Finish = Callable[[Node, dict[str, Node], Options, Options, Reader], str]


def _webhook(node: Node, fields: dict[str, Node], options: Options, _shared: Options, _reader: Reader) -> str:
    if not options.get("url"):
        raise node.error("has no url", "give it a `url`")
    if not options.get("max_alerts"):
        options.pop("max_alerts", None)
    return place_of(_address(node, fields, options, "url"))


def _email(node: Node, _fields: dict[str, Node], options: Options, shared: Options, _reader: Reader) -> str:
    if not options.get("to"):
        raise node.error("has no address to send to", "give it a `to`")
    for key, fallback in _MAIL_FROM_GLOBAL.items():
        options[key] = options.get(key) or shared[fallback]
    options.setdefault("require_tls", shared["smtp_require_tls"])
    options.setdefault("headers", {})
    implicit = options.pop("force_implicit_tls", options.pop("implicit_tls", shared["smtp_force_implicit_tls"]))
    if implicit is not None:
        options["implicit_tls"] = implicit
    if not options["smarthost"]:
        raise node.error("has no smarthost", "give it a `smarthost`, or `smtp_smarthost` in `global`")
    if not options["from"]:
        raise node.error("has no sender", "give it a `from`, or `smtp_from` in `global`")
    return f"smtp://{options['smarthost']}/{options['to']}"


def _pagerduty(node: Node, fields: dict[str, Node], options: Options, shared: Options, _reader: Reader) -> str:
    if not options.get("routing_key"):
        if old := fields.get("service_key") or fields.get("service_key_file"):
            raise old.error("belongs to PagerDuty's Events API v1, which is not spoken here", "give it a `routing_key`")
        raise node.error("has no routing_key", "give it a `routing_key` or `routing_key_file`")
    options.setdefault("url", shared["pagerduty_url"])
    options.setdefault("source", options["client"])
    options["details"] = {**_DETAILS, **options.get("details", {})}
    return place_of(_address(node, fields, options, "url"), options["routing_key"])


def _opsgenie(node: Node, _fields: dict[str, Node], options: Options, shared: Options, _reader: Reader) -> str:
    options.setdefault("api_key", shared["opsgenie_api_key"])
    if not options["api_key"]:
        raise node.error("has no api_key", "give it an `api_key`, or `opsgenie_api_key` in `global`")
    options["api_url"] = _folder(options, shared["opsgenie_api_url"])
    return place_of(options["api_url"], options["api_key"])


def _slack(node: Node, fields: dict[str, Node], options: Options, shared: Options, _reader: Reader) -> str:
    ways = [options.get("api_url"), options.get("app_token")]
    if all(ways):
        raise node.error("has both an api_url and an app_token", "keep one of them")
    if not any(ways) and not shared["slack_api_url"] and shared["slack_app_token"]:
        options["app_token"] = shared["slack_app_token"]
    if options.get("app_token"):
        options["api_url"] = options.pop("app_url", shared["slack_app_url"])
    options.setdefault("api_url", shared["slack_api_url"])
    if not options["api_url"]:
        raise node.error("has no api_url", "give it an `api_url`, or `slack_api_url` in `global`")
    return place_of(_address(node, fields, options, "api_url"), options.get("channel", ""))


def _victorops(node: Node, _fields: dict[str, Node], options: Options, shared: Options, _reader: Reader) -> str:
    if not options.get("routing_key"):
        raise node.error("has no routing_key", "give it a `routing_key`")
    for name in sorted(_VICTOROPS_OWN & options.get("custom_fields", {}).keys()):
        raise node.error(f"has a custom field {name}, which VictorOps keeps for itself", "rename it")
    options.setdefault("api_key", shared["victorops_api_key"])
    if not options["api_key"]:
        raise node.error("has no api_key", "give it an `api_key`, or `victorops_api_key` in `global`")
    options["api_url"] = _folder(options, shared["victorops_api_url"])
    return place_of(options["api_url"], options["api_key"], options["routing_key"])


def _pushover(node: Node, _fields: dict[str, Node], options: Options, _shared: Options, _reader: Reader) -> str:
    for key in ("user_key", "token"):
        if not options.get(key):
            raise node.error(f"has no {key}", f"give it a `{key}` or `{key}_file`")
    return place_of(_PUSHOVER, options["user_key"], options["token"])


def _telegram(node: Node, fields: dict[str, Node], options: Options, shared: Options, reader: Reader) -> str:
    options.setdefault("bot_token", shared["telegram_bot_token"])
    options.setdefault("api_url", shared["telegram_api_url"])
    for key in ("bot_token", "chat_id"):
        if not options.get(key):
            raise node.error(f"has no {key}", f"give it a `{key}`")
    if options["parse_mode"] not in _PARSE_MODES:
        raise fields["parse_mode"].error("is not a parse mode", "use HTML, Markdown, MarkdownV2 or leave it empty")
    if options["parse_mode"] == "HTML" and "message" in fields:
        reader.template(fields["message"], html=True)
    return place_of(options["api_url"], options["bot_token"], str(options["chat_id"]))


def _by_address(node: Node, fields: dict[str, Node], options: Options, _shared: Options, _reader: Reader) -> str:
    if not options.get("webhook_url"):
        raise node.error("has no webhook_url", "give it a `webhook_url` or `webhook_url_file`")
    return place_of(_address(node, fields, options, "webhook_url"))


def _webex(node: Node, _fields: dict[str, Node], options: Options, shared: Options, _reader: Reader) -> str:
    options.setdefault("api_url", shared["webex_api_url"])
    if not options.get("room_id"):
        raise node.error("has no room_id", "give it a `room_id`")
    if "authorization" not in options:
        raise node.error("has no authorization", "give its http_config an `authorization`")
    return place_of(options["api_url"], options["room_id"])


def _mattermost(node: Node, fields: dict[str, Node], options: Options, shared: Options, _reader: Reader) -> str:
    options.setdefault("webhook_url", shared["mattermost_webhook_url"])
    if not options["webhook_url"]:
        raise node.error("has no webhook_url", "give it a `webhook_url`, or `mattermost_webhook_url` in `global`")
    return place_of(_address(node, fields, options, "webhook_url"), options.get("channel", ""))


def _rocketchat(node: Node, _fields: dict[str, Node], options: Options, shared: Options, _reader: Reader) -> str:
    for key in ("token", "token_id"):
        options.setdefault(key, shared[f"rocketchat_{key}"])
        if not options[key]:
            raise node.error(f"has no {key}", f"give it a `{key}`, or `rocketchat_{key}` in `global`")
    options["api_url"] = _folder(options, shared["rocketchat_api_url"])
    return place_of(options["api_url"], options["token_id"], options.get("channel", ""))


def _incidentio(node: Node, fields: dict[str, Node], options: Options, shared: Options, reader: Reader) -> str:
    token = options.pop("alert_source_token", "")
    if token and "authorization" in options and "http_config" in fields:
        raise node.error("has both an alert_source_token and an authorization", "keep one of them")
    if token:
        options["authorization"] = f"Bearer {token}"
    if "authorization" not in options:
        raise node.error("has no alert_source_token", "give it an `alert_source_token`")
    return _webhook(node, fields, options, shared, reader)


_FINISH: Final[dict[str, Finish]] = {
    "webhook": _webhook,
    "email": _email,
    "pagerduty": _pagerduty,
    "opsgenie": _opsgenie,
    "slack": _slack,
    "victorops": _victorops,
    "pushover": _pushover,
    "telegram": _telegram,
    "discord": _by_address,
    "webex": _webex,
    "msteams": _by_address,
    "msteamsv2": _by_address,
    "mattermost": _mattermost,
    "rocketchat": _rocketchat,
    "incidentio": _incidentio,
}


def _folder(options: Options, default: str) -> str:
    return f"{str(options.get('api_url', default)).rstrip('/')}/"


def _address(node: Node, fields: dict[str, Node], options: Options, key: str) -> str:
    """The address of an option, wherever it came from."""
    return address(options[key], fields.get(key) or fields.get(f"{key}_file") or node)
