"""People's part of a step of incidents: actions decided, what became of each, and who else is to hear of it."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from agents.group_overlay import GroupOverlay
from agents.group_partition import SAY_AGAIN, UNSENT
from agents.group_story import GroupStory
from agents.rules import actions, by_hand, relations
from agents.rules.actions import Acted
from agents.rules.group_state import GroupState
from agents.unhandled import storable
from agents.work import Outgoing
from sinks.action_rows import ActionRow, Redaction
from sinks.incident_rows import TimelineRow
from sinks.rule_rows import RuleRow
from streams import codec, keys
from streams.records import Action, ActionArgs, ActionName
from streams.rules_config import RulesConfig
from streams.settings import Settings

_actions = msgspec.msgpack.Decoder(tuple[Action, ...])
_BETWEEN_OWNERS: Final = frozenset({ActionName.CHILD, ActionName.ORPHAN})


class StepActions:
    """The actions of one partition's part of a step, and what time and alerts make known to related incidents.

    By the `rules` in force an incident that a person opens belongs to the top route. `late` are lines, with
    their action's id, for incidents that no group holds any more.
    """

    def __init__(self, held: GroupOverlay, story: GroupStory, settings: Settings, rules: RulesConfig) -> None:
        self.rows: list[ActionRow] = []
        self.late: list[tuple[str, TimelineRow]] = []
        self.redactions: list[Redaction] = []
        self._held = held
        self._story = story
        self._reopen_window = settings.reopen_within
        self._stale_after = timedelta(seconds=settings.stale_after)
        self.rules = rules
        self._sends: list[Action] = []

    def apply(self, action: Action, now: datetime) -> None:
        """Do one action."""
        action = _storable(action)
        group = self._held.group(action.group)
        if group is None and action.action is ActionName.OPEN:
            self._open(action, now)
            return
        if group is None or group.incident_id != action.incident_id:
            self._of_the_past(action, now)
            return
        acted = actions.act(group, action, now=now, reopen_window=self._reopen_window)
        if acted.again:
            return
        if action.action not in _BETWEEN_OWNERS:
            self._record(action, acted.refused, now)
        if acted.unseen:
            self._sends += acted.sends
            if acted.group is not group:
                self._held.put(action.group, acted.group, visible=False)
        else:
            self._redact(action, group)
            self._keep(action.group, group, acted, now)

    def resolve_stale(self, key: str, group: GroupState, now: datetime) -> None:
        """Nothing was heard of an incident for too long."""
        self._keep(key, group, actions.resolved_by_time(group, now=now), now)

    def end_snooze(self, key: str, group: GroupState, now: datetime) -> None:
        """The time until which an incident was to be quiet has passed."""
        self._keep(key, group, actions.snooze_over(group, now=now), now)

    def changed(self, key: str, before: GroupState | None, after: GroupState, now: datetime) -> None:
        """An incident has changed: if another one speaks for it, that hears how bad it is."""
        parent = after.handled.parent_id
        if parent and before is not None:
            told = before.handled.parent_id == parent and before.worst == after.worst
            if not told:
                self._sends.append(relations.told_parent(after, key, after.revision, now))

    def stale_at(self, now: datetime) -> datetime | None:
        """When an incident that was heard of now is given up, unless it is heard of again."""
        return now + self._stale_after if self._stale_after else None

    def unsent(self, table: Mapping[str, bytes]) -> Iterator[RuleRow]:
        """What the step sends: kept in `table` (`rules`) until the next step, in case Redis is lost before it is sent.

        After a rebuild that is sent once more; whoever knows it passes over it.
        """
        if SAY_AGAIN in table and UNSENT in table:
            self._sends = [*_actions.decode(table[UNSENT]), *self._sends]
        if self._sends or UNSENT in table:
            yield RuleRow(UNSENT, 0, codec.encode(self._sends) if self._sends else None)

    def outgoing(self, topic: str, partitions: int) -> Iterable[Outgoing]:
        """Actions for the owners of other groups."""
        for one in self._sends:
            yield Outgoing(topic, keys.partition_of(one.group, partitions), one.group.encode(), codec.encode(one))

    def _keep(self, key: str, before: GroupState, acted: Acted, now: datetime) -> None:
        self._sends += acted.sends
        after = acted.group
        if after is before:
            return
        if after.handled.by_hand:
            member = next(iter(self._held.members_of(key)), None)
            after, followed = by_hand.followed(after, member, now)
            if followed is not None and followed is not member:
                self._held.keep(key, followed)
        if acted.flush:
            after = _brought_on(after, now)
        after = msgspec.structs.replace(after, stale_at=self.stale_at(now))
        self._held.put(key, after)
        self._story.tell(after, acted.events, now)
        self.changed(key, before, after, now)

    def _open(self, action: Action, now: datetime) -> None:
        top, version = self.rules.route, self.rules.version
        group, member = by_hand.opened(action, route=top.id, receiver=top.receiver, config_version=version, now=now)
        self._record(action, "", now)
        self._held.put(action.group, msgspec.structs.replace(group, stale_at=self.stale_at(now)))
        if member is not None:
            self._held.keep(action.group, member)
        self._story.tell(group, (by_hand.opening(action, group), *actions.remark(action)), now)

    def _redact(self, action: Action, group: GroupState | None) -> None:
        if action.action is ActionName.REDACT:
            field = action.args.field
            old = str(getattr(group, field)) if field and group is not None else ""
            self.redactions.append(Redaction(action.incident_id, field, action.args.seq, old))

    def _of_the_past(self, action: Action, now: datetime) -> None:
        """Its group has forgotten the incident, or has a newer one."""
        if action.action in _BETWEEN_OWNERS:
            if action.action is ActionName.CHILD and action.args.worst >= 0 and action.args.field != relations.GONE:
                self._sends.append(relations.orphaned(action, "it is over", now))
            return
        if any(row.id == action.id for row in self.rows):
            return  # it came twice within the step
        allowed = action.action is ActionName.COMMENT or (action.action is ActionName.REDACT and action.args.seq > 0)
        self._record(action, "" if allowed else actions.SUPERSEDED, now)
        if allowed:
            self._redact(action, None)
            line = actions.comment_of(action) if action.action is ActionName.COMMENT else actions.redaction_of(action)
            story = GroupStory()
            story.tell_of(action.incident_id, int(now.timestamp() * 1000), (line,), now)
            self.late += ((action.id, row) for row in story.timeline)

    def _record(self, action: Action, refused: str, now: datetime) -> None:
        self.rows.append(
            ActionRow(
                id=action.id,
                incident_id=action.incident_id,
                group_key=action.group,
                team=action.team,
                actor=action.actor,
                action=action.action,
                outcome="refused" if refused else "done",
                reason=refused,
                asked_at=action.at,
                decided_at=now,
            )
        )


def _storable(action: Action) -> Action:
    """The action without what Postgres takes in no text: its row must never be what stops a step."""
    args = {name: _without_nul(getattr(action.args, name)) for name in ActionArgs.__struct_fields__}
    return msgspec.structs.replace(action, actor=storable(action.actor), args=ActionArgs(**args))


def _without_nul(value: object) -> Any:  # noqa: ANN401 - of the type that came
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(key): storable(text) for key, text in value.items()}
    return value


def _brought_on(group: GroupState, now: datetime) -> GroupState:
    """The group with its next flush at once, if it has anything to tell."""
    if not group.members or (group.next_flush_at is not None and group.next_flush_at <= now):
        return group
    return msgspec.structs.replace(group, next_flush_at=now)
