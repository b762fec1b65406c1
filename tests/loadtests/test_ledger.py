"""The outside account: all laws hold on a true database, and each planted lie turns its law red."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from loadtests.latency import latencies, send_times_differ
from loadtests.ledger import Law, verify
from loadtests.ledger_file import Entry, LedgerWriter, Outcome, entries_in
from loadtests.sums import read_rows, read_sums

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
SENT = datetime.now(UTC).replace(microsecond=250_000)
GROUP = "g1"
PROGRESS = """
    INSERT INTO stream_progress (log_id, topic, partition, epoch, received, new, resolved, duplicate, rejected,
        redelivered)
    VALUES ('log', 'alerts', 0, 1, 6, 2, 1, 1, 1, 1)
"""
VERDICT = """
    INSERT INTO verdicts (log_id, partition, "offset", verdict, identity, occurrence, events, event_ids, via,
        accepted_at, decided_at, committed_at)
    VALUES ('log', 0, $1, $2, $3, $4, $5, $6, 'amqp', $7, $7, $7::timestamptz + interval '20 ms')
"""
ALERT = """
    INSERT INTO alerts (identity, occurrence, partition, team, fingerprint, source, status, severity, kind, summary,
        description, labels, annotations, links, starts_at, ends_at, first_seen_at, last_seen_at, event_count, revision,
        groups, state, pulse)
    VALUES ($1, 1, 0, 'default', 'f', 's', $2, 'error', 'other', '', '', '{}', '{}', '[]', $3, $4, $3, $3, $5, 1,
        ARRAY['g1'], '', '')
"""
INCIDENT = """
    INSERT INTO incidents (id, title, description, severity, status, created_at, updated_at, team, kind, group_key,
        group_labels, route, receiver, partition, revision)
    VALUES (gen_random_uuid(), '', '', 'error', 'open', now(), now(), 'default', 'other', 'g1', '{}', '', '', 0, 1)
"""
LINK = """
    INSERT INTO incident_alerts (incident_id, identity, occurrence, group_key, partition, firing, revision, joined_at,
        committed_at)
    SELECT id, $1, 1, group_key, 0, $2, 1, now(), $3::timestamptz + interval '50 ms' FROM incidents LIMIT 1
"""
DEAD = """
    INSERT INTO dead_letters (event_id, team, source, field, reason, body, content_type, via, received_at)
    VALUES ($1, 'default', '', '', '', '', '', 'amqp', now())
