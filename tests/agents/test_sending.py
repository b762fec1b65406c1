"""How a worker sends on: what groups hear stays in order, whatever fails."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import RequestTimedOutError

from agents.work import Outgoing
from agents.worker import Worker
from streams.observe import Health
from streams.settings import Settings
from streams.topics import DEAD_LETTERS, INPUTS, topic_name


class Log:
    """A producer that writes down what it is given, and cannot write `lost`."""

    def __init__(self, lost: bytes = b"") -> None:
        self.lost = lost
        self.written: list[tuple[str, int, bytes]] = []

    async def send(self, topic: str, value: bytes, *, key: bytes, partition: int) -> "asyncio.Future[None]":
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if value == self.lost:
            done.set_exception(RequestTimedOutError())
        else:
            self.written.append((topic, partition, value))
            done.set_result(None)
        return done


async def test_nothing_for_a_partition_of_groups_overtakes_what_could_not_be_sent() -> None:
    settings = Settings()
    inputs, dead = (topic_name(settings.app_prefix, topic) for topic in (INPUTS, DEAD_LETTERS))
    records = [
        Outgoing(inputs, 0, b"", b"first"),
        Outgoing(inputs, 0, b"", b"second"),
        Outgoing(inputs, 1, b"", b"elsewhere"),
        Outgoing(dead, 0, b"", b"a letter"),
    ]
    log: Any = Log(lost=b"first")
    worker = Worker(settings, Health("worker"))
    worker.producer = log
    with pytest.raises(RequestTimedOutError):
        await worker._send(records)
    assert log.written == [(inputs, 1, b"elsewhere"), (dead, 0, b"a letter")]
    worker.producer = log = Log()
    await worker._send(records)
    assert [value for topic, number, value in log.written if (topic, number) == (inputs, 0)] == [b"first", b"second"]
    assert len(log.written) == 4
