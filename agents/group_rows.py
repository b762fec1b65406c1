"""Groups and members as the rows that Postgres keeps of them. Pure."""

from agents.rules.group_state import GroupState, Member
from agents.rules.handling import Handling
from sinks.incident_rows import GroupRow, IncidentRow, LinkRow
from streams import codec


def incident(key: str, group: GroupState, partition: int) -> IncidentRow:
    """The group's newest incident."""
    return IncidentRow(
        id=group.incident_id,
        title=group.title,
        description=group.description,
        severity=group.severity,
        status=group.status,
        created_at=group.opened_at,
        updated_at=group.updated_at,
        team=group.team,
        kind=group.kind,
        predecessor_id=group.predecessor_id,
        group_key=key,
        group_labels=codec.to_json(group.labels),
        route=group.route,
        receiver=group.receiver,
        partition=partition,
        revision=group.revision,
        reopened=group.reopened,
        acknowledged_at=group.acknowledged_at,
        resolved_at=group.resolved_at,
        flapping=group.flapping,
        parent_id=group.handling.parent_id if group.handling is not None else "",
        handling=_handling(group.handling) if group.handling is not None else None,
    )


def _handling(handling: Handling) -> str:
    """What people have made of an incident, as they read it."""
    return codec.to_json(
        {
            "assignee": handling.assignee,
            "labels": handling.labels,
            "links": [{"url": link.href, "title": link.text} for link in handling.links],
            "severity": handling.severity,
            "snoozed_until": handling.snoozed_until,
            "acknowledged_by": handling.acknowledged_by,
            "resolved_by": handling.resolved_by,
            "rule": handling.rule,
            "by_hand": handling.by_hand,
        }
    )


def group(key: str, state: GroupState, partition: int) -> GroupRow:
    """The group's state, from which a lost table is built again."""
    return GroupRow(
        group_key=key,
        partition=partition,
        team=state.team,
        route=state.route,
        labels=codec.to_json(state.labels),
        revision=state.revision,
        state=codec.encode(state),
        updated_at=state.updated_at,
    )


def link(key: str, member: Member, partition: int, *, keep: bool) -> LinkRow:
    """A member's place in its incident; with `keep` the member's state as well."""
    return LinkRow(
        incident_id=member.incident_id,
        identity=member.identity,
        occurrence=member.occurrence,
        group_key=key,
        partition=partition,
        firing=member.firing,
        revision=member.revision,
        joined_at=member.joined_at,
        ended_at=member.ends_at,
        state=codec.encode(member) if keep else None,
    )
