"""One partition with its log, its tables and its rows, stepped by the commit protocol, which may stop anywhere."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from agents.alert_partition import AlertsPartition
from agents.dedup import DedupLogic
from agents.group_partition import InputsPartition
from agents.incidents import IncidentsLogic
from agents.step import AHEAD
from agents.timers import Clock
from agents.work import Outgoing
from sinks.action_rows import ActionRow
from sinks.incident_rows import IncidentRow, TimelineRow
from sinks.task_rows import Notice, Task
from streams import codec
from streams.records import Tick, not_after
from streams.redis_tables import Mark, View
from streams.settings import Settings
from streams.tables import TABLES_OF
from streams.topics import ALERTS, INPUTS
from tests.agents.stage import LOG, T0, fetch
from tests.simulation.seeds.script import CONFIGS

CRASHES: Final = ("decided", "committed", "half sent", "sent", "done")
"""Where a process may die in a step; what it did before stays."""


@dataclass
class Rows:
    """What Postgres has, of everything that a run is judged by."""

    verdicts: dict[str, int] = field(default_factory=dict)
    counted: list[int] = field(default_factory=lambda: [0] * 7)
    incidents: dict[str, IncidentRow] = field(default_factory=dict)
    timeline: dict[str, dict[int, TimelineRow]] = field(default_factory=dict)
    actions: dict[str, ActionRow] = field(default_factory=dict)
    notices: dict[str, Notice] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    heard: set[str] = field(default_factory=set)
    doubled: list[str] = field(default_factory=list)


class Lane:
    """One partition of `alerts` or `incident-inputs`. `log` are its records, with when they were written."""

    def __init__(self, topic: str, number: int, settings: Settings, rows: Rows, version: int) -> None:
        self.topic = topic
        self.number = number
        self.rows = rows
        self.log: list[tuple[Any, datetime]] = []
        self.new_tasks: list[Task] = []
        """Tasks that were committed, until somebody takes them."""
        self.unread = 0
        self.paused_until = T0
        self.clock: Clock | None = None
        """Its owner's, where somebody has set that."""
        self._over: Any = AlertsPartition.over if topic == ALERTS else InputsPartition.over
        logic = DedupLogic if topic == ALERTS else IncidentsLogic
        self._logic: Any = logic(settings, LOG, CONFIGS, fetch)
        empty: dict[str, dict[str, bytes]] = {name: {} for name in TABLES_OF[topic]}
        self.view = View(number, Mark(1, LOG, -1, version, T0), empty)
        self.applied = -1
        self.partition: Any = None
        self._next_at: datetime | None = None
        self._looked = False
        self.restart()

    def restart(self) -> None:
        """A new process: it has the tables and the log, nothing else."""
        mark = self.view.mark
        self._looked = False
        self.partition = self._over(
            self.view, pg_applied=self.applied, config_version=mark.config_version, watermark=mark.watermark
        )

    def write(self, record: Any, now: datetime) -> None:
        """The broker takes a record."""
        self.log.append((record, now))
        self.unread += 1

    def due_at(self) -> datetime | None:
        """When its timers are to wake it; None while a tick is under way."""
        if self.partition.tick_sent:
            return None
        if not self._looked:
            self._next_at, self._looked = self.partition.deadlines.next_at(), True
        return self._next_at

    def tick(self, now: datetime) -> None:
        """What the timers of its owner do."""
        due = self.due_at()
        if due is not None and due <= now:
            said = self.clock.now() if self.clock is not None else now
            if due <= said:
                self.partition.tick_sent = True
                self.write(Tick(due_at=said), now)

    def step(self, chance: random.Random | None, crashes: float, send: Any) -> None:
        """Read some of what is there, and all the rest of the protocol; it may die on the way."""
        self._looked = False
        first = int(self.view.offset) + 1
        count = self.unread if chance is None else chance.randrange(1, self.unread + 1)
        end = first + count
        if first <= self.applied:
            end = min(end, self.applied + 1)  # what is committed is replayed by itself
        dies = CRASHES[chance.randrange(len(CRASHES))] if chance is not None and chance.random() < crashes else ""
        work = self._decided(first, end)
        if dies == "decided":
            work.abort()
            self.restart()
            return
        if not work.replaying:
            self._commit(work, end - 1)
        out = list(work.outgoing())
        if dies == "committed":
            self.restart()
            return
        send(out[: len(out) // 2] if dies == "half sent" else out)
        if dies in ("half sent", "sent"):
            self.restart()
            return
        after = work.advance(end - 1)
        work.overlay.commit(Mark(after.epoch, LOG, end - 1, after.config_version, after.watermark))
        self.partition.pg_applied = self.applied
        self.unread = len(self.log) - end
        work.committed()
        if dies:
            self.restart()

    def _decided(self, first: int, end: int) -> Any:
        work = self._logic.begin(self.partition, poisoned={}, replaying=first <= self.applied)
        for offset in range(first, end):
            record, written_at = self.log[offset]
            work.apply(offset, not_after(record, written_at + AHEAD))
        work.finish()
        return work

    def _commit(self, work: Any, offset: int) -> None:
        rows = self.rows
        if self.topic == ALERTS:
            for row in work.verdict_rows():
                rows.verdicts[row.verdict] = rows.verdicts.get(row.verdict, 0) + row.events
            rows.counted = [a + b for a, b in zip(rows.counted, work.advance(offset).counts, strict=True)]
        else:
            self._commit_incidents(work)
        self.applied = offset

    def _commit_incidents(self, work: Any) -> None:
        rows = self.rows
        for row in work.held.incident_rows():
            known = rows.incidents.get(row.id)
            if known is None or known.revision < row.revision:
                rows.incidents[row.id] = row
        for line in work.story.timeline:
            rows.timeline.setdefault(line.incident_id, {}).setdefault(line.seq, line)
        new = {row.id for row in work.actions.rows} - rows.actions.keys()
        for row in work.actions.rows:
            rows.actions.setdefault(row.id, row)
        for action_id, line in work.actions.late:
            if action_id in new:  # after all that the timeline has
                lines = rows.timeline.setdefault(line.incident_id, {})
                lines[max(line.seq, max(lines, default=-1) + 1)] = line
        for notice in work.notices:
            rows.notices[str(notice.id)] = notice
        for task in work.tasks:
            if str(task.id) in rows.tasks:
                rows.doubled.append(str(task.id))
            rows.tasks[str(task.id)] = task
            self.new_tasks.append(task)
        rows.heard.update(work.heard)


def received(out: Iterable[Outgoing]) -> Iterator[tuple[int, Any]]:
    """The partition of each record for `incident-inputs`, and the record as it is read there."""
    for one in out:
        if one.topic == INPUTS:
            yield one.partition, codec.decode_inputs(one.value)


def at(seconds: float) -> datetime:
    """A time of the simulation."""
    return T0 + timedelta(seconds=seconds)
