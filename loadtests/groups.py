"""Many live groups: does intake stay quick while all of them are flushed? `python -m loadtests.groups`.

It starts a system of its own, fills it with alerts that go on firing, and then
sends single alerts at a steady rate while every group is told for the first
time and flushed again and again. Debian's Alertmanager, where it is installed, gets
the same requests afterwards. The exit code is 0 only if our 99th percentile of the
answers is below the bound, and every group was told once and never again.
"""

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec
from aiohttp import ClientSession

from embedded.console import Console
from embedded.ports import free_port
from embedded.stack import Stack
from loadtests import bench_alertmanager
from loadtests.report import console, table_of
from loadtests.sink_server import notices_of

BOUND_MS: Final = 100.0
_LATE_S: Final = 60
"""So much longer than the sending the notices may take."""
_RULES: Final = """\
route:
  receiver: sink
  group_by: [group]
  group_wait: {wait}s
  group_interval: {interval}s
  repeat_interval: 4h
  routes: [{{receiver: nobody, matchers: [alertname="Probe"]}}]
receivers:
  - name: nobody
  - name: sink
    webhook_configs: [{{url: "{url}/all"}}]
"""
_HELD: Final = """
SELECT (SELECT count(*) FROM groups) AS groups, (SELECT count(*) FROM incident_alerts WHERE firing) AS alerts
"""
_STEPPED: Final = "SELECT count(*) FROM groups WHERE updated_at > $1"
_PROBES: Final = """
SELECT percentile_disc(ARRAY[0.5, 0.99, 1.0]) WITHIN GROUP (
    ORDER BY extract(epoch FROM link.committed_at - alert.starts_at) * 1000)::float8[]
FROM incident_alerts link JOIN alerts alert USING (identity, occurrence)
WHERE alert.labels ->> 'probe' IS NOT NULL
"""


Answer = tuple[float, str]
"""Milliseconds until a single alert was answered, and why it was refused."""


class Result(msgspec.Struct, kw_only=True):
    """What was seen; times in milliseconds, of answers to single alerts and from send to committed row (ours alone)."""

    filled_seconds: float
    answers: int
    refused: int
    p50: float
    p99: float
    worst: float
    committed_p50: float | None = None
    committed_p99: float | None = None
    committed_worst: float | None = None
    flushed: int | None = None
    told_in_time: int
    told: int
    told_again: int

    def is_good(self, groups: int) -> bool:
        """Whether the bound holds, no alert was refused, every group flushed and told, and none told twice."""
        return self.p99 < BOUND_MS and not self.refused and not self.told_again and self.flushed == self.told == groups


