"""What a step sends on, all at once, but in turn where order counts."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from agents.work import Outgoing
from streams.transport import settled


async def send(producer: AIOKafkaProducer, records: Sequence[Outgoing], *, in_turn: str) -> None:
    """Send records and wait until Kafka has them; the first failure is raised after all have ended.

    For each partition of the topic `in_turn` one goes after the other: none overtakes one that cannot be sent.
    """
    ordered: defaultdict[int, list[Outgoing]] = defaultdict(list)
    alone = []
    for record in records:
        if record.topic == in_turn:
            ordered[record.partition].append(record)
        else:
            alone.append([record])
    await settled([asyncio.ensure_future(_one_by_one(producer, some)) for some in (*ordered.values(), *alone)])


async def _one_by_one(producer: AIOKafkaProducer, records: Sequence[Outgoing]) -> None:
    for record in records:
        await (await producer.send(record.topic, record.value, key=record.key, partition=record.partition))
