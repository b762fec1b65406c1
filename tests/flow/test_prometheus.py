"""A real Prometheus that takes us for its Alertmanager."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from embedded.ports import free_port
from tests.flow.world import System, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

CONFIG = """\
global:
  evaluation_interval: 1s
rule_files: [rules.yml]
alerting:
  alertmanagers:
    - static_configs:
        - targets: ["{target}"]
"""
RULE = """\
groups:
  - name: flow
    rules:
      - alert: TokensBurn
        expr: {expression}
        labels: {{service: {service}, severity: critical}}
        annotations: {{summary: "{service} burns tokens"}}
"""


@asynccontextmanager
async def watching(program: str, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    address = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            "--rules.alert.resend-delay=1s",
            stdout=log,
            stderr=log,
        )
        try:
            async with httpx.AsyncClient(trust_env=False, base_url=f"http://{address}", timeout=60) as client:

                async def ready() -> bool:
                    try:
                        return (await client.get("/-/ready")).is_success
                    except httpx.TransportError:
                        return False

                await until(ready, "Prometheus is ready")
            yield process
        finally:
            process.terminate()
            await process.wait()


async def test_a_rule_that_fires_is_an_incident_until_it_is_quiet(
    system: System, service: str, prometheus: str, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yml"
    (tmp_path / "prometheus.yml").write_text(CONFIG.format(target=urlsplit(system.url).netloc), encoding="utf-8")
    rules.write_text(RULE.format(expression="vector(1)", service=service), encoding="utf-8")
    async with watching(prometheus, tmp_path) as process:
        opened = await system.one_incident(service, "open")
        assert (opened["title"], opened["severity"]) == (f"{service} burns tokens", "critical")

        async def repeated() -> bool:
            return bool((await system.incidents(service))[0]["events"] > 2)

        await until(repeated, "repeats are folded into the one incident")
        rules.write_text(RULE.format(expression="vector(1) > 1", service=service), encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        ended = await system.one_incident(service, "resolved")
        assert ended["id"] == opened["id"]
    assert [one.body["status"] for one in await system.notices(service, 2)] == ["firing", "resolved"]
