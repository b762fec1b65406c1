"""`incidents demo`: a sample storm through a running system, and whether its sums agree, to the unit."""

import argparse
import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import asyncpg
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from loadtests.feed import Told, feed
from loadtests.ledger import verify_when_flushed
from loadtests.ledger_file import Entry, Outcome
from loadtests.plan import Endpoints
from loadtests.report import console, print_laws, table_of
from loadtests.storm import MESSAGES, sample_storm
from loadtests.sums import Connection, Rows, Sums, database_now, read_incidents, read_rows, read_sums, wait_until
from loadtests.target import NoSystemError, running_system
from streams.records import Verdict
from streams.settings import Settings

_DRAIN_S: Final = 180.0
_STALLED_S: Final = 40.0
_PLAIN_STEP: Final = 10  # per cent


async def demo(settings: Settings, endpoints: Mapping[str, Any], *, once: bool, messages: int = MESSAGES) -> int:
    """Feed the sample storm to the system behind `endpoints` (as in endpoints.json); 0 only if the sums agree."""
    where = msgspec.convert(endpoints, Endpoints)
    out = console()
    run = f"demo{secrets.token_hex(3)}"
    storm = sample_storm(run, messages)
    if where.amqp is None:
        out.print("RabbitMQ is not there: the storm goes over HTTP instead", style="yellow")
    connection = await asyncpg.connect(where.postgres)
    try:
        before, since_at = await read_sums(connection), await database_now(connection)
        with _bar(out, "alert messages confirmed", len(storm)) as told:
            entries = await feed(where, storm, told)
        drained = await _drained(out, connection, before, entries)
        verification = await verify_when_flushed(connection, entries, run)
        sums, rows = (await read_sums(connection)).since(before), await read_rows(connection, since_at)
        _print_sums(out, sums, rows, entries)
        incidents = await read_incidents(connection)
        out.print(table_of("incidents", ("status", "now"), incidents.items()))
    finally:
        await connection.close()
    print_laws(out, verification.findings)
    agree = drained and verification.holds and _agree(sums, rows, entries)
    out.print("the sums agree" if agree else "the sums do NOT agree", style="bold green" if agree else "bold red")
    page = where.http or settings.page_url
    out.print(f"the incidents: {page}/" if once else f"look at the incidents: {page}/   (Ctrl-C stops everything)")
    return 0 if agree else 1


async def _drained(out: Console, connection: Connection, before: Sums, entries: list[Entry]) -> bool:
    confirmed = [entry.event_id for entry in entries if entry.outcome is Outcome.CONFIRMED]
    copies = len(confirmed) - len(set(confirmed))
    with _bar(out, "of them in Postgres", len(confirmed)) as told:

        async def arrived() -> int:
            sums = (await read_sums(connection)).since(before)
            return min(sums.received, sums.settled + copies)

        return await wait_until(arrived, len(confirmed), within=_DRAIN_S, stalled=_STALLED_S, seen=told)


def _agree(sums: Sums, rows: Rows, entries: list[Entry]) -> bool:
    distinct = {entry.event_id for entry in entries if entry.outcome is Outcome.CONFIRMED}
    return (
        sums.add_up
        and sums.settled == len(distinct)
        and rows.dead_letters == sums.rejected
        and all(rows.verdicts[verdict] == getattr(sums, verdict) for verdict in rows.verdicts)
    )


def _print_sums(out: Console, sums: Sums, rows: Rows, entries: list[Entry]) -> None:
    lines: list[tuple[object, ...]] = [
        (verdict.value, getattr(sums, verdict), rows.verdicts.get(verdict, "no rows")) for verdict in Verdict
    ]
    lines.append(("= received", sums.received, sum(rows.verdicts.values()) + sums.redelivered))
    out.print(table_of("what became of the events", ("", "counted", "rows in Postgres"), lines))
    by_outcome = {outcome: sum(entry.outcome is outcome for entry in entries) for outcome in Outcome}
    told = ", ".join(f"{count:,} {outcome}" for outcome, count in by_outcome.items() if count)
    out.print(f"sent {len(entries):,} messages: {told}; dead letters: {rows.dead_letters:,}")


@contextmanager
def _bar(out: Console, what: str, total: int) -> Iterator[Told]:
    """A progress bar, or a line for each tenth where there is no terminal."""
    if not out.is_terminal:
        shown = -1

        def line(done: int) -> None:
            nonlocal shown
            tenth = done * 100 // max(1, total) // _PLAIN_STEP
            if tenth != shown:
                shown = tenth
                print(f"{what}: {done:,} of {total:,}", flush=True)

        yield line
        return
    columns = (TextColumn("{task.description:<26}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


async def demo_somewhere(settings: Settings, *, named: str | None, messages: int, once: bool = True) -> int:
    """The demo on the running system (`named`: its endpoints.json), or on one started for it.

    One that was started serves on until Ctrl-C, unless `once`.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    try:
        async with running_system(settings, named) as endpoints:
            code = await demo(settings, msgspec.to_builtins(endpoints), once=once, messages=messages)
            if not once:
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.add_signal_handler(number, stop.set)
                print(f"serving {endpoints.http}/ until Ctrl-C", flush=True)
                await stop.wait()
            return code
    except NoSystemError as error:
        print(error, file=sys.stderr)
        return 2


def main(arguments: list[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.demo", description="Feed a sample storm and add up.")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="messages of the storm (%(default)s)")
    parser.add_argument(
        "--endpoints", default="", help="endpoints.json of a running system (default: the data folder's)"
    )
    given = parser.parse_args(arguments)
    settings = Settings.from_environ(os.environ)
    return asyncio.run(demo_somewhere(settings, named=given.endpoints or None, messages=given.messages))


if __name__ == "__main__":
    raise SystemExit(main())
