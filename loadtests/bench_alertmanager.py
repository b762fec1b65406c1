"""Alertmanager itself on the same input as we, where Debian's package of it is installed: figures to compare with."""

import asyncio
import resource
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
import msgspec

from embedded.ports import free_port
from loadtests.http_blast import ALERTMANAGER, BlastFigures, BlastPlan, blasted

PROGRAM: Final = "prometheus-alertmanager"
_READY_S: Final = 20.0
_RULES: Final = "route: {receiver: nobody, group_by: [alertname, service]}\nreceivers: [{name: nobody}]\n"


def installed() -> bool:
    """Whether Debian's package is."""
    return shutil.which(PROGRAM) is not None


async def alertmanager(plan: BlastPlan, folder: Path) -> tuple[BlastFigures, float] | None:
    """What it takes of the same requests, and its CPU microseconds an alert; None where it is not installed."""
    if not installed():
        return None
    async with running(folder, _RULES) as url:
        figures = await blasted(msgspec.structs.replace(plan, url=url, path=ALERTMANAGER))
        before = _children_s()
    return figures, (_children_s() - before) / max(1, figures.accepted) * 1e6


@asynccontextmanager
async def running(folder: Path, rules: str) -> AsyncIterator[str]:
    """An Alertmanager of its own with these rules; gives its address."""
    path = folder / "alertmanager.yml"
    path.write_text(rules, encoding="utf-8")
    url = f"http://127.0.0.1:{free_port()}"
    with (folder / "alertmanager.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, f"--config.file={path}", f"--storage.path={folder / 'alertmanager'}",
            "--cluster.listen-address=", f"--web.listen-address={url.removeprefix('http://')}", "--log.level=error",
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        await _ready(f"{url}/-/ready")
        yield url
    finally:
        process.terminate()
        await process.wait()


def _children_s() -> float:
    """CPU seconds of the children that have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def _ready(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(_READY_S):
        while True:
            try:
                if (await client.get(url)).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
