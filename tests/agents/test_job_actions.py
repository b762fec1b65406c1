"""What jobs do, on real rows: retention, exports that go on where they were, digests made once, what is stale."""

import asyncio
import csv
import io
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from agents import job_export, job_reports
from agents.job_actions import actions_of
from agents.job_alerts import Herald
from agents.jobs import Jobs
from sinks import config_rows, job_rows
from sinks.http import Http
from sinks.migrate import ensure_partitions
from sinks.postgres import open_pool
from streams import codec
from streams.rules_canary import LABEL, NAME
from streams.settings import Settings
from tests.agents.test_heartbeats import Kafka
from tests.sinks import http_server, outbox
from tests.web.rows import add_alert, add_incident, add_task

if TYPE_CHECKING:
    Conn = asyncpg.Connection[asyncpg.Record]

Pool = asyncpg.Pool
NOW = datetime.now(UTC)
RULES = """
route: {receiver: ops}
receivers:
  - name: ops
    webhook_configs: [{url: "http://127.0.0.1:9/hook"}]
"""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, size=6, statement_timeout_ms=10_000, name="test")
    await opened.execute("UPDATE jobs SET paused_at = clock_timestamp()")
    yield opened
    await opened.close()


@pytest.fixture
def kafka() -> Kafka:
    return Kafka()


@pytest.fixture
async def worker(pool: Pool, kafka: Kafka) -> AsyncIterator[Jobs]:
    settings, http = Settings(), Http(5)
    jobs = Jobs(pool, actions_of(settings, Herald(settings, kafka.send), http), "w1")
    async with pool.acquire() as conn:
        await jobs.follow_rules(conn)
    await pool.execute("UPDATE jobs SET paused_at = clock_timestamp()")
    yield jobs
    await http.close()


async def done(pool: Pool, worker: Jobs, action: str, **arguments: Any) -> asyncpg.Record:
    """Ask for it, and have it done; its row."""
    made = uuid.uuid4()
    await pool.execute(
        """INSERT INTO job_runs (id, job, team, action, arguments, max_attempts)
        VALUES ($1, NULL, 'default', $2, $3::text::jsonb, 3)""", made, action, json.dumps(arguments),
    )  # fmt: skip
    await worker.tick()
    await worker.settled()
    row = await pool.fetchrow("SELECT * FROM job_runs WHERE id = $1", made)
    assert row is not None
    return row


def result(row: asyncpg.Record) -> dict[str, Any]:
    assert row["state"] == "succeeded", row["error"]
    found: dict[str, Any] = json.loads(row["result"])
    return found


async def test_retention_drops_old_days_alerts_and_runs_and_keeps_incidents(
    conn: "Conn", pool: Pool, worker: Jobs
) -> None:
    long_ago = NOW - timedelta(days=40)
    old = await add_incident(conn, "long ago", created_at=long_ago)
    over = {"status": "resolved", "ends_at": long_ago, "last_seen_at": long_ago}
    await add_alert(conn, old, {"alertname": "Old"}, starts_at=long_ago, **over)
    await add_alert(conn, old, {"alertname": "StillFiring"}, starts_at=long_ago, last_seen_at=long_ago)
    canary = {"status": "resolved", "ends_at": NOW - timedelta(hours=2), "source": "canary"}
    await add_alert(conn, None, {"alertname": "IncidentsCanary", "canary": "x"}, **canary)
    await ensure_partitions(conn, long_ago.date(), days_ahead=0)
    for job, age in (("a", 50), ("a", 45), ("b", 45)):
        await conn.execute(
            """INSERT INTO job_runs (id, job, team, action, arguments, max_attempts, state, created_at, finished_at)
            VALUES ($1, $2, 'default', 'alert', '{}', 1, 'succeeded', $3, $3)""",
            uuid.uuid4(), job, NOW - timedelta(days=age),
        )  # fmt: skip
    found = result(await done(pool, worker, "retention"))
    assert found["alerts"] == 2
    assert found["runs"] == 1
    assert {f"{table}_{long_ago:%Y%m%d}" for table in ("verdicts", "decisions")} <= set(found["days_dropped"])
    assert await pool.fetchval("SELECT count(*) FROM alerts") == 1
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 1


