"""Correlation as one partition of `incident-inputs` takes part in it: what its groups saw, and the meetings it keeps.

A group tells the partition of a key what it saw (`Sighted`); that partition keeps the
meeting in its table `rules`, and asks the groups' owners to put one incident under
another (`Action`). Each row has one writer, and who meets whom follows from the log.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

import msgspec

from agents.deadlines import Deadlines, StepDeadlines
from agents.envelopes import cut
from agents.rules import correlation
from agents.rules.correlation import Adoption, Meeting
from agents.rules.group_state import GroupState
from agents.work import Outgoing
from sinks.rule_rows import RuleRow
from streams import codec, keys
from streams.records import Action, ActionArgs, ActionName, IncidentStatus, Severity, Sighted, Sighting
from streams.rules_correlation import CorrelationRule

MEET: Final = "meet"
"""A deadline: something of a meeting can be forgotten."""
MEETING: Final = "meeting:"
"""In the table `rules`, before the key of each meeting."""
_SIGHTED: Final = 64
"""Bytes of one alert that a sighting names."""

_meeting = msgspec.msgpack.Decoder(Meeting)
_Fired = dict[tuple[str, str], dict[tuple[str, datetime], None]]


def key_of(rule: CorrelationRule, team: str, values: Mapping[str, str]) -> str:
    """Names one rule, as it is written now, and the label values that are shared."""
    return keys.hashed(
        codec.encode((keys.VERSION, team, "meeting", rule.name, rule.within, rule.alerts, sorted(values.items())))
    )


class Correlator:
    """The meetings of a partition, between steps."""

    def __init__(self, table: Mapping[str, bytes]) -> None:
        self.meetings = {
            name.removeprefix(MEETING): _meeting.decode(value)
            for name, value in table.items()
            if name.startswith(MEETING)
        }

    def arm(self, deadlines: Deadlines | StepDeadlines) -> None:
        """Push when something can be forgotten."""
        for key, meeting in self.meetings.items():
            _arm(deadlines, key, meeting)


class StepCorrelator:
    """What one step saw, heard and decided."""

    def __init__(self, partition: Correlator, rules: tuple[CorrelationRule, ...], deadlines: StepDeadlines) -> None:
        self.rules = rules
        self._partition = partition
        self._deadlines = deadlines
        self._meetings: dict[str, Meeting | None] = {}
        self._fired: _Fired = {}
        self._about: dict[str, tuple[CorrelationRule, str, dict[str, str]]] = {}
        self._sightings: list[Sighting] = []
        self._adoptions: list[tuple[str, Meeting, Adoption, datetime]] = []

    def __bool__(self) -> bool:
        return bool(self._meetings)

    def saw(self, group: GroupState, labels: Mapping[str, str], identity: str, at: datetime) -> GroupState:
        """An alert of the group began to fire; the group, which remembers where it was seen."""
        for rule in self.rules:
            values = rule.values_of(labels)
            if values is None:
                continue
            key = key_of(rule, group.team, values)
            self._about[key] = (rule, group.team, values)
            self._fired.setdefault((key, group.incident_id), {})[identity, at] = None
            if key not in group.sighted:
                group = msgspec.structs.replace(group, sighted=(*group.sighted, key))
        return group

    def say_again(
        self, key: str, group: GroupState, fired: Iterable[tuple[Mapping[str, str], str, datetime]], now: datetime
    ) -> None:
        """All that a group can have told of its incident: what fires, and how it stands."""
        for labels, identity, at in fired:
            self.saw(group, labels, identity, at)
        self._sight(key, group, group.sighted, now)

    def decide_again(self, now: datetime) -> None:
        """Ask once more for what was asked of the groups."""
        for key in self._partition.meetings:
            meeting = self._meeting(key)
            if meeting is not None:
                untold = {
                    name: msgspec.structs.replace(one, told="", told_revision=0) for name, one in meeting.seen.items()
                }
                self._keep(key, msgspec.structs.replace(meeting, seen=untold), now)

    def stands(self, group_key: str, before: GroupState | None, after: GroupState | None, now: datetime) -> None:
        """Note how a group's incident stands after the step, where that is news to who keeps its meetings."""
        if before is not None and before.sighted and (after is None or after.incident_id != before.incident_id):
            over = msgspec.structs.replace(before, status=IncidentStatus.RESOLVED, revision=before.revision + 1)
            self._sight(group_key, over, before.sighted, now)
        if after is None or not after.sighted:
            return
        same = before is not None and before.incident_id == after.incident_id
        news = not same or (before is not None and _standing(before) != _standing(after))
        told = after.sighted if news else [key for key in after.sighted if (key, after.incident_id) in self._fired]
        self._sight(group_key, after, told, now)

    def _sight(self, group_key: str, group: GroupState, told: Iterable[str], now: datetime) -> None:
        handled = group.handled
        for key in told:
            fired = tuple(self._fired.pop((key, group.incident_id), ()))
            about = {}
            if fired:
                rule, team, values = self._about[key]
                about = {
                    "rule": rule.name,
                    "team": team,
                    "labels": values,
                    "within": rule.within,
                    "alerts": rule.alerts,
                }
            self._sightings.append(
                Sighting(
                    key=key, group=group_key, incident_id=group.incident_id, title=group.title,
                    opened_at=group.opened_at, said_at=now, alive=group.alive, free=group.active or bool(handled.rule),
                    parent_id=handled.parent_id, parent_since=handled.parent_since,
                    parent_group=handled.parent_group, parent_key=handled.parent_key, apart=handled.apart,
                    severity=_own_severity(group), revision=group.revision, fired=fired,
                    **about,  # type: ignore[arg-type]
                )
            )  # fmt: skip

    def hear(self, record: Sighted, now: datetime) -> None:
        """Take in what groups saw, and decide."""
        by_key: dict[str, list[Sighting]] = {}
        for one in record.items:
            by_key.setdefault(one.key, []).append(one)
        for key, sightings in by_key.items():
            heard = correlation.hear(self._meeting(key), sightings)
            if heard is not None:
                self._keep(key, heard, now)

    def _keep(self, key: str, meeting: Meeting, now: datetime) -> None:
        meeting, adoptions = correlation.decide(key, meeting)
        self._meetings[key] = meeting
        self._adoptions += ((key, meeting, adoption, now) for adoption in adoptions)
        _arm(self._deadlines, key, meeting)

    def forget(self, key: str, now: datetime) -> None:
        """Something of a meeting may be over."""
        meeting = self._meeting(key)
        if meeting is None:
            return
        left = self._meetings[key] = correlation.forgotten(meeting, now)
        if left is not None:
            _arm(self._deadlines, key, left)

    def _meeting(self, key: str) -> Meeting | None:
        return self._meetings[key] if key in self._meetings else self._partition.meetings.get(key)

    def rows(self) -> list[RuleRow]:
        """The meetings as the step leaves them; a value of None is one that is over."""
        return [
            RuleRow(
                MEETING + key, one.sequence if one is not None else 0, codec.encode(one) if one is not None else None
            )
            for key, one in self._meetings.items()
        ]

    def outgoing(self, topic: str, partitions: int) -> Iterator[Outgoing]:
        """What was seen, to the keys' partitions; what was decided, to the groups'."""
        seen: dict[int, list[Sighting]] = {}
        for one in self._sightings:
            seen.setdefault(keys.partition_of(one.key, partitions), []).append(one)
        for number, items in seen.items():
            for part in cut(items, _size):
                record = Sighted(accepted_at=part[0].said_at, items=part)
                yield Outgoing(topic, number, part[0].key.encode(), codec.encode(record))
        for key, meeting, adoption, now in self._adoptions:
            action = _action(key, meeting, adoption, now)
            number = keys.partition_of(action.group, partitions)
            yield Outgoing(topic, number, action.group.encode(), codec.encode(action))

    def commit(self) -> None:
        """Fold the step into the partition."""
        for key, meeting in self._meetings.items():
            if meeting is not None:
                self._partition.meetings[key] = meeting
            else:
                self._partition.meetings.pop(key, None)