def main() -> int:
    """Run it, print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.groups", description=__doc__)
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=5, help="alerts of a group")
    parser.add_argument("--rate", type=int, default=40, help="single alerts per second")
    parser.add_argument("--wait", type=int, default=60, help="group_wait in seconds, longer than filling takes")
    parser.add_argument("--interval", type=int, default=20, help="group_interval in seconds")
    parser.add_argument("--lists", type=int, default=0, help="how often somebody lists all groups meanwhile")
    parser.add_argument("--seconds", type=int, default=0, help="how long to send (0: the first flush and two more)")
    options = parser.parse_args()
    ours = asyncio.run(_run(options))
    theirs = asyncio.run(_run_beside(options)) if bench_alertmanager.installed() else None
    title = f"{options.groups * options.each:,} live alerts in {options.groups:,} groups"
    figures = msgspec.structs.asdict(ours).items()
    rows = ((name, _cell(value), _cell(getattr(theirs, name, None))) for name, value in figures)
    console().print(table_of(title, ("", "we", "Alertmanager"), rows))
    if ours.is_good(options.groups):
        print("good")
        return 0
    print(f"not good: p99 must be below {BOUND_MS:g} ms, none refused, every group flushed and told, none told twice")
    return 1


def _cell(value: float | None) -> float | str:
    return "" if value is None else value


async def _run(options: argparse.Namespace) -> Result:
    with tempfile.TemporaryDirectory(prefix="groups-") as name:
        folder = Path(name)
        async with _sink(folder) as url:
            rules = folder / "rules.yml"
            rules.write_text(_rules(url, options), encoding="utf-8")
            settings = {"config": rules, "verdict_event_ids": "none"}
            workers = int(os.environ.get("WORKERS") or 1)
            async with Stack(folder / "data", settings, workers=workers, rabbitmq=False, say=Console()) as stack:
                await asyncio.sleep(3)  # the rules have reached every partition
                return await _measured(stack, folder / "sink.jsonl", options)


async def _run_beside(options: argparse.Namespace) -> Result:
    """The same requests to Alertmanager; where it is filled sooner, it is asked for as much longer."""
    print("Alertmanager beside", flush=True)
    with tempfile.TemporaryDirectory(prefix="groups-") as name:
        folder = Path(name)
        async with _sink(folder) as sink, bench_alertmanager.running(folder, _rules(sink, options)) as url:
            began = time.monotonic()
            await _fill(url, options.groups, options.each)
            filled = time.monotonic() - began
            took = await _probe(url, options, _seconds(options, filled))
            return await _result(options, filled, took, folder / "sink.jsonl")


def _rules(url: str, options: argparse.Namespace) -> str:
    return _RULES.format(url=url, wait=options.wait, interval=options.interval)


def _seconds(options: argparse.Namespace, filled: float) -> float:
    """How long to send: the first flush and two more, of those that came last too."""
    return float(options.seconds or max(0, options.wait - filled) + filled + 2.5 * options.interval)


async def _measured(stack: Stack, ledger: Path, options: argparse.Namespace) -> Result:
    url = str(stack.endpoints["http"])
    conn = await asyncpg.connect(stack.endpoints["postgres"])
    try:
        began = time.monotonic()
        await _fill(url, options.groups, options.each)
        await _until_held(conn, options.groups, options.groups * options.each)
        filled = time.monotonic() - began
        if filled > options.wait:
            print(f"filling took {filled:.0f} s, longer than group_wait: the first flush came while it went on")
        since = datetime.now(UTC)
        took = await _probe(url, options, _seconds(options, filled))
        committed = list[float](await conn.fetchval(_PROBES) or [0.0] * 3)
        flushed = await conn.fetchval(_STEPPED, since)
    finally:
        await conn.close()
    result = await _result(options, filled, took, ledger)
    return msgspec.structs.replace(
        result, flushed=min(flushed, options.groups), committed_p50=committed[0], committed_p99=committed[1],
        committed_worst=committed[2],
    )  # fmt: skip


async def _result(options: argparse.Namespace, filled: float, took: list[Answer], ledger: Path) -> Result:
    in_time = len(_told(ledger))
    if reasons := Counter(why for _, why in took if why):
        print("refused:", reasons.most_common(3))
    for _ in range(_LATE_S):
        if len(told := _told(ledger)) >= options.groups:
            break
        await asyncio.sleep(1)
    times = [milliseconds for milliseconds, _ in took]
    return Result(
        filled_seconds=filled, answers=len(took), refused=sum(bool(why) for _, why in took),
        p50=statistics.median(times), p99=_quantile(times, 0.99), worst=max(times),
        told_in_time=in_time, told=len(told), told_again=told.total() - len(told),
    )  # fmt: skip


def _told(ledger: Path) -> Counter[str]:
    """How often the receiver heard of each group."""
    return Counter(notice.incident for notice in notices_of(ledger))


async def _fill(url: str, groups: int, each: int) -> None:
    """Alerts that fire for an hour, 500 in a request."""
    until = datetime.fromtimestamp(time.time() + 3600, UTC).isoformat()
    alerts = [
        {"labels": {"alertname": f"a{member}", "group": f"g{group}", "service": "many"}, "endsAt": until,
         "startsAt": datetime.now(UTC).isoformat(), "annotations": {"summary": f"{member} of {group} is slow"}}
        for group in range(groups) for member in range(each)
    ]  # fmt: skip
    async with ClientSession(raise_for_status=True) as client:
        for start in range(0, len(alerts), 500):
            await client.post(f"{url}/api/v2/alerts", json=alerts[start : start + 500])


async def _until_held(conn: "asyncpg.Connection[Any]", groups: int, alerts: int) -> None:
    async with asyncio.timeout(300):
        while True:
            [row] = await conn.fetch(_HELD)
            if row["groups"] >= groups and row["alerts"] >= alerts:
                return
            await asyncio.sleep(0.5)


async def _probe(url: str, options: argparse.Namespace, seconds: float) -> list[Answer]:
    """Single alerts at a steady rate, every tenth of them new."""
    took: list[Answer] = []
    async with ClientSession() as client, asyncio.TaskGroup() as group:
        began = time.monotonic()
        for number in range(options.lists):
            group.create_task(_list(client, url, seconds * (number + 0.5) / options.lists))
        for number in range(int(options.rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / options.rate - time.monotonic()))
            group.create_task(_ask(client, url, number, took))
    return took


async def _list(client: ClientSession, url: str, after: float) -> None:
    await asyncio.sleep(after)
    async with client.get(f"{url}/api/v2/alerts/groups") as answer:
        answer.raise_for_status()
        async for _ in answer.content.iter_any():
            pass


async def _ask(client: ClientSession, url: str, number: int, took: list[Answer]) -> None:
    probe = str(number) if number % 10 == 0 else "same"
    labels = {"alertname": "Probe", "group": "probes", "probe": probe}
    started = time.perf_counter()
    body = [{"labels": labels, "startsAt": datetime.now(UTC).isoformat()}]
    async with client.post(f"{url}/api/v2/alerts", json=body) as answer:
        said = await answer.text()
    took.append(((time.perf_counter() - started) * 1000, "" if answer.ok else said))


def _quantile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


@asynccontextmanager
async def _sink(folder: Path) -> AsyncIterator[str]:
    """A receiver in a process of its own."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests.sink_server", "--port", str(port), "--ledger", str(folder / "sink.jsonl"),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


if __name__ == "__main__":
    sys.exit(main())
