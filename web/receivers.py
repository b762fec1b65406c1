"""Receivers and people of the present rules: their channels, what waits for each, and how its target answers."""

from datetime import datetime
from typing import Any

import msgspec
from litestar import get
from litestar.datastructures import State

from sinks import target_rows
from sinks.incident_reads import shown_target
from sinks.target_rows import Queue, SeenTarget
from streams.rules_config import Receiver
from web.database import Database
from web.picture import Painter


class ShownLimit(msgspec.Struct, frozen=True):
    """At most `notices` within so many seconds; what is over it is told by digests."""

    notices: int
    per_seconds: float


class ShownChannel(msgspec.Struct, frozen=True, kw_only=True):
    """One integration. `state` is ok, failing, or paused: left alone until `paused_until` after failures in a row.

    The rest of it, and `target` without what may be secret, is as a delivery process saw the target last.
    """

    index: int
    channel: str
    target: str
    send_resolved: bool
    state: str
    failures: int
    paused_until: datetime | None
    last_reason: str
    last_sent_at: datetime | None
    waiting: int
    oldest_at: datetime | None


class ShownReceiver(msgspec.Struct, frozen=True, kw_only=True):
    """One receiver; a person's name begins with `@`."""

    name: str
    rate_limit: ShownLimit | None
    channels: list[ShownChannel]


@get("/api/v1/receivers", summary="Receivers and people, and how their targets answer", tags=["receivers"])
async def receivers(state: State) -> list[ShownReceiver]:
    """In the order of the rules file, receivers first."""
    painter: Painter = state.painter
    database: Database = state.database
    async with database.reading() as conn:
        config = await painter.config(conn)
        seen, waiting = await target_rows.seen(conn), await target_rows.waiting(conn)
    return [
        ShownReceiver(
            name=receiver.name,
            rate_limit=ShownLimit(limit.notices, limit.per.total_seconds()) if limit is not None else None,
            channels=_channels(receiver, seen, waiting),
        )
        for receiver in (*config.receivers.values(), *(person.receiver for person in config.ours.people.values()))
        for limit in (config.ours.rate_limit(receiver.name),)
    ]


def _channels(
    receiver: Receiver, seen: dict[str, SeenTarget], waiting: dict[tuple[str, int], Queue]
) -> list[ShownChannel]:
    none = Queue(0, None)
    return [
        ShownChannel(
            index=one.index,
            channel=one.channel,
            target=shown_target(one.target),
            send_resolved=one.send_resolved,
            waiting=waiting.get((receiver.name, one.index), none).tasks,
            oldest_at=waiting.get((receiver.name, one.index), none).oldest_at,
            **_seen(seen.get(one.target)),
        )
        for one in receiver.integrations
    ]


def _seen(target: SeenTarget | None) -> dict[str, Any]:
    if target is None:
        return {"state": "ok", "failures": 0, "paused_until": None, "last_reason": "", "last_sent_at": None}
    state = "paused" if target.paused_until else "failing" if target.failures else "ok"
    return {
        "state": state,
        "failures": target.failures,
        "paused_until": target.paused_until,
        "last_reason": target.last_reason,
        "last_sent_at": target.last_sent_at,
    }
