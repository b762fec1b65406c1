"""A whole system without any service and with a clock that is moved: an hour passes in milliseconds.

What is posted goes through the real intake, both hops, and the text of the
webhook; only topics, tables' homes and the network are played by lists.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from agents.alert_partition import AlertsPartition
from agents.group_partition import InputsPartition
from agents.incidents_work import IncidentsWork
from agents.rules.dedup import AlertState
from agents.rules.group_state import GroupState
from agents.work import Outgoing, Partition
from sinks.message import read_notice, webhook_body
from sinks.task_rows import Notice, Task
from streams import codec, keys
from streams.intake_alertmanager import parse_alertmanager
from streams.intake_own import parse_own
from streams.records import Action, ActionName, Alert, AlertBatch, ConfigChanged, Outcome, Silence, SilenceChanged, Tick
from streams.redis_tables import View
from streams.rules_config import RulesConfig, load
from streams.settings import Settings
from tests.agents.stage import T0, Dedup, Incidents

PARTITIONS: Final = 2
TASK_LASTS: Final = 0.01
"""Seconds from a task to its outcome."""

Answer = Callable[[Task, float], "str | float"]
"""A receiver's answer to a task at a time: sent, failed, or the seconds after which it is tried again."""


@dataclass(frozen=True)
class Sent:
    """One notice that a receiver took. `at` is in seconds; `body` is the webhook's."""

    at: float
    target: str
    reason: str
    body: dict[str, Any] = field(repr=False)

    @property
    def alerts(self) -> list[tuple[str, str]]:
        """Name and status of each alert."""
        return [(alert["labels"].get("alertname", ""), alert["status"]) for alert in self.body["alerts"]]


def at(seconds: float) -> datetime:
    """A time of the simulation."""
    return T0 + timedelta(seconds=seconds)


