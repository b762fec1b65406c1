"""Our own system, running whole, playing scripts."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
from aiohttp import ClientResponseError, ClientSession

from embedded.ports import free_port
from embedded.roles import ROLES
from embedded.stack import Stack
from streams.settings import PREFIX
from tests.differential.batches import Batch
from tests.differential.oracle import TooBusyError
from tests.differential.play import Collector, Player
from tests.differential.scripts import SECONDS, WARM, Script, config

__all__ = ["free_port", "informed", "running", "told"]

PARTITIONS: Final = 4
WARMING: Final = 16
_STALLED: Final = 0.6
"""Seconds from an alert to a notice that is due at once, above which the machine was too busy for times to count."""
_NO_ROOM: Final = 503
_BEHIND: Final = """
SELECT count(*) FILTER (WHERE p.config_version = c.version) AS informed
FROM stream_progress p, (SELECT max(version) AS version FROM config_versions) c
WHERE p.topic IN ('alerts', 'incident-inputs') AND strpos(p.log_id, $1) > 0
"""


@asynccontextmanager
async def running(folder: Path, rules: str, *, workers: int = 1, **settings: object) -> AsyncIterator[Stack]:
    """The whole system with these rules, which every partition knows; RabbitMQ is left out."""
    path = folder / "rules.yml"
    path.write_text(rules, encoding="utf-8")
    overrides: dict[str, Any] = {"config": path, "partitions": PARTITIONS, **settings}
    async with Stack(folder / "data", overrides, workers=workers, roles=ROLES, rabbitmq=False) as stack:
        await informed(stack)
        yield stack


async def informed(stack: Stack, least: int = 1) -> None:
    """Wait until every partition has applied the newest rules, of which there are at least so many."""
    conn = await asyncpg.connect(stack.endpoints["postgres"])
    try:
        async with asyncio.timeout(60):
            while True:
                known = await conn.fetchval("SELECT count(*) FROM config_versions")
                rows = await conn.fetchval(_BEHIND, stack.settings.get(f"{PREFIX}LOG_GENERATION", ""))
                if known >= least and rows == 2 * PARTITIONS:
                    return
                await asyncio.sleep(0.05)
    finally:
        await conn.close()


async def _warm(url: str, collector: Collector) -> None:
    """Have alerts of every partition told."""
    alerts = [{"labels": {"script": WARM, "alertname": f"W{number}"}} for number in range(WARMING)]
    async with asyncio.timeout(60), ClientSession(raise_for_status=True) as client:
        await client.post(f"{url}/api/v2/alerts", json=alerts)
        while len(collector.received) < WARMING:
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)


async def _beats(url: str) -> dict[str, float]:
    """An alert every half second that is told at once; when each was sent."""
    sent: dict[str, float] = {}
    async with ClientSession(raise_for_status=True) as client:
        while len(sent) < 2 * (SECONDS - 2):
            name = f"Beat{len(sent)}"
            sent[name] = time.time()
            body = [{"labels": {"script": WARM, "alertname": name}}]
            (await client.post(f"{url}/api/v2/alerts", json=body)).release()
            await asyncio.sleep(0.5)
    return sent


async def _both(player: Player, url: str) -> dict[str, float]:
    """Play, with a beat beside; what `_beats` gives.

    Raises:
        TooBusyError: there was no room, which is an honest answer, and one that the real Alertmanager never gives.
    """
    try:
        async with asyncio.TaskGroup() as group:
            beats = group.create_task(_beats(url))
            await player.play()
    except* ClientResponseError as errors:
        refused, other = errors.split(lambda error: getattr(error, "status", 0) == _NO_ROOM)
        if other is not None:
            raise other from None
        raise TooBusyError(f"too busy to take it: {refused}") from None
    return beats.result()


def _slowest(sent: dict[str, float], collector: Collector) -> float:
    """The longest from an alert to its notice."""
    told_at = {body["groupLabels"].get("alertname"): at for at, _, body in collector.received}
    return max((told_at.get(name, float("inf")) - at for name, at in sent.items()), default=0.0)


async def told(folder: Path, scripts: Sequence[Script], *, strict: bool) -> dict[str, list[Batch]]:
    """What our receivers get of these scripts.

    Raises:
        TooBusyError: try again when the machine is calmer.
    """
    mode = "on" if strict else "off"
    async with (
        Collector() as collector,
        running(folder, config(list(scripts), collector.url), alertmanager_mode=mode, flap_window=0) as stack,
    ):
        url = str(stack.endpoints["http"])

        async def reload() -> None:
            (folder / "rules.yml").write_text(config(list(scripts), collector.url, later=True), encoding="utf-8")
            async with ClientSession(raise_for_status=True) as client:
                await client.post(f"{url}/-/reload", skip_auto_headers=["Content-Type"])

        await _warm(url, collector)
        player = Player(url, scripts, reload)
        beats = await _both(player, url)
        behind = max(player.latest, _slowest(beats, collector))
        if player.late() or behind > _STALLED:
            raise TooBusyError(f"{behind:.2f} s behind the script")
        return collector.batches(player.began, {one.name for one in scripts})