async def test_an_export_that_broke_off_goes_on_without_a_line_missing_or_doubled(
    conn: "Conn", pool: Pool, worker: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_export, "_LINES", 3)
    ids = [str(await add_incident(conn, f"number {n}", created_at=NOW - timedelta(minutes=n // 2))) for n in range(10)]
    await add_incident(conn, "of others", team="others")
    progressed, pieces = job_rows.progress, 0

    async def breaks_off(*given: Any) -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 3:
            raise RuntimeError("the wire was cut")
        await progressed(*given)

    monkeypatch.setattr(job_rows, "progress", breaks_off)
    row = await done(pool, worker, "export", what="incidents")
    assert (row["state"], row["done"], row["total"]) == ("due", 6, 10)
    await pool.execute("UPDATE job_runs SET due_at = clock_timestamp()")
    await worker.tick()
    await worker.settled()
    parts = await pool.fetch("SELECT body FROM job_files ORDER BY part")
    lines = [json.loads(line) for part in parts for line in part["body"].splitlines()]
    assert sorted(line["id"] for line in lines) == sorted(ids)
    assert lines == sorted(lines, key=lambda line: line["created_at"])
    assert await pool.fetchval("SELECT attempt FROM job_runs WHERE state = 'succeeded'") == 2


async def test_alerts_as_csv_have_a_head_and_no_formulas(conn: "Conn", pool: Pool, worker: Jobs) -> None:
    for number in range(3):
        await add_alert(conn, None, {"alertname": f"A{number}"}, summary='=HYPERLINK("http://x")')
    found = result(await done(pool, worker, "export", what="alerts", format="csv"))
    assert found["lines"] == 3
    text = b"".join(row["body"] for row in await pool.fetch("SELECT body FROM job_files ORDER BY part")).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["summary"] for row in rows] == ['\'=HYPERLINK("http://x")'] * 3
    assert {json.loads(row["labels"])["alertname"] for row in rows} == {"A0", "A1", "A2"}


async def test_a_digest_is_one_task_for_each_integration_however_often_it_is_tried(
    conn: "Conn", pool: Pool, worker: Jobs
) -> None:
    await config_rows.store(conn, RULES, "test")
    for number in range(3):
        incident_id = await outbox.incident(conn)
        told = outbox.body()
        told["incident"] = {**told["incident"], "id": str(incident_id), "title": f"Down {number}"}
        made = datetime.now(UTC)
        await outbox.task(conn, incident_id, stored=json.dumps(told), made_at=made)
    row = await done(pool, worker, "digest", receiver="ops")
    assert result(row) == {"notices": 3, "incidents": 3, "sent": 1}
    await pool.execute("UPDATE job_runs SET state = 'due', finished_at = NULL")
    await worker.tick()
    await worker.settled()
    (task,) = await pool.fetch("SELECT t.*, n.body FROM notification_tasks t JOIN notices n ON n.id = notice_id"
                               " WHERE reason = 'digest'")  # fmt: skip
    assert (task["receiver"], task["channel"], task["state"], task["incident_id"]) == ("ops", "webhook", "due", None)
    said = json.loads(task["body"])
    assert {line["title"] for line in said["digest"]["incidents"]} == {"Down 0", "Down 1", "Down 2"}
    refused = await done(pool, worker, "digest", receiver="nobody")
    assert (refused["state"], refused["error"]) == ("failed", "no receiver is named nobody")


async def test_stale_incidents_are_one_alert_that_fires_once_and_ends(
    conn: "Conn", pool: Pool, worker: Jobs, kafka: Kafka
) -> None:
    for title in ("forgotten", "forgotten too"):
        await add_incident(conn, title, created_at=NOW - timedelta(days=2))
    await add_incident(conn, "fresh")
    assert result(await done(pool, worker, "stale")) == {"stale": 2}
    (told,) = kafka.alerts
    body = codec.decode_body(told.body)
    assert (told.firing, body.labels) == (True, {"alertname": job_reports.STALE})
    assert "forgotten too" in body.description
    await add_alert(conn, None, {"alertname": job_reports.STALE}, source="job")
    await done(pool, worker, "stale")
    assert len(kafka.alerts) == 1
    await pool.execute("UPDATE incidents SET updated_at = clock_timestamp()")
    await done(pool, worker, "stale")
    assert [one.firing for one in kafka.alerts] == [True, False]


async def test_a_webhook_has_the_run_as_its_key_at_every_attempt(conn: "Conn", pool: Pool, worker: Jobs) -> None:
    async with http_server.running() as server:
        server.answer = http_server.plain(503)
        row = await done(pool, worker, "webhook", url=server.url, headers={"X-Token": "t"}, body={"a": 1})
        assert (row["state"], row["attempt"]) == ("due", 1)
        server.answer = http_server.plain(200)
        await pool.execute("UPDATE job_runs SET due_at = clock_timestamp()")
        await worker.tick()
        await worker.settled()
        assert len(server.requests) == 2
        for request in server.requests:
            assert f"idempotency-key: {row['id']}".encode() in request.lower()
            assert b"x-token: t" in request.lower()
            assert request.endswith(b'{"a":1}')
    assert await pool.fetchval("SELECT state FROM job_runs") == "succeeded"


async def test_a_canary_whose_worker_died_is_found_by_the_next_attempt(
    conn: "Conn", pool: Pool, worker: Jobs, kafka: Kafka
) -> None:
    made = uuid.uuid4()
    await pool.execute(
        """INSERT INTO job_runs (id, team, action, arguments, max_attempts)
        VALUES ($1, 'default', 'canary', '{"within": "60s"}', 3)""", made,
    )  # fmt: skip
    never = asyncio.Event()

    async def stuck(*_: Any) -> None:
        await never.wait()

    settings, http = Settings(), Http(5)
    dead = Jobs(pool, actions_of(settings, Herald(settings, stuck), http), "w-dead", lease=timedelta(seconds=0))
    await dead.tick()
    async with asyncio.timeout(60):
        while not await conn.fetchval("SELECT cursor FROM job_runs WHERE id = $1", made):
            await asyncio.sleep(0.01)
    incident = await add_incident(conn, "Canary", route=NAME, group_labels={LABEL: str(made)})
    await add_task(conn, incident, 1, receiver=NAME, state="sent", finished_at=datetime.now(UTC))
    await worker.tick()
    await worker.settled()
    row = await conn.fetchrow("SELECT * FROM job_runs WHERE id = $1", made)
    assert row is not None
    assert (row["attempt"], row["deaths"]) == (2, 1)
    assert result(row)["told_seconds"] >= 0
    assert [alert.firing for alert in kafka.alerts] == [True, False]
    await dead.stop()
    await http.close()


async def test_retention_forgets_notices_letters_and_deeds_and_nothing_that_may_be_needed(
    conn: "Conn", pool: Pool, worker: Jobs
) -> None:
    long_ago, lately = NOW - timedelta(days=400), NOW - timedelta(days=20)
    over = await add_incident(conn, "over", status="resolved", created_at=long_ago, resolved_at=long_ago)
    still = await add_incident(conn, "open", created_at=long_ago)
    ended = {"state": "sent", "finished_at": long_ago, "told_group": True}
    await add_task(conn, over, 1, **ended)
    await add_task(conn, over, 2, **{**ended, "finished_at": lately})
    await add_task(conn, over, 3, **{**ended, "told_group": False})
    await add_task(conn, still, 1, **ended)
    for number, (state, at) in enumerate((("waiting", long_ago), ("dropped", long_ago), ("replayed", lately))):
        await conn.execute(
            """INSERT INTO dead_letters
                (event_id, team, source, field, reason, body, content_type, via, received_at, state, changed_at)
            VALUES ($1, 'default', 's', 'f', 'r', '', 'x', 'http', $2, $3, $2)""",
            f"letter {number}", at, state,
        )  # fmt: skip
    for at in (long_ago, lately):
        await conn.execute(
            """INSERT INTO audit_log (at, actor, actor_kind, address, action, object, outcome)
            VALUES ($1, 'ada', 'user', '', 'POST', '/', 'done')""",
            at,
        )
        await conn.execute(
            """INSERT INTO actions (id, incident_id, group_key, team, actor, action, outcome, asked_at, decided_at)
            VALUES ($1, $2, 'g', 'default', 'ada', 'comment', 'done', $3, $3)""",
            uuid.uuid4(), over, at,
        )  # fmt: skip
    found = result(await done(pool, worker, "retention"))
    assert (found["notices"], found["letters"], found["deeds"]) == (1, 1, 1)
    left = {table: await pool.fetchval(f"SELECT count(*) FROM {table}") for table in (
        "notification_tasks", "notices", "dead_letters", "audit_log", "actions", "incidents",
    )}  # fmt: skip
    assert left == {
        "notification_tasks": 3, "notices": 3, "dead_letters": 2, "audit_log": 1, "actions": 1, "incidents": 2,
    }  # fmt: skip
    for table in ("audit_log", "actions"):
        with pytest.raises(asyncpg.RaiseError, match="keeps its rows"):
            await pool.execute(f"DELETE FROM {table}")
