"""A new rules file is taken whole or not at all, and a metric says which."""

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from sinks import config_rows
from streams.rules_config import load
from streams.settings import Settings
from web.configuration import RulesError
from web.gateway import serving

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

GOOD = """\
route: {receiver: desk}
receivers:
  - name: desk
    webhook_configs: [{url_file: url.secret}]
    email_configs: [{to: a@x.org, from: b@x.org, smarthost: 'mx.x.org:25', text: '{{ template "t" . }}'}]
templates: ['*.tmpl']
"""
OK = "incidents_config_last_reload_successful"
AT = "incidents_config_last_reload_success_timestamp_seconds"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    (tmp_path / "url.secret").write_text("http://127.0.0.1:9/one\n")
    (tmp_path / "a.tmpl").write_text('{{ define "t" }}one{{ end }}')
    file = tmp_path / "alertmanager.yml"
    file.write_text(GOOD)
    return file


def write(rules: Path, text: str) -> None:
    rules.write_text(text)


@pytest.fixture
async def client(settings: Settings, conn: "Conn", rules: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(dataclasses.replace(settings, config=str(rules))))
        yield await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))


async def stored(conn: "Conn", *, after: int = 0) -> config_rows.StoredConfig:
    """The newest rules file, once there is one of a later version."""
    async with asyncio.timeout(20):
        while (found := await config_rows.newest(conn)) is None or found.version <= after:
            await asyncio.sleep(0.05)
    return found


async def metric(client: httpx.AsyncClient, name: str) -> float:
    text = (await client.get("/metrics")).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


async def test_a_good_file_is_stored_with_the_files_it_names(
    client: httpx.AsyncClient, conn: "Conn", rules: Path
) -> None:
    before = await config_rows.newest_version(conn)
    (rules.parent / "url.secret").write_text("http://127.0.0.1:9/two")
    (rules.parent / "a.tmpl").write_text('{{ define "t" }}two{{ end }}')
    answer = await client.post("/-/reload")
    found = await stored(conn, after=before)
    assert (answer.status_code, answer.json()) == (200, {"version": found.version})
    for file in rules.parent.iterdir():
        file.unlink()  # a worker reads all of it from Postgres
    config = load(found.text, found.version, found.files)
    assert config.receivers["desk"].integrations[0].options["url"] == "http://127.0.0.1:9/two"
    assert list(config.templates.values()) == ['{{ define "t" }}two{{ end }}']
    assert await metric(client, OK) == 1


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("receiver: desk", "receiver: nobody", "route.receiver"),
        ('"t"', '"unknown"', "receivers[0].email_configs[0].text"),
        ("url.secret", "nowhere", "receivers[0].webhook_configs[0].url_file"),
    ],
)
async def test_of_a_file_with_an_error_nothing_is_taken(
    client: httpx.AsyncClient, conn: "Conn", rules: Path, old: str, new: str, field: str
) -> None:
    assert (await client.post("/-/reload")).status_code == 200
    before, at = await config_rows.newest_version(conn), await metric(client, AT)
    write(rules, GOOD.replace(old, new))
    answer = await client.post("/-/reload")
    assert answer.status_code == 400
    assert field in [error["field"] for error in answer.json()["errors"]]
    assert field in answer.json()["detail"]
    assert await metric(client, OK) == 0
    assert await metric(client, AT) == at
    assert await config_rows.newest_version(conn) == before
    write(rules, GOOD)
    assert (await client.post("/-/reload")).json() == {"version": before}
    assert await metric(client, OK) == 1
    assert await metric(client, AT) > at


async def test_a_file_that_names_a_job_which_a_person_made_is_refused(
    client: httpx.AsyncClient, conn: "Conn", rules: Path
) -> None:
    made = {"name": "report", "action": "alert", "arguments": {"summary": "hi"}}
    assert (await client.post("/api/v1/jobs", json=made)).status_code == 201
    write(rules, GOOD + "incidents: {jobs: {report: {action: alert, with: {summary: ho}, schedule: '0 8 * * *'}}}\n")
    answer = await client.post("/-/reload")
    assert (answer.status_code, [one["field"] for one in answer.json()["errors"]]) == (400, ["incidents.jobs.report"])
    assert "incidents jobs delete report" in answer.json()["detail"]
    assert (await client.delete("/api/v1/jobs/report")).status_code == 204
    assert (await client.post("/-/reload")).status_code == 200


async def test_a_hangup_reads_the_file_anew(client: httpx.AsyncClient, conn: "Conn", rules: Path) -> None:
    version = (await client.post("/-/reload")).json()["version"]
    write(rules, GOOD + "# more\n")
    os.kill(os.getpid(), signal.SIGHUP)
    assert (await stored(conn, after=version)).text.endswith("# more\n")
    write(rules, "route: [")
    os.kill(os.getpid(), signal.SIGHUP)
    async with asyncio.timeout(20):
        while await metric(client, OK):
            await asyncio.sleep(0.05)


async def test_without_a_file_there_is_nothing_to_reload(settings: Settings, conn: "Conn") -> None:
    async with serving(settings) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        answer = await client.post("/-/reload")
        assert (answer.status_code, "names no file" in answer.json()["detail"]) == (400, True)


async def test_a_gateway_does_not_start_with_a_file_that_cannot_be_used(
    settings: Settings, conn: "Conn", rules: Path
) -> None:
    write(rules, GOOD.replace('"t"', '"unknown"'))
    with pytest.raises(RulesError, match=r"line 5: receivers\[0\]\.email_configs\[0\]\.text: .*not defined"):
        async with serving(dataclasses.replace(settings, config=str(rules))):
            pass
