"""Both agents' partitions without any service: records in, tables and rows out."""

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import msgspec

from agents.alert_partition import PULSES, AlertsPartition
from agents.dedup import DedupLogic
from agents.dedup_work import DedupWork
from agents.group_partition import GROUPS, MEMBERS, InputsPartition
from agents.incidents import IncidentsLogic
from agents.incidents_work import IncidentsWork
from agents.rules.dedup import Pulse
from agents.rules.group_state import GroupState, Member
from agents.work import Outgoing, Poisoned
from sinks.alert_rows import VerdictRow
from sinks.incident_rows import DecisionRow, IncidentRow, LinkRow, TimelineRow
from sinks.task_rows import Notice, Task
from streams import codec, keys
from streams.records import Alert, AlertBatch, AlertBody, AlertsRecord, InputsRecord, Kind, Severity, Tick, Verdict
from streams.redis_tables import Mark, View
from streams.rules_config import RulesConfig, load
from streams.settings import Settings
from streams.tables import TABLES_OF
from streams.topics import ALERTS, INPUTS

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
LOG = "log"

RULES = load("""
route:
  receiver: ops
  group_by: [service]
  group_wait: 10s
  group_interval: 30s
  repeat_interval: 5m
  routes:
    - receiver: both
      matchers: [alertname="b"]
      continue: true
    - receiver: ops
      matchers: [alertname=~"a|b"]
receivers:
  - name: ops
    webhook_configs: [{url: "http://ops.example/"}]
  - name: both
    webhook_configs: [{url: "http://one.example/"}, {url: "http://two.example/", send_resolved: false}]
""", version=1)  # fmt: skip
MOVED = load(RULES.text.replace("group_by: [service]", "group_by: [alertname]"), version=2)
CONFIGS = {1: RULES, 2: MOVED}


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


async def fetch(version: int) -> None:
    raise AssertionError(f"version {version} is known")


def body_of(labels: dict[str, str], *, severity: Severity = Severity.ERROR, summary: str = "it is down") -> bytes:
    return codec.encode(
        AlertBody(
            source="test", severity=severity, kind=Kind.OTHER, summary=summary, description="", labels=labels
        )
    )  # fmt: skip


_ids = itertools.count()


def alert(
    name: str = "a",
    *,
    service: str = "api",
    firing: bool = True,
    event_at: datetime = T0,
    event_id: str | None = None,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    severity: Severity = Severity.ERROR,
    summary: str = "it is down",
    key: str = "",
) -> Alert:
    labels = {"alertname": name, "service": service}
    body = body_of(labels, severity=severity, summary=summary)
    readable = keys.identity_of_key("default", "test", key) if key else keys.identity_of_labels("default", labels)
    return Alert(
        event_id=event_id if event_id is not None else f"event-{next(_ids)}",
        team="default",
        identity=keys.hashed(readable),
        content=blake2b(body, digest_size=8).digest(),
        firing=firing,
        event_at=event_at,
        body=body,
        starts_at=starts_at,
        ends_at=ends_at,
    )


def batch(*items: Any, seconds: float = 0) -> AlertBatch:
    return AlertBatch(accepted_at=at(seconds), items=items)


def tick(seconds: float) -> Tick:
    return Tick(due_at=at(seconds))


def settings(**changed: Any) -> Settings:
    return Settings(**({"partitions": 3} | changed))


def cut(records: Sequence[Any], cuts: Iterable[int]) -> Iterator[Sequence[Any]]:
    """The records in pieces that end before each of the places."""
    places = [0, *sorted(cuts), len(records)]
    for first, last in itertools.pairwise(places):
        if records[first:last]:
            yield records[first:last]


def mark_after(work: DedupWork | IncidentsWork, offset: int) -> Mark:
    after = work.advance(offset)
    return Mark(after.epoch, LOG, offset, after.config_version, after.watermark)


@dataclass
class AlertRows:
    """What the rows of alerts, verdicts and dead letters would be."""

    counts: dict[tuple[str, int], int] = field(default_factory=dict)
    alerts: dict[tuple[str, int], tuple[bytes, bytes]] = field(default_factory=dict)
    verdicts: list[VerdictRow] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    progress: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))
    safe: int = -1
    applied: int = -1

    def write(self, work: DedupWork, offset: int) -> None:
        for row in work.alert_rows():
            self.counts[row.identity, row.occurrence] = row.event_count
            self.alerts[row.identity, row.occurrence] = (row.state, row.pulse)
        for touch in work.touch_rows():
            at = (touch.identity, touch.occurrence)
            assert self.counts[at] <= touch.event_count
            self.counts[at] = touch.event_count
            self.alerts[at] = (self.alerts[at][0], touch.pulse)
        self.verdicts += work.verdict_rows()
        self.dead += [row.event_id for row in work.dead]
        progress = work.advance(offset)
        for verdict, count in zip(Verdict, progress.counts, strict=True):
            self.progress[verdict] += count
        self.safe, self.applied = progress.safe, progress.applied

    @property
    def verdict_sums(self) -> dict[Verdict, int]:
        sums = dict.fromkeys(Verdict, 0)
        for row in self.verdicts:
            sums[Verdict(row.verdict)] += row.events
        return sums


