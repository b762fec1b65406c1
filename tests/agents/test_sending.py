"""How a worker sends on: what groups hear stays in order, whatever fails."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import RequestTimedOutError

from agents.sending import send
from agents.work import Outgoing
from streams.topics import DEAD_LETTERS, INPUTS


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
    records = [
        Outgoing(INPUTS, 0, b"", b"first"),
        Outgoing(INPUTS, 0, b"", b"second"),
        Outgoing(INPUTS, 1, b"", b"elsewhere"),
        Outgoing(DEAD_LETTERS, 0, b"", b"a letter"),
    ]
    log: Any = Log(lost=b"first")
    with pytest.raises(RequestTimedOutError):
        await send(log, records, in_turn=INPUTS)
    assert log.written == [(INPUTS, 1, b"elsewhere"), (DEAD_LETTERS, 0, b"a letter")]
    log = Log()
    await send(log, records, in_turn=INPUTS)
    assert [value for topic, number, value in log.written if (topic, number) == (INPUTS, 0)] == [b"first", b"second"]
    assert len(log.written) == 4
