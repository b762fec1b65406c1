"""`incidents accept-new-log`: a person says that Kafka's log is another one now, and that it is to be followed."""

import asyncpg

from sinks import postgres
from streams.settings import Settings
from streams.topic_admin import log_bounds, log_id
from streams.topics import ALERTS, INPUTS


async def accept(settings: Settings) -> str:
    """Follow the log of a cluster that is new, or of one whose topics were lost; what was done, in words.

    A log that still holds what was applied is left as it is: followed anew, its
    events would count again.
    """
    conn = await asyncpg.connect(settings.database_url)
    try:
        cluster = await log_id(settings)
        lives = await postgres.lives_of(conn, cluster)
        if lives and not (lost := await _lost(conn, settings, lives[0])):
            return f"Kafka's log {lives[0]} is the one that is followed, and holds what was applied: nothing was done"
        life = f"{cluster}#{len(lives) + 1}" if lives else cluster
        await postgres.register_log(conn, life, forgets=True, by="operator")
    finally:
        await conn.close()
    why = f" ({lost})" if lives else ""
    return f"following {life}{why}; restart the workers"


async def _lost(conn: asyncpg.Connection, settings: Settings, life: str) -> str:
    """What of the log is gone; empty when nothing is."""
    bounds = await log_bounds(settings, (ALERTS, INPUTS))
    for (topic, partition), applied in (await postgres.applied_on(conn, life)).items():
        first, end = bounds.get((topic, partition), (0, 0))
        if end <= applied or first > applied + 1:
            return f"{topic}/{partition}: {applied} was applied, Kafka has offsets {first} to {end}"
    return ""
