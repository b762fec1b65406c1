"""The outside account: what producers were told against what Postgres says, law by law.

Laws L1 to L5 as SQL over a temporary table that holds the producers' ledger.
Counters (L4) are exact only after a drain and the flush of coalesced rows, and
event ids must be written beside every verdict (`verdict_event_ids` all).
"""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import asyncpg
import msgspec

from loadtests.ledger_file import Entry
from loadtests.sums import Connection

_EXAMPLES: Final = 5
_AGAIN_S: Final = 1.0
_EARLY: Final = timedelta(minutes=2)


class Law(StrEnum):
    """What must hold, whatever happens."""

    LOST = "L1 nothing lost"
    DOUBLED = "L2 nothing doubled"
    INVENTED = "L3 nothing invented"
    VERDICT_SUMS = "L4 sums equal the verdict rows"
    EVENT_COUNTS = "L4 an alert's count equals its verdicts"
    DEAD_LETTERS = "L4 each rejected event is a dead letter"
    LINKS = "L4 incidents and alerts agree on what fires"
    ONE_OPEN = "L5 one open incident a group"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """How one law came out; `examples` are a few of the offenders."""

    law: Law
    violations: int
    examples: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing offends it."""
        return self.violations == 0


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The whole account of one run."""

    events: int
    confirmed: int
    unknown: int
    in_postgres: int
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether every law holds."""
        return all(finding.holds for finding in self.findings)

    def of(self, law: Law) -> Finding:
        """The finding of one law."""
        return next(finding for finding in self.findings if finding.law is law)


_TABLES: Final = """
    CREATE TEMP TABLE producer_ledger (
        event_id text NOT NULL, sent_at timestamptz NOT NULL, told_at timestamptz NOT NULL, outcome text NOT NULL
    ) ON COMMIT PRESERVE ROWS;
    CREATE TEMP TABLE decided (
        event_id text NOT NULL, verdict text NOT NULL, identity text, occurrence bigint,
        committed_at timestamptz NOT NULL
    ) ON COMMIT PRESERVE ROWS;
"""
# Ids of one run share a prefix, so that a system that others use too can be judged.
_FILL_DECIDED: Final = """
    INSERT INTO decided
    SELECT id, verdict, identity, occurrence, committed_at
    FROM verdicts, unnest(event_ids) AS id
    WHERE committed_at >= $1 AND starts_with(id, $2)
"""
_INDEX: Final = """
    CREATE INDEX ON producer_ledger (event_id);
    CREATE INDEX ON decided (event_id);
    ANALYZE producer_ledger;
    ANALYZE decided;
