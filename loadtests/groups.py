"""Many live groups: does intake stay quick while all of them are flushed? `python -m loadtests.groups`.

It starts a system of its own, fills it with alerts that go on firing, and then
sends single alerts at a steady rate while every group is told for the first
time and flushed again and again. The exit code is 0 only if the 99th percentile
of the answers is below the bound, and every group was told once and never again.
"""

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
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
from loadtests.sink_server import notices_of

BOUND_MS: Final = 100.0
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


class Result(msgspec.Struct, kw_only=True):
    """What was seen; times in milliseconds, of answers to single alerts and from send to committed row."""

    groups: int
    alerts: int
    filled_seconds: float
    answers: int
    p50: float
    p99: float
    worst: float
    committed_p50: float
    committed_p99: float
    committed_worst: float
    flushed: int
    told: int
    told_again: int

    @property
    def good(self) -> bool:
        """Whether the bound holds, every group was flushed, and none was told twice."""
        return self.p99 < BOUND_MS and not self.told_again and self.flushed == self.groups


def main() -> int:
    """Run it, print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.groups", description=__doc__)
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=5, help="alerts of a group")
    parser.add_argument("--rate", type=int, default=40, help="single alerts per second")
    parser.add_argument("--wait", type=int, default=60, help="group_wait in seconds, longer than filling takes")
    parser.add_argument("--interval", type=int, default=20, help="group_interval in seconds")
    parser.add_argument("--seconds", type=int, default=0, help="how long to send (0: the first flush and two more)")
    options = parser.parse_args()
    result = asyncio.run(_run(options))
    for name, value in msgspec.structs.asdict(result).items():
        print(f"{name:16} {value:>12,.1f}" if isinstance(value, float) else f"{name:16} {value:>12,}")
    print(
        "good" if result.good else f"not good: p99 must be below {BOUND_MS:g} ms, every group flushed, none told twice"
    )
    return 0 if result.good else 1


async def _run(options: argparse.Namespace) -> Result:
    with tempfile.TemporaryDirectory(prefix="groups-") as name:
        folder = Path(name)
        async with _sink(folder) as url:
            rules = folder / "rules.yml"
            rules.write_text(_RULES.format(url=url, wait=options.wait, interval=options.interval), encoding="utf-8")
            settings = {"config": rules, "verdict_event_ids": "none"}
            workers = int(os.environ.get("WORKERS") or 1)
            async with Stack(folder / "data", settings, workers=workers, rabbitmq=False, say=Console()) as stack:
                await asyncio.sleep(3)  # the rules have reached every partition
                return await _measured(stack, folder / "sink.jsonl", options)


async def _measured(stack: Stack, ledger: Path, options: argparse.Namespace) -> Result:
    url = str(stack.endpoints["http"])
    conn = await asyncpg.connect(stack.endpoints["postgres"])
    try:
        began = time.monotonic()
        await _fill(url, options.groups, options.each)
        held = await _until_held(conn, options.groups, options.groups * options.each)
        filled = time.monotonic() - began
        if filled > options.wait:
            print(f"filling took {filled:.0f} s, longer than group_wait: the first flush came while it went on")
        since = datetime.now(UTC)
        seconds = options.seconds or max(0, options.wait - filled) + filled + 2.5 * options.interval
        took = await _probe(url, options.rate, seconds)
        committed = list[float](await conn.fetchval(_PROBES) or [0.0] * 3)
        flushed = await conn.fetchval(_STEPPED, since)
    finally:
        await conn.close()
    told: dict[str, int] = {}
    for notice in notices_of(ledger):
        told[notice.incident] = told.get(notice.incident, 0) + 1
    return Result(
        groups=options.groups, alerts=held, filled_seconds=filled, answers=len(took), p50=statistics.median(took),
        p99=_quantile(took, 0.99), worst=max(took), committed_p50=committed[0], committed_p99=committed[1],
        committed_worst=committed[2], flushed=min(flushed, options.groups), told=min(len(told), options.groups),
        told_again=sum(count - 1 for count in told.values()),
    )  # fmt: skip


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


async def _until_held(conn: "asyncpg.Connection[Any]", groups: int, alerts: int) -> int:
    async with asyncio.timeout(300):
        while True:
            [row] = await conn.fetch(_HELD)
            if row["groups"] >= groups and row["alerts"] >= alerts:
                return int(row["alerts"])
            await asyncio.sleep(0.5)


async def _probe(url: str, rate: int, seconds: float) -> list[float]:
    """Single alerts at a steady rate, every tenth of them new; milliseconds of each answer."""
    took: list[float] = []
    async with ClientSession(raise_for_status=True) as client, asyncio.TaskGroup() as group:
        began = time.monotonic()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            group.create_task(_ask(client, url, number, took))
    return took


async def _ask(client: ClientSession, url: str, number: int, took: list[float]) -> None:
    probe = str(number) if number % 10 == 0 else "same"
    labels = {"alertname": "Probe", "group": "probes", "probe": probe}
    started = time.perf_counter()
    body = [{"labels": labels, "startsAt": datetime.now(UTC).isoformat()}]
    async with client.post(f"{url}/api/v2/alerts", json=body) as answer:
        await answer.read()
    took.append((time.perf_counter() - started) * 1000)


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
