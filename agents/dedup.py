"""The agent of `alerts`: folds repeats, writes verdicts, tells groups what changed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from agents import refusals
from agents.dedup_work import DedupWork
from agents.work import Batches, Partition, Poisoned
from sinks import alert_rows, dead_letter_rows
from sinks.postgres import Connection
from streams import codec, keys
from streams.records import AlertBatch, AlertsRecord, ConfigChanged, Rejected
from streams.rules_config import RulesConfig, UnreadableRulesError
from streams.settings import Settings
from streams.topics import ALERTS


class DedupLogic:
    """What the step needs of this agent."""

    topic = ALERTS

    def __init__(self, settings: Settings, log_id: str, configs: Mapping[int, RulesConfig], fetch: Any) -> None:  # noqa: ANN401 - an async callable
        self.settings = settings
        self.log_id = log_id
        self.configs = configs
        self.decode = codec.decode_alerts
        self.unread: dict[int, UnreadableRulesError] = {}
        self._fetch = fetch
        self.row_interval = timedelta(seconds=settings.row_interval)
        self.recent_window = timedelta(seconds=settings.recent_window)
        self.strict = settings.alertmanager_mode == "on"
        self.flap_window = settings.flaps_within

    async def prepare(self, records: Sequence[AlertsRecord]) -> None:
        """Fetch the configuration versions that the records name; of what cannot be read the handling will fail."""
        for record in records:
            if type(record) is ConfigChanged and record.version not in self.configs:
                try:
                    await self._fetch(record.version)
                except UnreadableRulesError as error:
                    self.unread[record.version] = error

    def size(self, record: AlertsRecord) -> int:
        """Items in a record."""
        return len(record.items) if type(record) is AlertBatch else 0

    def undecodable(self, data: bytes, offset: int, partition: int, reason: str) -> AlertBatch:
        """Bytes that are no record are one refused event."""
        event_id = str(keys.derived_id("undecodable", self.log_id, partition, offset))
        item = Rejected(event_id=event_id, source="kafka", field="record", reason=reason, body=data[:65536])
        return AlertBatch(accepted_at=datetime.min.replace(tzinfo=UTC), items=(item,), via="kafka")

    def begin(self, partition: Partition, *, poisoned: Poisoned, replaying: bool) -> DedupWork:
        """Start one partition's part of a step."""
        return DedupWork(self, partition, poisoned, replaying)  # type: ignore[arg-type]

    def at_once(self, works: Sequence[DedupWork]) -> tuple[str, list[list[object]]] | None:
        """The statement and rows of a step that only writes alerts and verdicts; None for any other."""
        if any(
            work.dead or work.unhandled or work.replayed or work.refused_again or work.known_again for work in works
        ):
            return None
        return alert_rows.AT_ONCE, alert_rows.arguments(
            [row for work in works for row in work.alert_rows()],
            [row for work in works for row in work.touch_rows()],
            [row for work in works for row in work.verdict_rows()],
        )

    async def refused(self, conn: Connection, batches: Batches, since: datetime) -> Mapping[int, Poisoned]:
        """The parts of replayed records that the first run could not handle."""
        found = await refusals.of_alerts(conn, self.log_id, batches)
        for number, parts in (await refusals.of_records(conn, ALERTS, self.log_id, batches, since)).items():
            found.setdefault(number, {}).update(parts)
        return found

    async def write(self, conn: Connection, works: Sequence[DedupWork]) -> None:
        """Write alerts, verdicts and dead letters."""
        await alert_rows.bury(conn, [row for work in works for row in work.dead])
        await dead_letter_rows.keep(conn, [row for work in works for row in work.letters()])
        await dead_letter_rows.settle(
            conn,
            replayed=[event_id for work in works for event_id in work.replayed],
            again=[letter for work in works for letter in work.refused_again],
            known=[event_id for work in works for event_id in work.known_again],
        )
        await alert_rows.write(
            conn,
            [row for work in works for row in work.alert_rows()],
            [row for work in works for row in work.touch_rows()],
            [row for work in works for row in work.verdict_rows()],
        )
