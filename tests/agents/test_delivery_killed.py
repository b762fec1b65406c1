"""The delivery process dies with 200 sends in flight: each comes again under its old key, and nothing else does."""

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from aiohttp import web

from sinks import config_rows
from tests.agents.test_dispatch import until
from tests.sinks.outbox import incident, task

HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]
TARGETS = 50
TASKS = 200
LATER = 40
RULES = """
route: {{receiver: ops}}
receivers:
  - name: ops
    webhook_configs:
{urls}
"""


class Sink:
    """Keeps (key, hash of the body) of each request; while `hangs`, nobody is answered."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.hangs = asyncio.Event()
        self.urls: list[str] = []

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.seen.append((request.headers["Idempotency-Key"], hashlib.sha256(body).hexdigest()))
        await self.hangs.wait()
        return web.Response()


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Sink]:
    sink = Sink()
    app = web.Application()
    app.router.add_post("/{target}", sink.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HOSTS[0], 0).start()
    port = runner.addresses[0][1]
    for host in HOSTS[1:]:
        await web.TCPSite(runner, host, port).start()
    sink.urls = [f"http://{host}:{port}" for host in HOSTS]
    try:
        yield sink
    finally:
        sink.hangs.set()
        await runner.cleanup()


async def delivery(database_url: str, folder: Path) -> asyncio.subprocess.Process:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INCIDENTS_")} | {
        "INCIDENTS_DATABASE_URL": database_url,
        "INCIDENTS_KAFKA_URL": "127.0.0.1:1",
        "INCIDENTS_REDIS_URL": "redis://127.0.0.1:1/0",
        "INCIDENTS_DATA_DIR": str(folder),
        "INCIDENTS_DELIVERY_TIMEOUT": "240",
    }
    with (folder / "delivery.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agents", "delivery", env=environ, stdout=log, stderr=log
        )


@pytest.mark.timeout(300)
async def test_none_is_lost_and_only_those_in_flight_are_repeated_with_their_old_keys(
    database_url: str, conn: asyncpg.Connection, tmp_path: Path
) -> None:
    async with serving() as sink:
        urls = [f"{sink.urls[n % len(HOSTS)]}/t{n}" for n in range(TARGETS)]
        rules = RULES.format(urls="\n".join(f"      - url: {url}" for url in urls))
        version = await config_rows.store(conn, rules, "test")

        async def make(count: int) -> set[str]:
            made = [
                await task(
                    conn,
                    await incident(conn),
                    made_at=datetime.now(UTC),
                    target=urls[n % TARGETS],
                    integration=n % TARGETS,
                    config_version=version,
                )
                for n in range(count)
            ]
            return set(map(str, made))

        wanted = await make(TASKS)

        async def in_flight() -> bool:
            return len(sink.seen) == TASKS

        async def all_sent() -> bool:
            left: int = await conn.fetchval("SELECT count(*) FROM notification_tasks WHERE state <> 'sent'")
            return left == 0

        first = await delivery(database_url, tmp_path)
        try:
            await until(in_flight, 100)
            later = await make(LATER)
        finally:
            first.send_signal(signal.SIGKILL)
            await first.wait()
        cut_off = {key for key, _ in sink.seen}
        sink.hangs.set()
        second = await delivery(database_url, tmp_path)
        try:
            await until(all_sent, 100)
        finally:
            second.terminate()
            await second.wait()
    times = Counter(key for key, _ in sink.seen)
    assert set(times) == wanted | later
    assert {key for key, count in times.items() if count > 1} <= cut_off
    assert max(times.values()) == 2
    assert len(set(sink.seen)) == len(times), "a repeat has the body of the first"
    assert second.returncode == 0
