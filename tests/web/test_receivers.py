"""GET /api/v1/receivers shows the present rules' channels, their queues, and targets that are left alone."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
from click.testing import CliRunner

from agents.__main__ import main
from sinks import config_rows, target_rows
from sinks.target_rows import TargetState
from streams.rules_http import place_of
from tests.web.rows import add_incident, add_task

if TYPE_CHECKING:
    from asyncpg import Connection, Record

RULES = """
route: {receiver: desk}
receivers:
  - name: desk
    webhook_configs:
      - url: http://127.0.0.1:9/secret-path
      - url: http://127.0.0.1:9/other
  - name: nobody
incidents:
  receivers: {desk: {rate_limit: {notices: 30, per: 1m}}}
  people: {ada: {webhook_configs: [{url: "http://127.0.0.1:9/ada"}], rate_limit: {notices: 3, per: 1h}}}
"""


async def test_a_receiver_shows_its_limit_its_queue_and_how_its_targets_answer(
    client: httpx.AsyncClient, conn: "Connection[Record]"
) -> None:
    await config_rows.store(conn, RULES, "test")
    incident = await add_incident(conn, "Down")
    await add_task(conn, incident, 1, receiver="desk")
    sick = TargetState(
        target=place_of("http://127.0.0.1:9/secret-path"),
        channel="webhook",
        failures=7,
        paused_for=timedelta(seconds=30),
        last_reason="server_error",
        last_sent_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    await target_rows.write(conn, "w1", [sick])
    desk, nobody, ada = (await client.get("/api/v1/receivers")).json()
    assert (nobody["name"], nobody["channels"], nobody["rate_limit"]) == ("nobody", [], None)
    assert (ada["name"], len(ada["channels"])) == ("@ada", 1)
    assert ada["rate_limit"] == {"notices": 3, "per_seconds": 3600.0}
    assert desk["rate_limit"] == {"notices": 30, "per_seconds": 60.0}
    first, second = desk["channels"]
    wanted: dict[str, Any] = {"state": "paused", "failures": 7, "last_reason": "server_error", "waiting": 1}
    assert {key: first[key] for key in wanted} == wanted
    assert first["paused_until"] is not None
    assert (second["state"], second["waiting"], second["oldest_at"]) == ("ok", 0, None)
    assert "secret-path" not in str(desk)
    told = await asyncio.to_thread(CliRunner().invoke, main, ["receiver", "list", f"--url={client.base_url}"])
    assert [line.split()[:2] for line in told.stdout.splitlines()[1:]] == [
        *(["desk", "webhook"],) * 2, ["nobody", "none"], ["@ada", "webhook"]
    ]  # fmt: skip
    assert "server_error" in told.stdout
