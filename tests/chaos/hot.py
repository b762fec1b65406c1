"""A storm of one alert: what a million copies may cost, counted inside Postgres by a trigger of the harness's own."""

from collections.abc import Sequence
from typing import Any, Final

from tests.chaos.laws import Finding, found
from tests.chaos.receiver import Notice

_COUNTING: Final = """
CREATE TABLE chaos_writes (at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE FUNCTION chaos_count() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO chaos_writes DEFAULT VALUES; RETURN NULL; END';
CREATE TRIGGER chaos_count AFTER INSERT OR UPDATE ON alerts FOR EACH ROW
    WHEN (NEW.labels->>'alertname' = 'Hot') EXECUTE FUNCTION chaos_count();
"""
_HOT: Final = """
SELECT i.id::text AS id, a.event_count FROM incidents i
JOIN incident_alerts l ON l.incident_id = i.id
JOIN alerts a ON a.identity = l.identity AND a.occurrence = l.occurrence
WHERE i.group_labels->>'alertname' = 'Hot'
"""
_BUSIEST: Final = """
SELECT coalesce(max(writes), 0)
FROM (SELECT count(*) AS writes FROM chaos_writes GROUP BY date_trunc('second', at)) AS seconds
"""


async def count_writes(connection: Any) -> None:
    """From now on count the writes of the hot alert's row."""
    await connection.execute(_COUNTING)


async def hot_key(connection: Any, copies: int, notices: Sequence[Notice]) -> Finding:
    """One incident, an exact count, one notice, and hardly a row written."""
    rows = [dict(row) for row in await connection.fetch(_HOT)]
    wrong = []
    if len(rows) != 1 or rows[0]["event_count"] != copies:
        wrong.append(f"expected one incident with {copies} events, found {rows}")
    told = {notice.key for notice in notices if rows and notice.incident == rows[0]["id"]}
    if len(told) != 1:
        wrong.append(f"{len(told)} notices")
    busiest: int = await connection.fetchval(_BUSIEST)
    if busiest > 2:
        wrong.append(f"its row was written {busiest} times within a second")
    written: int = await connection.fetchval("SELECT count(*) FROM chaos_writes")
    return found("hot key", wrong, f"{copies:,} copies, {written} writes of its row, at most {busiest} a second")
