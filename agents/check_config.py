"""`incidents check-config`: what is wrong with a rules file, and which way a set of labels takes through it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from agents.rules import routing
from sinks import template_check
from streams.records import Severity
from streams.rules_config import ConfigError, Receiver, Route, RulesConfig, load
from streams.rules_files import Disk


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong. Line 0 is the file as a whole."""

    line: int
    field: str
    reason: str
    remedy: str


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One route that an alert takes. `muted_now` are those of its time intervals that hold notices back now.

    `policy` names the severities of incidents there that have each escalation policy.
    """

    route: str
    receiver: str
    channels: list[str]
    group: dict[str, str]
    group_wait: float
    group_interval: float
    repeat_interval: float
    mute_time_intervals: tuple[str, ...]
    active_time_intervals: tuple[str, ...]
    muted_now: list[str]
    policy: dict[str, list[str]]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the command says with --json."""

    file: str
    ok: bool
    errors: list[Finding] = []
    warnings: list[Finding] = []
    summary: dict[str, int] = {}
    ways: list[Way] | None = None


def report_on(path: Path, labels: Mapping[str, str], now: datetime) -> Report:
    """Read the file and those that it names, all of it, and follow the labels if there are any."""
    try:
        config = load(path.read_text(encoding="utf-8"), files=Disk(path.parent))
        template_check.check(config)
    except ConfigError as error:
        return Report(file=str(path), ok=False, errors=_findings(error.all))
    except UnicodeDecodeError as error:
        wrong = Finding(0, "", f"not UTF-8: {error.reason} at byte {error.start}", "save it as UTF-8")
        return Report(file=str(path), ok=False, errors=[wrong])
    ways = [way_of(route, config, labels, now) for route in routing.routes_for(config.route, labels)]
    return Report(
        file=str(path), ok=True, warnings=_findings(config.warnings), summary=_summary(config),
        ways=ways if labels else None,
    )  # fmt: skip


def _findings(errors: Sequence[ConfigError]) -> list[Finding]:
    return [Finding(one.line, one.field, one.reason, one.remedy) for one in errors]


def way_of(route: Route, config: RulesConfig, labels: Mapping[str, str], now: datetime) -> Way:
    """One route as the labels see it."""
    intervals = config.time_intervals
    muted = [name for name in route.mute_time_intervals if intervals[name].contains(now)]
    active = route.active_time_intervals
    if active and not any(intervals[name].contains(now) for name in active):
        muted += active
    return Way(
        route=route.id,
        receiver=route.receiver,
        channels=_channels(config.receivers[route.receiver]),
        group=routing.group_labels(route, labels),
        group_wait=route.group_wait.total_seconds(),
        group_interval=route.group_interval.total_seconds(),
        repeat_interval=route.repeat_interval.total_seconds(),
        mute_time_intervals=route.mute_time_intervals,
        active_time_intervals=active,
        muted_now=muted,
        policy=_policies(route, config, labels),
    )


def _policies(route: Route, config: RulesConfig, labels: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for severity in Severity:
        group = routing.group_labels(route, labels)
        policy = config.ours.escalations.policy_for(group, route.receiver, severity)
        if policy is not None:
            found.setdefault(policy.name, []).append(severity)
    return found


def show(report: Report) -> None:
    """Print for people."""
    for error in (*report.errors, *report.warnings):
        where = f"{report.file}:{error.line}" if error.line else report.file
        field = f"{error.field}: " if error.field else ""
        click.echo(f"{where}: {field}{error.reason}; {error.remedy}", err=True)
    if not report.ok:
        return
    counts = ", ".join(f"{number} {what}" for what, number in report.summary.items() if number)
    click.echo(f"{report.file}: {counts}")
    for way in report.ways or ():
        click.echo(f"  {way.route} -> {way.receiver} ({', '.join(way.channels) or 'tells nobody'})")
        click.echo(f"      group {_pairs(way.group)}")
        waits = (way.group_wait, way.group_interval, way.repeat_interval)
        click.echo("      waits {:g} s, then every {:g} s, repeats after {:g} s".format(*waits))
        for what, names in (("muted in", way.mute_time_intervals), ("active in", way.active_time_intervals)):
            if names:
                click.echo(f"      {what} {', '.join(names)}")
        for name, severities in way.policy.items():
            click.echo(f"      escalated by {name} ({', '.join(severities)})")
        if way.muted_now:
            click.echo(f"      muted now by {', '.join(way.muted_now)}")


def labels_of(pairs: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` as labels.

    Raises:
        UsageError: one has no name or no `=`.
    """
    labels: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise click.UsageError(f"{pair!r} is not NAME=VALUE")
        labels[name] = value
    return labels


def _channels(receiver: Receiver) -> list[str]:
    return [integration.channel for integration in receiver.integrations]


def _pairs(labels: Mapping[str, Any]) -> str:
    return f"{{{', '.join(f'{name}={value!r}' for name, value in labels.items())}}}"


def _summary(config: RulesConfig) -> dict[str, int]:
    return {
        "routes": sum(1 for _ in config.route.walk()),
        "receivers": len(config.receivers),
        "integrations": sum(len(receiver.integrations) for receiver in config.receivers.values()),
        "inhibition rules": len(config.inhibit_rules),
        "correlation rules": len(config.ours.correlation),
        "time intervals": len(config.time_intervals),
        "template files": len(config.templates),
        "people": len(config.ours.people),
        "policies": len(config.ours.escalations.policies),
    }
