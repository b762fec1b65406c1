"""The rules file: an alertmanager.yml read into frozen records, or refused with the line.

Receivers are read by `rules_receivers`, matchers by `rules_matchers`; which
route an alert takes is decided by `agents.rules.routing`.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cached_property, partial
from typing import Any, Final

import msgspec

from streams.rules_inhibit import InhibitRule
from streams.rules_matchers import Matcher, MatcherError, checked, in_order, parse, text_of
from streams.rules_receivers import Integration, Receiver, http_options, receivers_of
from streams.rules_yaml import MAX_DEPTH, ConfigError, Node, compose

__all__ = ["BUILT_IN", "ConfigError", "Integration", "Matcher", "Receiver", "Route", "RulesConfig", "load"]

MAX_ROUTES: Final = 20_000
_TOP: Final = frozenset({"global", "route", "receivers", "incidents"})
_TOP_NOT_YET: Final = frozenset({"inhibit_rules", "time_intervals", "mute_time_intervals", "templates", "tracing"})
_GLOBAL: Final = frozenset({"resolve_timeout", "http_config"})
_GLOBAL_NOT_YET: Final = frozenset(
    {
        "smtp_from", "smtp_smarthost", "smtp_hello", "smtp_auth_username", "smtp_auth_password",
        "smtp_auth_password_file", "smtp_auth_identity", "smtp_auth_secret", "smtp_auth_secret_file",
        "smtp_require_tls", "smtp_tls_config", "smtp_force_implicit_tls", "slack_api_url", "slack_api_url_file",
        "slack_app_token", "slack_app_token_file", "slack_app_url", "victorops_api_key", "victorops_api_key_file",
        "victorops_api_url", "pagerduty_url", "opsgenie_api_key", "opsgenie_api_key_file", "opsgenie_api_url",
        "wechat_api_url", "wechat_api_secret", "wechat_api_secret_file", "wechat_api_corp_id", "telegram_api_url",
        "telegram_bot_token", "telegram_bot_token_file", "webex_api_url", "jira_api_url", "rocketchat_api_url",
        "rocketchat_token", "rocketchat_token_file", "rocketchat_token_id", "rocketchat_token_id_file",
        "mattermost_webhook_url", "mattermost_webhook_url_file",
    }
)  # fmt: skip
_ROUTE: Final = frozenset(
    {
        "receiver", "group_by", "group_wait", "group_interval", "repeat_interval", "match", "match_re", "matchers",
        "continue", "routes",
    }
)  # fmt: skip
_ROUTE_NOT_YET: Final = frozenset({"mute_time_intervals", "active_time_intervals"})


class Route(msgspec.Struct, frozen=True):
    """One node of the route tree, with everything it inherits filled in.

    `id` is the path of matchers from the root, which outlives a reordering of
    the file; an equal sibling after the first adds its place. `group_by` None
    means all labels.
    """

    id: str
    receiver: str
    group_by: tuple[str, ...] | None
    group_wait: timedelta
    group_interval: timedelta
    repeat_interval: timedelta
    matchers: tuple[Matcher, ...]
    continue_: bool
    routes: tuple["Route", ...]

    def walk(self) -> Iterator["Route"]:
        """Go through the tree from here, depth first."""
        yield self
        for child in self.routes:
            yield from child.walk()


class RulesConfig(msgspec.Struct, frozen=True, dict=True):
    """One rules file; version 0 is the built-in one."""

    version: int
    route: Route
    receivers: dict[str, Receiver]
    text: str
    resolve_timeout: timedelta = timedelta(minutes=5)
    inhibit_rules: tuple[InhibitRule, ...] = ()

    def __repr__(self) -> str:
        return f"RulesConfig(version={self.version})"

    def route_by_id(self, route_id: str) -> Route | None:
        """The route of that id, None when this version has none."""
        return self._by_id.get(route_id)

    @cached_property
    def _by_id(self) -> dict[str, Route]:
        return {route.id: route for route in self.route.walk()}


def load(text: str, version: int = 0) -> RulesConfig:
    """Read a rules file.

    Raises:
        ConfigError: it cannot be used; the message names line, field and remedy.
    """
    top = compose(text)
    fields = top.fields(_TOP, _TOP_NOT_YET)
    for key in ("route", "receivers"):
        if key not in fields:
            raise ConfigError(1, key, "is missing", f"write `{key}:`")
    if "incidents" in fields:
        fields["incidents"].fields(())
    shared = fields["global"].fields(_GLOBAL, _GLOBAL_NOT_YET) if "global" in fields else {}
    http: dict[str, Any] = http_options(shared["http_config"]) if "http_config" in shared else {}
    receivers = receivers_of(fields["receivers"], http)
    config = RulesConfig(version, _Tree(receivers).root(fields["route"]), receivers, text)
    if "resolve_timeout" in shared:
        timeout = _positive(shared, "resolve_timeout", config.resolve_timeout)
        return msgspec.structs.replace(config, resolve_timeout=timeout)
    return config


class _Tree:
    """Reads the route tree; children inherit what they do not set."""

    def __init__(self, receivers: dict[str, Receiver]) -> None:
        self._receivers = receivers
        self._left = MAX_ROUTES

    def root(self, node: Node) -> Route:
        fields = node.fields(_ROUTE, _ROUTE_NOT_YET)
        for key in ("match", "match_re", "matchers", "continue"):
            if key in fields:
                raise fields[key].error("is not allowed on the first route", "it takes every alert; leave this out")
        if "receiver" not in fields:
            raise node.error("has no receiver", "the first route needs a `receiver`")
        defaults = Route(
            id="",
            receiver="",
            group_by=(),
            group_wait=timedelta(seconds=30),
            group_interval=timedelta(minutes=5),
            repeat_interval=timedelta(hours=4),
            matchers=(),
            continue_=False,
            routes=(),
        )
        return self._route(fields, defaults, "{}", (), 0)

    def _route(
        self, fields: dict[str, Node], parent: Route, route_id: str, matchers: tuple[Matcher, ...], depth: int
    ) -> Route:
        own = Route(
            id=route_id,
            receiver=self._receiver(fields["receiver"]) if "receiver" in fields else parent.receiver,
            group_by=_group_by(fields["group_by"], parent.group_by) if "group_by" in fields else parent.group_by,
            group_wait=fields["group_wait"].duration() if "group_wait" in fields else parent.group_wait,
            group_interval=_positive(fields, "group_interval", parent.group_interval),
            repeat_interval=_positive(fields, "repeat_interval", parent.repeat_interval),
            matchers=matchers,
            continue_=fields["continue"].flag() if "continue" in fields else False,
            routes=(),
        )
        if "routes" not in fields:
            return own
        return msgspec.structs.replace(own, routes=tuple(self._children(fields["routes"], own, depth + 1)))

    def _children(self, node: Node, parent: Route, depth: int) -> Iterator[Route]:
        taken: set[str] = set()
        for index, item in enumerate(node.items()):
            self._left -= 1
            if depth > MAX_DEPTH or self._left < 0:
                raise item.error("the route tree is too large", f"keep to {MAX_DEPTH} levels and {MAX_ROUTES} routes")
            fields = item.fields(_ROUTE, _ROUTE_NOT_YET)
            matchers = _matchers(fields)
            route_id = f"{parent.id}/{text_of(matchers)}"
            if route_id in taken:
                route_id = f"{route_id}/{index}"
            taken.add(route_id)
            yield self._route(fields, parent, route_id, matchers, depth)

    def _receiver(self, node: Node) -> str:
        name = node.filled()
        if name not in self._receivers:
            raise node.error(f"no receiver is named {name!r}", "name one from `receivers`")
        return name


def _group_by(node: Node, inherited: tuple[str, ...] | None) -> tuple[str, ...] | None:
    names: list[str] = []
    for item in node.items():
        name = item.filled()
        if name in names:
            raise item.error(f"{name!r} is given twice", "keep one of them")
        names.append(name)
    if not names:
        return inherited
    if "..." not in names:
        return tuple(names)
    if len(names) > 1:
        raise node.error("'...' already means all labels", "write '...' alone or name the labels")
    return None


def _positive(fields: dict[str, Node], key: str, inherited: timedelta) -> timedelta:
    if key not in fields:
        return inherited
    value = fields[key].duration()
    if not value:
        raise fields[key].error("must not be zero", "write a duration such as 5m")
    return value


def _matchers(fields: dict[str, Node]) -> tuple[Matcher, ...]:
    matchers: list[Matcher] = []
    for key, op in (("match", "="), ("match_re", "=~")):
        for name, value in fields[key].entries().items() if key in fields else ():
            matchers += _told(value, partial(_single, name, op, value))
    for item in fields["matchers"].items() if "matchers" in fields else ():
        matchers += _told(item, partial(_several, item))
    return in_order(matchers)


def _single(name: str, op: str, value: Node) -> list[Matcher]:
    return [checked(name, op, value.text())]


def _several(item: Node) -> list[Matcher]:
    return parse(item.text())


def _told(node: Node, read: Callable[[], list[Matcher]]) -> list[Matcher]:
    try:
        return read()
    except MatcherError as error:
        raise node.error(str(error), 'write it like severity="critical" or service=~"api|web"') from error


BUILT_IN: Final = load(
    """\
# The built-in rules: used while no rules file is given.
route:
  receiver: default
  group_by: [alertname, service]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 4h
receivers:
  - name: default
"""
)
