"""Prometheus and amtool show a token, as the README says."""

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from embedded.ports import free_port
from streams.settings import Settings
from tests.web.signing_in import add_token, bearer, clear, guarded

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]


async def test_amtool_shows_a_token(amtool: str, settings: Settings, conn: "Conn", tmp_path: Path) -> None:
    await clear(conn)
    file = tmp_path / "amtool.yml"
    file.write_text(f"authorization:\n  credentials: {await add_token(conn, 'amtool', 'act')}\n")

    async def run(url: str, *arguments: str) -> int:
        started = await asyncio.create_subprocess_exec(
            amtool, f"--alertmanager.url={url}", *arguments, stdout=asyncio.subprocess.DEVNULL
        )
        return await started.wait()

    async with guarded(settings) as url:
        adding = ("silence", "add", "service=chat", "--comment=x", "--author=ada")
        assert await run(url, *adding) != 0
        assert await run(url, f"--http.config.file={file}", *adding) == 0
        assert await run(url, f"--http.config.file={file}", "silence", "query") == 0
    story = await conn.fetchval("SELECT actor FROM silence_audit ORDER BY seq DESC LIMIT 1")
    assert story == "amtool"


async def test_prometheus_shows_a_token(prometheus: str, settings: Settings, conn: "Conn", tmp_path: Path) -> None:
    await clear(conn)
    (tmp_path / "token").write_text(await add_token(conn, "prometheus", "ingest", "read"))
    (tmp_path / "rules.yml").write_text("groups: [{name: x, rules: [{alert: Always, expr: vector(1)}]}]\n")
    async with guarded(settings) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
        (tmp_path / "prometheus.yml").write_text(
            f"""
global: {{evaluation_interval: 1s, scrape_interval: 1s}}
rule_files: [rules.yml]
alerting:
  alertmanagers:
    - authorization: {{credentials_file: token}}
      static_configs: [{{targets: ["{url.removeprefix("http://")}"]}}]
scrape_configs:
  - job_name: incidents
    authorization: {{credentials_file: token}}
    static_configs: [{{targets: ["{url.removeprefix("http://")}"]}}]
"""
        )
        mine = f"127.0.0.1:{free_port()}"
        process = await asyncio.create_subprocess_exec(
            prometheus, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address={mine}", "--rules.alert.resend-delay=1s",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            known = bearer(await add_token(conn, "t", "read"))
            async with asyncio.timeout(120):
                while True:
                    said = (await client.get("/metrics", headers=known)).text
                    with contextlib.suppress(httpx.HTTPError):
                        up = (await client.get(f"http://{mine}/api/v1/query", params={"query": "up"})).text
                        # 503, since no Kafka is there: it was let in.
                        if 'route="/api/v2/alerts"' in said and 'code="503"' in said and ',"1"]' in up:
                            break
                    await asyncio.sleep(0.5)
        finally:
            process.kill()
            await process.wait()
