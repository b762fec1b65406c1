"""What the commands print at the end, and the figures that they write as JSON."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from loadtests.latency import Latency
from loadtests.ledger import Finding, Law, Verification
from loadtests.notices import FirstNotices
from loadtests.outside import Honesty
from loadtests.plan import Shape, Via
from loadtests.processes import Usage
from loadtests.rolling import RollingFigures

_PLAIN_WIDTH: Final = 110


class GeneratorFigures(msgspec.Struct, kw_only=True, frozen=True):
    """What the generator says about one way."""

    way: Via
    sent: int
    confirmed: int
    refused: int
    unknown: int
    late_worst_ms: float = 0
    late_ms: dict[str, float] = {}
    confirm_ms: dict[str, float] = {}
    cpu_us_per_message: float = 0


class LoadFigures(msgspec.Struct, kw_only=True, frozen=True):
    """Everything that one load run showed."""

    run: str
    via: Via
    shape: Shape
    batch: int
    rate_wanted: float
    seconds: float
    warmup: float
    kafka: str
    sent: int
    confirmed: int
    refused: int
    unknown: int
    in_postgres: int
    lost: int
    doubled: int
    rate: float
    drain_s: float
    drained: bool
    send_times_differ: int
    latency_ms: dict[str, Latency]
    honesty: Honesty
    laws: tuple[Finding, ...]
    generator: tuple[GeneratorFigures, ...]
    cpu_us_per_message: dict[str, float]
    rss_mib: dict[str, float]
    ready_ms: dict[str, dict[str, float]]
    passed: bool
    first_notices: FirstNotices | None = None
    rolling: RollingFigures | None = None


def console() -> Console:
    """The terminal, or plain lines of a fixed width where there is none."""
    return Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)


def write_json(figures: msgspec.Struct, path: str) -> None:
    """Keep the figures for other programs."""
    Path(path).write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")


def table_of(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose first column is text and the rest figures."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*(_shown(cell) for cell in row))
    return table


def print_load(out: Console, figures: LoadFigures) -> None:
    """The tables of a load run, the verdict last."""
    lines: list[tuple[str, object]] = [
        ("sent", figures.sent),
        ("confirmed", figures.confirmed),
        ("refused / unknown", f"{figures.refused:,} / {figures.unknown:,}"),
        ("in Postgres", figures.in_postgres),
        ("lost", figures.lost),
        ("doubled", figures.doubled),
        ("rate, confirmed/s", figures.rate),
        ("drained after the last send, s", figures.drain_s if figures.drained else "not drained"),
    ]
    title = f"{figures.via} at {figures.rate_wanted:,.0f}/s for {figures.seconds:g} s, Kafka: {figures.kafka}"
    out.print(table_of(title, ("", figures.run), lines))
    title = f"from send to commit, ms, after {figures.warmup:g} s"
    out.print(table_of(title, ("", "alerts", "p50", "p95", "p99", "p99.9", "worst"), (
        (_LATENCY_OF[name], took.events, took.p50, took.p95, took.p99, took.p999, took.worst)
        for name, took in figures.latency_ms.items()
    )))  # fmt: skip
    out.print(table_of("generator", ("way", "late p50 ms", "p99", "worst", "confirm p50 ms", "p99", "CPU us"), (
        (way.way, way.late_ms.get("p50", 0), way.late_ms.get("p99", 0), way.late_ms.get("max", 0),
         way.confirm_ms.get("p50", 0), way.confirm_ms.get("p99", 0), way.cpu_us_per_message)
        for way in figures.generator
    )))  # fmt: skip
    if figures.cpu_us_per_message:
        out.print(table_of("process", ("role", "CPU us a message", "RSS MiB", "/readyz p99 ms", "worst"), (
            (role, cpu, figures.rss_mib.get(role, 0), *_readiness(figures.ready_ms.get(role)))
            for role, cpu in figures.cpu_us_per_message.items()
        )))  # fmt: skip
    if figures.first_notices is not None:
        print_first_notices(out, figures.first_notices)
    if figures.rolling is not None:
        print_rolling(out, figures.rolling)
    honesty = figures.honesty
    out.print(
        f"committed_at against an outside reader, {honesty.rows:,} incident rows: "
        f"seen at most {honesty.at_most_ms:.1f} ms later, surely {honesty.surely_ms:.1f} ms"
    )
    if figures.send_times_differ:
        out.print(f"{figures.send_times_differ:,} new alerts do not carry the send time of the ledger")
    print_laws(out, figures.laws)
    out.print("passed" if figures.passed else "FAILED", style="bold green" if figures.passed else "bold red")


def print_first_notices(out: Console, first: FirstNotices) -> None:
    """How soon the first notice of each incident was there."""
    out.print(table_of(f"first notice beyond group_wait, s; other target: {first.receivers}", (
        "", "incidents", "untold", "p50", "p99", "worst", "goal p99"), [
        ("opened to told", first.incidents, first.untold, first.p50_s, first.p99_s, first.worst_s, first.goal_s),
    ]))  # fmt: skip


def print_rolling(out: Console, rolling: RollingFigures) -> None:
    """The pauses that each restart made."""
    title = f"rolling restart; no pause may be over {rolling.goal_s:g} s"
    out.print(table_of(title, ("", "away s", "longest pause of verdicts s", "of confirms s"), (
        (one.name, one.took_s, one.verdict_pause_s, one.confirm_pause_s) for one in rolling.restarts
    )))  # fmt: skip
    for name in rolling.undone:
        out.print(f"{name} was not restarted before the load was over", style="red")


_LATENCY_OF: Final[Mapping[str, str]] = {
    "new": "new: to its incident",
    "duplicate": "duplicate: to its verdict",
    "changed": "changed: to its verdict",
    "resolved": "resolved: to its verdict",
}


def print_laws(out: Console, findings: Iterable[Finding]) -> None:
    """A line for each law that is broken, with a few offenders; one line when none is."""
    broken = [finding for finding in findings if not finding.holds]
    for finding in broken:
        out.print(
            f"{finding.law}: {finding.violations:,} offend it, such as {'; '.join(finding.examples)}", style="red"
        )
    if not broken:
        out.print("laws L1 to L5 hold")


def lost_and_doubled(verification: Verification) -> tuple[int, int]:
    """The two figures that decide."""
    return verification.of(Law.LOST).violations, verification.of(Law.DOUBLED).violations


def per_message(before: Mapping[str, Usage], after: Mapping[str, Usage], messages: int) -> dict[str, float]:
    """CPU microseconds a message, by role."""
    return {
        role: (usage.cpu_s - before.get(role, Usage()).cpu_s) / max(1, messages) * 1e6 for role, usage in after.items()
    }


def _readiness(took: Mapping[str, float] | None) -> tuple[object, object]:
    return (took["p99"], took["max"]) if took else ("", "")


def _shown(cell: Any) -> str:  # noqa: ANN401 - a table holds what it is given
    if isinstance(cell, float):
        return f"{cell:,.1f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
