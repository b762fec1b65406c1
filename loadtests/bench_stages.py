"""Each stage's own work, without services: what one process can do at most, in CPU microseconds an alert."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from pamqp import body as content
from pamqp import commands, frame, header

from agents.alert_partition import AlertsPartition
from agents.dedup import DedupLogic
from agents.group_partition import InputsPartition
from agents.incidents import IncidentsLogic
from loadtests.mixes import Mix, body, list_body
from streams import codec
from streams.amqp_bursts import Sieve
from streams.intake import parse_alertmanager, parse_own
from streams.records import Alert, AlertBatch
from streams.redis_tables import Mark, View
from streams.rules_config import BUILT_IN
from streams.settings import Settings
from streams.tables import TABLES_OF
from streams.topics import ALERTS, INPUTS

ALERTS_TAKEN: Final = 6_400
BATCH: Final = 64
_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_AGAIN: Final = 3


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One stage's cost."""

    name: str
    us_per_alert: float


def stages() -> Iterator[Work]:
    """Every stage in the order of the way of an alert; each is the best of a few runs."""
    settings = Settings.from_environ({"INCIDENTS_PARTITIONS": "1"})
    mix = Mix("bench", 1)
    events = [event for event in (mix.next() for _ in range(2 * ALERTS_TAKEN)) if event.alert is not None]
    events = events[:ALERTS_TAKEN]
    singles = [body(event, _AT) for event in events]
    lists = [list_body(events[at : at + BATCH], _AT) for at in range(0, len(events), BATCH)]
    posted = [_alertmanagers(text) for text in lists]
    frames = _frames(singles)
    alerts = [item for text in lists for item in parse_own(text, accepted_at=_AT, limits=settings).items]
    firing = [item for item in alerts if isinstance(item, Alert) and item.firing]

    def judged(texts: list[bytes], parse: Callable[..., Any]) -> Callable[[], object]:
        return lambda: [parse(text, accepted_at=_AT, limits=settings) for text in texts]

    yield _best("deliveries of RabbitMQ put together", len(events), lambda: Sieve().feed(frames))
    yield _best("intake, our format, one a message", len(events), judged(singles, parse_own))
    yield _best(f"intake, our format, {BATCH} a body", len(events), judged(lists, parse_own))
    yield _best(f"intake, Alertmanager's format, {BATCH} a body", len(events), judged(posted, parse_alertmanager))
    records = [AlertBatch(accepted_at=_AT, items=tuple(firing[at : at + BATCH])) for at in range(0, len(firing), BATCH)]
    packed = [codec.encode(record) for record in records]
    yield _best("records to bytes", len(firing), lambda: [codec.encode(record) for record in records])
    yield _best("bytes to records", len(firing), lambda: [codec.decode_alerts(data) for data in packed])
    yield from _steps(settings, firing)


def _steps(settings: Settings, firing: list[Alert]) -> Iterator[Work]:
    """The two agents' decisions with the rows they lead to, up to what is handed to Postgres, Kafka and Redis."""
    configs = {0: BUILT_IN}
    dedup = DedupLogic(settings, "bench", configs, None)
    incidents = IncidentsLogic(settings, "bench", configs, None)
    marked = Mark(1, "bench", -1, 0, _AT)
    again = [
        msgspec.structs.replace(alert, event_id=f"{alert.event_id}-{round_}", event_at=_AT + timedelta(seconds=round_))
        for round_ in range(1, 4)
        for alert in firing
    ]
    told: list[bytes] = []
    took: dict[str, list[float]] = {"new": [], "repeated": [], "incidents": []}
    for _ in range(_AGAIN):
        view = View(0, marked, {name: {} for name in TABLES_OF[ALERTS]})
        partition = AlertsPartition.over(view, pg_applied=-1, config_version=0, watermark=_AT)
        seconds, out = _step(dedup, partition, firing, 0)
        took["new"].append(seconds / len(firing))
        told = [record.value for record in out]
        seconds, _ = _step(dedup, partition, again, 1_000_000)
        took["repeated"].append(seconds / len(again))
        view = View(0, marked, {name: {} for name in TABLES_OF[INPUTS]})
        groups = InputsPartition.over(view, pg_applied=-1, config_version=0, watermark=_AT)
        batches = [codec.decode_inputs(value) for value in told]
        changes = sum(len(batch.items) for batch in batches if hasattr(batch, "items"))
        began = time.process_time()
        work = incidents.begin(groups, poisoned={}, replaying=False)
        for offset, batch in enumerate(batches):
            work.apply(offset, batch)
        work.finish()
        incidents.at_once([work])
        took["incidents"].append((time.process_time() - began) / max(1, changes))
    yield Work(
        name="dedup: alerts of the mix that fire for the first time, or change", us_per_alert=min(took["new"]) * 1e6
    )
    yield Work(name="dedup: repeats", us_per_alert=min(took["repeated"]) * 1e6)
    yield Work(name="incidents: changes of alerts", us_per_alert=min(took["incidents"]) * 1e6)


def _step(logic: DedupLogic, partition: AlertsPartition, alerts: list[Alert], offset: int) -> tuple[float, list[Any]]:
    batches = [
        AlertBatch(accepted_at=_AT + timedelta(milliseconds=at), items=tuple(alerts[at : at + BATCH]))
        for at in range(0, len(alerts), BATCH)
    ]
    began = time.process_time()
    work = logic.begin(partition, poisoned={}, replaying=False)
    for place, batch in enumerate(batches):
        work.apply(offset + place, batch)
    work.finish()
    logic.at_once([work])
    out = list(work.outgoing())
    last = offset + len(batches) - 1
    work.overlay.commit(replace(partition.view.mark, offset=last))
    work.committed()
    return time.process_time() - began, out


def _alertmanagers(text: bytes) -> bytes:
    alerts = msgspec.json.decode(text)
    return msgspec.json.encode(
        [
            {"labels": each["labels"], "annotations": each.get("annotations", {}), "startsAt": _AT.isoformat()}
            for each in alerts
        ]
    )


def _frames(texts: list[bytes]) -> bytes:
    parts = []
    for tag, text in enumerate(texts, 1):
        said = commands.Basic.Deliver("ctag1.1", tag, redelivered=False, exchange="alerts", routing_key="llm.alert")
        properties = commands.Basic.Properties(content_type="application/json", delivery_mode=2, message_id=f"m{tag}")
        parts += [
            frame.marshal(said, 1),
            frame.marshal(header.ContentHeader(0, len(text), properties), 1),
            frame.marshal(content.ContentBody(text), 1),
        ]
    return b"".join(parts)


def _best(name: str, alerts: int, run: Callable[[], object]) -> Work:
    best = float("inf")
    for _ in range(_AGAIN):
        began = time.process_time()
        run()
        best = min(best, time.process_time() - began)
    return Work(name=name, us_per_alert=best / alerts * 1e6)
