"""Seeded mixes of alerts in our own wire format: the same seed gives the same events.

Pure: no clock and no I/O; the send time is put in by `body` when a message leaves.
"""

import random
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from itertools import accumulate
from typing import Final

import msgspec

from loadtests.bad import bad_body
from loadtests.scenarios import MODELS, REGIONS, SCENARIOS, SOURCES, TEAMS, Scenario
from streams.records import Severity


class Intent(StrEnum):
    """What the sender means by an event; what becomes of it is for the system to say."""

    NEW = "new"
    REPEAT = "repeat"
    CHANGE = "change"
    RESOLVE = "resolve"
    COPY = "copy"
    BAD = "bad"


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """Parts of the whole, 0 to 1; repeats are the rest.

    `refire` is the part of the new ones that had ended before. `zipf` is the
    exponent by which repeats favour few identities. With `cells` above 1 each
    service runs in that many cells, which makes as many times more groups.
    """

    new: float = 0.25
    resolve: float = 0.07
    change: float = 0.04
    copy: float = 0.0
    bad: float = 0.0
    refire: float = 0.1
    zipf: float = 1.1
    cells: int = 1

    def __post_init__(self) -> None:
        parts = (self.new, self.resolve, self.change, self.copy, self.bad)
        if min(parts) < 0 or sum(parts) > 1 or self.new == 0:
            raise ValueError("shares are 0 to 1, new is above 0, and together they are at most 1")


STANDARD: Final = Shares(cells=8)
SAMPLE: Final = Shares(new=0.22, resolve=0.12, change=0.04, copy=0.01, bad=0.02, refire=0.15)