"""


@dataclass
class Story:
    """Alert a fires twice and stays, alert b fires and ends, one message is bad, one is unknown to its sender."""

    entries: list[Entry] = field(default_factory=list)

    def sent(self, event_id: str, outcome: Outcome = Outcome.CONFIRMED) -> None:
        sent_us = int(SENT.timestamp()) * 1_000_000 + SENT.microsecond
        self.entries.append(Entry(event_id, sent_us, sent_us + 3000, outcome))


@pytest.fixture
async def story(conn: Connection) -> Story:
    story = Story()
    for number in (1, 2, 3, 4, 5):
        story.sent(f"run-{number}")
    story.sent("run-6", Outcome.REFUSED)
    story.sent("run-7", Outcome.UNKNOWN)
    await conn.execute("INSERT INTO log_lives (log_id) VALUES ('log')")
    await conn.execute(PROGRESS)
    await conn.execute(VERDICT, 1, "new", "a", 1, 1, ["run-1"], SENT)
    await conn.execute(VERDICT, 2, "duplicate", "a", 1, 1, ["run-2"], SENT)
    await conn.execute(VERDICT, 3, "new", "b", 1, 1, ["run-3"], SENT)
    await conn.execute(VERDICT, 4, "resolved", "b", 1, 1, ["run-4"], SENT)
    await conn.execute(VERDICT, 5, "rejected", None, None, 1, ["run-5"], SENT)
    await conn.execute(DEAD, "run-5")
    await conn.execute(ALERT, "a", "firing", SENT, None, 2)
    await conn.execute(ALERT, "b", "resolved", SENT, SENT + timedelta(seconds=1), 2)
    await conn.execute(INCIDENT)
    await conn.execute(LINK, "a", True, SENT)
    await conn.execute(LINK, "b", False, SENT)
    return story


async def broken(conn: Connection, story: Story) -> set[Law]:
    return {finding.law for finding in (await verify(conn, story.entries, "run-")).findings if not finding.holds}


async def test_every_law_holds_on_a_true_account(conn: Connection, story: Story) -> None:
    verification = await verify(conn, story.entries, "run-")
    assert verification.holds, verification
    assert (verification.events, verification.confirmed, verification.unknown) == (7, 5, 1)
    assert verification.in_postgres == 5


async def test_an_unknown_event_may_have_arrived(conn: Connection, story: Story) -> None:
    await conn.execute(VERDICT, 7, "duplicate", "a", 1, 1, ["run-7"], SENT)
    await conn.execute("UPDATE alerts SET event_count = 3 WHERE identity = 'a'")
    await conn.execute("UPDATE stream_progress SET received = 7, duplicate = 2")
    assert await broken(conn, story) == set()


@pytest.mark.parametrize(
    ("lie", "laws"),
    [
        ("DELETE FROM verdicts WHERE event_ids = '{run-2}'", {Law.LOST, Law.VERDICT_SUMS, Law.EVENT_COUNTS}),
        ("UPDATE verdicts SET event_ids = '{other}' WHERE event_ids = '{run-2}'", {Law.LOST}),
        (
            "INSERT INTO verdicts SELECT * FROM verdicts WHERE event_ids = '{run-2}'",
            {Law.DOUBLED, Law.VERDICT_SUMS, Law.EVENT_COUNTS},
        ),
        ("UPDATE verdicts SET event_ids = '{run-2,run-2}' WHERE event_ids = '{run-2}'", {Law.DOUBLED}),
        ("UPDATE verdicts SET event_ids = '{run-2,run-99}' WHERE event_ids = '{run-2}'", {Law.INVENTED}),
        ("UPDATE verdicts SET event_ids = '{run-2,run-6}' WHERE event_ids = '{run-2}'", {Law.INVENTED}),
        ("UPDATE stream_progress SET received = 7, late = 1", {Law.VERDICT_SUMS}),
        ("UPDATE alerts SET event_count = 1 WHERE identity = 'a'", {Law.EVENT_COUNTS}),
        ("DELETE FROM dead_letters", {Law.DEAD_LETTERS}),
        ("UPDATE dead_letters SET event_id = 'run-98'", {Law.DEAD_LETTERS}),
        ("DELETE FROM incident_alerts WHERE identity = 'a'", {Law.LINKS}),
        ("UPDATE incident_alerts SET firing = true", {Law.LINKS}),
        ("UPDATE incident_alerts SET firing = false", {Law.LINKS}),
        (f"DROP INDEX incidents_one_open_per_group; {INCIDENT}", {Law.ONE_OPEN}),
    ],
)
async def test_a_planted_lie_turns_its_law_red(conn: Connection, story: Story, lie: str, laws: set[Law]) -> None:
    await conn.execute(lie)
    assert await broken(conn, story) == laws


async def test_events_of_others_are_none_of_this_account(conn: Connection, story: Story) -> None:
    await conn.execute(VERDICT, 8, "new", "c", 1, 1, ["else-1"], SENT)
    await conn.execute("UPDATE stream_progress SET received = 7, new = 3")
    assert await broken(conn, story) == set()


async def test_latency_is_from_the_send_time_to_the_commit(conn: Connection, story: Story) -> None:
    await verify(conn, story.entries, "run-")
    took = await latencies(conn)
    assert took["new"].events == 2
    assert took["new"].p99 == pytest.approx(50)
    assert took["duplicate"].events == 1
    assert took["duplicate"].p50 == pytest.approx(20)
    assert took["changed"].events == 0


async def test_what_is_sent_while_all_is_cold_is_no_latency(conn: Connection, story: Story) -> None:
    await verify(conn, story.entries, "run-")
    await conn.execute("UPDATE producer_ledger SET sent_at = sent_at - interval '9 s' WHERE event_id = 'run-1'")
    assert (await latencies(conn, 9))["new"].events == 1
    assert (await latencies(conn, 9.5))["new"].events == 0


async def test_an_alert_that_does_not_carry_its_send_time_is_found(conn: Connection, story: Story) -> None:
    await verify(conn, story.entries, "run-")
    assert await send_times_differ(conn) == 0
    await conn.execute("UPDATE alerts SET starts_at = starts_at - interval '1 us' WHERE identity = 'a'")
    assert await send_times_differ(conn) == 1


async def test_sums_and_rows_say_the_same(conn: Connection, story: Story) -> None:
    sums = await read_sums(conn)
    rows = await read_rows(conn, SENT)
    assert sums.add_up
    assert sums.settled == 5
    assert {verdict: getattr(sums, verdict) for verdict in rows.verdicts} == rows.verdicts
    assert rows.dead_letters == sums.rejected


def test_a_ledger_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path / "amqp.tsv")
    writer.told("run-1", 1_000_000, 1_002_000, Outcome.CONFIRMED)
    writer.told("run-2", 1_500_000, 1_502_000, Outcome.UNKNOWN)
    writer.close()
    assert entries_in(tmp_path) == [
        Entry("run-1", 1_000_000, 1_002_000, Outcome.CONFIRMED),
        Entry("run-2", 1_500_000, 1_502_000, Outcome.UNKNOWN),
    ]
    assert writer.counts == {Outcome.CONFIRMED: 1, Outcome.REFUSED: 0, Outcome.UNKNOWN: 1}
