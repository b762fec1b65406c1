"""A closed loop over HTTP: some connections that post prepared bodies as fast as they are answered.

A process of its own: `python -m loadtests.http_blast PLAN`, the plan as JSON; its last line are the figures.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import msgspec

from loadtests.mixes import Mix, body
from loadtests.pace import quantiles

OWN: Final = "/api/v1/alerts"
ALERTMANAGER: Final = "/api/v2/alerts"
_BODIES: Final = 200


class BlastPlan(msgspec.Struct, frozen=True, kw_only=True):
    """`identities` alerts go round, so most of what is sent repeats."""

    url: str
    path: str = OWN
    seconds: float = 10
    batch: int = 64
    connections: int = 32
    identities: int = 10_000
    run: str = "blast"
    seed: int = 1


class BlastFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it; `codes` counts answers by status."""

    requests: int
    accepted: int
    seconds: float
    codes: dict[str, int]
    answer_ms: dict[str, float]
    cpu_us_per_alert: float


def bodies(plan: BlastPlan) -> list[bytes]:
    """Prepared requests' bodies; each alert stands in several of them, always saying the same."""
    mix = Mix(plan.run, plan.seed)
    at = datetime.now(UTC)
    alerts: dict[int, dict[str, object]] = {}
    while len(alerts) < plan.identities:
        event = mix.next()
        if event.alert is not None and event.alert.status == "firing":
            alerts.setdefault(event.identity, json.loads(body(event, at)))
    shown = [_alertmanagers(alert) if plan.path == ALERTMANAGER else alert for alert in alerts.values()]
    texts = [json.dumps(alert, separators=(",", ":")).encode() for alert in shown]
    at_most = [texts[(start * plan.batch + i) % len(texts)] for start in range(_BODIES) for i in range(plan.batch)]
    return [b"[" + b",".join(at_most[i : i + plan.batch]) + b"]" for i in range(0, len(at_most), plan.batch)]


def _alertmanagers(alert: dict[str, object]) -> dict[str, object]:
    return {"labels": alert["labels"], "annotations": alert.get("annotations", {}), "startsAt": alert["starts_at"]}


async def blast(plan: BlastPlan) -> BlastFigures:
    """Post until the time is over; every request that was begun is answered."""
    parts = urlsplit(plan.url)
    requests = [
        f"POST {plan.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(text)}\r\n\r\n".encode()
        + text
        for text in bodies(plan)
    ]
    codes: Counter[str] = Counter()
    took: list[float] = []
    began, cpu = time.monotonic(), time.process_time()
    until = began + plan.seconds

    async def connection(first: int) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
        number = first
        while (now := time.monotonic()) < until:
            writer.write(requests[number % len(requests)])
            number += plan.connections
            codes[await _answer(reader)] += 1
            took.append(time.monotonic() - now)
        writer.close()

    await asyncio.gather(*(connection(first) for first in range(plan.connections)))
    seconds = time.monotonic() - began
    accepted = (codes["200"] + codes["202"]) * plan.batch
    spent = (time.process_time() - cpu) / max(1, len(took) * plan.batch) * 1e6
    return BlastFigures(
        requests=len(took),
        accepted=accepted,
        seconds=seconds,
        codes=dict(codes),
        answer_ms=quantiles([round(each * 1e6) for each in took]),
        cpu_us_per_alert=spent,
    )


async def _answer(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, rest = head.partition(b"content-length:")
    length = int(rest.partition(b"\r\n")[0] or 0)
    if length:
        await reader.readexactly(length)
    return head[9:12].decode()


async def blasted(plan: BlastPlan) -> BlastFigures:
    """Run a blast in a process of its own.

    Raises:
        RuntimeError: it ended without figures.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests.http_blast", msgspec.json.encode(plan).decode(),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the blast ended with exit code {process.returncode}")
    return msgspec.json.decode(out.splitlines()[-1], type=BlastFigures)


def main() -> None:
    """Read the plan, blast, print the figures."""
    plan = msgspec.json.decode(sys.argv[1], type=BlastPlan)
    print(msgspec.json.encode(asyncio.run(blast(plan))).decode())


if __name__ == "__main__":
    main()
