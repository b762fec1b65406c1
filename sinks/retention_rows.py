"""Rows that have had their time: alerts that are over, and runs of jobs. Incidents are kept."""

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


async def drop_alerts(conn: Connection, older_than: timedelta, limit: int) -> int:
    """Delete some occurrences that ended so long ago; how many."""
    count: int = await conn.fetchval(_ALERTS, older_than, limit)
    return count


async def drop_runs(conn: Connection, older_than: timedelta, limit: int) -> int:
    """Delete some runs of jobs that ended so long ago; how many."""
    count: int = await conn.fetchval(_RUNS, older_than, limit)
    return count
