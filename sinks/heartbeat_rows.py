"""Rows of heartbeats: beats stored many at once, and what fell silent or came back. All times are the database's."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from streams.records import Severity

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]

# Beats of several things, each once. What a beat says of its interval and so on holds from then on, what it does not
# say stays as it was; without an interval, now or before, it is left out.
_BEAT: Final = """
WITH said AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::interval[], $4::interval[], $5::text[], $6::text[], $7::bigint[],
        $8::text[]) AS new(team, name, every, grace, severity, labels, beats, actor)
),
filled AS (
    SELECT said.team, said.name, coalesce(said.every, known."interval") AS every,
        coalesce(said.grace, CASE WHEN coalesce(said.every, known."interval") = known."interval" THEN known.grace END,
            greatest('5 s', coalesce(said.every, known."interval") / 10)) AS grace,
        coalesce(said.severity, known.severity, 'critical') AS severity,
        coalesce(said.labels::jsonb, known.labels, '{}') AS labels, said.beats, said.actor
    FROM said LEFT JOIN heartbeats known ON known.team = said.team AND known.name = said.name AND NOT known.deleted
)
INSERT INTO heartbeats AS mine (team, name, "interval", grace, severity, labels, beats, created_by)
SELECT * FROM filled WHERE every IS NOT NULL ORDER BY team, name
ON CONFLICT (team, name) DO UPDATE SET "interval" = excluded."interval", grace = excluded.grace,
    severity = excluded.severity, labels = excluded.labels, beats = mine.beats + excluded.beats,
    last_beat_at = clock_timestamp(), deleted = false
RETURNING team, name, extract(epoch FROM "interval")::float8 AS interval_seconds,
    extract(epoch FROM grace)::float8 AS grace_seconds, severity, labels, state, last_beat_at,
    last_beat_at + "interval" + grace AS due_at, beats, changed_at, created_by, created_at
"""

_WATCH: Final = """
SELECT looked_at, since_at, clock_timestamp() AS now FROM heartbeat_watch
WHERE abs(extract(epoch FROM clock_timestamp() - looked_at)) >= 1 FOR UPDATE SKIP LOCKED
"""

_WATCHED: Final = "UPDATE heartbeat_watch SET looked_at = $1, since_at = $2"

# After the clock went back, what was seen "later" was seen now.
_TURN_BACK: Final = "UPDATE heartbeats SET last_beat_at = $1 WHERE last_beat_at > $1"

_OVERDUE: Final = """
UPDATE heartbeats SET state = 'missing', episode = episode + 1, changed_at = $1, told = false
WHERE state = 'alive' AND NOT deleted AND greatest(last_beat_at, $2) + "interval" + grace < $1
"""

# Back: what has beaten since it was missed, and what is watched no more.
_BACK: Final = """
UPDATE heartbeats SET state = 'alive', changed_at = $1, told = false
WHERE state = 'missing' AND told AND (deleted OR last_beat_at > changed_at)
"""

_UNTOLD: Final = """
SELECT team, name, "interval", grace, severity, labels::text, state, episode, last_beat_at, changed_at
FROM heartbeats WHERE NOT told ORDER BY changed_at LIMIT $1
"""

_TOLD: Final = """
UPDATE heartbeats AS mine SET told = true FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
    AS done(team, name, episode, state)
WHERE mine.team = done.team AND mine.name = done.name AND mine.episode = done.episode AND mine.state = done.state
"""

_FORGET: Final = "DELETE FROM heartbeats WHERE deleted AND told AND state = 'alive'"

_COUNT: Final = "SELECT count(*) FROM heartbeats WHERE state = 'missing' AND NOT deleted"

_LIST: Final = """
SELECT team, name, extract(epoch FROM "interval")::float8 AS interval_seconds,
    extract(epoch FROM grace)::float8 AS grace_seconds, severity, labels, state, last_beat_at,
    last_beat_at + "interval" + grace AS due_at, beats, changed_at, created_by, created_at
FROM heartbeats
WHERE NOT deleted AND ($1::text[] IS NULL OR team = ANY ($1)) AND ($2::text IS NULL OR name = $2)
ORDER BY state DESC, name, team LIMIT 10000
"""

# What is alive, and known to be, goes at once; of anything else the end is told first.
_DELETE: Final = """
WITH watched AS (
    SELECT team, name, state = 'alive' AND told AS idle FROM heartbeats
    WHERE name = $1 AND NOT deleted AND ($2::text[] IS NULL OR team = ANY ($2)) FOR UPDATE
),
gone AS (DELETE FROM heartbeats AS mine USING watched WHERE (mine.team, mine.name) = (watched.team, watched.name)
    AND idle RETURNING 1),
