"""What the tests of the embedded services share."""

import asyncio
import os
import select
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from embedded.console import Tone

GIVEN = {
    "database_url": "postgresql://somewhere/incidents",
    "redis_url": "redis://somewhere",
    "kafka_url": "somewhere:9092",
    "amqp_url": "amqp://somewhere",
}


class Heard:
    """Takes down what a stack says, and wakes who waits for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._said = asyncio.Condition()
        self._waking: set[asyncio.Task[None]] = set()

    def __call__(self, text: str, tone: Tone = Tone.STEP) -> None:
        del tone
        self.lines.append(text)
        task = asyncio.get_running_loop().create_task(self._wake())
        self._waking.add(task)
        task.add_done_callback(self._waking.discard)

    async def until(self, words: str, *, within: float = 60) -> None:
        """Wait until a line with these words was said."""
        async with asyncio.timeout(within), self._said:
            await self._said.wait_for(lambda: any(words in line for line in self.lines))

    async def _wake(self) -> None:
        async with self._said:
            self._said.notify_all()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def given() -> dict[str, str]:
    """Settings that name every service, so that none runs embedded."""
    return dict(GIVEN)


@pytest.fixture
def stand_in_roles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts small programs in the place of the roles: `python -m agents` finds them in the working folder."""
    package = tmp_path / "code" / "agents"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("stand_in.py"), package / "__main__.py")
    monkeypatch.chdir(package.parent)
    return tmp_path / "data"


def living_in(folder: Path) -> dict[int, str]:
    """Every process whose working folder lies in this one: pid and name."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if folder in (entry / "cwd").readlink().parents:
                    found[int(entry.name)] = (entry / "comm").read_text().strip()
            except OSError:
                continue
    return found


def wait_for_ends(pids: Iterable[int], within: float) -> set[int]:
    """Wait for processes that are not our children; returns those that still live."""
    deadline, left = time.monotonic() + within, set()
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            remaining = max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], remaining)[0]:
                left.add(pid)
        finally:
            os.close(descriptor)
    return left
