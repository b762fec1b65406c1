"""Alerts that jobs and heartbeats raise: ordinary events on `alerts`, each with its own id, so that it counts once."""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from agents.work import Outgoing
from streams import codec
from streams.intake import parse_own
from streams.producer import cut, partition_of
from streams.records import Alert, AlertBatch, Rejected
from streams.settings import Settings
from streams.topics import ALERTS, topic_name

VIA: Final = "job"
"""The source of alerts that jobs raise, and how they came in."""

Send = Callable[[Sequence[Outgoing]], Awaitable[None]]


class Raised(msgspec.Struct, frozen=True):
    """One alert as it is to be raised: the event's id, whose it is, and our own format."""

    event_id: uuid.UUID
    team: str
    body: Mapping[str, Any]


class RefusedAlertError(ValueError):
    """Raised for an alert that intake refuses."""


class Herald:
    """Puts alerts onto Kafka and returns when it has them."""

    def __init__(self, settings: Settings, send: Send) -> None:
        self._settings = settings
        self.send = send

    async def tell(self, alerts: Sequence[Raised]) -> None:
        """Raise alerts.

        Raises:
            RefusedAlertError: intake refuses one; nothing was sent.
            KafkaError: Kafka has perhaps not all of them; telling them again repeats nothing.
        """
        at = datetime.now(UTC)
        by_partition: dict[int, list[Alert | Rejected]] = {}
        for one in alerts:
            alert = self._judged(one, at)
            by_partition.setdefault(partition_of(alert, self._settings.partitions), []).append(alert)
        topic = topic_name(self._settings.app_prefix, ALERTS)
        await self.send(
            [
                Outgoing(topic, number, b"job", codec.encode(AlertBatch(accepted_at=at, items=tuple(some), via=VIA)))
                for number, items in by_partition.items()
                for some, _ in cut(items)
            ]
        )

    def _judged(self, one: Raised, at: datetime) -> Alert:
        parsed = parse_own(
            msgspec.json.encode(one.body), accepted_at=at, limits=self._settings, team=one.team,
            header_event_id=str(one.event_id),
        )  # fmt: skip
        alert = parsed.items[0]
        if isinstance(alert, Rejected):
            raise RefusedAlertError(alert.reason)
        return alert
