"""The whole system without I/O, run by a script: lanes, deliveries, and a clock that jumps to what comes next."""

import random
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

import msgspec

from agents.alert_partition import PULSES, decode_pulse
from agents.group_partition import GROUPS, MEMBERS, decode_group, decode_member
from agents.rules.group_state import GroupState
from agents.timers import Clock
from agents.work import Outgoing
from sinks.task_rows import Task
from streams import codec, keys
from streams.records import (
    Action,
    ActionArgs,
    ActionName,
    Alert,
    AlertBatch,
    AlertBody,
    ConfigChanged,
    IncidentStatus,
    Kind,
    Outcome,
    Severity,
    Silence,
    SilenceChanged,
)
from streams.settings import Settings
from streams.topics import ALERTS, INPUTS
from tests.simulation.seeds import people
from tests.simulation.seeds.lanes import Lane, Rows, at, received
from tests.simulation.seeds.script import ALERTS as LABELS
from tests.simulation.seeds.script import FADING, LASTS, TARGETS, Act, Script

TASK_LASTS: Final = timedelta(milliseconds=10)
RETRY: Final = timedelta(seconds=5)
FLAPS: Final = 120
"""Seconds within which an alert that fires again flaps."""
QUIET: Final = 480.0
"""Seconds after which everything that was said last is told, whatever it was."""
AFTER: Final = timedelta(seconds=200)
"""Until whoever was just told something else has heard of an end too: the next flush, by whatever clock."""
TOLD: Final = 120.0
"""Seconds until a change is told: group_interval, and what a group waits for."""
REMEMBERED: Final = timedelta(minutes=5)
"""How old an event is at most that comes twice: well within what is remembered."""
LATENESS: Final = 60.0
"""How much later than the others what was sent first may come, in a run with delays."""


class How(NamedTuple):
    """One way to run a script; every way must lead to the same.

    `cut`: steps take random parts of what is there, and die with probability `crashes`.
    `delays`: partitions stand still for a while, and what is sent overtakes what was sent before.
    """

    partitions: int
    cut: bool = False
    crashes: float = 0.0
    delays: bool = False


class Of(NamedTuple):
    """One alert in a notice: since when it fires, or fired, and whether the notice says that it has flapped."""

    identity: str
    since: str
    firing: bool
    again: bool


class Told(NamedTuple):
    """One notice that a target took, and the alerts in it."""

    at: datetime
    target: str
    group: str
    reason: str
    alerts: frozenset[Of]


class Said(NamedTuple):
    """One event that was sent, and when its sender says that it was."""

    event_at: datetime
    alert: int
    firing: bool


def lasts(act: Act, flapping: frozenset[int]) -> float:
    """Seconds until all is quiet after an act: it has come twice, is over, and what it led to is told."""
    if act.what in ("fires", "ends"):
        fades = act.what == "fires" and not FADING.isdisjoint(act.which)
        steady = 0.0 if flapping.isdisjoint(act.which) else FLAPS
        return (LASTS if fades else 0.0) + steady + TOLD
    again = act.late if act.what == "person" else 0.0
    return again + (act.lasts if act.verb in ("", ActionName.SNOOZE) else 0.0) + TOLD


