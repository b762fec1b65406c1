"""One system that is watched: its traces at an OTLP receiver, its metrics in a real Prometheus, its health."""

import asyncio
import json
import math
import os
import re
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
import pytest_asyncio
import yaml

from embedded.ports import free_port
from embedded.roles import ROLES
from embedded.unit import Role
from loadtests.feed import feed
from loadtests.plan import Endpoints
from loadtests.storm import sample_storm
from tests.chaos.system import family
from tests.flow.collector import Collector, Span
from tests.flow.world import Desk, System, alert, running, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(420)]

ROOT = Path(__file__).parents[2]
MESSAGES = 1500
WAY = (
    ("bridge", "process alerts.in"), ("bridge", "send alerts"), ("worker", "process alerts"),
    ("worker", "commit to postgres"), ("worker", "send to kafka"), ("worker", "write to redis"),
    ("worker", "process incident-inputs"), ("worker", "flush"), ("delivery", "notify webhook"),
)  # fmt: skip


@dataclass(frozen=True)
class Watched:
    """A running system and who watches it."""

    system: System
    collector: Collector
    prometheus: httpx.AsyncClient

    async def ask(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers now."""
        answer = await self.prometheus.get("/api/v1/query", params={"query": expression})
        assert answer.status_code == 200, f"{expression}: {answer.text}"
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    async def becomes(self, expression: str, wanted: Callable[[float], bool]) -> None:
        """Wait until an expression has one value, and that is as wanted.

        A gauge is measured now and then, and where a scrape came too late a target has no series until the next one.
        """
        seen: list[float] = []

        async def is_so() -> bool:
            seen[:] = [float(one["value"][1]) for one in await self.ask(expression)]
            return len(seen) == 1 and wanted(seen[0])

        try:
            await until(is_so, expression, within=60)
        finally:
            assert seen, f"{expression} has no value"
            assert wanted(seen[0]), f"{expression} is {seen}"

    async def firing(self, name: str) -> bool:
        return bool(await self.ask(f'ALERTS{{alertname="{name}", alertstate="firing"}}'))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def watched(
    tmp_path_factory: pytest.TempPathFactory, first_flavour: str, prometheus: str, _bare_environment: None
) -> AsyncIterator[Watched]:
    folder = tmp_path_factory.mktemp("observed")
    async with (
        Collector() as collector, Desk() as desk, running(
            folder, desk, kafka=first_flavour, partitions=4,
            otlp_url=collector.url, trace_share=0.02, trace_slow=30.0,
        ) as system,
        scraping(prometheus, folder, system) as client,
    ):  # fmt: skip
        yield Watched(system, collector, client)


@asynccontextmanager
async def scraping(program: str, folder: Path, system: System) -> AsyncIterator[httpx.AsyncClient]:
    """A Prometheus with the shipped rules, in a hurry, that tells its alerts to the system itself."""
    roles = [(unit.role.value, urlsplit(unit.address).netloc) for unit in system.stack.units if unit.role in ROLES]
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [urlsplit(system.url).netloc]}]}]},
        "scrape_configs": [
            {
                "job_name": "incidents",
                "static_configs": [{"targets": [target], "labels": {"role": role}} for role, target in roles],
            }
        ],
    }
    rules = (ROOT / "deploy/prometheus-rules.yml").read_text(encoding="utf-8")
    rules = re.sub(r"(?m)^( +for:) .*", r"\1 1s", rules)
    rules = rules.replace('{job="incidents"}) > 30\n', '{job="incidents"}) > 3\n')
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "rules.yml").write_text(rules, encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address={address}",
            "--rules.alert.resend-delay=1s",
            "--enable-feature=exemplar-storage",
            stdout=log,
            stderr=log,
        )
        try:
            async with httpx.AsyncClient(trust_env=False, base_url=f"http://{address}", timeout=30) as client:

                async def ready() -> bool:
                    try:
                        return (await client.get("/-/ready")).is_success
                    except httpx.TransportError:
                        return False

                await until(ready, "Prometheus is ready", within=60)
                yield client
        finally:
            process.terminate()
            await process.wait()


def _sender() -> tuple[str, str, str]:
    """Trace and span of a sender that records its own, and its header."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, f"00-{trace}-{span}-01"


async def _whole(watched: Watched, trace: str, last: str) -> list[Span]:
    async def there() -> list[Span] | None:
        spans = watched.collector.of(trace)
        return spans if any(span.name == last for span in spans) else None

    await until(there, f"the span {last} of trace {trace}", within=60)
    known = 0
    while known < len(watched.collector.of(trace)):  # the roles export each for itself
        known = len(watched.collector.of(trace))
        await asyncio.sleep(2)
    return watched.collector.of(trace)


async def test_one_alerts_trace_leads_from_its_sender_to_the_receivers_answer(watched: Watched, service: str) -> None:
    trace, sender, header = _sender()
    system = watched.system
    await system.publish(json.dumps(alert(service, severity="critical")).encode(), service, traceparent=header)
    told = (await system.notices(service, 1, within=60))[0]
    spans = {span.id: span for span in await _whole(watched, trace, "notify webhook")}
    assert {(span.role, span.name) for span in spans.values()} >= set(WAY)
    for span in spans.values():
        steps, at = 0, span
        while at.parent != sender:
            assert at.parent in spans, f"{at.name} hangs in the air"
            at, steps = spans[at.parent], steps + 1
            assert steps < len(spans)
        assert not span.error
    [notified] = [span for span in spans.values() if span.name == "notify webhook"]
    assert told.trace == f"00-{trace}-{notified.id}-01"
    assert notified.attributes["incidents.incident_id"] == told.body["incident"]["id"]
    chain = [notified]
    while chain[-1].parent != sender:
        chain.append(spans[chain[-1].parent])
    assert [span.name for span in reversed(chain)] == [
        "process alerts.in", "process alerts", "process incident-inputs", "flush", "notify webhook",
    ]  # fmt: skip
    lines = (system.stack.logs / "delivery.log").read_text(encoding="utf-8").splitlines()
    assert any(f'"trace_id":"{trace}"' in line and '"event":"notice"' in line for line in lines)


async def test_over_http_the_trace_begins_with_the_request(watched: Watched, service: str) -> None:
    trace, sender, header = _sender()
    answer = await watched.system.post("/api/v1/alerts", [alert(service), alert(service)], traceparent=header)
    assert answer.status_code == 202
    spans = await _whole(watched, trace, "notify webhook")
    [root] = [span for span in spans if span.parent == sender]
    assert (root.role, root.name) == ("gateway", "POST /api/v1/alerts")
    assert {span.name for span in spans} >= {"process alerts", "process incident-inputs", "flush"}


async def test_each_panel_and_each_rule_has_data_after_the_storm(watched: Watched) -> None:
    before = sum((await watched.system.totals()).values())
    where = msgspec.convert(watched.system.stack.endpoints, Endpoints)
    storm = sample_storm("observed", MESSAGES)
    await feed(where, storm, lambda _: None)

    async def decided() -> bool:
        return sum((await watched.system.totals()).values()) >= before + MESSAGES

    await until(decided, "the storm is decided", within=120)
    panels = [
        (path.stem, panel["title"], target["expr"])
        for path in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]
        for target in panel["targets"]
    ]
    assert len(panels) > 60

    silent = panels

    async def spoken() -> bool:
        silent[:] = [panel for panel in silent if not await watched.ask(panel[2])]
        return not silent

    try:
        await until(spoken, "each panel has data", within=60)
    finally:
        assert not silent
    for expression in (
        "sum(rate(incidents_events_total[5m]))",
        'sum(incidents_events_total{verdict="duplicate"})',
        'histogram_quantile(0.99, sum by (le) (rate(incidents_commit_seconds_bucket{agent="incidents"}[5m])))',
        "sum(incidents_active_incidents)",
        'sum(incidents_opened_severity_total{severity="critical"})',
        "sum(incidents_postgres_table_bytes)",
        "sum(incidents_table_bytes)",
        "sum(incidents_dead_letters_waiting)",
        "sum(incidents_notice_seconds_count)",
        "sum(incidents_first_notice_seconds_count)",
        'sum(incidents_partitions_owned{topic="alerts"})',
        'incidents:slo_errors:ratio_rate5m{slo="commit"} >= bool 0',
    ):
        await watched.becomes(expression, lambda value: 0 < value < math.inf)

    async def unwell() -> list[tuple[str, str]]:
        groups = (await watched.prometheus.get("/api/v1/rules")).json()["data"]["groups"]
        return [
            (rule["name"], rule.get("lastError", ""))
            for group in groups
            for rule in group["rules"]
            if rule["health"] != "ok"
        ]

    async def well() -> bool:
        return not await unwell()

    try:
        await until(well, "each rule has been evaluated and is well", within=60)
    finally:
        assert not await unwell()
    await watched.becomes('sum(incidents_backlog_records{topic="alerts"})', lambda value: value == 0)

    async def exemplars() -> list[Any]:
        found = await watched.prometheus.get(
            "/api/v1/query_exemplars",
            params={"query": "incidents_commit_seconds_bucket", "start": "0", "end": "9999999999"},
        )
        return list(found.json()["data"])

    examples = await until(exemplars, "latencies have exemplars", within=60)
    assert re.fullmatch(r"[0-9a-f]{32}", examples[0]["exemplars"][0]["labels"]["trace_id"])