def _size(one: Sighting) -> int:
    return _SIGHTED * len(one.fired)


def _own_severity(group: GroupState) -> Severity:
    """How bad it is by its own alerts, or by a person's word: not by what was put under it."""
    worst = next((one for one in Severity if group.firing[one.rank]), Severity.UNKNOWN)
    return group.handled.severity or worst


def _standing(group: GroupState) -> tuple[object, ...]:
    handled = group.handled
    return group.alive, group.active, _own_severity(group), handled.parent_id, handled.rule, handled.apart


def _arm(deadlines: Deadlines | StepDeadlines, key: str, meeting: Meeting) -> None:
    due = correlation.due_at(meeting)
    if due is not None:
        deadlines.push(due, MEET, key)


def _action(key: str, meeting: Meeting, adoption: Adoption, now: datetime) -> Action:
    """The request to put one incident under another, or to let it go; its id follows from what was decided."""
    own = f"rule {meeting.rule}"
    if adoption.parent_id:
        parent = meeting.seen[adoption.parent_id]
        args = ActionArgs(
            into=adoption.parent_id, into_group=parent.group, rule=meeting.rule, field=key, since=parent.opened_at,
            evidence=codec.to_json(_evidence(meeting, adoption, parent.title)),
        )  # fmt: skip
    else:
        revision = meeting.seen[adoption.incident_id].revision
        args = ActionArgs(into=adoption.left, reason=f"by {own} it is to speak for itself", revision=revision)
    return Action(
        id=str(keys.derived_id("correlate", key, adoption.number, adoption.incident_id)),
        team=meeting.team,
        group=adoption.group,
        incident_id=adoption.incident_id,
        actor=own,
        action=ActionName.CORRELATE if adoption.parent_id else ActionName.ORPHAN,
        at=now,
        args=args,
    )


def _evidence(meeting: Meeting, adoption: Adoption, title: str) -> dict[str, object]:
    return {
        "rule": meeting.rule,
        "labels": meeting.labels,
        "within": f"{meeting.within.total_seconds():g} s",
        "alerts": meeting.alerts,
        "with": [adoption.parent_id, *adoption.met],
        "title": title,
    }
