"""How long it took: from the send time to what is committed, out of the tables that `ledger` has filled."""

from typing import Final

import msgspec

from loadtests.sums import Connection

# A new alert counts when the link from its incident is committed; the others when their verdict is.
_NEW: Final = """
    SELECT extract(epoch FROM min(i.committed_at) - l.sent_at) * 1000 AS ms
    FROM decided d JOIN producer_ledger l USING (event_id)
    JOIN incident_alerts i ON i.identity = d.identity AND i.occurrence = d.occurrence
    WHERE d.verdict = 'new' AND l.sent_at >= {since} GROUP BY d.event_id, l.sent_at
"""
_OTHERS: Final = """
    SELECT extract(epoch FROM d.committed_at - l.sent_at) * 1000 AS ms
    FROM decided d JOIN producer_ledger l USING (event_id) WHERE d.verdict = '{verdict}' AND l.sent_at >= {since}
"""
_SINCE: Final = "(SELECT min(sent_at) + $1 * interval '1 second' FROM producer_ledger)"
_QUANTILES: Final = """
    SELECT count(*) AS events, coalesce(max(ms), 0)::float8 AS worst,
        percentile_disc(ARRAY[0.5, 0.95, 0.99, 0.999]) WITHIN GROUP (ORDER BY ms)::float8[] AS parts
    FROM ({source}) AS took
"""
# The send time that travelled inside the alert must be one that the ledger has for it: a copy has its own.
_CARRIED: Final = """
    SELECT count(*) FROM decided d JOIN alerts a ON a.identity = d.identity AND a.occurrence = d.occurrence
    WHERE d.verdict = 'new'
        AND NOT EXISTS (SELECT FROM producer_ledger l WHERE l.event_id = d.event_id AND l.sent_at = a.starts_at)
"""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds over so many events."""

    events: int
    p50: float = 0
    p95: float = 0
    p99: float = 0
    p999: float = 0
    worst: float = 0


async def latencies(connection: Connection, warmup: float = 0) -> dict[str, Latency]:
    """From send to commit, by verdict; `new` is to the committed link of its incident.

    What was sent in the first `warmup` seconds is left out.
    """
    sources = {"new": _NEW.format(since=_SINCE)}
    for verdict in ("duplicate", "changed", "resolved"):
        sources[verdict] = _OTHERS.format(verdict=verdict, since=_SINCE)
    return {name: await _quantiles(connection, source, warmup) for name, source in sources.items()}


async def send_times_differ(connection: Connection) -> int:
    """New alerts whose row does not carry the send time that the ledger has."""
    count: int = await connection.fetchval(_CARRIED)
    return count


async def _quantiles(connection: Connection, source: str, warmup: float) -> Latency:
    row = await connection.fetchrow(_QUANTILES.format(source=source), warmup)
    if row is None or not row["events"]:
        return Latency(events=0)
    p50, p95, p99, p999 = row["parts"]
    return Latency(events=row["events"], p50=p50, p95=p95, p99=p99, p999=p999, worst=row["worst"])
