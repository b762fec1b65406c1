"""Real services for the tests: each is started once, when the first test asks for it.

A test says what it needs by its fixtures and is marked with the services'
names. What tests share on one server is kept apart by a database, or by a
prefix, of their own.
"""

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

from embedded.account import server_account
from embedded.errors import EmbeddedError
from embedded.jars import kafka_jars
from embedded.kafka import Kafka
from embedded.postgres import Postgres
from embedded.rabbitmq import RabbitMQ, find_server
from embedded.redis import Redis
from embedded.tansu import Tansu
from embedded.unit import Unit
from sinks.migrate import migrate
from streams.settings import PREFIX, Settings

T = TypeVar("T")
U = TypeVar("U", bound=Unit)

FLAVOURS = (os.environ["KAFKA"],) if os.environ.get("KAFKA") else ("apache", "tansu")
REQUIRE_KAFKA = os.environ.get("REQUIRE_KAFKA") == "1"
SERVICES = {
    "kafka": "kafka",
    "apache_kafka": "kafka",
    "redis_url": "redis",
    "postgres": "postgres",
    "amqp_url": "rabbitmq",
    "chromium": "chromium",
    "prometheus": "prometheus",
    "amtool": "alertmanager",
}


@dataclass(frozen=True)
class Broker:
    """A running broker: which it is, where, and the name of its log's life (empty where the log lasts)."""

    flavour: str
    url: str
    generation: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the services that its fixtures start."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in SERVICES:
                item.add_marker(SERVICES[fixture])


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds what the servers keep."""
    return tmp_path_factory.mktemp("services")


@pytest.fixture(scope="session")
def postgres(services: Path) -> Iterator[Postgres]:
    """A running Postgres whose database `migrated` has the whole schema."""
    with _running(Postgres(services / "postgres", services / "logs", server_account(), secrets.token_hex(8))) as unit:
        _run(migrate(_other_database(unit.url, "migrated"), lambda _: None))
        yield unit


@pytest.fixture
def new_database_url(postgres: Postgres) -> Iterator[str]:
    """The address of a database that does not exist yet; dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    yield _other_database(postgres.url, name)
    _run(_execute(postgres.url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


@pytest.fixture
def database_url(postgres: Postgres, new_database_url: str) -> str:
    """The address of a database of the test's own, with the whole schema."""
    name = new_database_url.rpartition("/")[2]
    _run(_execute(postgres.url, f'CREATE DATABASE "{name}" TEMPLATE migrated'))
    return new_database_url


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to `database_url`."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
def role_prefix(postgres: Postgres, database_url: str) -> Iterator[str]:
    """A prefix for Postgres' roles of the test's own; they and their logins go when the database has gone."""
    name = f"t{secrets.token_hex(4)}"
    yield name
    _run(_execute(postgres.url, f'DROP DATABASE IF EXISTS "{database_url.rpartition("/")[2]}" WITH (FORCE)'))
    for part in ("migrate", "app", "read"):
        _run(_execute(postgres.url, f"DROP ROLE IF EXISTS {name}_{part}_login, {name}_{part}"))


@pytest.fixture
async def logins(database_url: str, role_prefix: str) -> dict[str, str]:
    """Addresses of `database_url` for a member of each of Postgres' roles: migrate, app, read."""
    await migrate(database_url, lambda _: None, roles=role_prefix)
    password = secrets.token_hex(8)
    connection = await asyncpg.connect(database_url)
    try:
        for part in ("migrate", "app", "read"):
            name = f"{role_prefix}_{part}"
            await connection.execute(f"CREATE ROLE {name}_login LOGIN PASSWORD '{password}' IN ROLE {name}")
    finally:
        await connection.close()
    place = database_url.rpartition("@")[2]
    return {part: f"postgresql://{role_prefix}_{part}_login:{password}@{place}" for part in ("migrate", "app", "read")}


@pytest.fixture(scope="session")
def redis_url(services: Path) -> Iterator[str]:
    """A running Redis; keys are kept apart by `app_prefix`."""
    with _running(Redis(services / "redis", services / "logs", server_account(), secrets.token_hex(8))) as unit:
        yield unit.url


@pytest.fixture(scope="session")
def amqp_url(services: Path) -> Iterator[str]:
    """A running RabbitMQ; names on it are kept apart by `app_prefix`."""
    script = find_server()
    if script is None:
        pytest.skip("rabbitmq-server is not installed (apt-get install rabbitmq-server)")
    folder, logs = services / "rabbitmq", services / "logs"
    with _running(RabbitMQ(folder, logs, server_account(), secrets.token_hex(8), script)) as unit:
        yield unit.url


@pytest.fixture(scope="session", params=FLAVOURS)
def kafka(request: pytest.FixtureRequest, services: Path) -> Iterator[Broker]:
    """A running broker, of each flavour in turn; topics are kept apart by `app_prefix`."""
    with _broker(request.param, services) as broker:
        yield broker


@pytest.fixture(scope="session")
def apache_kafka(services: Path) -> Iterator[Broker]:
    """A running Apache Kafka of its own, for tests of what only it does."""
    with _broker("apache", services / "alone") as broker:
        yield broker


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program of an installed Chromium."""
    return _installed("chromium")


@pytest.fixture(scope="session")
def prometheus() -> str:
    """The program of an installed Prometheus."""
    return _installed("prometheus")


@pytest.fixture(scope="session")
def amtool() -> str:
    """The program amtool of an installed Alertmanager."""
    return _installed("amtool")


@pytest.fixture
def app_prefix() -> str:
    """Keeps the topics, groups, queues and keys of one test apart."""
    return f"t{secrets.token_hex(5)}"


@pytest.fixture
def settings(app_prefix: str, tmp_path: Path) -> Settings:
    """Settings that point at no service yet: `dataclasses.replace` adds what the test started."""
    return Settings(app_prefix=app_prefix, data_dir=str(tmp_path / "data"), partitions=4, kafka_fetch_wait=20)


@contextmanager
def _running(unit: U) -> Iterator[U]:
    """Start a unit and stop it at the end, each in an event loop of its own."""
    _run(unit.start())
    try:
        yield unit
    finally:
        _run(unit.stop(15))


@contextmanager
def _broker(flavour: str, services: Path) -> Iterator[Broker]:
    folder, logs, account = services / flavour, services / "logs", server_account()
    new = Tansu(folder, logs, account) if flavour == "tansu" else Kafka(folder, logs, account, _jars(logs))
    with _running(new) as unit:
        yield Broker(flavour, unit.address, unit.generation)


def _jars(logs: Path) -> Path:
    try:
        return _run(kafka_jars(logs))
    except EmbeddedError as error:
        reason = f"Apache Kafka cannot run here: {error}"
    if REQUIRE_KAFKA:
        pytest.fail(f"{reason} (and REQUIRE_KAFKA=1)")
    pytest.skip(reason)


def _installed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (apt-get install {program})")
    return found


def _run(work: Coroutine[Any, Any, T]) -> T:
    # Not in a thread: the servers end with the thread that started them.
    return asyncio.run(work)


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _other_database(url: str, name: str) -> str:
    return f"{url.rpartition('/')[0]}/{name}"
