import uuid

import asyncpg

from sinks import measure_reads
from streams.metrics import POSTGRES_TABLES


async def test_sizes_of_all_tables_are_known_partitioned_ones_too(conn: asyncpg.Connection) -> None:
    before = await measure_reads.sizes(conn)
    assert set(before) == set(POSTGRES_TABLES)
    assert all(size > 0 for size in before.values())


async def test_what_is_active_applied_and_waiting_is_counted(conn: asyncpg.Connection) -> None:
    assert (await measure_reads.active(conn), await measure_reads.applied(conn)) == ({}, {})
    assert await measure_reads.dead_letters(conn) == 0
    await conn.execute("INSERT INTO log_lives (log_id, accepted_by) VALUES ('old', 't')")
    await conn.execute("INSERT INTO log_lives (log_id, accepted_by, accepted_at) VALUES ('new', 't', now() + '1 h')")
    rows = [("old", "alerts", 0, 99), ("new", "alerts", 0, 7), ("new", "alerts", 1, -1)]
    await conn.executemany(
        "INSERT INTO stream_progress (log_id, topic, partition, epoch, applied, watermark)"
        " VALUES ($1, $2, $3, 1, $4, now())",
        rows,
    )
    await conn.execute(
        "INSERT INTO dead_letters (event_id, team, source, field, reason, body, content_type, via, received_at)"
        " VALUES ($1, 'default', 's', 'f', 'r', '', '', 'http', now())",
        str(uuid.uuid4()),
    )
    assert await measure_reads.applied(conn) == {("alerts", 0): 7, ("alerts", 1): -1}
    assert await measure_reads.dead_letters(conn) == 1
