"""What happens when partitions are assigned: fence the former owner, load, find the position."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import asyncpg
import msgspec
import structlog
from redis.exceptions import RedisError

from agents.alert_partition import (
    ALERT_TABLE,
    HELD,
    PULSES,
    RECENT,
    AlertsPartition,
    chunk_of,
    decode_pulse,
    decode_state,
    event_hash,
)
from agents.group_partition import CAUSES, GROUPS, MEMBERS, RULES, SAY_AGAIN, UNSENT, InputsPartition
from agents.rules.dedup import AlertState, Pulse
from agents.work import Partition, Waiting
from sinks import alert_rows, incident_rows, postgres, rule_rows
from sinks.postgres import Connection, Progress
from streams import codec, metrics
from streams.redis_tables import FencedError, Mark, TableSet, View
from streams.settings import Settings
from streams.topics import ALERTS, INPUTS

REPLAY_LIMIT: Final = 200_000
"""Records that Redis may be behind Postgres before a rebuild is the quicker way."""

VERSIONS: Final = {ALERT_TABLE: 1, PULSES: 1, RECENT: 1, GROUPS: 1, MEMBERS: 1}
"""The version that this program reads and writes of each table's values: the tag of their record."""

_REBASED: Final = 5_000

log = structlog.get_logger()


class LogLostError(RuntimeError):
    """Raised when Kafka no longer has records that were not applied, or fewer than were."""


class Offsets(Protocol):
    """What the loader asks Kafka: (first, next) offset of each partition of one topic."""

    def __call__(self, topic: str, partitions: Sequence[int]) -> Awaitable[Mapping[int, tuple[int, int]]]: ...


