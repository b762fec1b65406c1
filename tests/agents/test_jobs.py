"""Jobs on real rows: slots once whoever looks, leases, deaths, retries, cancelling, and what follows the rules."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from agents.jobs import FailedForGoodError, Jobs, LostRunError, Work
from sinks import config_rows, job_rows
from sinks.postgres import open_pool
from streams.rules_jobs import BUILT_IN, Action

Pool = asyncpg.Pool
Make = Callable[..., Jobs]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, size=8, statement_timeout_ms=10_000, name="test")
    yield opened
    await opened.close()


async def did_it(_: Work) -> Mapping[str, Any]:
    return {"did": "it"}


def jobs(pool: Pool, do: Callable[[Work], Any] = did_it, owner: str = "w1", lease: float = 15) -> Jobs:
    return Jobs(pool, dict.fromkeys(Action, do), owner, lease=timedelta(seconds=lease))


async def add_job(pool: Pool, name: str = "mine", *, due: str = "-1 second", missed: str = "skip") -> None:
    await pool.execute("UPDATE jobs SET paused_at = clock_timestamp()")  # the built-in ones are not what this is about
    await pool.execute(
        """INSERT INTO jobs (name, action, arguments, schedule, missed, origin, next_at)
        VALUES ($1, 'alert', '{"summary": "x"}', '* * * * *', $2, 'api', clock_timestamp() + $3::text::interval)""",
        name, missed, due,
    )  # fmt: skip


async def ask_for(pool: Pool, job: str | None = None, *, attempts: int = 3) -> uuid.UUID:
    made = uuid.uuid4()
    await pool.execute(
        """INSERT INTO job_runs (id, job, team, action, arguments, asked_by, max_attempts)
        VALUES ($1, $2, 'default', 'alert', '{"summary": "x"}', 'anna', $3)""", made, job, attempts,
    )  # fmt: skip
    return made


async def runs(pool: Pool, **where: Any) -> list[asyncpg.Record]:
    rows = await pool.fetch("SELECT * FROM job_runs ORDER BY created_at, id")
    return [row for row in rows if all(row[name] == value for name, value in where.items())]


async def log_of(pool: Pool, run: uuid.UUID) -> list[str]:
    return [row["line"] for row in await pool.fetch("SELECT line FROM job_log WHERE run_id = $1 ORDER BY seq", run)]


async def test_a_slot_runs_once_although_many_workers_look_at_the_same_moment(pool: Pool) -> None:
    await add_job(pool)
    done: list[str] = []

    async def do(work: Work) -> Mapping[str, Any]:
        done.append(work.run.owner)
        return {}

    workers = [jobs(pool, do, f"w{number}") for number in range(6)]
    for _ in range(3):
        await asyncio.gather(*(one.tick() for one in workers))
        await asyncio.gather(*(one.settled() for one in workers))
    assert len(done) == 1
    (run,) = await runs(pool)
    assert (run["state"], run["attempt"], run["job"], run["missed"]) == ("succeeded", 1, "mine", 0)
    assert run["slot_at"] is not None
    assert await pool.fetchval("SELECT next_at > clock_timestamp() FROM jobs WHERE name = 'mine'")


@pytest.mark.parametrize(("missed", "state"), [("skip", "skipped"), ("run_once", "succeeded")])
async def test_missed_slots_come_to_one_row(pool: Pool, missed: str, state: str) -> None:
    await add_job(pool, due="-31 minutes 30 seconds", missed=missed)
    # Yearly, so that no slot comes just now beside the missed one.
    await pool.execute("UPDATE jobs SET schedule = '5 4 1 1 *' WHERE name = 'mine'")
    worker = jobs(pool)
    await worker.tick()
    await worker.settled()
    (run,) = await runs(pool)
    assert (run["state"], run["missed"]) == (state, 1)


async def test_a_slot_is_left_out_while_the_run_before_is_under_way(pool: Pool) -> None:
    await add_job(pool)
    await ask_for(pool, "mine")
    await pool.execute("UPDATE job_runs SET due_at = clock_timestamp() + interval '1 hour'")
    await jobs(pool).tick()
    (skipped,) = await runs(pool, state="skipped")
    assert "under way" in skipped["error"]


async def test_a_run_whose_worker_died_is_taken_by_another_and_marked_so(pool: Pool) -> None:
    run = await ask_for(pool)
    never = asyncio.Event()

    async def hang(_: Work) -> Mapping[str, Any]:
        await never.wait()
        return {}

    dead = jobs(pool, hang, "w-dead", lease=0.2)
    await dead.tick()  # and it never ticks again: nothing renews its lease
    other = jobs(pool, owner="w-other")
    async with asyncio.timeout(60):
        while not await runs(pool, state="succeeded"):
            await other.tick()
            await other.settled()
    (row,) = await runs(pool)
    assert (row["id"], row["attempt"], row["deaths"], row["owner"]) == (run, 2, 1, "w-other")
    assert await log_of(pool, run) == ["attempt 1: the worker w-dead died"]
    never.set()  # the former worker wakes, and nothing of it counts
    await dead.settled()
    assert (await runs(pool))[0]["result"] == '{"did": "it"}'


async def test_a_run_whose_workers_always_die_fails_in_the_end(pool: Pool) -> None:
    run = await ask_for(pool, attempts=2)
    for owner in ("a", "b", "c"):
        worker = jobs(pool, lambda _: asyncio.sleep(3600), owner)
        async with asyncio.timeout(60):
            await worker.tick()
        await pool.execute(
            "UPDATE job_runs SET lease_until = clock_timestamp() - interval '1 s' WHERE state = 'running'"
        )
    (row,) = await runs(pool)
    assert (row["state"], row["attempt"], row["deaths"]) == ("failed", 2, 2)
    assert "no attempt left" in row["error"]
    assert len(await log_of(pool, run)) == 2


async def test_a_worker_that_lost_its_run_can_write_nothing_for_it(pool: Pool) -> None:
    await ask_for(pool)
    seen: list[BaseException] = []
    go_on = asyncio.Event()

    async def slow(work: Work) -> Mapping[str, Any]:
        await go_on.wait()
        try:
            await work.progress(1, 2)
        except LostRunError as error:
            seen.append(error)
            raise
        return {"by": "the former"}

    former = jobs(pool, slow, "former")
    await former.tick()
    await pool.execute("UPDATE job_runs SET lease_until = clock_timestamp() - interval '1 s'")
    other = jobs(pool, owner="other")
    await other.tick()
    await other.settled()
    go_on.set()
    await former.settled()
    assert len(seen) == 1
    assert (await runs(pool))[0]["result"] == '{"did": "it"}'


async def test_a_failed_attempt_is_tried_again_later_and_the_last_one_fails(pool: Pool) -> None:
    run = await ask_for(pool, attempts=2)

    async def fail(_: Work) -> Mapping[str, Any]:
        raise RuntimeError("no luck")

    worker = jobs(pool, fail)
    await worker.tick()
    await worker.settled()
    (row,) = await runs(pool)
    assert (row["state"], row["attempt"]) == ("due", 1)
    assert await pool.fetchval("SELECT due_at > clock_timestamp() + interval '1 s' FROM job_runs")
    await pool.execute("UPDATE job_runs SET due_at = clock_timestamp()")
    await worker.tick()
    await worker.settled()
    (row,) = await runs(pool)
    assert (row["state"], row["error"]) == ("failed", "RuntimeError: no luck")
    assert len(await log_of(pool, run)) == 2


async def test_what_can_never_work_is_not_tried_again(pool: Pool) -> None:
    await ask_for(pool)

    async def refuse(_: Work) -> Mapping[str, Any]:
        raise FailedForGoodError("it is not there")

    worker = jobs(pool, refuse)
    await worker.tick()
    await worker.settled()
    assert [(row["state"], row["error"]) for row in await runs(pool)] == [("failed", "it is not there")]


async def test_a_running_run_can_be_cancelled(pool: Pool) -> None:
    run = await ask_for(pool)
    worker = jobs(pool, lambda _: asyncio.sleep(3600), lease=5)
    await worker.tick()
    await pool.execute("UPDATE job_runs SET cancel_by = 'anna', lease_until = clock_timestamp() + interval '1 hour'")
    async with asyncio.timeout(60):
        while not await runs(pool, state="cancelled"):
            worker._renewed_at = 0
            await worker.tick()
    await worker.settled()
    assert await log_of(pool, run) == ["cancelled by anna"]


async def test_a_worker_that_stops_gives_its_runs_back(pool: Pool) -> None:
    await ask_for(pool, attempts=1)
    worker = jobs(pool, lambda _: asyncio.sleep(3600))
    await worker.tick()
    await worker.stop()
    assert [(row["state"], row["attempt"]) for row in await runs(pool)] == [("due", 0)]
    other = jobs(pool)
    await other.tick()
    await other.settled()
    assert [row["state"] for row in await runs(pool)] == ["succeeded"]


RULES = """\
route: {{receiver: a}}
receivers: [{{name: a}}]
incidents:
  jobs:
{jobs}
"""


async def test_jobs_follow_the_rules_file_and_keep_their_slot_and_pause(pool: Pool) -> None:
    async def follow(lines: str) -> dict[str, asyncpg.Record]:
        async with pool.acquire() as conn:
            await config_rows.store(conn, RULES.format(jobs=lines), "test")
            await jobs(pool).follow_rules(conn)
            return {row["name"]: row for row in await conn.fetch("SELECT * FROM jobs")}

    report = "    report: {action: alert, with: {summary: hi}, schedule: '30 2 * * *', zone: Europe/Berlin}\n"
    first = await follow(report)
    assert {name: row["origin"] for name, row in first.items()} == {
        **{rule.name: "built-in" for rule in BUILT_IN}, "report": "configuration",
    }  # fmt: skip
    await pool.execute("UPDATE jobs SET paused_at = clock_timestamp(), paused_by = 'anna' WHERE name = 'report'")
    second = await follow(report.replace("hi", "ho") + "    retention: {enabled: false}\n")
    assert second["report"]["next_at"] == first["report"]["next_at"]
    assert second["report"]["paused_by"] == "anna"
    assert second["report"]["arguments"] == '{"summary": "ho"}'
    assert "retention" not in second
    third = await follow("    retention: {schedule: '5 * * * *'}\n")
    assert set(third) == {rule.name for rule in BUILT_IN}
    assert third["retention"]["next_at"] != first["retention"]["next_at"]


async def test_a_job_of_the_rules_does_not_take_over_one_that_a_person_made(pool: Pool) -> None:
    await add_job(pool, "report", due="1 hour")
    line = "    report: {action: alert, with: {summary: hi}, schedule: '30 2 * * *'}\n"
    async with pool.acquire() as conn:
        await config_rows.store(conn, RULES.format(jobs=line), "test")
        with capture_logs() as said:
            await jobs(pool).follow_rules(conn)
        row = await conn.fetchrow("SELECT origin, schedule FROM jobs WHERE name = 'report'")
        assert tuple(row or ()) == ("api", "* * * * *")
    assert [one["job"] for one in said if one["event"] == "job_name_taken"] == ["report"]


async def test_jobs_are_applied_once_for_each_version_however_many_workers_there_are(pool: Pool) -> None:
    async def look() -> None:
        async with pool.acquire() as conn:
            await jobs(pool).follow_rules(conn)

    await asyncio.gather(*(look() for _ in range(6)))
    assert await pool.fetchval("SELECT count(*) FROM jobs") == len(BUILT_IN)
    async with pool.acquire() as conn:
        assert (await job_rows.applied(conn, lock=False))[0] == 0


async def test_work_that_takes_long_has_one_place_and_leaves_the_others_free(pool: Pool) -> None:
    for action in ("export", "export", "alert"):
        made = await ask_for(pool)
        await pool.execute(
            "UPDATE job_runs SET action = $2, arguments = CASE WHEN $2 = 'export' THEN '{}' ELSE arguments END"
            " WHERE id = $1", made, action,
        )  # fmt: skip
    free = asyncio.Event()

    async def do(work: Work) -> Mapping[str, Any]:
        if work.run.action == "export":
            await free.wait()
        return {}

    worker = jobs(pool, do)
    for _ in range(2):
        await worker.tick()
    assert sorted(row["action"] for row in await runs(pool, state="running")) in (["export"], ["alert", "export"])
    assert [row["action"] for row in await runs(pool, state="due")] == ["export"]
    free.set()
    await worker.settled()
    await worker.tick()
    await worker.settled()
    assert {row["state"] for row in await runs(pool)} == {"succeeded"}
