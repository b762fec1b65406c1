"""One incident with everything around it, as the API and the page show it."""

import uuid
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from litestar import Response

from sinks.alert_reads import AlertRow, alerts_of_incident
from sinks.incident_reads import (
    MAX_PAGE,
    Handled,
    IncidentLink,
    IncidentSummary,
    Notice,
    Relative,
    handling_of,
    incidents_by_id,
    notices_of,
    relatives_of,
)
from streams.rules_config import RulesConfig
from web.escalation import IncidentEscalation, escalation_of

if TYPE_CHECKING:
    from web.database import Conn


class IncidentDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One incident with its alerts (firing first, at most 200; /api/v1/alerts has all) and its notices.

    `severity_by` is alerts, or person where somebody set it; `acknowledged_by` and
    `resolved_by` are empty where nobody did it. `parent` speaks for this incident,
    `rule` is why where a rule put it there, and `children` are those it speaks for.
    `escalation` is null where no policy has been at work.
    """

    incident: IncidentSummary
    alerts: list[AlertRow]
    notices: list[Notice]
    assignee: str
    labels: dict[str, str]
    links: list[IncidentLink]
    snoozed_until: datetime | None
    acknowledged_by: str
    resolved_by: str
    severity_by: str
    by_hand: bool
    flapping: int
    rule: str
    parent: Relative | None
    children: list[Relative]
    escalation: IncidentEscalation | None


async def detail_of(
    conn: "Conn", incident_id: uuid.UUID, config: RulesConfig, teams: list[str] | None
) -> IncidentDetail | None:
    """The incident of this id; None when there is none. Its relatives are those of `teams` (None: of all)."""
    found = await incidents_by_id(conn, [incident_id])
    if not found:
        return None
    handled: Handled = await handling_of(conn, incident_id)
    parents, children = await relatives_of(conn, incident_id, found[0].parent_id, teams)
    return IncidentDetail(
        incident=found[0],
        alerts=await alerts_of_incident(conn, incident_id, MAX_PAGE),
        notices=await notices_of(conn, incident_id, MAX_PAGE),
        assignee=found[0].assignee,
        labels=handled.labels,
        links=handled.links,
        snoozed_until=handled.snoozed_until,
        acknowledged_by=handled.acknowledged_by,
        resolved_by=handled.resolved_by,
        severity_by="alerts" if handled.severity is None else "person",
        by_hand=handled.by_hand,
        flapping=found[0].flapping,
        rule=handled.rule,
        parent=parents[0] if parents else None,
        children=children,
        escalation=await escalation_of(conn, incident_id, config),
    )


def etag(revision: int) -> str:
    """The revision of an incident as an entity tag."""
    return f'"{revision}"'


def tagged(detail: IncidentDetail) -> Response[IncidentDetail]:
    """The answer that shows an incident, with its revision to edit it by."""
    return Response(detail, status_code=200, headers={"etag": etag(detail.incident.revision)})