class World:
    """The system; `now` is in seconds. Each text of rules is loaded when `reload` is called."""

    def __init__(self, rules: str, *, partitions: int = PARTITIONS, answer: Answer | None = None, **set_: Any) -> None:
        self.now = 0.0
        self.sent: list[Sent] = []
        self.tried: list[tuple[float, str]] = []
        self.configs: dict[int, RulesConfig] = {1: load(rules, version=1)}
        self.settings = Settings(partitions=partitions, **set_)
        asked = {**set_, "partitions": partitions, "configs": self.configs}
        self.first = [Dedup(number=n, **asked) for n in range(partitions)]
        self.second = [Incidents(number=n, **asked) for n in range(partitions)]
        self._answer = answer or (lambda _task, _now: "sent")
        self._due: list[tuple[float, Task]] = []
        self._bodies: dict[str, str] = {}
        self._silences: dict[str, Silence] = {}
        self._sequence = 0
        self._posts = 0
        self._lost = ""

    def post(self, alerts: Sequence[dict[str, Any]], *, own: bool = False) -> None:
        """`POST /api/v2/alerts` (or in our own format) now."""
        self._posts += 1
        body = json.dumps(alerts).encode()
        parse = parse_own if own else parse_alertmanager
        parsed = parse(body, accepted_at=at(self.now), limits=self.settings, header_event_id=f"post-{self._posts}")
        parts: dict[int, list[Any]] = {}
        for item in parsed.items:
            number = keys.partition_of(item.identity, len(self.first)) if isinstance(item, Alert) else 0
            parts.setdefault(number, []).append(item)
        for number, items in parts.items():
            self._hear(self.first[number].step(AlertBatch(accepted_at=at(self.now), items=tuple(items))))

    def silence(self, name: str, sets: Iterable[tuple[str, str, str]], *, until: float) -> None:
        """A silence from now until then, everywhere at once."""
        self._announce(Silence(id=name, sequence=0, sets=(tuple(sets),), windows=((at(self.now), at(until)),)))

    def expire(self, name: str) -> None:
        """End a silence now."""
        known = self._silences[name]
        self._announce(Silence(id=name, sequence=0, sets=known.sets, windows=((known.windows[0][0], at(self.now)),)))

    def reload(self, rules: str) -> None:
        """Load other rules, and apply them everywhere."""
        version = max(self.configs) + 1
        self.configs[version] = load(rules, version=version)
        record = ConfigChanged(version=version, announced_at=at(self.now))
        for stage in self.second:
            self._decided(stage, stage.step(record))
        for dedup in self.first:
            self._hear(dedup.step(record))

    def restart(self) -> None:
        """Every process dies; what owners derive is derived again from the tables."""
        for dedup in self.first:
            dedup.partition = AlertsPartition.over(**_kept(dedup.partition))
        for stage in self.second:
            stage.partition = InputsPartition.over(**_kept(stage.partition))

    def run(self, until: float) -> None:
        """Let time pass."""
        while (due := self._next()) is not None and due <= until:
            self.now = max(self.now, due)
            self._tick()
        self.now = max(self.now, until)

    def firing(self) -> set[tuple[tuple[str, str], ...]]:
        """The label sets of all alerts that fire."""
        found = set()
        for dedup in self.first:
            for identity, pulse in dedup.pulses.items():
                if pulse.firing:
                    state = msgspec.msgpack.decode(dedup.view.tables["alerts"][identity], type=AlertState)
                    found.add(tuple(sorted(codec.decode_body(state.body).labels.items())))
        return found

    def _next(self) -> float | None:
        partitions: list[Partition] = [stage.partition for stage in self.first]
        partitions += [stage.partition for stage in self.second]
        times = [t for one in partitions if (t := one.deadlines.next_at()) is not None]
        return min([*((t - T0).total_seconds() for t in times), *(due for due, _ in self._due)], default=None)

    def _tick(self) -> None:
        tick = Tick(due_at=at(self.now))
        for dedup in self.first:
            if (due := dedup.partition.deadlines.next_at()) is not None and due <= tick.due_at:
                self._hear(dedup.step(tick))
        for stage in self.second:
            if (due := stage.partition.deadlines.next_at()) is not None and due <= tick.due_at:
                self._decided(stage, stage.step(tick))
        for entry in [entry for entry in self._due if entry[0] <= self.now]:
            self._due.remove(entry)
            self._deliver(entry[1])

    def lose(self, what: str) -> None:
        """From now on the broker loses these: an action, or `sighted`; nothing, if that is empty."""
        self._lost = what

    def _hear(self, sent: Iterable[Outgoing]) -> None:
        for one in sent:
            if one.topic != "incident-inputs":
                continue
            record = codec.decode_inputs(one.value)
            name = record.action.value if isinstance(record, Action) else type(record).__name__.lower()
            if name != self._lost:
                stage = self.second[one.partition]
                self._decided(stage, stage.step(record))

    def act(self, incident_id: str, action: ActionName) -> None:
        """A person does something to an incident."""
        [(key, number)] = [
            (key, number)
            for number, stage in enumerate(self.second)
            for key, group in stage.groups.items()
            if group.incident_id == incident_id
        ]
        record = Action(
            id=f"{action}-{incident_id}-{self.now}", team="default", group=key, incident_id=incident_id, actor="alice",
            action=action, at=at(self.now),
        )  # fmt: skip
        self._decided(self.second[number], self.second[number].step(record))

    def groups(self) -> list[GroupState]:
        """All groups, oldest incident first."""
        return sorted(
            (group for stage in self.second for group in stage.groups.values()), key=lambda one: one.opened_at
        )

    def _decided(self, stage: Incidents, work: IncidentsWork) -> None:
        notices: list[Notice] = stage.notices
        self._bodies.update((str(notice.id), notice.body) for notice in notices)
        notices.clear()
        self._due += [(self.now + TASK_LASTS, task) for task in work.tasks]
        self._hear(work.outgoing())

    def _deliver(self, task: Task) -> None:
        self.tried.append((self.now, f"{task.receiver}/{task.integration}"))
        answer = self._answer(task, self.now)
        if isinstance(answer, float | int):
            self._due.append((self.now + answer, task))
            return
        if answer == "sent":
            self._take(task)
        outcome = Outcome(
            group=task.group_key, task_id=str(task.id), receiver=task.receiver, integration=task.integration,
            decision=task.decision, state=answer, reason="", finished_at=at(self.now),
        )  # fmt: skip
        stage = self.second[keys.partition_of(task.group_key, len(self.second))]
        self._decided(stage, stage.step(outcome))

    def _take(self, task: Task) -> None:
        receiver = self.configs[task.config_version].told_as(task.receiver)
        assert receiver is not None
        integration = receiver.integrations[task.integration]
        notice = read_notice(self._bodies[str(task.notice_id)], send_resolved=integration.send_resolved)
        body = json.loads(webhook_body(notice, integration.options, task.reason))
        self.sent.append(Sent(self.now, f"{task.receiver}/{task.integration}", task.reason, body))

    def _announce(self, silence: Silence) -> None:
        before, self._sequence = self._sequence, self._sequence + 1
        placed = Silence(id=silence.id, sequence=self._sequence, sets=silence.sets, windows=silence.windows)
        self._silences[silence.id] = placed
        record = SilenceChanged(after=before, upto=self._sequence, items=(placed,), announced_at=at(self.now))
        for stage in self.second:
            self._decided(stage, stage.step(record))


def _kept(partition: AlertsPartition | InputsPartition) -> dict[str, Any]:
    view = partition.view
    tables = {name: dict(table) for name, table in view.tables.items()}
    return {
        "view": View(view.partition, view.mark, tables),
        "pg_applied": partition.pg_applied,
        "config_version": view.mark.config_version,
        "watermark": view.mark.watermark,
    }
