"""The bench: every stage has a figure, and the flow on real services loses nothing."""

from pathlib import Path

import msgspec
import pytest

from loadtests.bench import BenchFigures, bench
from loadtests.bench_flow import BenchPlan
from loadtests.bench_stages import stages
from loadtests.http_blast import ALERTMANAGER, OWN, BlastPlan, bodies


def test_each_stage_by_itself_has_a_cost() -> None:
    found = list(stages())
    assert len({work.name for work in found}) == len(found) > 5
    assert all(0 < work.us_per_alert < 10_000 for work in found)


@pytest.mark.parametrize("path", [OWN, ALERTMANAGER])
def test_prepared_bodies_repeat_the_same_alerts(path: str) -> None:
    plan = BlastPlan(url="", path=path, identities=100, batch=10)
    alerts = [alert for text in bodies(plan) for alert in msgspec.json.decode(text)]
    said = {msgspec.json.encode(alert["labels"]): msgspec.json.encode(alert) for alert in alerts}
    assert len(said) == 100
    assert all(said[msgspec.json.encode(alert["labels"])] == msgspec.json.encode(alert) for alert in alerts)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.rabbitmq
@pytest.mark.timeout(300)
async def test_the_flow_on_real_services_loses_nothing(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert await bench(BenchPlan(messages=3000, seconds=1), report=str(report)) == 0
    figures = msgspec.json.decode(report.read_bytes(), type=BenchFigures)
    assert figures.passed
    flow = {stage.short: stage for stage in figures.flow if stage.short}
    assert {"fill", "bridge", "worker", "drain", "http own", "http v2"} <= set(flow)
    assert all(stage.per_second > 0 and stage.wrong == 0 for stage in figures.flow)
    assert flow["drain"].cpu_us["worker"] > 0