class Dedup:
    """One partition of `alerts` and what it would have written."""

    def __init__(
        self,
        *,
        number: int = 0,
        view: View | None = None,
        config: int = 1,
        configs: dict[int, RulesConfig] | None = None,
        **changed: Any,
    ) -> None:
        empty: dict[str, dict[str, bytes]] = {name: {} for name in TABLES_OF[ALERTS]}
        self.logic = DedupLogic(settings(**changed), LOG, configs or CONFIGS, fetch)
        self.partition = AlertsPartition.over(
            view or View(number, Mark(1, LOG, -1, 1, T0), empty), pg_applied=-1, config_version=config, watermark=T0
        )
        self.rows = AlertRows()
        self.sent: list[Outgoing] = []
        self.sent_last: list[Outgoing] = []

    @property
    def view(self) -> View:
        return self.partition.view

    @property
    def pulses(self) -> dict[str, Pulse]:
        return {k: msgspec.msgpack.decode(v, type=Pulse) for k, v in self.view.tables[PULSES].items()}

    def work(
        self, records: Sequence[AlertsRecord], *, replaying: bool = False, poisoned: Poisoned | None = None
    ) -> DedupWork:
        work = self.logic.begin(self.partition, poisoned=poisoned or {}, replaying=replaying)
        for offset, record in enumerate(records, self.partition.next_offset):
            work.apply(offset, record)
        work.finish()
        return work

    def step(self, *records: AlertsRecord, replaying: bool = False, poisoned: Poisoned | None = None) -> list[Outgoing]:
        offset = self.view.offset + len(records)
        work = self.work(records, replaying=replaying, poisoned=poisoned)
        if not replaying:
            self.rows.write(work, offset)
        self.sent_last = sent = list(work.outgoing())
        self.sent += sent
        work.overlay.commit(mark_after(work, offset))
        self.partition.pg_applied = offset
        work.committed()
        return sent


def rebuilt(stage: Dedup, before: int, **changed: Any) -> Dedup:
    """A new owner with the rows of all that was written, at the offset `before`, as if nothing after it was sent."""
    tables = {**copy.deepcopy(stage.view.tables), "recent": {}}
    owner = Dedup(**changed)
    owner.partition = AlertsPartition.over(
        View(0, Mark(2, LOG, before, 1, T0), tables), pg_applied=stage.view.offset, config_version=1, watermark=T0
    )
    return owner


@dataclass
class IncidentRows:
    """What the rows of incidents, links and tasks would be."""

    incidents: dict[str, IncidentRow] = field(default_factory=dict)
    links: dict[tuple[str, str, int], LinkRow] = field(default_factory=dict)
    groups: dict[str, bytes] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    timeline: list[tuple[str, int, str]] = field(default_factory=list)
    lines: list[TimelineRow] = field(default_factory=list)
    decisions: list[DecisionRow] = field(default_factory=list)

    def write(self, work: IncidentsWork) -> None:
        for row in work.held.incident_rows():
            known = self.incidents.get(row.id)
            if known is None or known.revision < row.revision:
                self.incidents[row.id] = row
        for group in work.held.group_rows():
            self.groups[group.group_key] = group.state
        for gone in work.held.gone:
            self.groups.pop(gone, None)
        for link in work.held.links():
            at = (link.incident_id, link.identity, link.occurrence)
            if at not in self.links or self.links[at].revision <= link.revision:
                self.links[at] = link
        self.tasks += work.tasks
        self.timeline += [(line.incident_id, line.seq, line.event) for line in work.story.timeline]
        self.lines += work.story.timeline
        self.decisions += work.story.decisions


class Incidents:
    """One partition of `incident-inputs` and what it would have written."""

    def __init__(
        self,
        *,
        number: int = 0,
        view: View | None = None,
        configs: dict[int, RulesConfig] | None = None,
        **changed: Any,
    ) -> None:
        empty: dict[str, dict[str, bytes]] = {name: {} for name in TABLES_OF[INPUTS]}
        self.logic = IncidentsLogic(settings(**changed), LOG, configs or CONFIGS, fetch)
        self.partition = InputsPartition.over(
            view or View(number, Mark(1, LOG, -1, 1, T0), empty), pg_applied=-1, config_version=1, watermark=T0
        )
        self.rows = IncidentRows()
        self.notices: list[Notice] = []

    @property
    def view(self) -> View:
        return self.partition.view

    @property
    def groups(self) -> dict[str, GroupState]:
        return {k: msgspec.msgpack.decode(v, type=GroupState) for k, v in self.view.tables[GROUPS].items()}

    @property
    def members(self) -> dict[tuple[str, str], Member]:
        found = {}
        for key, value in self.view.tables[MEMBERS].items():
            group, _, identity = key.partition(":")
            found[group, identity] = msgspec.msgpack.decode(value, type=Member)
        return found

    def work(
        self, records: Sequence[InputsRecord], *, replaying: bool = False, poisoned: Poisoned | None = None
    ) -> IncidentsWork:
        work = self.logic.begin(self.partition, poisoned=poisoned or {}, replaying=replaying)
        for offset, record in enumerate(records, self.partition.next_offset):
            work.apply(offset, record)
        work.finish()
        return work

    def step(self, *records: InputsRecord, poisoned: Poisoned | None = None) -> IncidentsWork:
        offset = self.view.offset + len(records)
        work = self.work(records, poisoned=poisoned)
        self.rows.write(work)
        self.notices += work.notices
        list(work.outgoing())
        work.overlay.commit(mark_after(work, offset))
        work.committed()
        return work
