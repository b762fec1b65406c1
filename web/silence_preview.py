"""Whom a silence would mute, asked before it is stored."""

from typing import TYPE_CHECKING, Final

import msgspec

from agents.rules import silence as rules
from agents.rules.silence import Sets
from sinks.silence_reads import FiringAlert, MutedIncident, firing_alerts, incidents_with

if TYPE_CHECKING:
    from web.database import Conn

SHOWN: Final = 200


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """How many firing alerts and open incidents would be hit, and the first of each."""

    alert_count: int
    incident_count: int
    alerts: list[FiringAlert]
    incidents: list[MutedIncident]


async def preview_of(conn: "Conn", sets: Sets, teams: list[str] | None) -> Preview:
    """Firing alerts of these teams (None: of all) that meet the conditions, and their incidents."""
    certain = [{m.name: m.value for m in one if m.op == "=" and m.value} for one in sets]
    hit: list[tuple[str, int]] = []
    shown: list[FiringAlert] = []
    async for piece in firing_alerts(conn, certain, teams):
        found = [alert for alert in piece if rules.matches(sets, alert.labels)]
        hit += [(alert.identity, alert.occurrence) for alert in found]
        shown += found[: SHOWN - len(shown)]
    incidents = await incidents_with(conn, hit)
    return Preview(
        alert_count=len(hit), incident_count=len(incidents), alerts=shown, incidents=incidents[:SHOWN]
    )  # fmt: skip