class Machine:
    """A run. Its clock starts at 0; `run` plays the script and goes on until all is quiet."""

    def __init__(self, script: Script, how: How) -> None:
        self.script = script
        self.how = how
        self.now = at(0)
        self.rows = Rows()
        self.told: list[Told] = []
        self.said: list[Said] = []
        self.events = 0
        self.repeated = 0
        self._chance = random.Random(script.seed ^ hash(how)) if how.cut or how.delays else None
        settings = Settings(partitions=how.partitions, flap_window=FLAPS)
        self.first = [Lane(ALERTS, n, settings, self.rows, script.version) for n in range(how.partitions)]
        self.second = [Lane(INPUTS, n, settings, self.rows, script.version) for n in range(how.partitions)]
        self.lanes = [*self.first, *self.second]
        self.version = script.version
        self._queue: list[tuple[datetime, int, Any]] = []
        self._places = 0
        self._unreachable: list[tuple[str, datetime, bool]] = []
        self._silences = 0
        self._groups: dict[str, GroupState] | None = None
        self.asked: dict[str, Action] = {}
        self._last: AlertBatch | None = None
        self._last_at = self.now
        for act in script.acts:
            self._later(at(act.at), act)

    def run(self) -> None:
        """Play the script, and what follows from it."""
        # What a clock that is ahead says lasts so much longer.
        late = (LATENESS if self.how.delays else 0.0) + max(0.0, self.script.skew)
        fired = Counter(which for act in self.script.acts if act.what == "fires" for which in act.which)
        flapping = frozenset(which for which, times in fired.items() if times > 1)
        self._until(at(max(act.at + lasts(act, flapping) for act in self.script.acts) + late))

    def resolve(self) -> None:
        """Somebody ends every incident that is not over."""
        for one in people.in_order(self.rows):
            if one.status != IncidentStatus.RESOLVED:
                action_id = str(keys.derived_id("end", one.id, len(self.asked)))
                self._ask(people.of(one, ActionName.RESOLVE, action_id, self.now, ActionArgs()))
        self._until(self.now + AFTER)

    def end(self) -> None:
        """Everything ends, and the senders say so."""
        self._post([(number, False) for number in range(len(LABELS))], 0.0)
        self._until(self.now + timedelta(seconds=QUIET))

    def forget(self) -> None:
        """Two days go by."""
        self._until(self.now + timedelta(days=2))

    def firing(self) -> set[str]:
        """Identities of the alerts that fire, by dedup's tables."""
        return {identity for lane in self.first for identity, one in _decoded(lane, PULSES) if one.firing}

    def groups(self) -> dict[str, GroupState]:
        """All groups, by key."""
        if self._groups is None:
            self._groups = {key: group for lane in self.second for key, group in _decoded(lane, GROUPS)}
        return self._groups

    @staticmethod
    def group_of(value: bytes) -> GroupState:
        """A group as it stands in its table."""
        return decode_group(value)

    def members(self) -> list[tuple[str, Any]]:
        """All members, with the key of their group."""
        return [(name.partition(":")[0], one) for lane in self.second for name, one in _decoded(lane, MEMBERS)]

    def _until(self, end: datetime) -> None:
        self._groups = None
        while True:
            self._drain()
            due = self._next()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            if self._queue and self._queue[0][0] <= self.now:
                self._happen(heappop(self._queue)[2])
                while self._queue and self._queue[0][0] <= self.now and isinstance(self._queue[0][2], Task):
                    self._happen(heappop(self._queue)[2])  # what was sent together ends together
                continue
            for lane in self.first:
                lane.tick(self.now)
            self._drain()  # what ends now has ended before groups speak now
            for lane in self.second:
                lane.tick(self.now)
        self.now = end

    def _next(self) -> datetime | None:
        times = [due for lane in self.lanes if (due := lane.due_at()) is not None]
        if self.how.delays:
            times += [lane.paused_until for lane in self.lanes if lane.paused_until > self.now]
        if self._queue:
            times.append(self._queue[0][0])
        return min(times, default=None)

    def _drain(self) -> None:
        """Step until nothing is unread, save where a partition stands still."""
        while ready := [one for one in self.lanes if one.unread and one.paused_until <= self.now]:
            for lane in ready:
                lane.step(self._chance, self.how.crashes, self._send)
                for task in lane.new_tasks:
                    self._later(self.now + TASK_LASTS, task)
                lane.new_tasks.clear()

    def _send(self, out: Iterable[Outgoing]) -> None:
        for number, record in received(out):
            self.second[number].write(record, self.now)

    def _later(self, when: datetime, what: Any) -> None:
        self._places += 1
        heappush(self._queue, (when, self._places, what))

    def _happen(self, what: Any) -> None:
        if isinstance(what, Task):
            self._deliver(what)
        elif isinstance(what, AlertBatch):
            self._arrive(what)
        elif isinstance(what, Action):
            self._ask(what)
        else:
            getattr(self, f"_{what.what}")(what)
            if self.how.delays and self._chance is not None and self._chance.random() < 0.3:
                lane = self._chance.choice(self.lanes)
                lane.paused_until = self.now + timedelta(seconds=self._chance.random() * LATENESS)

    def _fires(self, act: Act) -> None:
        self._post([(number, True) for number in act.which], act.late)

    def _ends(self, act: Act) -> None:
        self._post([(number, False) for number in act.which], act.late)

    def _post(self, said: list[tuple[int, bool]], late: float) -> None:
        event_at = self.now - timedelta(seconds=late)
        accepted_at = self._gateways_now()
        items = []
        for number, firing in said:
            self.said.append(Said(event_at, number, firing))
            items.append(_alert(number, event_at, accepted_at, f"e{len(self.said)}", firing=firing))
        self._last = AlertBatch(accepted_at=accepted_at, items=tuple(items))
        self._last_at = self.now
        self._later(self.now + self._delay(), self._last)

    def _gateways_now(self) -> datetime:
        """One of two gateways has another clock, or gets one."""
        off = self._places % 2 and self.now >= at(self.script.skew_at)
        return self.now + timedelta(seconds=self.script.skew if off else 0.0)

    def _again(self, _act: Act) -> None:
        if self._last is not None and self.now - self._last_at < REMEMBERED:
            self.repeated += len(self._last.items)
            self._later(self.now, self._last)

    def _arrive(self, batch: AlertBatch) -> None:
        self.events += len(batch.items)
        parts: dict[int, list[Any]] = {}
        for item in batch.items:
            assert isinstance(item, Alert)
            parts.setdefault(keys.partition_of(item.identity, self.how.partitions), []).append(item)
        for number, items in parts.items():
            self.first[number].write(AlertBatch(accepted_at=batch.accepted_at, items=tuple(items)), self.now)

    def _silence(self, act: Act) -> None:
        self._silences += 1
        silence = Silence(
            id=f"s{self._silences}", sequence=self._silences, sets=((("service", "=", "xyz"[act.which[0]]),),),
            windows=((self.now, self.now + timedelta(seconds=act.lasts)),),
        )  # fmt: skip
        record = SilenceChanged(after=self._silences - 1, upto=self._silences, items=(silence,), announced_at=self.now)
        for lane in self.second:
            lane.write(record, self.now)

    def _person(self, act: Act) -> None:
        action = people.asked(act, self.rows, self._gateways_now(), len(self.asked))
        if action is None:
            return
        self.asked[action.id] = action
        first = self.now + self._delay()
        self._later(first, action)
        if act.late:
            self._later(first + timedelta(seconds=act.late), action)

    def _ask(self, action: Action) -> None:
        self.asked[action.id] = action
        self.second[keys.partition_of(action.group, self.how.partitions)].write(action, self.now)

    def _clock(self, act: Act) -> None:
        """The clock of one owner is set, and set right again before that is believed."""
        lane = self.second[act.which[0] % len(self.second)]
        began, heals = self.now, self.now + timedelta(seconds=act.lasts)

        def wall() -> datetime:
            wrong = began < self.now < heals
            return self.now + timedelta(seconds=act.late) if wrong else self.now

        def running() -> float:
            return (self.now - began).total_seconds()

        lane.clock = Clock(wall, running)

    def _delay(self) -> timedelta:
        late = self._chance.random() * LATENESS if self.how.delays and self._chance is not None else 0.0
        return timedelta(seconds=late)

    def _rules(self, act: Act) -> None:
        self.version = act.version
        for lane in (*self.second, *self.first):
            lane.write(ConfigChanged(version=act.version, announced_at=self.now), self.now)

    def _away(self, act: Act) -> None:
        until = self.now + timedelta(seconds=act.lasts)
        self._unreachable.append((TARGETS[act.which[0]], until, act.late > 0))

    def _deliver(self, task: Task) -> None:
        target = f"{task.receiver}/{task.integration}"
        away = [final for name, until, final in self._unreachable if name == target and until > self.now]
        if away and not any(away):
            self._later(self.now + RETRY, task)
            return
        if not away:
            self._take(task, target)
        outcome = Outcome(
            group=task.group_key, task_id=str(task.id), receiver=task.receiver, integration=task.integration,
            decision=task.decision, state="failed" if away else "sent", reason="", finished_at=self.now,
        )  # fmt: skip
        lane = self.second[keys.partition_of(task.group_key, self.how.partitions)]
        for _ in range(1 if self._chance is None else self._chance.choice((1, 1, 2))):  # as a sweep tells it again
            lane.write(outcome, self.now)

    def _take(self, task: Task, target: str) -> None:
        body = _body.decode(self.rows.notices[str(task.notice_id)].body)
        alerts = frozenset(
            Of(IDENTITIES.get(one.fingerprint, task.group_key), one.startsAt, one.status == "firing", one.flapping > 0)
            for one in body.alerts
        )
        self.told.append(Told(self.now, target, task.group_key, task.reason, alerts))


