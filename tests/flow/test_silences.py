"""Silences and inhibition reach every worker within a second, withhold notices, and end as fast."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from streams.records import Silence
from tests.flow.world import Received, System, alert, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]
WITHIN = 1.0


async def silenced(system: System, service: str) -> dict[str, Any]:
    answer = await system.post(
        "/api/v1/silences",
        {
            "matchers": [[{"name": "service", "value": service}]],
            "ends_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
            "created_by": "flow",
            "comment": "a story",
        },
    )
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def applied(system: System, silence_id: str) -> list[Silence]:
    """The silence as each partition has it."""
    rows = await system.sql("SELECT value FROM partition_rules WHERE key = $1", f"silence:{silence_id}")
    return [msgspec.msgpack.decode(row["value"], type=Silence) for row in rows]


async def test_every_partition_has_a_silence_within_a_second_and_its_end_too(system: System, service: str) -> None:
    partitions = (await system.sql("SELECT count(*) AS n FROM stream_progress WHERE topic = 'incident-inputs'"))[0]["n"]
    made = await silenced(system, service)
    began = time.monotonic()

    async def everywhere() -> list[Silence] | None:
        found = await applied(system, made["id"])
        return found if len(found) == partitions else None

    assert await until(everywhere, "the silence in every partition", within=10)
    assert time.monotonic() - began < WITHIN

    await system.post(f"/api/v1/silences/{made['id']}/expire", {})
    began = time.monotonic()

    async def nowhere() -> bool | None:
        return True if not await applied(system, made["id"]) else None

    assert await until(nowhere, "no partition keeps a silence that is over", within=10)
    assert time.monotonic() - began < WITHIN


async def decided(system: System, service: str, decision: str) -> str:
    """Wait until it was decided about the one alert that is refused; its fingerprint."""

    async def found() -> str | None:
        rows = await system.sql(
            "SELECT a.fingerprint FROM decisions d JOIN alerts a USING (identity) WHERE d.decision = $1"
            " AND a.labels->>'service' = $2 AND a.labels->>'alertname' = 'RateLimited'",
            decision,
            service,
        )
        return rows[0]["fingerprint"] if rows else None

    return await until(found, f"{decision} is decided about {service}")


def refused(system: System, service: str) -> list[Received]:
    return [one for one in system.desk.about(service) if one.body["groupLabels"]["alertname"] == "RateLimited"]


async def told(system: System, service: str) -> None:
    async def found() -> bool:
        return bool(refused(system, service))

    await until(found, f"the desk is told that {service} is refused")


async def story(system: System, fingerprint: str) -> str:
    found = (await system.http.get(f"{system.url}/api/v1/alerts/{fingerprint}/explain")).json()
    return "\n".join(one["text"] for one in (*found["lines"], *found["next"]))


async def test_a_silenced_alert_is_told_when_the_silence_ends(system: System, service: str) -> None:
    made = await silenced(system, service)
    await system.post("/api/v1/alerts", alert(service))
    fingerprint = await decided(system, service, "silenced by")
    said = await story(system, fingerprint)
    assert f"Silence {made['id']} muted it. flow made it: a story." in said
    assert f"Silence {made['id']} (a story) ends." in said
    assert refused(system, service) == []
    await system.post(f"/api/v1/silences/{made['id']}/expire", {})
    await told(system, service)

    async def heard() -> bool:
        return "desk was told by webhook: first firing." in await story(system, fingerprint)

    await until(heard, "the story says who was told")
    assert "It is no longer muted by" in await story(system, fingerprint)


async def test_an_alert_is_muted_while_another_fires_on_whatever_partition(system: System, service: str) -> None:
    down = {**alert(service), "labels": {"alertname": "ServiceDown", "service": service}}
    await system.post("/api/v1/alerts", down)
    await system.notices(service, 1)
    await system.post("/api/v1/alerts", alert(service))
    fingerprint = await decided(system, service, "inhibited by")
    [source] = await system.sql(
        "SELECT fingerprint FROM alerts WHERE labels->>'service' = $1 AND labels->>'alertname' = 'ServiceDown'", service
    )
    listed = (await system.http.get(f"{system.url}/api/v2/alerts", params={"filter": f"service={service}"})).json()
    status = {one["labels"]["alertname"]: one["status"] for one in listed}
    assert status["RateLimited"]["inhibitedBy"] == [source["fingerprint"]]
    assert status["ServiceDown"]["state"] == "active"
    assert f"Alert {source['fingerprint']} fires and muted it." in await story(system, fingerprint)
    assert refused(system, service) == []
    await system.post("/api/v1/alerts", {**down, "status": "resolved"})
    await told(system, service)
