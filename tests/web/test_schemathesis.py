"""Every operation of /openapi.json, asked by schemathesis: no 5xx, nothing that the document does not say.

EXAMPLES=200 digs deeper than the few questions a run of all tests has time for: in all of its phases, and for minutes.
"""

import asyncio
import os
import sysconfig
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from argon2 import PasswordHasher

from streams.settings import Settings
from streams.topic_admin import ensure_topics
from tests.conftest import FLAVOURS, Broker
from tests.web.rows import add_alert, add_entry, add_incident, add_progress, add_task
from tests.web.signing_in import add_token, add_user, bearer, clear, guarded

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(900)]
PROGRAM = Path(sysconfig.get_path("scripts"), "st")
DEEP = os.environ.get("EXAMPLES", "")
UNUSED = (
    "positive_data_acceptance",  # cursors, matchers and schedules have grammars that no JSON schema tells
    "allow_header_conformance",  # OPTIONS is Litestar's, which names the methods of one handler
)
ENDLESS = "/api/v1/stream"


@pytest.fixture
async def url(
    settings: Settings, conn: "Conn", kafka: Broker, redis_url: str, app_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """A gateway that asks who it is, over everything it can have, with something of everything in it."""
    monkeypatch.setattr("streams.credentials._hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    monkeypatch.setattr("web.action_sender.WAIT_SECONDS", 0.0)  # no worker decides
    monkeypatch.setattr("web.guard._FREE", 1_000_000)  # guessing is slowed elsewhere
    await clear(conn)
    incident = await add_incident(conn, "Cost burn")
    await add_alert(conn, incident, {"alertname": "CostBurn"}, links=[["https://x.example", "x"]])
    await add_entry(conn, incident, 1, "opened")
    await add_task(conn, incident, 1)
    await add_progress(conn, 0)
    await add_user(conn, "root", "admin")
    mine = replace(settings, kafka_url=kafka.url, redis_url=redis_url, app_prefix=app_prefix)
    await ensure_topics(mine, lambda _line: None)
    async with guarded(mine) as address:
        yield address


@pytest.mark.parametrize("kafka", FLAVOURS[:1], indirect=True)
async def test_nothing_that_is_asked_is_answered_otherwise_than_described(
    url: str, conn: "Conn", tmp_path: Path
) -> None:
    token = await add_token(conn, "root", "admin")
    async with httpx.AsyncClient(base_url=url, headers=bearer(token), timeout=60) as client:
        document = (await client.get("/openapi.json")).content
    await asyncio.to_thread((tmp_path / "openapi.json").write_bytes, document)
    for examples, *said in ((3, f"--header=Authorization: Bearer {token}"), (1,)):
        code, report = await asked(url, tmp_path, examples, *said)
        assert code == 0, report


async def asked(url: str, folder: Path, examples: int, *more: str) -> tuple[int, str]:
    """Exit code and report of a run that asks for everything but what never ends."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "run", "openapi.json", f"--url={url}", f"--exclude-path={ENDLESS}", "--seed=1", "--request-timeout=20",
        f"--phases={'coverage,fuzzing,stateful' if DEEP else 'fuzzing'}", f"--max-examples={DEEP or examples}",
        f"--exclude-checks={','.join(UNUSED)}", "--continue-on-failure", "--no-color", "--warnings=off", *more,
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode()