class _Alert(msgspec.Struct):
    fingerprint: str
    status: str
    startsAt: str  # noqa: N815 - as it is in the notice
    flapping: int = 0


class _Body(msgspec.Struct):
    alerts: list[_Alert]


_body: Final = msgspec.json.Decoder(_Body)
_decoders: Final = {PULSES: decode_pulse, GROUPS: decode_group, MEMBERS: decode_member}


def _decoded(lane: Lane, table: str) -> list[tuple[str, Any]]:
    return [(key, _decoders[table](value)) for key, value in lane.view.tables[table].items()]


class Known(NamedTuple):
    """What is the same in every event of an alert."""

    identity: str
    fingerprint: str
    body: bytes
    content: bytes


def _known(labels: dict[str, str]) -> Known:
    body = codec.encode(
        AlertBody(
            source="simulation", severity=Severity(labels["severity"]), kind=Kind.OTHER, summary=labels["alertname"],
            description="", labels=labels,
        )
    )  # fmt: skip
    identity = keys.hashed(keys.identity_of_labels("default", labels))
    return Known(identity, keys.fingerprint(labels), body, blake2b(body, digest_size=8).digest())


KNOWN: Final = [_known(labels) for labels in LABELS]
IDENTITIES: Final = {known.fingerprint: known.identity for known in KNOWN}


def _alert(number: int, event_at: datetime, accepted_at: datetime, event_id: str, *, firing: bool) -> Alert:
    known = KNOWN[number]
    fades = firing and LABELS[number]["alertname"] == "drift"
    ends_at = accepted_at + timedelta(seconds=LASTS) if fades else None if firing else event_at
    return Alert(
        event_id=event_id, team="default", identity=known.identity, content=known.content, firing=firing,
        event_at=event_at, body=known.body, starts_at=event_at if firing else None, ends_at=ends_at, timeout=fades,
    )  # fmt: skip
