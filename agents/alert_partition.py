"""What the owner of one partition of `alerts` holds: alerts, the events it has seen, and what falls due."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final

import msgspec

from agents.deadlines import Deadlines, StepDeadlines
from agents.rules.dedup import AlertState, Pulse
from agents.work import Partition
from streams import codec
from streams.redis_tables import View

ALERT_TABLE: Final = "alerts"
PULSES: Final = "pulses"
RECENT: Final = "recent"
HELD: Final = timedelta(minutes=15)
"""How long a resolved alert stays in the tables after it was last seen."""
TIMEOUT, ROW, DROP, ROUTE, TELL = "timeout", "row", "drop", "route", "tell"
"""What falls due: a resolve timeout, a row that is behind, an alert's time to leave, new rules, an earlier log."""

decode_pulse = msgspec.msgpack.Decoder(Pulse).decode
decode_state = msgspec.msgpack.Decoder(AlertState).decode


class RecentChunk(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The events of one record: when it was decided, and 8 bytes of each event id's hash."""

    at: datetime
    ids: bytes


decode_chunk = msgspec.msgpack.Decoder(RecentChunk).decode


@dataclass(kw_only=True)
class AlertsPartition(Partition):
    """A partition of `alerts` with its memory of events and of rows that are behind."""

    recent: set[int] = field(default_factory=set)
    chunks: dict[str, tuple[datetime, tuple[int, ...]]] = field(default_factory=dict)
    dirty: dict[str, int] = field(default_factory=dict)
    untold: dict[int, list[str]] = field(default_factory=dict)
    """Offsets that a rebuilt partition replays -> the alerts whose rows have what came of them."""
    past: dict[str, list[tuple[AlertState, Pulse]]] = field(default_factory=dict)
    """Of a rebuilt partition: occurrences that ended, and were followed by others, within what it replays."""
    retell: set[str] = field(default_factory=set)
    """Alerts of an earlier life of the log, which may have been lost before the groups read what it told them."""

    @classmethod
    def over(cls, view: View, *, pg_applied: int, config_version: int, watermark: datetime) -> "AlertsPartition":
        """Derive what is not in the tables from what is."""
        self = cls(view=view, pg_applied=pg_applied, config_version=config_version, watermark=watermark)
        loaded = sorted(view.tables[RECENT].items(), key=lambda item: [int(part) for part in item[0].split("-")])
        for key, value in loaded:
            chunk = decode_chunk(value)
            self.remember(key, chunk.at, event_hashes(chunk.ids))
        dirty = []
        for identity, value in view.tables[PULSES].items():
            pulse = decode_pulse(value)
            arm(self.deadlines, identity, pulse)
            if pulse.dirty_from >= 0:
                dirty.append((pulse.dirty_from, identity))
            if pulse.offset > view.offset:
                self.untold.setdefault(pulse.offset, []).append(identity)
            elif pulse.offset < 0:
                self.retell.add(identity)
                self.deadlines.push(watermark, TELL, identity)
            if not pulse.firing:
                continue
            routed_by = decode_state(view.tables[ALERT_TABLE][identity]).config_version
            if routed_by < config_version:
                self.deadlines.push(watermark, ROUTE, identity)
                self.versions.add(routed_by)
        self.dirty = {identity: first for first, identity in sorted(dirty)}
        return self

    def look_back(self, past: dict[str, list[tuple[AlertState, Pulse]]]) -> None:
        """Know occurrences that are in no table any more, because others have followed them."""
        self.past = past
        for identity, over in past.items():
            for _, pulse in over:
                untold = self.untold.setdefault(pulse.offset, [])
                if identity not in untold:
                    untold.append(identity)

    def remember(self, key: str, at: datetime, ids: tuple[int, ...]) -> None:
        """Add one record's events to the memory."""
        self.chunks[key] = (at, ids)
        self.recent.update(ids)

    def forget(self, key: str) -> None:
        """Drop one record's events from the memory."""
        _, ids = self.chunks.pop(key)
        self.recent.difference_update(ids)


def event_hash(identity: str, event_id: str) -> int:
    """8 bytes of blake2b as a number; two senders may use one event id for two alerts."""
    key = f"{identity}|{event_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big")


def event_hashes(packed: bytes) -> tuple[int, ...]:
    """The hashes of a packed chunk."""
    return struct.unpack(f">{len(packed) // 8}Q", packed)


def chunk_of(at: datetime, offset: int, event_ids: Sequence[int]) -> tuple[str, bytes]:
    """Key and value of one record's events in the table `recent`."""
    packed = struct.pack(f">{len(event_ids)}Q", *event_ids)
    return f"{int(at.timestamp() * 1e6)}-{offset}", codec.encode(RecentChunk(at, packed))


def due_at(what: str, pulse: Pulse, row_interval: timedelta = timedelta(seconds=1)) -> datetime | None:
    """When that is due by this pulse; None when it never is."""
    if what == ROW:
        return pulse.row_at + row_interval if pulse.dirty_from >= 0 else None
    if what == TIMEOUT:
        return pulse.timeout_at if pulse.firing else None
    return pulse.last_seen_at + HELD if not pulse.firing else None


def arm(
    deadlines: Deadlines | StepDeadlines, identity: str, pulse: Pulse, row_interval: timedelta = timedelta(seconds=1)
) -> None:
    """Push the deadlines that a pulse stands for."""
    for what in (ROW, TIMEOUT, DROP):
        due = due_at(what, pulse, row_interval)
        if due is not None:
            deadlines.push(due, what, identity)
