"""A connection to Kafka that is cut just when something is written to it.

asyncio's own transports take such a write in silence; uvloop's raise RuntimeError, which aiokafka does not expect:
a consumer then stops fetching for good, a producer sending, and neither says so. Here it is what it is, a broken
connection, after which aiokafka connects anew. Written for aiokafka 0.14; `tests/streams/test_transport.py` compares
the method with what it was then.
"""

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_send = AIOKafkaConnection.send


def _sent(self: Any, request: Any, expect_response: bool = True) -> Any:  # noqa: ANN401, FBT001, FBT002 - aiokafka's signature
    try:
        return _send(self, request, expect_response)
    except RuntimeError as error:
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error


def mend() -> None:
    """Let every client of this process see a cut connection as one; a second call changes nothing."""
    AIOKafkaConnection.send = _sent