async def test_our_own_rules_are_incidents_of_ours(watched: Watched) -> None:
    async def opened() -> bool:
        found = await watched.system.incidents("llm-incident-manager")
        return any(one["group_labels"]["alertname"] == "DeadMansSwitch" for one in found)

    await until(opened, "the dead man's switch is an incident", within=60)


async def test_the_lag_rule_fires_while_the_only_worker_is_stopped_and_clears_after(
    watched: Watched, service: str
) -> None:
    async def cleared() -> bool:
        return not (await watched.firing("AlertsWait") or await watched.firing("PartitionWithoutOwner"))

    await until(cleared, "neither fires before", within=90)
    watched.system.stack.kill(Role.WORKER, signal.SIGSTOP)
    try:
        answer = await watched.system.post("/api/v1/alerts", [alert(f"{service}-{n}") for n in range(20)])
        assert answer.status_code == 202

        async def fires() -> bool:
            return await watched.firing("AlertsWait") and await watched.firing("PartitionWithoutOwner")

        await until(fires, "the rules see that records wait and that nobody has the partitions", within=60)
    finally:
        watched.system.stack.kill(Role.WORKER, signal.SIGCONT)

    await until(cleared, "both clear", within=90)
    await watched.system.one_incident(f"{service}-7", "open", within=60)


