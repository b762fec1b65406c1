"""Heartbeats on a worker: what falls silent becomes an alert, its return ends it.

Any number of workers may look; one does at a time. A change is committed before it is told, and told until Kafka has
it, always as the same event, so it counts once whoever dies in between.
"""

import uuid
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from aiokafka.errors import KafkaError

from agents.job_alerts import Herald, Raised
from agents.rules import heartbeat as rules
from sinks import heartbeat_rows
from sinks.heartbeat_rows import Change
from sinks.postgres import TRANSIENT
from streams import metrics

SOURCE: Final = "heartbeat"
ALERT: Final = "HeartbeatMissing"
_SPACE: Final = uuid.UUID("2f0d1f6a-6a8b-4a0c-9c57-4f5d9d6d4d10")
_SOME: Final = 500

log = structlog.get_logger()


class Heartbeats:
    """The watch over heartbeats of one worker; `tick` is called every second."""

    def __init__(self, pool: "asyncpg.Pool", herald: Herald) -> None:
        self._pool = pool
        self._herald = herald

    async def tick(self) -> None:
        """Look once; what cannot be looked at or told now is tried again at the next call."""
        try:
            await self._look()
            await self._tell()
        except (*TRANSIENT, KafkaError) as error:
            log.debug("heartbeats_wait", reason=repr(error))
        except asyncpg.PostgresError as error:
            log.warning("heartbeats_refused", reason=repr(error))
        except Exception:
            log.exception("heartbeats_failed")  # the streams beside them go on

    async def _look(self) -> None:
        async with self._pool.acquire(timeout=2) as conn, conn.transaction():
            found = await heartbeat_rows.watch(conn)
            if found is None:
                return
            looked_at, since_at, now = found
            watch = rules.watched(looked_at, since_at, now)
            if watch.since_at != since_at:
                log.info("heartbeats_watched_anew", seconds_away=(now - looked_at).total_seconds())
            await heartbeat_rows.look(conn, now, watch.since_at, turned_back=watch.turned_back)

    async def _tell(self) -> None:
        async with self._pool.acquire(timeout=2) as conn:
            changes = await heartbeat_rows.untold(conn, _SOME)
            metrics.heartbeats_missing.set(await heartbeat_rows.missing(conn))
        if not changes:
            return
        await self._herald.tell([raised(change) for change in changes])
        async with self._pool.acquire(timeout=2) as conn:
            await heartbeat_rows.told(conn, changes)
            await heartbeat_rows.forget(conn)
        for change in changes:
            log.info("heartbeat", name=change.name, team=change.team, state=change.state, episode=change.episode)


def raised(change: Change) -> Raised:
    """The alert of a change."""
    firing = change.state == "missing"
    labels = msgspec.json.decode(change.labels, type=dict[str, str])
    seconds = change.interval.total_seconds()
    body: dict[str, Any] = {
        "source": SOURCE,
        "status": "firing" if firing else "resolved",
        "severity": change.severity,
        "kind": "infrastructure",
        "summary": f"{change.name} is silent",
        "description": f"It is to be heard of every {seconds:g} s, and was last heard of at "
        f"{change.last_beat_at:%Y-%m-%d %H:%M:%S} UTC.",
        "labels": {**labels, "alertname": ALERT, "heartbeat": change.name},
    }
    event_id = uuid.uuid5(_SPACE, f"{change.team}\n{change.name}\n{change.episode}\n{change.state}")
    return Raised(event_id, change.team, body)
