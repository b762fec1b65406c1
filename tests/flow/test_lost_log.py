"""Kafka loses a topic under a running system: the workers say so, and nothing passes for having caught up."""

from pathlib import Path

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from agents.new_log import accept
from embedded.unit import Role
from streams.settings import PREFIX, Settings
from tests.flow.world import Desk, System, alert, running, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]


@pytest.mark.usefixtures("_bare_environment")
async def test_a_topic_that_is_lost_or_made_anew_is_named(tmp_path: Path, first_flavour: str, service: str) -> None:
    if first_flavour != "apache":
        pytest.skip("a broker that forgets is watched by its supervisor")
    async with Desk() as desk, running(tmp_path, desk, kafka=first_flavour, partitions=1) as system:
        for status in ("firing", "resolved"):
            await system.post("/api/v1/alerts", alert(service, status))
            await system.one_incident(service, "open" if status == "firing" else "resolved")
        admin = AIOKafkaAdminClient(bootstrap_servers=system.stack.endpoints["kafka"])
        await admin.start()
        try:
            await admin.delete_topics(["incident-inputs"])
            await until(lambda: says(system, "Kafka has no topic incident-inputs"), "it is named", within=60)
            await admin.create_topics([NewTopic("incident-inputs", 1, 1)])
        finally:
            await admin.close()
        system.stack.kill(Role.WORKER)
        await until(lambda: says(system, "was applied, but Kafka's log ends at"), "a new one is no old one", within=60)

        names = (name for name in system.stack.settings if name.startswith(PREFIX))
        settings = Settings.from_environ({name: system.stack.settings[name] for name in names})
        assert "#2 (incident-inputs/0:" in await accept(settings)
        system.stack.kill(Role.WORKER)
        await system.post("/api/v1/alerts", alert(service))
        reopened = await system.one_incident(service, "open")
        assert (reopened["reopened"], reopened["events"]) == (1, 3)
        assert "nothing was done" in await accept(settings)


async def says(system: System, words: str) -> bool:
    """Whether the worker is not ready and says why."""
    [worker] = [unit for unit in system.stack.units if unit.role is Role.WORKER]
    try:
        answer = await system.http.get(f"{worker.address}/readyz")
    except httpx.TransportError:
        return False
    detail = str(answer.json()["parts"].get("kafka log", {}).get("detail", ""))
    return answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and words in detail
