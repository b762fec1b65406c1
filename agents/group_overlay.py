"""What a step holds of one partition's groups, members and incidents, and the rows that it leaves of them."""

from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from agents import group_rows
from agents.deadlines import StepDeadlines
from agents.group_partition import GROUPS, MEMBERS, InputsPartition, arm, decode_group, decode_member
from agents.rules.group_state import GroupState, Member
from sinks.incident_rows import GroupRow, IncidentRow, LinkRow
from streams import codec
from streams.records import MemberChange
from streams.redis_tables import Overlay


class GroupOverlay:
    """Groups as a step sees them: what it changes counts at once, and reaches the partition when it is committed.

    Of every group that is put, `follow` sees what its change means for what depends on its incident.
    """

    def __init__(
        self, partition: InputsPartition, overlay: Overlay, deadlines: StepDeadlines,
        follow: Callable[[str, GroupState], GroupState],
    ) -> None:  # fmt: skip
        self.gone: dict[str, None] = {}
        self._partition = partition
        self._overlay = overlay
        self._deadlines = deadlines
        self._follow = follow
        self._groups: dict[str, GroupState | None] = {}
        self._found: dict[str, GroupState | None] = {}
        self._members: dict[tuple[str, str], Member | None] = {}
        self._touched: dict[str, set[str]] = {}
        self._incidents: dict[str, tuple[str, GroupState]] = {}
        self._links: dict[tuple[str, str, int], LinkRow] = {}

    def known_keys(self) -> list[str]:
        """Every group's key, in order."""
        return sorted({*self._partition.view.tables[GROUPS], *self._groups})

    def group(self, key: str) -> GroupState | None:
        """One group."""
        if key not in self._groups:
            value = self._partition.view.tables[GROUPS].get(key)
            self._groups[key] = self._found[key] = decode_group(value) if value is not None else None
        return self._groups[key]

    def changed(self) -> list[tuple[str, GroupState | None, GroupState | None]]:
        """The groups that the step changes: key, as it found them, and as it leaves them."""
        changes = self._overlay.changes.get(GROUPS, {})
        return [(key, self._found.get(key), self._groups[key]) for key in changes]

    def member(self, group: str, identity: str) -> Member | None:
        """One member of a group."""
        if (group, identity) not in self._members:
            value = self._partition.view.tables[MEMBERS].get(f"{group}:{identity}")
            self._members[group, identity] = decode_member(value) if value is not None else None
        return self._members[group, identity]

    def members_of(self, key: str) -> list[Member]:
        """All members of a group, by identity."""
        skipped = len(key) + 1
        known = {name[skipped:] for name in self._partition.members_of.get(key, ())} | self._touched.get(key, set())
        return [member for identity in sorted(known) if (member := self.member(key, identity)) is not None]

    def put(self, key: str, group: GroupState, *, visible: bool = True) -> None:
        """Keep a group; `visible` when its incident has changed for people too."""
        if key in self.gone:
            del self.gone[key]  # it came back within the step
        group = self._follow(key, group)
        self._groups[key] = group
        arm(self._deadlines, key, group)
        if group.incident_id and visible:
            self._incidents[group.incident_id] = (key, group)
        self._overlay.put(GROUPS, key, b"")  # encoded once, by `finish`

    def drop(self, key: str) -> None:
        """Forget a group."""
        self._groups[key] = None
        self._overlay.put(GROUPS, key, None)
        self.gone[key] = None

    def put_member(self, key: str, before: Member | None, after: Member | None, change: MemberChange) -> None:
        """Keep what a change made of a member, and of its place in an incident."""
        self._set_member(key, change.identity, after)
        moved = before is not None and (
            after is None or (before.incident_id, before.occurrence) != (after.incident_id, after.occurrence)
        )
        if before is not None and moved:
            ended_at = before.ends_at or change.accepted_at
            self._link(key, msgspec.structs.replace(before, firing=False, ends_at=ended_at), keep=False)
        if after is not None:
            self._link(key, after, keep=True)

    def keep(self, key: str, member: Member) -> None:
        """Keep a member as it is now."""
        self._set_member(key, member.identity, member)
        self._link(key, member, keep=True)

    def take_along(self, key: str, incident_id: str, at: datetime) -> None:
        """What fires on under an incident that was ended over its head belongs to the next one."""
        for member in self.members_of(key):
            if member.firing and member.incident_id != incident_id:
                self._link(key, msgspec.structs.replace(member, firing=False, ends_at=at), keep=False)
                self.keep(key, msgspec.structs.replace(member, incident_id=incident_id))

    def let_go(self, key: str, identities: Iterable[str]) -> None:
        """Members leave."""
        for identity in identities:
            member = self.member(key, identity)
            if member is not None:
                self._set_member(key, identity, None)
                self._link(key, member, keep=False)

    def _set_member(self, key: str, identity: str, member: Member | None) -> None:
        self._members[key, identity] = member
        self._touched.setdefault(key, set()).add(identity)
        self._overlay.put(MEMBERS, f"{key}:{identity}", codec.encode(member) if member is not None else None)

    def _link(self, key: str, member: Member, *, keep: bool) -> None:
        if member.incident_id:
            at = (member.incident_id, member.identity, member.occurrence)
            self._links[at] = group_rows.link(key, member, self._partition.view.partition, keep=keep)

    def finish(self) -> None:
        """Encode the groups that the step leaves."""
        changed = self._overlay.changes.get(GROUPS, {})
        for key in changed:
            group = self._groups[key]
            changed[key] = codec.encode(group) if group is not None else None

    def incident_rows(self) -> list[IncidentRow]:
        """Each incident as the step leaves it."""
        number = self._partition.view.partition
        return [group_rows.incident(key, group, number) for key, group in self._incidents.values()]

    def group_rows(self) -> list[GroupRow]:
        """Each group as the step leaves it."""
        number = self._partition.view.partition
        return [
            group_rows.group(key, group, number)
            for key in self._overlay.changes.get(GROUPS, {})
            if (group := self._groups[key]) is not None
        ]

    def links(self) -> list[LinkRow]:
        """Links of alerts to incidents as the step leaves them."""
        return list(self._links.values())

    def release(self) -> None:
        """Let go of the step, so that the two are no cycle and end with their last use."""
        self._follow = _unfollowed

    def committed(self) -> None:
        """Fold the members' places into the partition."""
        members_of = self._partition.members_of
        for name, value in self._overlay.changes.get(MEMBERS, {}).items():
            key = name.partition(":")[0]
            if value is not None:
                members_of.setdefault(key, set()).add(name)
            elif key in members_of:
                members_of[key].discard(name)
                if not members_of[key]:
                    del members_of[key]


def _unfollowed(_key: str, group: GroupState) -> GroupState:
    return group
