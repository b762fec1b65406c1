"""Each planted bug turns the ledger red."""

from pathlib import Path

import pytest

from embedded.postgres import Postgres
from embedded.roles import PREFIX
from tests.chaos.planted_runs import CASES, is_found, plan_of
from tests.chaos.run import Run
from tests.conftest import Broker

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]

TRIES = 4
"""A fault hits at a moment that differs from run to run: a bug is found when one of a few runs shows it."""


@pytest.fixture
def urls(postgres: Postgres, redis_url: str, amqp_url: str, apache_kafka: Broker) -> dict[str, str]:
    return {
        f"{PREFIX}DATABASE_URL": postgres.url, f"{PREFIX}REDIS_URL": redis_url, f"{PREFIX}AMQP_URL": amqp_url,
        f"{PREFIX}KAFKA_URL": apache_kafka.url,
    }  # fmt: skip


@pytest.mark.parametrize("plant", CASES)
async def test_a_planted_bug_is_found(plant: str, urls: dict[str, str], tmp_path: Path) -> None:
    said: list[str] = []
    for number in range(TRIES):
        folder = tmp_path / f"run-{number}"
        folder.mkdir()
        if is_found(plant, await Run(await plan_of(plant, urls), folder, said.append).account()):
            return
    pytest.fail(f"{plant} was not found in {TRIES} runs: {said}")
