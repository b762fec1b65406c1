"""The Postgres pool and the progress rows that fence every step."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

TRANSIENT: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg raises when a connection is cut between two of its states
    asyncpg.TransactionRollbackError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresSystemError,
    OSError,
    asyncio.TimeoutError,
)

# Registers one life of the log; says whether another one was known before.
_REGISTER_LOG: Final = """
WITH known AS (SELECT count(*) AS n FROM log_lives WHERE log_id <> $1)
INSERT INTO log_lives (log_id, accepted_by)
SELECT $1, $2 FROM known WHERE n = 0 OR $3
ON CONFLICT DO NOTHING
"""

# The lives of one cluster's log, the newest first: the first has the cluster's name, later ones a number behind it.
_LIVES: Final = """
SELECT log_id FROM log_lives WHERE log_id = $1 OR starts_with(log_id, $1 || '#') ORDER BY accepted_at DESC
"""

# How far each partition is on one life of the log, where anything was applied.
_APPLIED: Final = """
SELECT topic, partition, applied FROM stream_progress WHERE log_id = $1 AND applied >= 0 ORDER BY topic, partition
"""

# Takes partitions over: the next epoch of each, carrying time and configuration over from earlier logs.
_CLAIM: Final = """
INSERT INTO stream_progress AS mine (log_id, topic, partition, epoch, config_version, watermark)
SELECT $1, $2, wanted.partition, coalesce(max(past.epoch), 0) + 1,
       coalesce(max(past.config_version), 0), coalesce(max(past.watermark), 'epoch')
FROM unnest($3::int[]) AS wanted(partition)
LEFT JOIN stream_progress past ON past.topic = $2 AND past.partition = wanted.partition
GROUP BY wanted.partition
ORDER BY wanted.partition
ON CONFLICT (log_id, topic, partition) DO UPDATE SET epoch = greatest(mine.epoch + 1, excluded.epoch)
RETURNING partition, epoch, applied, safe, config_version, watermark, causes
"""

# Lets an owner go past an epoch that was given before Postgres was put back; nothing where another claimed meanwhile.
_RAISE: Final = """
UPDATE stream_progress SET epoch = $5 + 1 WHERE log_id = $1 AND topic = $2 AND partition = $3 AND epoch = $4
"""

# Whether epochs are still the newest, without changing anything.
_CURRENT: Final = """
SELECT partition, epoch, applied FROM stream_progress WHERE log_id = $1 AND topic = $2 AND partition = ANY($3::int[])
"""

# Moves rows on that are still this owner's and not that far yet, and adds the step's sums.
_ADVANCE: Final = """
UPDATE stream_progress AS mine SET
    applied = step.applied, safe = step.safe, config_version = step.config_version, watermark = step.watermark,
    received = mine.received + step.new + step.changed + step.resolved + step.duplicate + step.late + step.rejected
        + step.redelivered,
    new = mine.new + step.new, changed = mine.changed + step.changed, resolved = mine.resolved + step.resolved,
    duplicate = mine.duplicate + step.duplicate, late = mine.late + step.late,
    rejected = mine.rejected + step.rejected, redelivered = mine.redelivered + step.redelivered,
    causes = coalesce(step.causes, mine.causes), updated_at = clock_timestamp()
FROM unnest($3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::timestamptz[], $9::bigint[],
            $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bytea[])
    AS step(partition, epoch, applied, safe, config_version, watermark,
            new, changed, resolved, duplicate, late, rejected, redelivered, causes)
WHERE mine.log_id = $1 AND mine.topic = $2 AND mine.partition = step.partition
    AND mine.epoch = step.epoch AND mine.applied < step.applied
RETURNING mine.partition
"""


_ADVANCE_PARAMETERS: Final = 16
_SOME: Final = 5000
STREAM_SECONDS: Final = 600.0
"""How long one part of a query of any size may take."""


class UnknownLogError(RuntimeError):
    """Raised when Kafka's log is not the one this database followed: `incidents accept-new-log` follows it."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far one partition is in Postgres, under which epoch it is owned, and of what it heard (see `Advance`)."""

    partition: int
    epoch: int
    applied: int
    safe: int
    config_version: int
    watermark: datetime
    causes: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Advance:
    """One partition's part of a step. `counts`: new, changed, resolved, duplicate, late, rejected, redelivered.

    `causes` is the table value of that name of `incident-inputs`; None leaves it.
    """

    partition: int
    epoch: int
    applied: int
    safe: int
    config_version: int
    watermark: datetime
    counts: tuple[int, int, int, int, int, int, int] = (0, 0, 0, 0, 0, 0, 0)
    causes: bytes | None = None


async def _keep(_: Connection) -> None:
    """Sessions keep nothing between uses here, so giving one back needs no round trip."""


async def open_pool(database_url: str, *, size: int, statement_timeout_ms: int, name: str) -> "asyncpg.Pool":
    """A pool whose statements and idle transactions end by themselves."""
    return await asyncpg.create_pool(
        database_url,
        min_size=0,
        max_size=size,
        command_timeout=statement_timeout_ms / 1000 + 1,
        timeout=3,
        max_inactive_connection_lifetime=60,
        reset=_keep,
        server_settings={
            "application_name": name,
            "statement_timeout": str(statement_timeout_ms),
            "idle_in_transaction_session_timeout": str(statement_timeout_ms),
            "timezone": "UTC",
        },
    )