marked AS (UPDATE heartbeats AS mine SET deleted = true FROM watched
    WHERE (mine.team, mine.name) = (watched.team, watched.name) AND NOT idle RETURNING 1)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM marked)
"""


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """What was heard of one thing; None where nothing was said. `labels` is JSON; `beats` came together."""

    team: str
    name: str
    interval: timedelta | None = None
    grace: timedelta | None = None
    severity: Severity | None = None
    labels: str | None = None
    beats: int = 1
    actor: str = "system"

    def after(self, before: "Beat") -> "Beat":
        """Both as one, where `before` came first."""
        return Beat(
            team=self.team, name=self.name, interval=self.interval or before.interval,
            grace=self.grace if self.grace is not None else before.grace, severity=self.severity or before.severity,
            labels=self.labels if self.labels is not None else before.labels, beats=self.beats + before.beats,
            actor=self.actor,
        )  # fmt: skip


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A thing that fell silent (`missing`) or came back (`alive`), and that is not known to be told."""

    team: str
    name: str
    interval: timedelta
    grace: timedelta
    severity: str
    labels: str
    state: str
    episode: int
    last_beat_at: datetime
    changed_at: datetime


class HeartbeatView(msgspec.Struct, frozen=True, kw_only=True):
    """A watched thing. It is missing when nothing has come until `due_at`."""

    team: str
    name: str
    interval_seconds: float
    grace_seconds: float
    severity: Severity
    labels: dict[str, str]
    state: str
    last_beat_at: datetime
    due_at: datetime
    beats: int
    changed_at: datetime
    created_by: str
    created_at: datetime


async def beat(conn: "Conn", beats: Sequence[Beat]) -> dict[tuple[str, str], HeartbeatView]:
    """Store beats, each thing once; how each stands now, without those of which no interval is known."""
    rows: Any = await conn.fetch(
        _BEAT, [one.team for one in beats], [one.name for one in beats], [one.interval for one in beats],
        [one.grace for one in beats], [one.severity for one in beats], [one.labels for one in beats],
        [one.beats for one in beats], [one.actor for one in beats],
    )  # fmt: skip
    return {(row["team"], row["name"]): _viewed(row) for row in rows}


def _viewed(row: Any) -> HeartbeatView:  # noqa: ANN401 - a row
    labels = row["labels"]  # text where the connection knows no JSON
    read = msgspec.json.decode(labels) if isinstance(labels, str) else labels
    return msgspec.convert({**row, "labels": read}, HeartbeatView)


async def watch(conn: "Conn") -> tuple[datetime, datetime, datetime] | None:
    """(last look, watched since, now), locked for the transaction; None where somebody has just looked, or does."""
    row = await conn.fetchrow(_WATCH)
    return (row["looked_at"], row["since_at"], row["now"]) if row is not None else None


async def look(conn: "Conn", now: datetime, since_at: datetime, *, turned_back: bool) -> None:
    """Note the look, and what is missing or back."""
    await conn.execute(_WATCHED, now, since_at)
    if turned_back:
        await conn.execute(_TURN_BACK, now)
    await conn.execute(_OVERDUE, now, since_at)
    await conn.execute(_BACK, now)


async def untold(conn: "Conn", limit: int) -> list[Change]:
    """Changes that are not known to be told, oldest first."""
    return [msgspec.convert(dict(row), Change) for row in await conn.fetch(_UNTOLD, limit)]


async def told(conn: "Conn", changes: Sequence[Change]) -> None:
    """These are told; what is watched no more and whose end is told goes."""
    await conn.execute(
        _TOLD, [one.team for one in changes], [one.name for one in changes], [one.episode for one in changes],
        [one.state for one in changes],
    )  # fmt: skip


async def forget(conn: "Conn") -> None:
    """Drop what is watched no more, once its end is told."""
    await conn.execute(_FORGET)


async def missing(conn: "Conn") -> int:
    """How many things are silent."""
    count: int = await conn.fetchval(_COUNT)
    return count


async def listed(conn: "Conn", teams: Sequence[str] | None, name: str | None = None) -> list[HeartbeatView]:
    """Watched things, those that are missing first."""
    rows: Any = await conn.fetch(_LIST, teams, name)
    return [_viewed(row) for row in rows]


async def delete(conn: "Conn", name: str, teams: Sequence[str] | None) -> bool:
    """Watch it no more; False if it is not watched."""
    count: int = await conn.fetchval(_DELETE, name, teams)
    return count > 0
