"""A real Postgres with the schema, rows put in by SQL, and the gateway over it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from embedded.account import server_account
from embedded.ports import free_port
from embedded.postgres import Postgres
from sinks.migrate import migrate
from streams.settings import Settings
from web.gateway import serving


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    folder: Path = tmp_path_factory.mktemp("web-postgres")
    server = Postgres(folder / "postgres", folder / "logs", server_account(), "secret")
    asyncio.run(server.start())
    asyncio.run(migrate(server.url, lambda _line: None))
    yield server
    asyncio.run(server.stop(10))


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> str:
    return postgres.url


@pytest.fixture
async def conn(postgres_url: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("TRUNCATE incidents, alerts, log_lives, verdicts, silences, partition_rules CASCADE")
    yield connection
    await connection.close()


@pytest.fixture
def settings(postgres_url: str) -> Settings:
    nowhere = free_port()
    return Settings(
        database_url=postgres_url,
        http_port=free_port(),
        kafka_url=f"127.0.0.1:{nowhere}",
        redis_url=f"redis://127.0.0.1:{nowhere}/0",
    )


@pytest.fixture
async def client(settings: Settings, conn: object) -> AsyncIterator[httpx.AsyncClient]:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(settings))
        yield await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