"""

# Each statement yields the offenders, one text column.
_LAWS: Final = {
    Law.LOST: """
        SELECT event_id FROM producer_ledger WHERE outcome = 'confirmed'
        EXCEPT SELECT event_id FROM decided
    """,
    Law.DOUBLED: "SELECT event_id FROM decided GROUP BY event_id HAVING count(*) > 1",
    Law.INVENTED: """
        SELECT event_id FROM decided
        EXCEPT SELECT event_id FROM producer_ledger WHERE outcome <> 'refused'
    """,
    Law.VERDICT_SUMS: """
        WITH sums AS (
            SELECT v.verdict, sum(v.events)::bigint AS events
            FROM stream_progress p, LATERAL (VALUES
                ('new', p.new), ('changed', p.changed), ('resolved', p.resolved), ('duplicate', p.duplicate),
                ('late', p.late), ('rejected', p.rejected)) AS v (verdict, events)
            WHERE p.topic = 'alerts' OR p.topic LIKE '%-alerts' GROUP BY v.verdict
        ), told AS (SELECT verdict, sum(events)::bigint AS events FROM verdicts GROUP BY verdict)
        SELECT verdict || ': ' || coalesce(s.events, 0) || ' counted, ' || coalesce(t.events, 0) || ' in rows'
        FROM sums s FULL JOIN told t USING (verdict)
        WHERE coalesce(s.events, 0) <> coalesce(t.events, 0)
    """,
    Law.EVENT_COUNTS: """
        WITH mine AS (SELECT DISTINCT identity FROM decided WHERE identity IS NOT NULL), told AS (
            SELECT identity, occurrence, sum(events)::bigint AS events
            FROM verdicts JOIN mine USING (identity) GROUP BY identity, occurrence
        ), counted AS (SELECT identity, occurrence, event_count FROM alerts JOIN mine USING (identity))
        SELECT coalesce(a.identity, t.identity) || '/' || coalesce(a.occurrence, t.occurrence)
            || ': ' || coalesce(a.event_count, 0) || ' counted, ' || coalesce(t.events, 0) || ' in rows'
        FROM counted a FULL JOIN told t USING (identity, occurrence)
        WHERE coalesce(a.event_count, 0) <> coalesce(t.events, 0)
    """,
    Law.DEAD_LETTERS: """
        SELECT coalesce(d.event_id, v.event_id)
        FROM (SELECT event_id FROM decided WHERE verdict = 'rejected') v
        FULL JOIN (
            SELECT event_id FROM dead_letters WHERE starts_with(event_id, $1) AND state <> 'replayed'
        ) d USING (event_id)
        WHERE d.event_id IS NULL OR v.event_id IS NULL
    """,
    Law.LINKS: """
        WITH mine AS (SELECT DISTINCT identity FROM decided WHERE identity IS NOT NULL)
        SELECT coalesce(l.identity, a.identity) || '/' || coalesce(l.occurrence, a.occurrence)
        FROM (SELECT DISTINCT identity, occurrence FROM incident_alerts JOIN mine USING (identity) WHERE firing) l
        FULL JOIN (
            SELECT identity, occurrence FROM alerts JOIN mine USING (identity)
            WHERE status = 'firing' AND groups <> '{}'
        ) a USING (identity, occurrence)
        WHERE l.identity IS NULL OR a.identity IS NULL
    """,
    Law.ONE_OPEN: """
        SELECT group_key FROM incidents WHERE status IN ('open', 'acknowledged')
        GROUP BY group_key HAVING count(*) > 1
    """,
}


_OUTCOMES: Final = "SELECT outcome, count(*) AS events FROM producer_ledger GROUP BY outcome"


async def load_ledger(connection: Connection, entries: Iterable[Entry], prefix: str) -> None:
    """Put the producers' ledger and the verdicts of its events into temporary tables of this connection."""
    records = [(entry.event_id, _time(entry.sent_us), _time(entry.told_us), entry.outcome.value) for entry in entries]
    await connection.execute("DROP TABLE IF EXISTS producer_ledger, decided")
    await connection.execute(_TABLES)
    await connection.copy_records_to_table("producer_ledger", records=records, schema_name="pg_temp")
    earliest = min((record[1] for record in records), default=datetime.now(UTC)) - _EARLY
    await connection.execute(_FILL_DECIDED, earliest, prefix)
    await connection.execute(_INDEX)


async def verify(connection: Connection, entries: Iterable[Entry], prefix: str) -> Verification:
    """Check every law for the events whose ids begin with `prefix`."""
    await load_ledger(connection, entries, prefix)
    findings = [await _check(connection, law, statement, prefix) for law, statement in _LAWS.items()]
    counts = {row["outcome"]: int(row["events"]) for row in await connection.fetch(_OUTCOMES)}
    return Verification(
        events=sum(counts.values()),
        confirmed=counts.get("confirmed", 0),
        unknown=counts.get("unknown", 0),
        in_postgres=await connection.fetchval("SELECT count(DISTINCT event_id) FROM decided"),
        findings=tuple(findings),
    )


async def verify_when_flushed(
    connection: Connection, entries: list[Entry], prefix: str, *, within: float = 60.0
) -> Verification:
    """Verify until the counters and links that come after the verdicts are there, for so many seconds at most."""
    deadline = time.monotonic() + within
    while True:
        verification = await verify(connection, entries, prefix)
        delayed = not all(verification.of(law).holds for law in (Law.EVENT_COUNTS, Law.LINKS))
        if not delayed or time.monotonic() > deadline:
            return verification
        await asyncio.sleep(_AGAIN_S)


async def _check(connection: Connection, law: Law, statement: str, prefix: str) -> Finding:
    arguments = (prefix,) if "$1" in statement else ()
    rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
    return Finding(law=law, violations=len(rows), examples=tuple(str(row[0]) for row in rows[:_EXAMPLES]))


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)
