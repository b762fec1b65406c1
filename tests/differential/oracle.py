"""The real Alertmanager of Debian's package, playing scripts."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx

from embedded.ports import free_port
from tests.differential.batches import Batch
from tests.differential.play import Collector, Player
from tests.differential.scripts import Script, config

PROGRAM: Final = "prometheus-alertmanager"


class TooBusyError(RuntimeError):
    """Raised when the machine could not keep up with the script, so that its result says nothing."""


def found() -> bool:
    """Whether the package is installed."""
    return shutil.which(PROGRAM) is not None


@asynccontextmanager
async def alertmanager(folder: Path, *more: str) -> AsyncIterator[str]:
    """A running Alertmanager with `folder`/alertmanager.yml; gives its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (folder / "alertmanager.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            *(more or ("--cluster.listen-address=",)),
            stdout=log,
            stderr=log,
        )
        try:
            await _ready(url, process)
            yield url
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    await asyncio.wait_for(process.wait(), 5)
                except TimeoutError:
                    process.kill()
            await process.wait()


async def _ready(url: str, process: asyncio.subprocess.Process) -> None:
    async with httpx.AsyncClient(trust_env=False, base_url=url) as client, asyncio.timeout(60):
        while True:
            if process.returncode is not None:
                raise RuntimeError("Alertmanager ended while it started; see its log")
            try:
                if (await client.get("/-/ready")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


async def told(folder: Path, scripts: Sequence[Script]) -> dict[str, list[Batch]]:
    """What Alertmanager's receivers get of these scripts.

    Raises:
        TooBusyError: try again when the machine is calmer.
    """
    rules = folder / "alertmanager.yml"
    async with Collector() as collector:
        rules.write_text(config(list(scripts), collector.url), encoding="utf-8")
        async with alertmanager(folder) as url:

            async def reload() -> None:
                rules.write_text(config(list(scripts), collector.url, later=True), encoding="utf-8")
                async with httpx.AsyncClient(trust_env=False) as client:
                    (await client.post(f"{url}/-/reload")).raise_for_status()

            player = Player(url, scripts, reload)
            await player.play()
        if player.late():
            raise TooBusyError(f"{player.latest:.2f} s behind the script")
        return collector.batches(player.began, {one.name for one in scripts})
