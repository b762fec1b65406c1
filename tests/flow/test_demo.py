"""The command of the README, on a folder of its own."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def test_the_demo_starts_feeds_adds_up_and_stops(tmp_path: Path, first_flavour: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INCIDENTS_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agents",
        "demo",
        env={**kept, "ONCE": "1", "KAFKA": first_flavour, "INCIDENTS_DATA_DIR": str(tmp_path / "data")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(200):
        said, _ = await process.communicate()
    text = said.decode()
    assert process.returncode == 0, text
    assert "the sums agree" in text
    assert not (tmp_path / "data" / "endpoints.json").exists()