async def register_log(conn: Connection, log_id: str, *, forgets: bool, by: str = "start") -> None:
    """Follow this log: the first one ever, one that is known, or a broker's that forgets when it stops.

    Raises:
        UnknownLogError: another log was followed before and nobody accepted this one.
    """
    await conn.execute(_REGISTER_LOG, log_id, by, forgets)
    if await conn.fetchval("SELECT 1 FROM log_lives WHERE log_id = $1", log_id) is None:
        raise UnknownLogError(
            f"Kafka's log {log_id} is not the one this database has followed. If its records are gone for good, "
            f"run: incidents accept-new-log"
        )


async def lives_of(conn: Connection, cluster: str) -> list[str]:
    """The lives of a cluster's log that were followed, the newest first; one that is new has none."""
    return [row["log_id"] for row in await conn.fetch(_LIVES, cluster)]


async def applied_on(conn: Connection, log_id: str) -> dict[tuple[str, int], int]:
    """The last offset applied of each topic and partition."""
    return {(row["topic"], row["partition"]): row["applied"] for row in await conn.fetch(_APPLIED, log_id)}


async def streamed(conn: Connection, query: str, *arguments: object) -> AsyncIterator[list["asyncpg.Record"]]:
    """Rows of a query of any size, some thousand at a time.

    Before the first of them much may have to be sorted: a few seconds, as for a step, are no bound here.
    """
    async with conn.transaction(readonly=True):
        await conn.execute(f"SET LOCAL statement_timeout = {int(STREAM_SECONDS * 1000)}")
        cursor = await conn.cursor(query, *arguments)
        while rows := await cursor.fetch(_SOME, timeout=STREAM_SECONDS):
            yield rows


async def claim(conn: Connection, log_id: str, topic: str, partitions: Sequence[int]) -> dict[int, Progress]:
    """Allocate the next epoch of each partition and say how far it is."""
    rows = await conn.fetch(_CLAIM, log_id, topic, list(partitions))
    return {row["partition"]: Progress(**dict(row)) for row in rows}


async def raise_epoch(conn: Connection, log_id: str, topic: str, partition: int, mine: int, past: int) -> bool:
    """Take the epoch after `past` instead of `mine`; False if another process has claimed the partition since."""
    return bool((await conn.execute(_RAISE, log_id, topic, partition, mine, past)).endswith(" 1"))


async def current_epochs(
    conn: Connection, log_id: str, topic: str, partitions: Sequence[int]
) -> dict[int, tuple[int, int]]:
    """(epoch, applied) of each partition as Postgres has it now."""
    rows = await conn.fetch(_CURRENT, log_id, topic, list(partitions))
    return {row["partition"]: (row["epoch"], row["applied"]) for row in rows}


def at_once(rows: str) -> str:
    """A statement that moves progress and writes a step's rows, or does neither.

    `rows` is `WITH ... INSERT ...`; its parameters follow those of the progress
    rows. Where not every progress row moves, dividing by zero undoes all of it.
    """
    shifted = re.sub(r"\$(\d+)", lambda number: f"${int(number[1]) + _ADVANCE_PARAMETERS}", rows.strip())
    head, _, last = shifted.removeprefix("WITH ").rpartition("\n)\nINSERT")
    return (  # statements of this package only: no outside text comes near
        f"WITH moved AS ({_ADVANCE}), {head}\n), last AS (\nINSERT{last}\n)\n"
        "SELECT 1 / (count(*) = cardinality($3::int[]))::int FROM moved"
    )


async def write_at_once(
    conn: Connection, statement: str, log_id: str, topic: str, steps: Sequence[Advance], rows: Sequence[object]
) -> bool:
    """Run a statement of `at_once`; False if some progress row would not have moved, and nothing was written."""
    try:
        await conn.execute(statement, *_advance_arguments(log_id, topic, steps), *rows)
    except asyncpg.DivisionByZeroError:
        return False
    return True


def _advance_arguments(log_id: str, topic: str, steps: Sequence[Advance]) -> list[object]:
    counts = zip(*(step.counts for step in steps), strict=True)
    return [
        log_id,
        topic,
        [step.partition for step in steps],
        [step.epoch for step in steps],
        [step.applied for step in steps],
        [step.safe for step in steps],
        [step.config_version for step in steps],
        [step.watermark for step in steps],
        *(list(column) for column in counts),
        [step.causes for step in steps],
    ]


async def advance(conn: Connection, log_id: str, topic: str, steps: Sequence[Advance]) -> set[int]:
    """Lock progress rows until the transaction ends and move them on.

    Only rows that have the step's epoch and are behind its offset move; their
    partitions come back. Another epoch means that the step is fenced.
    """
    rows = await conn.fetch(_ADVANCE, *_advance_arguments(log_id, topic, steps))
    return {row["partition"] for row in rows}
