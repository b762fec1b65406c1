"""What leads in and out: the roles and their metrics, Prometheus, and the targets of the rules in force."""

import asyncio
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import httpcore
import httpx
import msgspec

from agents.doctor.findings import Finding, Level, fail, judged, warn, well
from sinks import config_rows
from sinks.addresses import connected_socket
from streams.rules_config import BUILT_IN, Integration, RulesConfig, load
from streams.settings import PREFIX, Settings

ROLES: Final = "roles"
RULES: Final = "rules"
RECEIVERS: Final = "receivers"
PROMETHEUS: Final = "Prometheus"
_ANSWER_S: Final = 5.0
_CONNECT_S: Final = 5.0
_PORTS: Final = {"http": 80, "https": 443, "smtp": 25, "amqp": 5672, "amqps": 5671}
_EVERY: Final = frozenset({"gateway", "worker", "delivery"})


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one role said of itself; `role` is empty where nobody answered."""

    url: str
    role: str = ""
    ready: bool = False
    down: tuple[str, ...] = ()
    metrics: bool = False
    problem: str = ""


async def look_at_roles(settings: Settings, urls: Iterable[str]) -> list[Finding]:
    """Ask each address for /readyz and /metrics."""
    headers = {"authorization": f"Bearer {settings.token}"} if settings.token else {}
    async with httpx.AsyncClient(trust_env=False, timeout=_ANSWER_S, headers=headers) as client:
        answers = await asyncio.gather(*(_asked(client, url) for url in dict.fromkeys(urls)))
    return judge_roles(answers, amqp=bool(settings.amqp_url))


async def _asked(client: httpx.AsyncClient, url: str) -> Answer:
    try:
        said: dict[str, Any] = (await client.get(f"{url}/readyz")).json()
        metrics = await client.get(f"{url}/metrics")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return Answer(url=url, problem=str(error) or type(error).__name__)
    parts: Mapping[str, Mapping[str, Any]] = said.get("parts") or {}
    return Answer(
        url=url,
        role=str(said.get("role", "")),
        ready=bool(said.get("ready")),
        down=tuple(f"{name} ({part.get('detail')})" for name, part in parts.items() if not part.get("ok")),
        metrics=metrics.is_success and "incidents_" in metrics.text,
    )


def judge_roles(answers: Iterable[Answer], *, amqp: bool) -> list[Finding]:
    """Whether every role that is needed was seen, is ready, and is worth scraping."""
    found, seen = [], set()
    for one in answers:
        if not one.role:
            found.append(fail(ROLES, f"nobody answers at {one.url}: {one.problem}", "start it, or name its address"))
            continue
        seen.add(one.role)
        if not one.ready:
            found.append(fail(ROLES, f"{one.role} at {one.url} is not ready: {', '.join(one.down)}", "see its log"))
        elif one.down:
            found.append(warn(ROLES, f"{one.role} does without {', '.join(one.down)}", "bring that back"))
        else:
            found.append(well(ROLES, f"{one.role} at {one.url} is ready"))
        if not one.metrics:
            remedy = (
                f"give the doctor a token ({PREFIX}TOKEN), or set {PREFIX}OPEN_METRICS=on for a scraper without one"
            )
            found.append(warn(ROLES, f"{one.role} at {one.url} shows no metrics", remedy))
    wanted = _EVERY | ({"bridge"} if amqp else set())
    if missing := sorted(wanted - seen):
        remedy = "name their addresses with --role http://HOST:PORT (INCIDENTS_OBSERVE_PORT of each)"
        found.append(warn(ROLES, f"not looked at: {', '.join(missing)}", remedy))
    return found


async def look_at_prometheus(url: str) -> list[Finding]:
    """Whether a Prometheus has our series."""
    async with httpx.AsyncClient(trust_env=False, timeout=_ANSWER_S) as client:
        answer = await client.get(f"{url.rstrip('/')}/api/v1/query", params={"query": "count(incidents_part_up)"})
        series = answer.raise_for_status().json()["data"]["result"]
    count = int(float(series[0]["value"][1])) if series else 0
    remedy = "add the roles to its scrape_configs: deploy/prometheus.yml has an example"
    return [judged(PROMETHEUS, f"it has {count} series of how our parts are", remedy, ok=count > 0)]


async def rules_in_force(settings: Settings) -> tuple[RulesConfig, list[Finding]]:
    """The rules that were applied last, and whether every partition knows them."""
    conn = await asyncpg.connect(settings.database_url, timeout=_CONNECT_S)
    try:
        stored = await config_rows.newest(conn)
        behind = await config_rows.partitions_behind(conn, stored.version) if stored else []
    finally:
        await conn.close()
    if stored is None:
        said = "no rules file was ever applied: alerts are grouped, and nobody is told"
        return BUILT_IN, [warn(RULES, said, f"set {PREFIX}CONFIG at the gateway")]
    config = load(stored.text, stored.version, stored.files)
    said = f"version {stored.version}" + (f" is unknown to {len(behind)} partitions" if behind else " is in force")
    found = [judged(RULES, said, "start the workers; the gateway announces it again", ok=not behind)]
    found += [warn(RULES, f"{one.field}: {one.reason}", one.remedy) for one in config.warnings]
    return config, found


async def look_at_receivers(config: RulesConfig, without: AbstractSet[tuple[str, int]]) -> list[Finding]:
    """Connect to every target but some, and say nothing there."""
    integrations = [one for receiver in config.receivers.values() for one in receiver.integrations]
    places = sorted({_place(one) for one in integrations} - without)
    if not integrations:
        return [warn(RECEIVERS, "no receiver has a channel: nobody is told", "give one a channel in the rules file")]
    return list(await asyncio.gather(*(_reached(host, port) for host, port in places)))


def _place(integration: Integration) -> tuple[str, int]:
    """Host and port that a notice goes to first: the proxy's where there is one."""
    parts = urlsplit(integration.options.get("proxy_url") or integration.target)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 443)


async def _reached(host: str, port: int) -> Finding:
    try:
        async with asyncio.timeout(_CONNECT_S):
            (await connected_socket(host, port)).close()
    except (OSError, httpcore.ConnectError, TimeoutError) as error:
        said = f"{host}:{port} is not reached: {str(error) or 'no answer'}"
        return fail(
            RECEIVERS, said, "see to name, route, firewall or proxy_url; `incidents receiver test` tries it whole"
        )
    return Finding(part=RECEIVERS, level=Level.PASS, said=f"{host}:{port} is reached")
