"""What listening pages are sent: one reader of Postgres for all of them, and a bounded queue for each."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from sinks.incident_reads import IncidentSummary, changed_since, incidents_by_id
from sinks.progress_reads import OpenIncidents, Totals, read_open, read_totals
from streams import metrics
from streams.observe import Health
from web.database import Database, DatabaseAwayError
from web.problems import PartAwayError

_INTERVAL: Final = 1.0
_LATE: Final = 0.8
"""Seconds after which it is said that Postgres does not answer, whatever becomes of the question."""
_SILENT: Final = "Postgres does not answer"
_HEARTBEAT: Final = 10.0
_ASKED_AGAIN: Final = 3.0
"""Seconds after which a listener's credential is looked at again."""
_RING: Final = 15 * 60
# A rate is over this many seconds: steps commit in batches, so single seconds would jump.
_SMOOTHED: Final = 3
_QUEUE: Final = 64
_MAX_CLIENTS: Final = 500
_MAX_CHANGED: Final = 200
_MAX_VERSIONS: Final = 2000
# A transaction's committed_at may be seen this much later than a newer one's.
_OVERLAP: Final = timedelta(seconds=5)
_LONGEST_RESUME: Final = timedelta(minutes=15)

Teams = frozenset[str] | None
log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class Point(msgspec.Struct, frozen=True, array_like=True):
    """One second of the chart: unix time, events in and duplicates folded per second, incidents open."""

    at: float
    received: float
    folded: float
    open: int


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What Postgres says now. `point` is None for the first sample after an outage: a rate needs two.

    `away` names the gateway's parts that do not answer.
    """

    at: datetime
    totals: Totals
    open: OpenIncidents
    point: Point | None
    away: list[str] = []


class Sampler:
    """Turns sums into rates and keeps the last minutes of them."""

    def __init__(self) -> None:
        self.ring: deque[Point] = deque(maxlen=_RING)
        self.latest: Sample | None = None
        self._readings: deque[tuple[float, Totals]] = deque(maxlen=_SMOOTHED)

    def add(self, totals: Totals, opened: OpenIncidents, at: datetime, clock: float) -> Sample:
        """Take one reading; `clock` is monotonic, in seconds."""
        point = None
        if self._readings and clock > self._readings[0][0]:
            seconds, before = clock - self._readings[0][0], self._readings[0][1]
            point = Point(
                at=round(at.timestamp(), 1),
                received=round(max(0, totals.received - before.received) / seconds, 1),
                folded=round(max(0, totals.duplicate - before.duplicate) / seconds, 1),
                open=opened.count,
            )
            self.ring.append(point)
        self._readings.append((clock, totals))
        self.latest = Sample(at=at, totals=totals, open=opened, point=point)
        return self.latest

    def interrupt(self) -> None:
        """Postgres was away: the next reading starts a new rate."""
        self._readings.clear()


class Live:
    """Reads what changed, a question or two a second, and hands it to everyone who listens."""

    def __init__(self, database: Database, health: Health) -> None:
        self.sampler = Sampler()
        self._database = database
        self._health = health
        self._queues: dict[asyncio.Queue[bytes | None], Teams] = {}
        self._seen: dict[UUID, tuple[int, datetime]] = {}
        self._cursor = datetime.now(UTC)
        self._closed = False

    async def run(self) -> None:
        """Sample each second until cancelled; this is also the check of Postgres."""
        while True:
            started = time.monotonic()
            reading = asyncio.create_task(self._sampled())
            try:
                done, _ = await asyncio.wait({reading}, timeout=_LATE)
                if not done:
                    self._health.set("postgres", ok=False, detail=_SILENT, required=False)
                await reading
            finally:
                reading.cancel()
            await asyncio.sleep(max(0.1, _INTERVAL - (time.monotonic() - started)))

    async def _sampled(self) -> None:
        try:
            async with asyncio.timeout(_INTERVAL * 1.5):
                await self._read()
        except (DatabaseAwayError, TimeoutError) as error:
            self.sampler.interrupt()
            self._health.set("postgres", ok=False, detail=str(error) or _SILENT, required=False)
            self._publish("away", {"reason": str(error) or _SILENT})
        else:
            self._health.set("postgres", ok=True, required=False)

    async def _read(self) -> None:
        async with self._database.reading() as conn:
            totals, opened = await read_totals(conn), await read_open(conn)
            sample = self.sampler.add(totals, opened, datetime.now(UTC), time.monotonic())
            changed = await self._changed(conn) if self._queues else []
            some = {teams for teams in self._queues.values() if teams is not None}
            own = {teams: await read_open(conn, sorted(teams)) for teams in some}
        if not self._queues:
            self._cursor, self._seen = sample.at, {}
            return
        if changed is None:
            self._publish("reset", {"reason": "more changed than a page can follow"}, self._cursor)
        elif changed:
            self._publish("changed", changed, self._cursor, lambda teams: _of(teams, changed))
        sample = msgspec.structs.replace(sample, away=self._away())
        self._publish("sample", sample, self._cursor, lambda teams: _own(sample, own.get(teams)))

    async def _changed(self, conn: Any) -> list[IncidentSummary] | None:  # noqa: ANN401 - a connection of either kind
        versions = await changed_since(conn, self._cursor - _OVERLAP, _MAX_VERSIONS)
        if len(versions) == _MAX_VERSIONS:
            self._cursor, self._seen = datetime.now(UTC), {}
            return None
        fresh = [key for key, *version in versions if self._seen.get(key) != tuple(version)]
        if versions:
            self._cursor = max(self._cursor, versions[-1][2])
        self._seen = {key: (revision, at) for key, revision, at in versions if at > self._cursor - _OVERLAP}
        if len(fresh) > _MAX_CHANGED:
            return None
        return await incidents_by_id(conn, fresh) if fresh else []

    async def listen(
        self, last_event_id: str, teams: Teams = None, may_listen: Callable[[], Awaitable[bool]] | None = None
    ) -> AsyncIterator[bytes]:
        """Server-sent events for one client of these teams, from where it was.

        They end when it is too slow, when it may listen no more (asked every few seconds), or when we stop.

        Raises:
            PartAwayError: too many listen already.
        """
        if len(self._queues) >= _MAX_CLIENTS or self._closed:
            raise PartAwayError("no more live listeners are taken")
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUE)
        self._queues[queue] = teams
        metrics.live_clients.set(len(self._queues))
        try:
            yield b"retry: 2000\n\n" + event("hello", self._hello(teams))
            if last_event_id:
                yield await self._resumed(last_event_id, teams)
            asked = said = time.monotonic()
            while True:
                try:
                    async with asyncio.timeout(_ASKED_AGAIN):
                        message = await queue.get()
                except TimeoutError:
                    message = b""
                now = time.monotonic()
                if now - asked >= _ASKED_AGAIN:
                    if may_listen is not None and not await may_listen():
                        return
                    asked = now
                if message is None:
                    return
                if not message and now - said >= _HEARTBEAT:
                    message = b": still here\n\n"
                if message:
                    said = now
                    yield message
        finally:
            self._queues.pop(queue, None)
            metrics.live_clients.set(len(self._queues))

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._closed = True
        for queue in self._queues:
            _end(queue)

    def _away(self) -> list[str]:
        return [name for name, part in self._health.readiness().parts.items() if not part.ok]

    def _hello(self, teams: Teams) -> dict[str, Any]:
        if teams is not None:
            return {"history": [], "sample": None, "health": self._health.readiness()}
        return {"history": list(self.sampler.ring), "sample": self.sampler.latest, "health": self._health.readiness()}

    async def _resumed(self, last_event_id: str, teams: Teams) -> bytes:
        since = _moment(last_event_id)
        if since is None or datetime.now(UTC) - since > _LONGEST_RESUME:
            return event("reset", {"reason": "away for too long"})
        try:
            async with self._database.reading() as conn:
                versions = await changed_since(conn, since - _OVERLAP, _MAX_CHANGED + 1)
                if len(versions) > _MAX_CHANGED:
                    return event("reset", {"reason": "too much changed meanwhile"})
                missed = await incidents_by_id(conn, [key for key, *_ in versions])
        except DatabaseAwayError as error:
            return event("away", {"reason": str(error)})
        return event("changed", _of(teams, missed), versions[-1][2] if versions else since)

    def _publish(
        self, name: str, data: object, at: datetime | None = None, own: Callable[[frozenset[str]], object] | None = None
    ) -> None:
        """Hand an event to everyone; to those of some teams what `own` gives, where it is given."""
        messages: dict[Teams, bytes] = {}
        for queue, teams in self._queues.items():
            if teams not in messages:
                said = data if own is None or teams is None else own(teams)
                messages[teams] = event(name, said, at)
            try:
                queue.put_nowait(messages[teams])
            except asyncio.QueueFull:
                metrics.live_dropped.inc()
                _end(queue)


def _of(teams: Teams, items: list[IncidentSummary]) -> list[IncidentSummary]:
    return [item for item in items if teams is None or item.team in teams]


def _own(sample: Sample, opened: OpenIncidents | None) -> Sample:
    """The sample as some teams see it: with their own incidents; none for who came a moment ago."""
    opened = opened or OpenIncidents()
    point = msgspec.structs.replace(sample.point, open=opened.count) if sample.point is not None else None
    return msgspec.structs.replace(sample, open=opened, point=point)


def event(name: str, data: object, at: datetime | None = None) -> bytes:
    """One server-sent event; its id is the cursor in microseconds."""
    number = f"id: {int(at.timestamp() * 1_000_000)}\n" if at else ""
    return f"event: {name}\n{number}data: ".encode() + _encode(data) + b"\n\n"


def _end(queue: "asyncio.Queue[bytes | None]") -> None:
    with contextlib.suppress(asyncio.QueueEmpty):
        while queue.full():
            queue.get_nowait()
    queue.put_nowait(None)


def _moment(event_id: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(event_id) / 1_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
