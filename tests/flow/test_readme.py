"""The README's way from nothing to a message, gone as it is written: its files, its commands, in its order."""

import asyncio
import re
import shlex
import sys
from pathlib import Path

import pytest

from embedded.ports import free_port
from embedded.stack import Stack
from loadtests.sink_server import Sink
from tests.flow.world import until

pytestmark = [pytest.mark.timeout(300), pytest.mark.prometheus]

README = Path(__file__).parents[2] / "README.md"
# Ports that are free here, and waits that a test can spare.
QUICKER = {
    "group_wait: 10s": "group_wait: 1s",
    "evaluation_interval: 15s": "evaluation_interval: 1s",
    "delay=10s": "delay=1s",
}


def section() -> str:
    text = README.read_text(encoding="utf-8")
    found = re.search(r"^## From nothing to a message\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def adapted(ports: dict[str, int]) -> tuple[dict[str, str], list[str]]:
    """The section's files by name, and its commands."""
    text = section()
    for old, new in {**QUICKER, **{f"127.0.0.1:{port}": f"127.0.0.1:{free}" for port, free in ports.items()}}.items():
        assert old in text, old
        text = text.replace(old, new)
    files = dict(re.findall(r"```yaml\n# (\S+)\n(.*?)```", text, re.DOTALL))
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    return files, [line.partition(" #")[0].strip() for line in commands.splitlines() if line]


async def test_from_nothing_to_a_message(prometheus: str, tmp_path: Path) -> None:
    ports = {"8080": free_port(), "9000": free_port(), "9095": free_port()}
    files, commands = adapted(ports)
    assert list(files) == ["incidents.yml", "prometheus.yml", "rules.yml"]
    for name, body in files.items():
        (tmp_path / name).write_text(body, encoding="utf-8")
    run, check, sink, run_with_rules, watch = commands
    assert (run, run_with_rules) == ("make run", "INCIDENTS_HTTP_PORT=8080 INCIDENTS_CONFIG=incidents.yml make run")
    assert sink == ".venv/bin/python -m loadtests.sink_server --port 9000"

    said = await output(check.replace(".venv/bin/incidents", f"{sys.executable} -m agents"), tmp_path)
    assert "desk (slack)" in said
    settings = {"http_port": ports["8080"], "config": tmp_path / "incidents.yml"}
    async with (
        Sink(port=ports["9000"]) as slack,
        Stack(tmp_path / "data", settings, kafka="tansu", rabbitmq=False),
    ):
        with (tmp_path / "prometheus.log").open("wb") as log:
            words = shlex.split(watch)
            assert words[0] == "prometheus"
            process = await asyncio.create_subprocess_exec(prometheus, *words[1:], cwd=tmp_path, stdout=log, stderr=log)
        try:

            async def told() -> bool:
                return bool(slack.notices)

            await until(told, "the channel is told", within=90)
        finally:
            process.terminate()
            await process.wait()
    assert slack.notices[0].target == "slack"


async def output(command: str, folder: Path) -> str:
    environ = {"PYTHONPATH": str(README.parent), "PATH": "/usr/bin:/bin"}
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command), cwd=folder, env=environ, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode()
