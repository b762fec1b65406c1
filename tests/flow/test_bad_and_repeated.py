"""Messages that cannot be used, and messages that come twice."""

import json
from typing import Any

import aio_pika
import pytest

from loadtests.bad import Fault, body_with
from tests.flow.world import System, alert, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def test_bad_messages_end_in_the_dead_letter_queue_with_their_reason_and_in_postgres(
    system: System, service: str
) -> None:
    sent = {f"{service}-{fault}": body_with(fault, service, 1) for fault in Fault}
    for message_id, body in sent.items():
        await system.publish(body, message_id)

    async def written() -> dict[str, str] | None:
        rows = await system.sql("SELECT event_id, reason FROM dead_letters WHERE starts_with(event_id, $1)", service)
        return {row["event_id"]: row["reason"] for row in rows} if len(rows) == len(sent) else None

    reasons = await until(written, "a row for each bad message")
    assert reasons.keys() == sent.keys()
    buried = await _from_dead_queue(system, sent.keys())
    for message_id, message in buried.items():
        assert message.body == sent[message_id]
        assert message.headers["x-reason"] == reasons[message_id]
        assert message.headers["x-field"]
    assert await system.incidents("broken-sender") == []


async def _from_dead_queue(system: System, wanted: Any) -> dict[str, aio_pika.abc.AbstractIncomingMessage]:
    amqp = system.stack.endpoints["amqp"]
    connection = await aio_pika.connect(amqp["url"])
    found: dict[str, aio_pika.abc.AbstractIncomingMessage] = {}
    async with connection:
        channel = await connection.channel()
        queue = await channel.get_queue(f"{amqp['exchange']}.dead", ensure=False)

        async def all_there() -> bool:
            message = await queue.get(fail=False)
            if message is not None:
                await message.ack()
                if message.message_id in wanted:
                    found[str(message.message_id)] = message
            return found.keys() == set(wanted)

        await until(all_there, "every bad message in the dead-letter queue")
    return found


async def test_a_list_in_one_message_loses_only_its_bad_item(system: System, service: str) -> None:
    good, bad = alert(service, event_id=f"{service}-good"), alert(service, "burning", event_id=f"{service}-bad")
    await system.publish(json.dumps([bad, good]).encode())
    await system.one_incident(service, "open")

    async def verdicts() -> dict[str, str] | None:
        rows = await system.sql(
            "SELECT event_ids[1] AS id, verdict FROM verdicts WHERE starts_with(event_ids[1], $1)", service
        )
        return {row["id"]: row["verdict"] for row in rows} if len(rows) > 1 else None

    assert await until(verdicts, "two verdicts") == {f"{service}-good": "new", f"{service}-bad": "rejected"}


async def test_a_message_that_comes_twice_is_redelivered_and_counts_once(system: System, service: str) -> None:
    before = await system.totals()
    for _ in range(3):
        await system.publish(json.dumps(alert(service)).encode(), f"{service}-same")
    await system.publish(json.dumps(alert(service, "resolved")).encode(), f"{service}-end")
    ended = await system.one_incident(service, "resolved")
    assert ended["events"] == 2
    after = await system.totals()
    grown = {name: after[name] - before[name] for name in ("received", "new", "resolved", "redelivered", "duplicate")}
    assert grown == {"received": 4, "new": 1, "resolved": 1, "redelivered": 2, "duplicate": 0}


async def test_a_bad_message_that_comes_twice_is_refused_once(system: System, service: str) -> None:
    before = await system.totals()
    for _ in range(2):
        await system.publish(b"not an alert", f"{service}-bad")

    async def grown() -> dict[str, int] | None:
        after = await system.totals()
        found = {name: after[name] - before[name] for name in ("received", "rejected", "redelivered")}
        return found if found["received"] == 2 else None

    assert await until(grown, "both were received") == {"received": 2, "rejected": 1, "redelivered": 1}
