"""Two minutes of a system to which one thing after another happens: every law holds afterwards."""

from pathlib import Path

import pytest

from tests.chaos.run import Plan, Run
from tests.chaos.stories import Timing
from tests.conftest import FLAVOURS, _jars

pytestmark = [
    pytest.mark.slow,
    pytest.mark.kafka,
    pytest.mark.postgres,
    pytest.mark.redis,
    pytest.mark.rabbitmq,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(420),
]

FAULTS = (
    "kill-worker kill-gateway kill-bridge kill-delivery kill-redis kill-postgres kill-kafka"
    " restart-worker flush-redis end-sessions poison-records stop-receiver"
)
SHORT = Plan(
    seed=20, seconds=75, rate=200, workers=2, kafka=FLAVOURS[0], faults=FAULTS, limit=9, calm=2,
    timing=Timing(window=25, near=2, margin=20),
)  # fmt: skip


@pytest.fixture
def _jars_are_here(services: Path) -> None:
    if FLAVOURS[0] == "apache":
        _jars(services / "logs")


@pytest.mark.usefixtures("_jars_are_here")
async def test_every_law_holds_after_whatever_happened(tmp_path: Path) -> None:
    said: list[str] = []
    account = await Run(SHORT, tmp_path, said.append).account()
    assert account.holds, (said, [finding for finding in account.findings if not finding.holds])
    assert account.events > 10_000
    assert len(account.hurts) >= 5
    assert not account.void