class WireAlert(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One alert as a sender writes it (JSON)."""

    source: str
    status: str
    summary: str
    labels: dict[str, str]
    event_id: str = ""
    dedup_key: str = ""
    severity: str = ""
    kind: str = ""
    description: str = ""
    annotations: dict[str, str] = {}
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    links: list[dict[str, str]] = []


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One message to send; exactly one of `alert` and `raw` (a bad body) is there."""

    event_id: str
    intent: Intent
    identity: int = 0
    alert: WireAlert | None = None
    raw: bytes = b""


class _Live:
    """An alert that its sender knows about."""

    __slots__ = ("labels", "number", "said", "scenario")

    def __init__(self, number: int, scenario: Scenario, labels: dict[str, str]) -> None:
        self.number, self.scenario, self.labels = number, scenario, labels
        self.said: WireAlert | None = None


_RANKS: Final = 4096
_STORM_EVERY: Final = 1500
_STORM_LENGTH: Final = 400
_STORM_PULL: Final = 0.7
_KEYED: Final = 0.7
_encode: Final = msgspec.json.Encoder().encode


class Mix:
    """An endless seeded series of events of one run.

    From time to time one alert repeats like mad, or one service loses many
    parts at once and they recover together.
    """

    def __init__(self, run: str, seed: int, shares: Shares = STANDARD) -> None:
        self.run = run
        self._shares = shares
        self._random = random.Random(seed)
        self._weights = [scenario.weight for scenario in SCENARIOS]
        self._ranks = list(accumulate(1 / rank**shares.zipf for rank in range(1, _RANKS + 1)))
        self._live: list[_Live] = []
        self._ended: deque[_Live] = deque(maxlen=1000)
        self._identities = 0
        self._events = 0
        self._last: Event | None = None
        self._loud: _Live | None = None
        self._outage: tuple[Scenario, str] | None = None
        self._bounds = list(accumulate((shares.new, shares.resolve, shares.change, shares.copy, shares.bad)))

    def next(self) -> Event:
        """The next event of the series."""
        self._events += 1
        self._weather()
        new, resolve, change, copy, bad = self._bounds
        drawn = self._random.random()
        if drawn < new or not self._live:
            event = self._new()
        elif drawn < resolve:
            event = self._resolve()
        elif drawn < change:
            event = self._change()
        elif drawn < copy and self._last is not None:
            return msgspec.structs.replace(self._last, intent=Intent.COPY)
        elif copy <= drawn < bad:
            return Event(event_id=self._id(), intent=Intent.BAD, raw=bad_body(self._random, self.run, self._events))
        else:
            event = self._said(self._pick(), Intent.REPEAT)
        self._last = event
        return event

    def recover(self, parts: float) -> Iterator[Event]:
        """The ends of everything that this part (0 to 1) of the rules has firing."""
        names = sorted({live.scenario.alertname for live in self._live})
        over = set(names[: round(len(names) * parts)])
        ended = [live for live in self._live if live.scenario.alertname in over]
        self._live = [live for live in self._live if live.scenario.alertname not in over]
        for live in ended:
            self._events += 1
            yield self._said(live, Intent.RESOLVE)

    def _id(self) -> str:
        return f"{self.run}-{self._events:08d}"

    def _weather(self) -> None:
        phase = self._events % _STORM_EVERY
        if phase == _STORM_LENGTH:
            self._loud, self._outage = None, None
        elif phase == 0 and self._live:
            self._loud = self._random.choice(self._live)
            scenario = self._random.choices(SCENARIOS, self._weights)[0]
            self._outage = (scenario, self._random.choice(scenario.services))

    def _new(self) -> Event:
        if self._ended and self._random.random() < self._shares.refire:
            live = self._ended.popleft()
            live.said = None
        else:
            live = self._born()
        self._live.append(live)
        return self._said(live, Intent.NEW)

    def _born(self) -> _Live:
        choose = self._random.choice
        if self._outage is not None and self._random.random() < _STORM_PULL:
            scenario, service = self._outage
        else:
            scenario = self._random.choices(SCENARIOS, self._weights)[0]
            service = choose(scenario.services)
        self._identities += 1
        provider, model = choose(MODELS)
        cells = self._shares.cells
        labels = {
            "alertname": scenario.alertname,
            "service": service if cells == 1 else f"{service}-{self._random.randrange(cells)}",
            "model": model,
            "provider": provider,
            "region": choose(REGIONS),
            "team": TEAMS[service],
            "instance": f"{service}-{self._identities:06d}",
            "run": self.run,
        }
        return _Live(self._identities, scenario, labels)

    def _resolve(self) -> Event:
        newest = self._outage is None and self._random.random() < _STORM_PULL
        index = len(self._live) - 1 if newest else self._random.randrange(len(self._live))
        live = self._live[index]
        self._live[index] = self._live[-1]
        self._live.pop()
        self._ended.append(live)
        if live is self._loud:
            self._loud = None
        return self._said(live, Intent.RESOLVE)

    def _change(self) -> Event:
        live = self._pick()
        live.said = self._text(live, live.scenario.raised)
        return self._said(live, Intent.CHANGE)

    def _pick(self) -> _Live:
        if self._loud is not None and self._random.random() < _STORM_PULL:
            return self._loud
        return self._live[self._rank()]

    def _rank(self) -> int:
        ranks = min(len(self._live), _RANKS)
        return min(bisect_left(self._ranks, self._random.random() * self._ranks[ranks - 1]), ranks - 1)

    def _said(self, live: _Live, intent: Intent) -> Event:
        alert = live.said = live.said or self._text(live, live.scenario.severity)
        if intent is Intent.RESOLVE:
            alert = msgspec.structs.replace(alert, status="resolved")
        return Event(event_id=self._id(), intent=intent, identity=live.number, alert=alert)

    def _text(self, live: _Live, severity: Severity) -> WireAlert:
        scenario, labels = live.scenario, live.labels
        value = self._random.uniform(scenario.low, scenario.high)
        return WireAlert(
            source=SOURCES[live.number % len(SOURCES)],
            status="firing",
            dedup_key=f"{self.run}/{live.number}" if live.number % 10 < _KEYED * 10 else "",
            severity=severity,
            kind=scenario.kind,
            summary=scenario.summary.format(value=value, **labels),
            description=scenario.description.format(value=value, **labels),
            labels=labels,
            annotations={"runbook": f"runbooks/{scenario.kind}", "value": f"{value:.2f}"},
        )


def stamped(event: Event, sent_at: datetime, *, with_id: bool = False) -> WireAlert:
    """The alert as it leaves at `sent_at`; `with_id` puts the event id into the body."""
    if event.alert is None:
        raise ValueError("a bad message has no alert to stamp")
    ends = event.alert.status == "resolved"
    return msgspec.structs.replace(
        event.alert,
        event_id=event.event_id if with_id else "",
        starts_at=None if ends else sent_at,
        ends_at=sent_at if ends else None,
    )


def body(event: Event, sent_at: datetime) -> bytes:
    """The bytes of one message that leaves at `sent_at`; its event id travels beside it."""
    return event.raw if event.alert is None else _encode(stamped(event, sent_at))


def list_body(events: list[Event], sent_at: datetime) -> bytes:
    """Several events as one JSON list, each with its own event id."""
    return _encode([stamped(event, sent_at, with_id=True) for event in events])
