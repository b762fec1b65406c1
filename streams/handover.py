"""Where accepted events go: Kafka, or RabbitMQ while Kafka does not confirm; 2xx only after one of them has them."""

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

import structlog

from streams import metrics
from streams.fallback import FallbackUnavailableError
from streams.producer import KafkaUnavailableError, OverloadedError
from streams.records import AlertBatch

_TRY_AGAIN_S: Final = 1.0
_FOLLOW_S: Final = 30.0
"""How long after Kafka is back RabbitMQ is waited for at most: its queue may be long for other reasons."""

log = structlog.get_logger(__name__)


class NowhereError(Exception):
    """Raised when neither Kafka nor RabbitMQ confirmed: the sender must come again."""


class Kafka(Protocol):
    """What this needs of `EventProducer`."""

    @property
    def connected(self) -> bool:
        """Whether Kafka answered when it was last asked."""
        ...

    async def publish(self, batch: AlertBatch) -> None:
        """Return when Kafka has confirmed the batch."""
        ...


class Rabbit(Protocol):
    """What this needs of `Fallback`."""

    @property
    def behind(self) -> bool:
        """Whether it may still hold what it was given."""
        ...

    def look_anew(self) -> None:
        """Take it that it does, until it is seen that it does not."""
        ...

    async def publish(self, batch: AlertBatch) -> None:
        """Return when RabbitMQ has confirmed the batch."""
        ...


class Circuit(StrEnum):
    """Whether Kafka is asked: `TRYING` lets one batch through to see."""

    CLOSED = "closed"
    OPEN = "open"
    TRYING = "trying"


class Breaker:
    """Remembers that Kafka did not confirm, so that the next callers need not wait to learn it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._opened_at = 0.0
        self.circuit = Circuit.CLOSED

    def lets_through(self, *, connected: bool) -> bool:
        """Whether this batch may try Kafka; after True, `worked`, `failed` or `gave_up` must be called."""
        if self.circuit is Circuit.CLOSED:
            return connected
        if self.circuit is Circuit.OPEN and connected and self._now() - self._opened_at >= _TRY_AGAIN_S:
            self.circuit = Circuit.TRYING
            return True
        return False

    def worked(self) -> None:
        """Kafka confirmed."""
        if self.circuit is not Circuit.CLOSED:
            log.info("kafka_used_again")
            metrics.kafka_passed_over.set(0)
        self.circuit = Circuit.CLOSED

    def failed(self, reason: str) -> None:
        """Kafka did not confirm."""
        if self.circuit is Circuit.CLOSED:
            log.warning("kafka_passed_over", reason=reason)
            metrics.kafka_passed_over.set(1)
        self.circuit = Circuit.OPEN
        self._opened_at = self._now()

    def gave_up(self) -> None:
        """The batch ended without telling how Kafka is."""
        if self.circuit is Circuit.TRYING:
            self.circuit = Circuit.OPEN


class Handover:
    """Brings batches into durable hands.

    While RabbitMQ still holds some of what it was given, what comes next goes the
    same way: an end must not overtake the firing that it ends.
    """

    def __init__(
        self, kafka: Kafka, rabbit: Rabbit, breaker: Breaker | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._kafka = kafka
        self._rabbit = rabbit
        self._breaker = breaker or Breaker()
        self._now = now
        self._back_at: float | None = None
        self._has_given = False

    async def take(self, batch: AlertBatch) -> None:
        """Return when Kafka or RabbitMQ has confirmed every item.

        Raises:
            NowhereError: neither has, or it is not known.
        """
        reason = "Kafka is passed over"
        if self._follows() and await self._followed(batch):
            return
        if self._breaker.lets_through(connected=self._kafka.connected):
            try:
                await self._kafka.publish(batch)
            except OverloadedError as error:
                reason = f"too much waits for Kafka: {error}"
                self._breaker.gave_up()
            except KafkaUnavailableError as error:
                reason = str(error)
                self._breaker.failed(reason)
            except BaseException:
                self._breaker.gave_up()
                raise
            else:
                self._breaker.worked()
                return
        try:
            await self._rabbit.publish(batch)
        except FallbackUnavailableError as error:
            raise NowhereError(f"neither Kafka ({reason}) nor RabbitMQ ({error}) took it") from error
        self._has_given = True

    def _follows(self) -> bool:
        """Whether what went to Kafka now could overtake what RabbitMQ, or a bridge that waits for Kafka, has."""
        if self._has_given and self._kafka.connected:
            self._has_given = False
            self._rabbit.look_anew()
        if not self._rabbit.behind or not self._kafka.connected:
            self._back_at = None
            return self._rabbit.behind
        if self._back_at is None:
            self._back_at = self._now()
        return self._now() - self._back_at < _FOLLOW_S

    async def _followed(self, batch: AlertBatch) -> bool:
        try:
            await self._rabbit.publish(batch)
        except FallbackUnavailableError:
            return False
        return True
