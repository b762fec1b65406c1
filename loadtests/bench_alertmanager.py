"""Alertmanager itself on the same input as we, where Debian's package of it is installed: figures to compare with."""

import asyncio
import resource
import shutil
from pathlib import Path
from typing import Final

import httpx
import msgspec

from embedded.ports import free_port
from loadtests.http_blast import ALERTMANAGER, BlastFigures, BlastPlan, blasted

PROGRAM: Final = "prometheus-alertmanager"
_READY_S: Final = 20.0
_RULES: Final = "route: {receiver: nobody, group_by: [alertname, service]}\nreceivers: [{name: nobody}]\n"


async def alertmanager(plan: BlastPlan, folder: Path) -> tuple[BlastFigures, float] | None:
    """What it takes of the same requests, and its CPU microseconds an alert; None where it is not installed."""
    program = shutil.which(PROGRAM)
    if program is None:
        return None
    rules = folder / "alertmanager.yml"
    rules.write_text(_RULES, encoding="utf-8")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        program, f"--config.file={rules}", f"--storage.path={folder / 'alertmanager'}", "--cluster.listen-address=",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    )  # fmt: skip
    try:
        await _ready(f"http://127.0.0.1:{port}/-/ready")
        figures = await blasted(msgspec.structs.replace(plan, url=f"http://127.0.0.1:{port}", path=ALERTMANAGER))
    finally:
        before = _children_s()
        process.terminate()
        await process.wait()
    return figures, (_children_s() - before) / max(1, figures.accepted) * 1e6


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
