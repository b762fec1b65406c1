"""Groups and members as the rows that Postgres keeps of them. Pure."""

from agents.rules.incident import GroupState, Member
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
