"""`incidents bench`: what each stage costs alone, and the whole, in one run and one table."""

import asyncio
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console as Terminal

from embedded.console import Console
from embedded.stack import Stack
from embedded.unit import Role
from loadtests.bench_flow import BenchPlan, FlowBench, Stage
from loadtests.bench_stages import Work, stages
from loadtests.plan import Endpoints
from loadtests.processes import kafka_flavour
from loadtests.report import console, table_of, write_json


class BenchFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one run showed."""

    plan: BenchPlan
    kafka: str
    alone: tuple[Work, ...]
    flow: tuple[Stage, ...]
    passed: bool


async def bench(plan: BenchPlan, *, report: str = "") -> int:
    """Measure on a system of its own, with data that goes afterwards; 0 only if nothing was lost or doubled."""
    print("each stage by itself, without services", flush=True)
    alone = []
    for work in stages():
        print(f"  {work.us_per_alert:6.1f} us an alert: {work.name}", flush=True)
        alone.append(work)
    with tempfile.TemporaryDirectory(prefix="incidents-bench-") as name:
        folder = Path(name)
        await asyncio.to_thread(folder.chmod, 0o755)  # services of their own user live below
        async with Stack(folder / "data", roles=(Role.GATEWAY, Role.DELIVERY), say=Console()) as stack:
            flavour = kafka_flavour(msgspec.convert(stack.endpoints, Endpoints).processes)
            flow = await FlowBench(stack, plan, folder).run()
    passed = not any(stage.wrong for stage in flow)
    figures = BenchFigures(plan=plan, kafka=flavour, alone=tuple(alone), flow=tuple(flow), passed=passed)
    if report:
        await asyncio.to_thread(write_json, figures, report)
    _print(console(), figures)
    return 0 if passed else 1


def _print(out: Terminal, figures: BenchFigures) -> None:
    rows = [(work.name, 1e6 / work.us_per_alert, work.us_per_alert) for work in figures.alone]
    out.print(table_of("one process, by itself", ("", "alerts/s", "CPU us an alert"), rows))
    roles = list(dict.fromkeys(role for stage in figures.flow for role in stage.cpu_us))
    title = f"on real services, Kafka: {figures.kafka}"
    out.print(table_of(title, ("", "alerts", "alerts/s", "p50 ms", "p99 ms", "wrong"), (
        (stage.name, stage.alerts, round(stage.per_second), _or_dash(stage.p50_ms), _or_dash(stage.p99_ms), stage.wrong)
        for stage in figures.flow
    )))  # fmt: skip
    told = [stage for stage in figures.flow if stage.cpu_us]
    out.print(table_of("CPU us an alert", ("", *(stage.short for stage in told)), (
        *((role, *(_or_dash(stage.cpu_us.get(role)) for stage in told)) for role in roles),
        ("all", *(sum(stage.cpu_us.values()) for stage in told)),
    )))  # fmt: skip
    out.print("passed" if figures.passed else "FAILED", style="bold green" if figures.passed else "bold red")


def _or_dash(figure: float | None) -> float | str:
    return "" if figure is None else figure
