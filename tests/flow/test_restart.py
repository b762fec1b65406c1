"""The whole system stops and starts again: what was known is known."""

import json
from pathlib import Path

import pytest

from tests.flow.world import Desk, alert, running, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


@pytest.mark.usefixtures("_bare_environment")
async def test_an_end_that_comes_after_a_restart_resolves_the_incident_opened_before(
    tmp_path: Path, flavour: str, service: str
) -> None:
    async with Desk() as desk:
        async with running(tmp_path, desk, kafka=flavour, partitions=4) as system:
            await system.publish(json.dumps(alert(service, severity="critical")).encode(), f"{service}-1")
            opened = await system.one_incident(service, "open")
            assert (await system.notices(service, 1))[0].body["status"] == "firing"
            before = await system.totals()
        async with running(tmp_path, desk, kafka=flavour, partitions=4) as system:
            assert (await system.one_incident(service, "open"))["id"] == opened["id"]
            assert await system.totals() == before
            # The same message again: the ids of events outlive the restart, too.
            await system.publish(json.dumps(alert(service, severity="critical")).encode(), f"{service}-1")
            await system.publish(json.dumps(alert(service)).encode(), f"{service}-2")
            await system.publish(json.dumps(alert(service, "resolved")).encode(), f"{service}-3")
            ended = await system.one_incident(service, "resolved")
            assert (ended["id"], ended["events"]) == (opened["id"], 3)
            await system.notices(service, 2)
            after = await system.totals()
            assert (after["redelivered"], after["new"]) == (before["redelivered"] + 1, before["new"])

            async def quiet() -> bool:
                left = await system.sql("SELECT FROM notification_tasks WHERE state IN ('due', 'sending')")
                return not left

            await until(quiet, "no notice is left")
        told = desk.about(service)
        assert [one.body["status"] for one in told] in (["firing", "resolved"], ["firing", "firing", "resolved"])
        assert len({one.key for one in told}) == len(told)
        assert {one.body["incident"]["id"] for one in told} == {opened["id"]}
