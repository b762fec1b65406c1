"""What the bridge acknowledges when it is told to stop while Kafka does not confirm."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from streams import codec
from streams.amqp import HANDOVER_TYPE
from streams.amqp_bursts import Delivery
from streams.bridge import Bridge, _Session
from streams.bridge_batch import gathered
from streams.observe import Health
from streams.producer import KafkaUnavailableError
from streams.records import AlertBatch, Rejected
from streams.settings import Settings


def message(number: int) -> Delivery:
    said = {"event_id": f"e{number}", "source": "x", "status": "firing", "summary": "s", "labels": {"n": str(number)}}
    return Delivery(number, "llm.alert", json.dumps(said).encode())


class SlowKafka:
    """Confirms nothing of the first batch, during which the bridge is told to stop, and everything after it."""

    connected, detail = True, ""

    def __init__(self, session: _Session) -> None:
        self.session = session
        self.confirmed: list[str] = []
        self.asked = 0

    async def publish(self, batch: AlertBatch, *, within: float | None = None) -> None:
        self.asked += 1
        if self.asked == 1:
            self.session.deliver([message(number) for number in range(6, 11)])
            self.session.stop.set()
            raise KafkaUnavailableError(f"Kafka did not confirm within {within} s")
        self.confirmed += [item.event_id for item in batch.items]


class Channel:
    def __init__(self) -> None:
        self.acked: list[int] = []
        self.cancelled = False

    async def basic_ack(self, tag: int, *, multiple: bool, wait: bool) -> None:
        assert (multiple, wait) == (True, False)
        self.acked.append(tag)


async def test_a_batch_that_kafka_has_not_is_acknowledged_by_no_later_one() -> None:
    stop = asyncio.Event()
    session, channel = _Session(stop), Channel()
    kafka = SlowKafka(session)
    bridge = Bridge(Settings(), kafka, Health("bridge"), stop)  # type: ignore[arg-type]
    session.deliver([message(number) for number in range(1, 6)])
    async with asyncio.timeout(5):
        carried = await bridge._carry(session, channel, None)  # type: ignore[arg-type]
    assert not carried
    assert channel.acked == []
    assert kafka.confirmed == []


async def test_a_flush_stops_at_the_first_batch_that_kafka_has_not() -> None:
    stop = asyncio.Event()
    stop.set()
    session, channel = _Session(stop), Channel()
    kafka = SlowKafka(session)
    bridge = Bridge(Settings(), kafka, Health("bridge"), stop)  # type: ignore[arg-type]
    session.deliver([message(number) for number in range(1, 6)])
    await bridge._flush(session, channel, None)  # type: ignore[arg-type]
    assert (channel.acked, kafka.confirmed, len(session.inbox)) == ([], [], 5)


@pytest.mark.parametrize("ahead", [timedelta(hours=-1), timedelta(days=1), timedelta(days=365_000)])
def test_a_batch_that_was_handed_over_is_never_of_the_future(ahead: timedelta) -> None:
    said = datetime.now(UTC) + ahead
    batch = AlertBatch(accepted_at=said, items=(Rejected(event_id="r", source="s", field="f", reason="r"),))
    [found] = gathered([Delivery(1, "", codec.encode(batch), HANDOVER_TYPE)], Settings()).batches
    assert found.accepted_at <= datetime.now(UTC)
    assert (found.accepted_at == said) == (ahead < timedelta(0))
