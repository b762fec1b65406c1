"""`incidents doctor`: everything that an installation needs, looked at in the order in which it is put together."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import click
import msgspec

from agents.doctor.brokers import KAFKA, RABBITMQ, look_at_kafka, look_at_rabbitmq
from agents.doctor.canary import CANARY, Canary
from agents.doctor.findings import Finding, Level, fail, looked, warn, well
from agents.doctor.paths import (
    PROMETHEUS,
    RECEIVERS,
    ROLES,
    RULES,
    look_at_prometheus,
    look_at_receivers,
    look_at_roles,
    rules_in_force,
)
from agents.doctor.stores import POSTGRES, REDIS, look_at_postgres, look_at_redis
from streams.rules_config import RulesConfig
from streams.settings import PREFIX, Settings

SETTINGS: Final = "settings"
_MARKS: Final = {Level.PASS: ("ok  ", "green"), Level.WARN: ("warn", "yellow"), Level.FAIL: ("FAIL", "red")}


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What the doctor goes to: the gateway, every role's address for probes, and a Prometheus where one is named."""

    gateway: str
    roles: tuple[str, ...] = ()
    prometheus: str = ""
    canary: bool = True


def where(settings: Settings, here: Mapping[str, Any], roles: Sequence[str], prometheus: str, *, canary: bool) -> Where:
    """Where to look: what was named, the system of the data folder, or what the settings say."""
    known = [process["url"] for process in here.get("processes", ()) if process.get("url")]
    gateway = here.get("http") or f"http://{settings.http_host}:{settings.http_port}"
    return Where(
        gateway=gateway, roles=(gateway, *(roles or [url for url in known if url != gateway])),
        prometheus=prometheus, canary=canary,
    )  # fmt: skip


async def visit(settings: Settings, place: Where, tell: Callable[[Finding], None]) -> bool:
    """Look at everything and tell each finding as it is made; whether nothing fails."""
    every: list[Finding] = []

    def told(findings: Sequence[Finding]) -> None:
        for one in findings:
            every.append(one)
            tell(one)

    told(judge_settings(settings))
    for part, url, look in (
        (POSTGRES, "database_url", look_at_postgres),
        (REDIS, "redis_url", look_at_redis),
        (KAFKA, "kafka_url", look_at_kafka),
        (RABBITMQ, "amqp_url", look_at_rabbitmq),
    ):
        remedy = f"start it, or say in {PREFIX}{url.upper()} where it is"
        told(await looked(part, getattr(settings, url), partial(look, settings), remedy))
    told(await looked(ROLES, "", lambda: look_at_roles(settings, place.roles), "start the roles"))
    if place.prometheus:
        remedy = "start it, or name another with --prometheus"
        told(await looked(PROMETHEUS, place.prometheus, lambda: look_at_prometheus(place.prometheus), remedy))
    told(await _of_rules(settings, place))
    return not any(one.level is Level.FAIL for one in every)


async def _of_rules(settings: Settings, place: Where) -> list[Finding]:
    config: list[RulesConfig] = []

    async def rules() -> list[Finding]:
        in_force, findings = await rules_in_force(settings)
        config.append(in_force)
        return findings

    found = await looked(RULES, "", rules, "see Postgres above")
    if not config:
        return found
    canary = Canary(settings, place.gateway, config[0])
    found += await looked(RECEIVERS, "", lambda: look_at_receivers(config[0], canary.places), "see the rules file")
    if place.canary:
        found += await looked(CANARY, "", canary.fly, "see the roles above", within=180)
    return found


def judge_settings(settings: Settings) -> list[Finding]:
    """What the settings alone say."""
    found = [well(SETTINGS, f"all {PREFIX}* are known and fit")]
    if not settings.external_url:
        remedy = f"set {PREFIX}EXTERNAL_URL to the address that people reach the page at"
        found.append(warn(SETTINGS, f"links in notices lead to {settings.page_url}", remedy))
    if settings.verdict_event_ids == "none":
        found.append(fail(SETTINGS, "verdicts name no events: neither the canary nor a person finds one again",
                          f"set {PREFIX}VERDICT_EVENT_IDS=first"))  # fmt: skip
    return found


def show(finding: Finding) -> None:
    """One line for people, and the remedy below it."""
    mark, colour = _MARKS[finding.level]
    click.echo(f"{click.style(mark, fg=colour)}  {finding.part:<10}  {finding.said}")
    if finding.remedy:
        click.echo(f"{'':18}{finding.remedy}")


def as_json(findings: Sequence[Finding], *, ok: bool) -> str:
    """All of it for programs."""
    return msgspec.json.encode({"ok": ok, "findings": findings}).decode()
