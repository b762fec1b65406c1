"""Rows that have had their time: alerts that are over, runs of jobs, notices, deeds. Incidents are kept."""

from datetime import timedelta
from typing import Final

from sinks.postgres import Connection

# Occurrences that ended a while ago, some of them.
_ALERTS: Final = """
WITH old AS (
    SELECT identity, occurrence FROM alerts
    WHERE status = 'resolved' AND ends_at < clock_timestamp() - $1::interval
        AND last_seen_at < clock_timestamp() - $1::interval
    ORDER BY ends_at LIMIT $2
),
gone AS (DELETE FROM alerts USING old WHERE (alerts.identity, alerts.occurrence) = (old.identity, old.occurrence)
    RETURNING 1)
SELECT count(*) FROM gone
"""

# Runs that ended a while ago, with their logs and files; the last one of each job stays.
_RUNS: Final = """
WITH old AS (
    SELECT id FROM job_runs mine
    WHERE finished_at < clock_timestamp() - $1::interval
        AND EXISTS (SELECT FROM job_runs later WHERE later.job = mine.job AND later.created_at > mine.created_at)
    UNION ALL
    SELECT id FROM job_runs WHERE job IS NULL AND finished_at < clock_timestamp() - $1::interval
    LIMIT $2
),
gone AS (DELETE FROM job_runs USING old WHERE job_runs.id = old.id RETURNING 1)
SELECT count(*) FROM gone
"""


# Tasks that ended a while ago, of incidents that are over, with the notices that none is left of. One that others were
# folded into goes after them.
_NOTICES: Final = """
WITH old AS (
    SELECT id, notice_id FROM notification_tasks mine
    WHERE finished_at < clock_timestamp() - $1::interval AND told_group
        AND NOT EXISTS (SELECT FROM incidents WHERE id = mine.incident_id AND status <> 'resolved')
        AND NOT EXISTS (SELECT FROM notification_tasks folded WHERE folded.digest_id = mine.id)
    ORDER BY finished_at LIMIT $2
),
gone AS (DELETE FROM notification_tasks USING old WHERE notification_tasks.id = old.id RETURNING 1)
SELECT coalesce(array_agg(DISTINCT notice_id), '{}') AS notices, (SELECT count(*) FROM gone) AS count FROM old
"""
_EMPTIED: Final = """
DELETE FROM notices WHERE id = ANY ($1::uuid[])
    AND NOT EXISTS (SELECT FROM notification_tasks WHERE notice_id = notices.id)
"""

# Dead letters that were replayed or given up a while ago; those that wait are kept.
_LETTERS: Final = """
WITH old AS (
    SELECT event_id FROM dead_letters
    WHERE state <> 'waiting' AND changed_at < clock_timestamp() - $1::interval LIMIT $2
),
gone AS (DELETE FROM dead_letters USING old WHERE dead_letters.event_id = old.event_id RETURNING 1)
SELECT count(*) FROM gone
"""

_DEEDS: Final = "SELECT forget_deeds($1, $2)"


async def drop_alerts(conn: Connection, older_than: timedelta, limit: int) -> int:
    """Delete some occurrences that ended so long ago; how many."""
    count: int = await conn.fetchval(_ALERTS, older_than, limit)
    return count


async def drop_runs(conn: Connection, older_than: timedelta, limit: int) -> int:
    """Delete some runs of jobs that ended so long ago; how many."""
    count: int = await conn.fetchval(_RUNS, older_than, limit)
    return count


async def drop_notices(conn: Connection, older_than: timedelta, limit: int) -> int:
    """Delete some notices that ended so long ago, of incidents that are over; how many."""
    row = await conn.fetchrow(_NOTICES, older_than, limit)
    if row is None or not row["count"]:
        return 0
    await conn.execute(_EMPTIED, row["notices"])
    return int(row["count"])


async def drop_letters(conn: Connection, older_than: timedelta, limit: int) -> int:
    """Delete some dead letters that were replayed or dropped so long ago; how many."""
    count: int = await conn.fetchval(_LETTERS, older_than, limit)
    return count


async def drop_deeds(conn: Connection, older_than: timedelta, limit: int) -> int:
    """Delete some rows of who did what that are so old, never within a month; how many."""
    count: int = await conn.fetchval(_DEEDS, older_than, limit)
    return count