@dataclass(kw_only=True)
class Loader:
    """Loads the partitions of one agent's topic."""

    settings: Settings
    topic: str
    tables: TableSet
    partitions: dict[int, Partition]
    pool: "asyncpg.Pool"
    log_id: str
    offsets: Offsets
    prepare: Callable[[int], Awaitable[None]]
    waiting_for: Waiting
    _past: dict[int, dict[str, list[tuple[AlertState, Pulse]]]] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def load(self, assigned: AbstractSet[int]) -> dict[int, int]:
        """Make exactly these partitions mine; the next offset of each.

        Raises:
            LogLostError: Kafka's log does not fit what was applied.
            FencedError: another process claimed one of them after this one.
        """
        async with self._lock:
            for number in [n for n in self.partitions if n not in assigned]:
                del self.partitions[number]
                self.tables.views.pop(number, None)
            wanted = sorted(assigned - await self._still_mine())
            if wanted:
                progress = await self._patiently("postgres", lambda: self._claim(wanted))
                bounds = await self.offsets(self.topic, wanted)
                for number in wanted:
                    await self._take(progress[number], bounds[number])
            return {number: self.partitions[number].next_offset for number in assigned}

    async def _still_mine(self) -> set[int]:
        kept = [number for number in self.partitions if number in self.tables.views]
        if not kept:
            return set()
        current = await self._patiently("postgres", lambda: self._current(kept))
        return {
            number
            for number in kept
            if current.get(number) == (self.partitions[number].view.epoch, self.partitions[number].view.offset)
        }

    async def _current(self, numbers: list[int]) -> dict[int, tuple[int, int]]:
        async with self.pool.acquire(timeout=2) as conn:
            return await postgres.current_epochs(conn, self.log_id, self.topic, numbers)

    async def _claim(self, numbers: list[int]) -> dict[int, Progress]:
        async with self.pool.acquire(timeout=2) as conn:
            return await postgres.claim(conn, self.log_id, self.topic, numbers)

    async def _take(self, progress: Progress, bounds: tuple[int, int]) -> None:
        number = progress.partition
        first, end = bounds
        # A broker that forgets tells ends that lag behind what it holds; its lives are told apart by their names.
        if progress.applied >= end and not self.settings.log_generation:
            raise LogLostError(f"{self.topic}/{number}: {progress.applied} was applied, but Kafka's log ends at {end}")
        if progress.applied >= 0 and first > progress.applied + 1:
            raise LogLostError(f"{self.topic}/{number}: Kafka dropped offsets {progress.applied + 1} to {first - 1}")
        started, source = time.monotonic(), "redis"
        progress = await self._owned(progress)
        view = await self._patiently("redis", lambda: self.tables.load(number, progress.epoch))
        if not self._usable(view, progress, first):
            view, source = await self._rebuilt(progress, first), "postgres"
        metrics.table_load_seconds.labels(source).observe(time.monotonic() - started)
        for table, version in VERSIONS.items():
            codec.refuse_versions(table, view.tables.get(table, {}), version)
        await self.prepare(view.mark.config_version)
        self.tables.views[number] = view
        make = AlertsPartition.over if self.topic == ALERTS else InputsPartition.over
        partition = make(
            view,
            pg_applied=progress.applied,
            config_version=view.mark.config_version,
            watermark=view.mark.watermark,
        )
        if isinstance(partition, AlertsPartition):
            past = self._past.pop(number, None)
            if past is None and partition.untold:  # it was rebuilt by an owner that did not come to replay it
                past = await self._patiently("postgres", lambda: self._past_of(view))
            partition.look_back(past or {})
        for version in sorted(partition.versions):
            await self.prepare(version)
        self.partitions[number] = partition

    async def _owned(self, progress: Progress) -> Progress:
        """Redis takes the epoch that Postgres gave; where it has a later one, Postgres was put back to an older day."""
        number = progress.partition
        try:
            await self._patiently("redis", lambda: self.tables.claim(number, progress.epoch))
        except FencedError:
            mark = await self._patiently("redis", lambda: self.tables.mark(number))
            place = (self.log_id, self.topic, number)
            raised = await self._patiently("postgres", lambda: self._raise(place, progress.epoch, mark.epoch))
            if not raised:
                raise
            log.warning("redis is ahead of postgres", topic=self.topic, partition=number, epoch=mark.epoch)
            progress = replace(progress, epoch=mark.epoch + 1)
            await self._patiently("redis", lambda: self.tables.claim(number, progress.epoch))
        return progress

    async def _raise(self, place: tuple[str, str, int], epoch: int, past: int) -> bool:
        async with self.pool.acquire(timeout=2) as conn:
            return await postgres.raise_epoch(conn, *place, epoch, past)

    def _usable(self, view: View, progress: Progress, first: int) -> bool:
        behind = progress.applied - view.offset
        return view.log_id == self.log_id and 0 <= behind <= REPLAY_LIMIT and first <= view.offset + 1

    async def _rebuilt(self, progress: Progress, first: int) -> View:
        """Tables from Postgres' rows, at the offset before the first thing that no row has."""
        # What Kafka has dropped since was told long ago.
        offset = max(progress.safe, first - 1) if progress.applied >= 0 else first - 1
        mark = Mark(progress.epoch, self.log_id, offset, progress.config_version, progress.watermark)
        view = View(progress.partition, mark, {name: {} for name in self.tables.tables})
        started = asyncio.get_running_loop().time()
        await self._patiently("postgres", lambda: self._read(view, progress))
        await self._patiently("redis", lambda: self.tables.replace(view))
        entries = sum(map(len, view.tables.values()))
        if entries:
            seconds = asyncio.get_running_loop().time() - started
            log.info(
                "rebuilt from postgres", topic=self.topic, partition=progress.partition, entries=entries,
                seconds=round(seconds, 3),
            )  # fmt: skip
        return view

    async def _read(self, view: View, progress: Progress) -> None:
        for table in view.tables.values():
            table.clear()
        async with self.pool.acquire(timeout=2) as conn:
            if self.topic == ALERTS:
                await self._read_alerts(conn, view, progress)
            elif self.topic == INPUTS:
                await self._read_groups(conn, view, progress)

    async def _read_alerts(self, conn: Connection, view: View, progress: Progress) -> None:
        now = max(progress.watermark, datetime.min.replace(tzinfo=UTC) + HELD)
        alerts, pulses = view.tables[ALERT_TABLE], view.tables[PULSES]
        async for rows in alert_rows.rebuild(conn, view.partition, now - HELD):
            for identity, state, pulse, held in rows:
                # What a step wrote whose sending on is not known to be done is told again, its end too.
                if held or decode_pulse(pulse).offset > view.offset:
                    alerts[identity], pulses[identity] = state, pulse
        self._past[view.partition] = await self._read_past(conn, view) if progress.applied >= 0 else {}
        if progress.applied < 0:
            await self._rebase(conn, pulses)
        since = now - timedelta(seconds=self.settings.recent_window)
        seen: dict[tuple[datetime, int], list[int]] = {}
        async for rows in alert_rows.recent_events(conn, view.partition, since):
            for log_id, decided_at, offset, identity, event_ids in rows:
                # What comes after the rebuilt offset is replayed, and must not look as if it had been seen.
                if log_id != self.log_id or offset <= view.offset:
                    known = seen.setdefault((decided_at, offset), [])
                    known += [event_hash(identity, event) for event in event_ids]
        kept = _remembered(seen, self.settings.recent_cap)
        view.tables[RECENT].update(chunk_of(*at, events) for at, events in kept.items())

    async def _past_of(self, view: View) -> dict[str, list[tuple[AlertState, Pulse]]]:
        async with self.pool.acquire(timeout=2) as conn:
            return await self._read_past(conn, view)

    async def _read_past(self, conn: Connection, view: View) -> dict[str, list[tuple[AlertState, Pulse]]]:
        """What ended in the steps that are replayed, and fired again there: groups may not have heard of it."""
        past: dict[str, list[tuple[AlertState, Pulse]]] = {}
        async for rows in alert_rows.ended_last(conn, view.partition):
            for identity, state, pulse in rows:
                ended, newest = decode_pulse(pulse), view.tables[PULSES].get(identity)
                if ended.offset > view.offset and newest and decode_pulse(newest).occurrence > ended.occurrence:
                    past.setdefault(identity, []).append((decode_state(state), ended))
        return past

    async def _rebase(self, conn: Connection, pulses: dict[str, bytes]) -> None:
        """Nothing of this log is in a row yet: offsets in rows are an earlier log's, and must not hide this one's."""
        moved = []
        for identity, value in pulses.items():
            pulse = decode_pulse(value)
            if pulse.offset >= 0:
                pulses[identity] = codec.encode(msgspec.structs.replace(pulse, offset=-1))
                moved.append((identity, pulse.occurrence, value, pulses[identity]))
        for start in range(0, len(moved), _REBASED):
            await alert_rows.rebase(conn, moved[start : start + _REBASED])

    async def _read_groups(self, conn: Connection, view: View, progress: Progress) -> None:
        async for rows in incident_rows.rebuild_groups(conn, view.partition):
            view.tables[GROUPS].update((key, state) for key, state in rows)
        async for rows in incident_rows.rebuild_members(conn, view.partition):
            view.tables[MEMBERS].update((f"{group}:{identity}", state) for group, identity, state in rows)
        for row in await rule_rows.rebuild(conn, view.partition):
            view.tables[RULES][row["key"]] = row["value"]
        if progress.config_version:
            view.tables[RULES]["config"] = codec.encode(progress.config_version)
        if progress.causes:
            view.tables[RULES][CAUSES] = progress.causes
        if view.tables[GROUPS] or UNSENT in view.tables[RULES]:
            view.tables[RULES][SAY_AGAIN] = codec.encode(True)  # noqa: FBT003 - that it is there says it

    async def _patiently(self, dependency: str, action: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - whatever the action gives
        delay = 0.05
        while True:
            try:
                result = await action()
            except (*postgres.TRANSIENT, RedisError) as error:
                if isinstance(error, FencedError):
                    raise
                log.warning("waiting", dependency=dependency, topic=self.topic, reason=repr(error))
                self.waiting_for(dependency, ok=False)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)
            else:
                self.waiting_for(dependency, ok=True)
                return result


def _remembered(seen: Mapping[tuple[datetime, int], list[int]], cap: int) -> dict[tuple[datetime, int], list[int]]:
    """The events that the partition would still know: whole records, the oldest left out until `cap` holds the rest."""
    count = sum(map(len, seen.values()))
    kept = {}
    for place in sorted(seen):
        if count > cap:
            count -= len(seen[place])
        else:
            kept[place] = seen[place]
    return kept
