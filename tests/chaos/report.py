"""What a chaos run says at the end: a line a fault, a line a law, and the same as JSON."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from tests.chaos.run import Account

_WIDTH: Final = 132


def show(account: Account) -> None:
    """Print an account."""
    console = Console(width=None if Console().is_terminal else _WIDTH, highlight=False)
    console.print(_faults(account))
    console.print(_laws(account))
    for backlog in account.backlogs:
        rate = backlog.events / backlog.seconds
        console.print(
            f"{backlog.fault}: {backlog.events:,} events that came meanwhile were decided in {backlog.seconds:.1f} s, "
            f"{rate:,.0f}/s, {rate / account.plan.rate:.1f} times the live rate"
        )
    memory = ", ".join(f"{role} {peak:.0f}" for role, peak in sorted(account.memory.items()))
    console.print(f"most memory in MiB: {memory}; drained {account.drain_s:.1f} s after the last event")
    if account.not_shown:
        console.print(f"not shown on this machine: {', '.join(account.not_shown)}")
    verdict = "every law holds" if account.holds else "NOT every law holds"
    console.print(f"seed {account.plan.seed}: {account.events:,} events, {len(account.hurts)} faults, {verdict}")


def _faults(account: Account) -> Table:
    table = Table("fault", "times", "longest gap s", "median", "verdicts again s after it was mended", box=None)
    for name in sorted({gap.fault for gap in account.gaps}):
        gaps = [gap for gap in account.gaps if gap.fault == name]
        longest = [gap.longest_s for gap in gaps]
        table.add_row(
            name, str(len(gaps)), f"{max(longest):.1f}", f"{statistics.median(longest):.1f}",
            f"{max(gap.after_s for gap in gaps):.1f}",
        )  # fmt: skip
    return table


def _laws(account: Account) -> Table:
    table = Table("law", "", "against it", "", box=None)
    for finding in account.findings:
        table.add_row(finding.law, "ok" if finding.holds else "RED", str(finding.count), finding.note)
        for example in finding.violations:
            table.add_row("", "", "", example)
    return table


def total(accounts: Sequence[Account]) -> str:
    """One line over several seeds."""
    events, faults = sum(one.events for one in accounts), sum(len(one.hurts) for one in accounts)
    red = [str(one.plan.seed) for one in accounts if not one.holds]
    return f"{len(accounts)} seeds, {events:,} events, {faults} faults: " + (
        f"RED with seed {', '.join(red)}" if red else "every law holds"
    )


def write(accounts: Iterable[Account], path: Path) -> None:
    """Everything as JSON."""
    plain = [msgspec.structs.asdict(one) | {"stories": len(one.stories)} for one in accounts]
    path.write_bytes(msgspec.json.format(msgspec.json.encode(plain), indent=2))