async def _probes(watched: Watched, role: str) -> tuple[int, int, dict[str, Any]]:
    """Liveness, readiness, and what the role says of itself."""
    [unit] = [unit for unit in watched.system.stack.units if unit.role == role]
    alive = await watched.system.http.get(f"{unit.address}/healthz")
    ready = await watched.system.http.get(f"{unit.address}/readyz")
    return alive.status_code, ready.status_code, ready.json()


def _bad(body: dict[str, Any]) -> set[str]:
    return {name for name, part in body["parts"].items() if not part["ok"]}


async def _turns(watched: Watched, role: str, ready: int, part: str, *, well: bool) -> None:
    """Wait until a role says so of a part; it is alive all the while."""

    async def said() -> bool:
        alive, code, body = await _probes(watched, role)
        assert alive == 200, f"{role} is taken for dead: {body}"
        return code == ready and (part not in _bad(body) if well else part in _bad(body))

    await until(said, f"{role} is {'well' if well else 'hurt'} by {part}, and answers {ready}", within=60)


# What each role says while a part hangs: a worker needs all of them, gateway and bridge one of the brokers.
TRUTH = (
    ("redis", {"worker": 503, "gateway": 200}),
    ("postgres", {"worker": 503, "gateway": 200, "delivery": 503}),
    ("kafka", {"worker": 503, "gateway": 200, "bridge": 200, "delivery": 200}),
)


@contextmanager
def _hanging(watched: Watched, part: str) -> Iterator[None]:
    """A service with all of its processes stands still inside the block."""
    [child] = [unit.child for unit in watched.system.stack.units if unit.role == part]
    assert child is not None
    pids = family(child.pid)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(("part", "answers"), TRUTH)
async def test_readiness_names_the_part_that_hangs_and_liveness_stays(
    watched: Watched, part: str, answers: dict[str, int]
) -> None:
    await asyncio.gather(*(_turns(watched, role, 200, part, well=True) for role in answers))
    with _hanging(watched, part):
        await asyncio.gather(*(_turns(watched, role, code, part, well=False) for role, code in answers.items()))
        _, _, body = await _probes(watched, "worker")
        assert body["parts"][part]["required"] is True
        assert body["parts"][part]["since"] > 0
        assert body["parts"][part]["detail"]
        if part == "kafka":
            with _hanging(watched, "rabbitmq"):  # nothing can be taken any more
                for role in ("gateway", "bridge"):
                    await _turns(watched, role, 503, "rabbitmq", well=False)
            for role in ("gateway", "bridge"):
                await _turns(watched, role, 200, "rabbitmq", well=True)
    await asyncio.gather(*(_turns(watched, role, 200, part, well=True) for role in answers))


async def test_a_target_that_refuses_degrades_delivery_and_is_named(watched: Watched, service: str) -> None:
    watched.system.desk.answers = 503
    try:
        await watched.system.post("/api/v1/alerts", alert(service))
        await _turns(watched, "delivery", 200, "targets", well=False)
        _, _, body = await _probes(watched, "delivery")
        assert body["degraded"] is True
        assert "127.0.0.1" in body["parts"]["targets"]["detail"]
    finally:
        watched.system.desk.answers = 200
    await _turns(watched, "delivery", 200, "targets", well=True)
