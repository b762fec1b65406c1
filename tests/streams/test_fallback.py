"""Whatever the client of RabbitMQ raises, the gateway hears that the batch is not safe there."""

from datetime import UTC, datetime
from typing import Any

import pytest
from aiormq.exceptions import AMQPConnectionError

from streams.fallback import Fallback, FallbackUnavailableError
from streams.records import AlertBatch, Rejected
from streams.settings import Settings

BATCH = AlertBatch(
    accepted_at=datetime.now(UTC), items=(Rejected(event_id="e", source="s", field="", reason="r", body=b""),)
)


class Failing:
    """An exchange on a connection that fails in one way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def publish(self, *_: Any, **__: Any) -> None:
        raise self._error


# A bare Exception is what aiormq raises where a connection goes while it writes.
@pytest.mark.parametrize("error", [Exception(), AMQPConnectionError("gone"), TimeoutError()])
async def test_what_was_not_confirmed_is_not_safe(settings: Settings, error: Exception) -> None:
    fallback = Fallback(settings)
    fallback._exchange = Failing(error)  # type: ignore[assignment]
    with pytest.raises(FallbackUnavailableError):
        await fallback.publish(BATCH)
