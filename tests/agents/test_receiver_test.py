"""`incidents receiver test` tells by exit code and line whether a receiver can be reached."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.sinks.http_server import plain, running

RULES = """
route: {{receiver: desk}}
receivers:
  - name: desk
    webhook_configs:
      - url: {url}?token=s3cret
    discord_configs:
      - webhook_url: {url}
        send_resolved: false
  - name: nobody
incidents:
  people:
    ada: {{webhook_configs: [{{url: {url}}}]}}
"""


async def command(path: Path, name: str) -> tuple[int | None, str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("INCIDENTS_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agents", "receiver", "test", name, "--config", path,
        env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_every_channel_gets_a_marked_notice_and_its_end(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    async with running() as server:
        path.write_text(RULES.format(url=server.url))
        code, said = await command(path, "desk")
    assert code == 0, said
    assert said.split("\n")[:3] == [
        "desk/0 webhook at 127.0.0.1, firing: sent HTTP 200",
        "desk/0 webhook at 127.0.0.1, resolved: sent HTTP 200",
        "desk/1 discord at 127.0.0.1, firing: sent HTTP 200",
    ]
    assert "s3cret" not in said
    body = json.loads(server.requests[0].partition(b"\r\n\r\n")[2])
    assert body["alerts"][0]["labels"]["test"] == "true"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("desk", 1, "NOT SENT, auth HTTP 401"),
        ("other", 2, "no receiver is named 'other'; there are desk, nobody, @ada"),
        ("nobody", 0, "nobody is told"),
        ("@ada", 1, "@ada/0 webhook at 127.0.0.1, firing: NOT SENT, auth HTTP 401"),
    ],
)
async def test_what_is_wrong_shows_in_code_and_words(tmp_path: Path, name: str, code: int, words: str) -> None:
    path = tmp_path / "rules.yml"
    async with running() as server:
        server.answer = plain(401)
        path.write_text(RULES.format(url=server.url))
        ended, said = await command(path, name)
    assert ended == code
    assert words in said
