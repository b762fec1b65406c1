"""The commands about incidents, against a gateway over a real Postgres."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import pytest
from click.testing import CliRunner, Result

from agents.__main__ import main
from embedded.ports import free_port
from streams.settings import Settings
from tests.web.rows import add_alert, add_entry, add_incident, add_task
from web.gateway import serving

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = pytest.mark.postgres


async def run(*arguments: object) -> Result:
    """One command, beside the gateway's loop."""
    return await asyncio.to_thread(CliRunner().invoke, main, list(map(str, arguments)))


@pytest.fixture
def at(client: httpx.AsyncClient) -> str:
    return f"--url={client.base_url}"


async def test_a_list_is_a_table_for_people_and_lines_of_json_for_pipes(conn: "Conn", at: str) -> None:
    leak = await add_incident(conn, "Data leak", severity="critical", kind="data_leak")
    await add_alert(conn, leak, {"alertname": "Leak", "service": "claims"})
    await add_incident(conn, "Slow model", severity="warning", kind="latency", status="acknowledged")
    over = await add_incident(conn, "Over", status="resolved", resolved_at=datetime.now(UTC))
    shown = (await run("list", at)).output.splitlines()
    assert [line.split()[0] for line in shown[:2]] == ["id", str(leak)[:8]]
    assert "critical  open          Data leak   data_leak" in shown[1]
    assert len(shown) == 3
    found = [
        json.loads(line)
        for line in (await run("list", "--json", "--all", "--sort", "created", at)).output.split("\n")[:-1]
    ]
    assert [one["title"] for one in found] == ["Over", "Slow model", "Data leak"]
    assert str(over) == found[0]["id"]
    assert "Slow model" in (await run("list", "--severity", "warning", at)).output
    assert "Data leak" in (await run("list", "-q", "claims", at)).output
    quiet = await run("list", "--kind", "cost", at)
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "no incident is like this\n")
    assert "there are more" in (await run("list", "-n", "1", at)).stderr
    wrong = await run("list", "--kind", "nonsense", at)
    assert (wrong.exit_code, "nonsense" in wrong.output) == (1, True)


async def test_one_incident_is_shown_by_the_beginning_of_its_id(conn: "Conn", at: str) -> None:
    incident = await add_incident(conn, "Injection \x1b[2J", severity="critical", group_labels={"service": "chat"})
    await add_alert(conn, incident, {"alertname": "Inject"}, summary="Prompt injection seen")
    await add_task(conn, incident, 1, state="sent", attempts=1, finished_at=datetime.now(UTC))
    for seq in (1, 2, 3):
        await add_entry(conn, incident, seq, f"entry{seq}", actor="ada")
    shown = await run("show", str(incident)[:6], at, "--timeline", 2)
    assert shown.exit_code == 0, shown.output
    assert "critical  open  Injection \\x1b[2J" in shown.output
    assert "Prompt injection seen  alertname=Inject" in shown.output
    assert "service=chat" in shown.output
    assert "entry1" not in shown.output
    assert "entry3 by ada" in shown.output
    told = json.loads((await run("show", incident, "--json", at)).output)
    assert [entry["seq"] for entry in told["timeline"]] == [1, 2, 3]
    assert told["incident"]["id"] == str(incident)


async def test_what_cannot_be_found_ends_with_a_code_of_its_own(conn: "Conn", at: str) -> None:
    first = await add_incident(conn, "First", id="aaaa0000-0000-4000-8000-000000000001")
    await add_incident(conn, "Second", id="aaaa0000-0000-4000-8000-000000000002")
    several = await run("show", "aaaa", at)
    assert (several.exit_code, "more than one" in several.stderr) == (1, True)
    for given in ("bbbb", "not-an-id", "bbbb0000-0000-4000-8000-000000000001"):
        assert (await run("show", given, at)).exit_code == 3, given
    both = await run("show", "bbbb", first, at)
    assert (both.exit_code, "First" in both.stdout, "bbbb: no incident" in both.stderr) == (3, True, True)
    assert (await run("show", at)).exit_code == 2
    away = await run("list", f"--url=http://127.0.0.1:{free_port()}")
    assert (away.exit_code, "make run" in away.stderr) == (4, True)
    assert "First" in (await run("list", "--url", at.partition("=")[2] + "/")).output


async def test_ids_are_completed_with_their_titles(conn: "Conn", at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    incident = await add_incident(conn, "Cost burn")
    words = f"incidents show {str(incident)[:3]}"
    asked = {"_INCIDENTS_COMPLETE": "zsh_complete", "COMP_WORDS": words, "COMP_CWORD": "2"}
    answer = await asyncio.to_thread(
        CliRunner().invoke, main, [], prog_name="incidents", env={**asked, "GATEWAY_URL": at.partition("=")[2]}
    )
    assert answer.output.splitlines() == ["plain", str(incident)[:8], "Cost burn"]


class Tail:
    """`incidents tail` as a process, and what it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        assert process.stdout is not None
        self.out = process.stdout

    async def line(self) -> str:
        async with asyncio.timeout(60):
            return (await self.out.readline()).decode()


@contextlib.asynccontextmanager
async def tailing(*arguments: str) -> AsyncIterator[Tail]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INCIDENTS_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-m", "agents", "tail", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environ,
    )  # fmt: skip
    try:
        yield Tail(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def listened_to(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as live, asyncio.timeout(60):
        while "incidents_live_clients 1.0" not in (await live.get("/metrics")).text:
            await asyncio.sleep(0.05)


async def test_what_changes_is_followed_over_a_restart_of_the_gateway(conn: "Conn", settings: Settings) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with serving(settings) as url:
            tail = await stack.enter_async_context(tailing("--severity", "critical", f"--url={url}"))
            await listened_to(url)
            await add_incident(conn, "Not asked for", severity="info")
            incident = await add_incident(conn, "Cost burn", severity="critical")
            assert f"{str(incident)[:8]}  critical  open  0/0  Cost burn" in await tail.line()
        await add_incident(conn, "Meanwhile", severity="critical")
        assert "lost" in await tail.line()
        async with serving(settings):
            assert sorted([await tail.line(), await tail.line()])[1].startswith("connected again")
            tail.process.send_signal(signal.SIGINT)
            assert await tail.process.wait() == 0


async def test_one_incident_is_followed_with_its_timeline(conn: "Conn", client: httpx.AsyncClient, at: str) -> None:
    incident = await add_incident(conn, "Cost burn")
    await add_entry(conn, incident, 1, "opened")
    async with tailing(str(incident)[:8], at) as tail:
        await listened_to(str(client.base_url))
        await add_entry(conn, incident, 2, "acknowledged", actor="ada")
        await conn.execute(
            "UPDATE incidents SET status = 'acknowledged', revision = 2, committed_at = clock_timestamp()"
        )
        assert "acknowledged  0/0  Cost burn" in await tail.line()
        assert "acknowledged by ada" in await tail.line()
