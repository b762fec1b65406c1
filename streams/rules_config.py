"""The rules file: an alertmanager.yml read into frozen records, or refused with the line.

Each section has its module (`rules_global`, `rules_routes`, `rules_receivers`, `rules_conditions`,
`rules_times`, `rules_ours`); which route an alert takes is decided by `agents.rules.routing`.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Any, Final

import msgspec

from streams import rules_canary
from streams.rules_conditions import inhibit_rules_of
from streams.rules_files import Files, Reader, Source, TemplateUse
from streams.rules_global import globals_of
from streams.rules_inhibit import InhibitRule
from streams.rules_matchers import Matcher
from streams.rules_original import original_of
from streams.rules_ours import Ours, ours_of
from streams.rules_receivers import Integration, Receiver, receivers_of
from streams.rules_routes import Route, Tree, positive
from streams.rules_times import TimeInterval, time_intervals_of
from streams.rules_yaml import ConfigError, Node, Problems, compose

__all__ = [
    "BUILT_IN", "ConfigError", "Files", "InhibitRule", "Integration", "Matcher", "Ours", "Receiver", "Route",
    "RulesConfig", "TimeInterval", "load",
]  # fmt: skip

_INTERVALS: Final = ("time_intervals", "mute_time_intervals")
_TRACING: Final = "tracing"
_TOP: Final = frozenset(
    {_TRACING, "global", "route", "receivers", "inhibit_rules", "templates", "incidents", *_INTERVALS}
)


class RulesConfig(msgspec.Struct, frozen=True, dict=True):
    """One rules file; version 0 is the built-in one.

    `templates` are the template files by path, in the order in which they are read; `template_uses`
    the templates that stand in the rules file itself; `warnings` name what is read over.
    """

    version: int
    route: Route
    receivers: dict[str, Receiver]
    text: str
    resolve_timeout: timedelta | None = None
    inhibit_rules: tuple[InhibitRule, ...] = ()
    time_intervals: dict[str, TimeInterval] = {}
    templates: dict[str, str] = {}
    template_uses: tuple[TemplateUse, ...] = ()
    ours: Ours = Ours()
    warnings: tuple[ConfigError, ...] = ()

    def __repr__(self) -> str:
        return f"RulesConfig(version={self.version})"

    def route_by_id(self, route_id: str) -> Route | None:
        """The route of that id, None when this version has none."""
        return self._by_id.get(route_id)

    def tree_for(self, labels: Mapping[str, str]) -> Route:
        """The tree that an alert goes down: of the canary a single route beside the file's."""
        return rules_canary.ROUTE if labels.get("alertname") == rules_canary.ALERT else self.route

    def receiver(self, name: str) -> Receiver:
        """The receiver of that name; one without integrations where this version has none."""
        return rules_canary.RECEIVER if name == rules_canary.NAME else self.receivers.get(name, Receiver(name, ()))

    def told_as(self, name: str) -> Receiver | None:
        """Who is told under that name: a receiver of the file, the canary's or, after an `@`, a person."""
        person = self.ours.person(name)
        if person is not None:
            return person.receiver
        return rules_canary.RECEIVER if name == rules_canary.NAME else self.receivers.get(name)

    @cached_property
    def original(self) -> str:
        """The text as it may be shown: without the part `incidents:`, secrets masked."""
        return original_of(self.text)

    @cached_property
    def _by_id(self) -> dict[str, Route]:
        return {route.id: route for route in (*self.route.walk(), rules_canary.ROUTE)}


class UnreadableRulesError(RuntimeError):
    """Raised for a version of the rules that is not in Postgres, or that this program cannot read."""

    def __init__(self, version: int, why: str = "it is not there") -> None:
        super().__init__(f"version {version} of the rules cannot be read: {why}")


def load(text: str, version: int = 0, files: Source | None = None) -> RulesConfig:
    """Read a rules file; `files` are the contents of those that it names.

    Raises:
        ConfigError: it cannot be used; the message names line, field and remedy, and `others` are further complaints.
    """
    problems = Problems()
    reader = Reader(files or Files(), problems)
    fields = _sections(compose(text, problems), problems)
    above = fields.get("global")
    shared = globals_of(above, reader)
    receivers = receivers_of(fields["receivers"], shared, reader)
    intervals = time_intervals_of([fields[key] for key in _INTERVALS if key in fields], problems)
    sections: dict[str, Callable[[], Any]] = {
        "route": lambda: Tree(receivers, intervals, problems).root(fields["route"]),
        "resolve_timeout": lambda: _resolve_timeout(above),
        "inhibit_rules": lambda: inhibit_rules_of(fields.get("inhibit_rules"), problems),
        "templates": lambda: reader.templates(fields.get("templates")),
        "ours": lambda: ours_of(fields.get("incidents"), receivers, shared, _grouped_by(parts.get("route")), reader),
    }
    parts: dict[str, Any] = {}
    for name, read in sections.items():
        with problems.noted():
            parts[name] = read()
    problems.check()
    return RulesConfig(
        version=version, receivers=receivers, text=text, time_intervals=intervals, template_uses=tuple(reader.uses),
        warnings=tuple(_read_over(fields)), **parts,
    )  # fmt: skip


def _sections(top: Node, problems: Problems) -> dict[str, Node]:
    fields = top.fields(_TOP)
    missing = [key for key in ("route", "receivers") if key not in fields]
    for key in missing:
        problems.add(ConfigError(1, key, "is missing", f"write `{key}:`"))
    if missing:
        problems.check()
    return fields


def _grouped_by(route: Route | None) -> frozenset[str] | None:
    """Labels that some route groups by; None where that may be any."""
    if route is None or any(one.group_by is None for one in route.walk()):
        return None
    return frozenset(name for one in route.walk() for name in one.group_by or ())


def _read_over(fields: dict[str, Node]) -> Iterator[ConfigError]:
    if _TRACING in fields:
        yield fields[_TRACING].error("is read over: it changes no notice", "leave it out, or in for Alertmanager")


def _resolve_timeout(above: Node | None) -> timedelta | None:
    """None where the file says nothing: then the setting of that name holds."""
    fields = above.entries() if above is not None else {}
    if "resolve_timeout" not in fields or fields["resolve_timeout"].empty:
        return None
    return positive(fields["resolve_timeout"])


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
