"""Jobs over HTTP: made, asked for, paused, cancelled, dropped, and what is shown of them."""

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = pytest.mark.postgres
URL = "/api/v1/jobs"
JOB = {
    "name": "report", "action": "webhook", "schedule": "30 2 * * *", "zone": "Europe/Berlin", "missed": "run_once",
    "arguments": {"url": "http://127.0.0.1:9/x", "headers": {"Authorization": "Bearer hidden"}},
}  # fmt: skip


@pytest.fixture(autouse=True)
async def _no_jobs(conn: "Conn") -> None:
    await conn.execute("TRUNCATE jobs, job_runs CASCADE")


async def created(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await client.post(URL, json={**JOB, **changes}, headers={"x-incidents-actor": "ada"})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_job_is_shown_with_its_next_slot_and_without_its_secrets(client: httpx.AsyncClient) -> None:
    made = await created(client)
    assert (made["origin"], made["created_by"], made["paused"], made["last"]) == ("api", "ada", False, None)
    assert made["arguments"]["headers"] == {"Authorization": "***"}
    assert made["next_at"][11:16] in {"00:30", "01:30"}
    assert (await client.get(URL)).json() == [made]
    assert (await client.get(f"{URL}/report")).json() == {"job": made, "runs": []}
    again = await client.post(URL, json=JOB)
    assert again.status_code == 409


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "a b"}, "name"),
        ({"schedule": "* * * *"}, "schedule"),
        ({"zone": "Moon/Sea"}, "zone"),
        ({"arguments": {}}, "arguments"),
        ({"arguments": {"url": "ftp://x"}}, "arguments.url"),
        ({"arguments": {"url": "http://169.254.169.254/latest"}}, "arguments.url"),
        ({"arguments": {"url": "http://x", "timeout": "soon"}}, "arguments.timeout"),
        ({"action": "retention", "arguments": {}}, "action"),
    ],
)
async def test_what_cannot_be_a_job_is_refused_by_field(
    client: httpx.AsyncClient, changes: dict[str, Any], field: str
) -> None:
    answer = await client.post(URL, json={**JOB, **changes})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field


async def test_a_job_runs_when_asked_one_run_at_a_time_and_the_same_key_is_the_same_run(
    client: httpx.AsyncClient,
) -> None:
    await created(client)
    key = {"idempotency-key": "k1", "x-incidents-actor": "ada"}
    first = await client.post(f"{URL}/report/run", headers=key)
    assert (first.status_code, first.json()["state"], first.json()["asked_by"]) == (202, "due", "ada")
    async with asyncio.timeout(60):
        while "under it" in (second := await client.post(f"{URL}/report/run", headers=key)).text:
            await asyncio.sleep(0.05)  # the key is given back just after the answer
    assert second.json()["id"] == first.json()["id"]
    assert (await client.post(f"{URL}/report/run")).status_code == 409
    by = {"x-incidents-actor": "ada"}
    cancelled = await client.post(f"/api/v1/job-runs/{first.json()['id']}/cancel", headers=by)
    assert (cancelled.json()["state"], cancelled.json()["cancel_by"]) == ("cancelled", "ada")
    assert (await client.post(f"/api/v1/job-runs/{first.json()['id']}/cancel")).status_code == 409
    shown = (await client.get(f"{URL}/report")).json()
    assert [run["id"] for run in shown["runs"]] == [first.json()["id"]]
    assert shown["job"]["last"]["error"] == "cancelled by ada"


async def test_pausing_and_resuming(client: httpx.AsyncClient) -> None:
    made = await created(client)
    paused = (await client.post(f"{URL}/report/pause", headers={"x-incidents-actor": "bob"})).json()
    assert (paused["paused"], paused["paused_by"], paused["next_at"]) == (True, "bob", None)
    resumed = (await client.post(f"{URL}/report/resume")).json()
    assert (resumed["paused"], resumed["next_at"]) == (False, made["next_at"])


async def test_only_jobs_of_the_api_can_be_dropped(client: httpx.AsyncClient, conn: "Conn") -> None:
    await created(client)
    assert (await client.delete(f"{URL}/report")).status_code == 204
    assert (await client.get(f"{URL}/report")).status_code == 404
    await created(client)
    await conn.execute("UPDATE jobs SET origin = 'configuration'")
    assert (await client.delete(f"{URL}/report")).status_code == 409


async def test_runs_come_in_pages_the_newest_first(client: httpx.AsyncClient) -> None:
    asked = [(await client.post("/api/v1/job-runs", json={"action": "export"})).json()["id"] for _ in range(5)]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await client.get("/api/v1/job-runs", params={"limit": 2, "cursor": cursor})).json()
        seen += [run["id"] for run in page["items"]]
        cursor = page["next"]
    assert seen == asked[::-1]
    done = (await client.get("/api/v1/job-runs", params={"state": "succeeded"})).json()
    assert done["items"] == []


async def test_a_run_is_shown_with_its_log_and_its_file_is_given_once_it_is_whole(
    client: httpx.AsyncClient, conn: "Conn"
) -> None:
    run_id = (await client.post("/api/v1/job-runs", json={"action": "export"})).json()["id"]
    await conn.execute("INSERT INTO job_log (run_id, attempt, line) VALUES ($1, 1, 'half of it')", run_id)
    await conn.execute("INSERT INTO job_files VALUES ($1, 0, 'one'), ($1, 1, 'two')", run_id)
    shown = (await client.get(f"/api/v1/job-runs/{run_id}")).json()
    assert ([line["line"] for line in shown["log"]], shown["file"]) == (["half of it"], True)
    assert (await client.get(f"/api/v1/job-runs/{run_id}/file")).status_code == 404
    await conn.execute("UPDATE job_runs SET state = 'succeeded', finished_at = clock_timestamp()")
    file = await client.get(f"/api/v1/job-runs/{run_id}/file")
    assert (file.content, file.headers["content-type"]) == (b"onetwo", "application/octet-stream")
