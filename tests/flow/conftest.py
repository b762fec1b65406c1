"""One running system for the stories, and a name of its own for each story."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from streams.settings import PREFIX
from tests.conftest import FLAVOURS, _jars
from tests.flow.world import Desk, System, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A whole system needs every service."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for marker in ("kafka", "postgres", "redis", "rabbitmq", "slow"):
                item.add_marker(marker)


@pytest.fixture(scope="session")
def _bare_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def first_flavour(services: Path) -> str:
    """Apache Kafka where nothing else was asked for."""
    return _usable(FLAVOURS[0], services)


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest, services: Path) -> str:
    """Each broker in turn."""
    return _usable(request.param, services)


def _usable(flavour: str, services: Path) -> str:
    if flavour == "apache":
        _jars(services / "logs")
    return flavour


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def system(
    tmp_path_factory: pytest.TempPathFactory, first_flavour: str, _bare_environment: None
) -> AsyncIterator[System]:
    """The shared system: two workers, every role, a receiver behind the webhook."""
    folder = tmp_path_factory.mktemp("flow")
    async with Desk() as desk, running(folder, desk, kafka=first_flavour, workers=2) as found:
        yield found


@pytest.fixture
def service() -> str:
    """A service that no other story speaks of."""
    return f"svc-{secrets.token_hex(4)}"
