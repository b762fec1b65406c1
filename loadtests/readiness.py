"""How soon each role says whether it is ready, while it is under load."""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import Final

import httpx

from loadtests.pace import quantiles
from loadtests.plan import Process

_EVERY_S: Final = 0.25
_PATIENCE_S: Final = 5.0


class ReadinessReader:
    """Asks `/readyz` of every role four times a second, each on its own kept connection, until it is stopped."""

    def __init__(self, processes: Iterable[Process]) -> None:
        self._places = [(process.role, process.url) for process in processes if process.url]
        self._stop = asyncio.Event()
        self._took_us: dict[str, list[int]] = {role: [] for role, _ in self._places}

    def stop(self) -> None:
        """End after the questions that are going on."""
        self._stop.set()

    async def run(self) -> dict[str, dict[str, float]]:
        """Quantiles in milliseconds by role (see `quantiles`); no answer within 5 s counts as 5 s."""
        async with httpx.AsyncClient(trust_env=False, timeout=_PATIENCE_S) as client:
            await asyncio.gather(*(self._ask(client, role, url) for role, url in self._places))
        return {role: quantiles(took) for role, took in self._took_us.items() if took}

    async def _ask(self, client: httpx.AsyncClient, role: str, url: str) -> None:
        stopped = False
        while not stopped:
            asked = time.perf_counter()
            try:
                await client.get(f"{url}/readyz")
                took = time.perf_counter() - asked
            except httpx.HTTPError:
                took = _PATIENCE_S
            self._took_us[role].append(int(took * 1e6))
            with contextlib.suppress(TimeoutError):
                stopped = await asyncio.wait_for(self._stop.wait(), _EVERY_S)
