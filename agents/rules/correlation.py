"""Which incidents of different groups belong together: pure, and the same in whatever order they are heard of.

All sightings of one rule and one set of label values meet on one partition, in a
`Meeting`. Alerts that are close in time make a stretch: `alerts` distinct ones
within `within` of each other, joined wherever they share one (with one alert
enough, that is a session window: a new alert extends it by `within`). Of the open
incidents in a stretch the oldest that is bad enough speaks for each; when it ends,
the next takes its place. So the outcome follows from what was seen,
not from when, and no two incidents can be each other's parent. Other ways to find what
belongs together (a map of services, likeness, scores) would be other meetings.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from streams.records import Severity, Sighting

HELD: Final = timedelta(minutes=15)
"""How long what is over is remembered, so that an older word about it, come late, changes nothing."""
MOST: Final = 500
"""Incidents that meet at once; those beyond stand by themselves."""
SHOWN: Final = 20
"""Other incidents that the evidence of one names."""

Point = tuple[datetime, str, str]
"""When an alert fired, in which incident, and which alert it was."""
Stretch = tuple[datetime, datetime]
"""First and last alert of what belongs together."""


class Seen(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One incident as its group last told of it, and the parent that it was told, with that one's revision then."""

    group: str
    title: str
    opened_at: datetime
    said_at: datetime
    alive: bool
    free: bool
    parent_id: str
    parent_since: datetime | None
    parent_group: str
    parent_key: str
    severity: Severity
    revision: int
    told: str = ""
    told_revision: int = 0


class Meeting(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag=1):
    """Everything about one rule and one set of label values.

    `points` are in order; those inside a stretch are thinned out to what can still matter.
    `sequence` counts what was decided; `apart` are groups that a person took out of it, for good.
    """

    team: str
    rule: str
    labels: dict[str, str]
    within: timedelta
    alerts: int
    sequence: int = 0
    seen: dict[str, Seen] = {}
    points: tuple[Point, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    apart: tuple[str, ...] = ()

    def joins(self, incident_id: str) -> bool:
        """Whether an incident may speak for others here, or they for it."""
        one = self.seen.get(incident_id)
        return one is not None and one.alive and one.free and one.group not in self.apart


class Adoption(msgspec.Struct, frozen=True, kw_only=True):
    """One incident is to go under another, or (no parent) to be let go by the one that it `left`.

    `number` tells it from earlier ones of its meeting, `met` are the others.
    """

    incident_id: str
    group: str
    parent_id: str
    left: str
    number: int
    met: tuple[str, ...]


def hear(meeting: Meeting | None, sightings: Iterable[Sighting]) -> Meeting | None:
    """The meeting after these sightings of its key; what is not new to it changes nothing."""
    seen = dict(meeting.seen) if meeting is not None else {}
    points = set(meeting.points) if meeting is not None else set[Point]()
    apart = set(meeting.apart) if meeting is not None else set[str]()
    for one in sightings:
        if meeting is None and not one.fired:
            continue  # how an incident stands means nothing where no alert of it is known
        if meeting is None:
            meeting = Meeting(team=one.team, rule=one.rule, labels=one.labels, within=one.within, alerts=one.alerts)
        known = seen.get(one.incident_id)
        if (known is None and len(seen) < MOST) or (known is not None and known.revision < one.revision):
            seen[one.incident_id] = _seen(known, one)
        if not seen.keys().isdisjoint(one.apart):
            apart.add(one.group)
        points.update((at, one.incident_id, alert) for alert, at in one.fired)
    if meeting is None:
        return None
    after = msgspec.structs.replace(meeting, seen=seen, apart=tuple(sorted(apart)))
    return after if points == set(meeting.points) else _stretched(after, sorted(points))


def _seen(known: Seen | None, one: Sighting) -> Seen:
    return Seen(
        group=one.group, title=one.title, opened_at=one.opened_at, said_at=one.said_at, alive=one.alive,
        free=one.free,
        parent_id=one.parent_id, parent_since=one.parent_since, parent_group=one.parent_group,
        parent_key=one.parent_key, severity=one.severity, revision=one.revision,
        told=known.told if known is not None else "", told_revision=known.told_revision if known is not None else 0,
    )  # fmt: skip


def decide(key: str, meeting: Meeting) -> tuple[Meeting, list[Adoption]]:
    """Who goes under whom, of what the groups do not know yet."""
    seen, adoptions = dict(meeting.seen), list[Adoption]()
    for bunch in bunches(meeting):
        for own, parent_id in _speakers(key, meeting, bunch).items():
            one = meeting.seen[own]
            revision = meeting.seen[parent_id].revision if parent_id else one.revision
            if _is_so(key, one, parent_id, meeting) or (one.told == parent_id and one.told_revision >= revision):
                continue
            seen[own] = msgspec.structs.replace(one, told=parent_id, told_revision=revision)
            met = tuple(other for other in bunch[: SHOWN + 2] if other not in (own, parent_id))
            adoptions.append(
                Adoption(
                    incident_id=own, group=one.group, parent_id=parent_id, left=one.parent_id,
                    number=meeting.sequence + 1, met=met,
                )
            )  # fmt: skip
    if not adoptions:
        return meeting, adoptions
    return msgspec.structs.replace(meeting, seen=seen, sequence=meeting.sequence + 1), adoptions


def _speakers(key: str, meeting: Meeting, bunch: Sequence[str]) -> dict[str, str]:
    """Who speaks for each: the oldest that is at least as bad, and has nobody itself; empty where that is none."""
    found: dict[str, str] = {}
    speakers: list[str] = []
    for own in bunch:
        one = meeting.seen[own]
        found[own] = next((by for by in speakers if meeting.seen[by].severity.rank <= one.severity.rank), "")
        if not found[own] and (not one.parent_id or one.parent_key == key):
            speakers.append(own)
    return found


def _is_so(key: str, one: Seen, parent_id: str, meeting: Meeting) -> bool:
    """Whether an incident stands as it shall, or another meeting has an older speaker for it."""
    if one.parent_id == parent_id:
        return True
    if not parent_id or not one.parent_id or one.parent_key == key:
        return one.parent_key != key and not parent_id
    parent = meeting.seen[parent_id]
    return one.parent_since is not None and (one.parent_since, one.parent_group) <= (parent.opened_at, parent.group)


def bunches(meeting: Meeting) -> list[list[str]]:
    """The incidents that may join, by who met whom, directly or through others; in each the oldest first."""
    places: list[set[str]] = [set() for _ in meeting.stretches]
    for place, (_, incident_id, _) in _placed(meeting.points, meeting.stretches):
        if meeting.joins(incident_id):
            places[place].add(incident_id)
    found: list[set[str]] = []
    for together in filter(None, places):
        whole, rest = set(together), list[set[str]]()
        for bunch in found:
            if bunch.isdisjoint(together):
                rest.append(bunch)
            else:
                whole |= bunch
        found = [*rest, whole]

    def age(incident_id: str) -> tuple[datetime, str, str]:
        return meeting.seen[incident_id].opened_at, meeting.seen[incident_id].group, incident_id

    return sorted(sorted(bunch, key=age) for bunch in found)


def due_at(meeting: Meeting) -> datetime | None:
    """When something of it can be forgotten next; None while all its incidents are open."""
    over = [one.said_at for one in meeting.seen.values() if not one.alive]
    return min(over) + meeting.within + HELD if over else None


def forgotten(meeting: Meeting, now: datetime) -> Meeting | None:
    """The meeting without the incidents that ended long ago; None when nothing is left of it."""
    seen = {
        key: one for key, one in meeting.seen.items() if one.alive or one.said_at + meeting.within + HELD > now
    }  # fmt: skip
    if not seen and not meeting.apart:
        return None
    left = {"points": (), "stretches": ()} if not seen else {}
    return msgspec.structs.replace(meeting, seen=seen, **left)


def _stretched(meeting: Meeting, points: Sequence[Point]) -> Meeting:
    stretches = _joined([*meeting.stretches, *_dense(points, meeting.alerts, meeting.within)])
    oldest = points[-1][0] - meeting.within - HELD
    inside: list[list[Point]] = [[] for _ in stretches]
    for place, point in _placed(points, stretches):
        inside[place].append(point)
    outside = set(points).difference(*inside)
    kept = {point for point in outside if point[0] >= oldest}
    lasting, known = list[Stretch](), list[set[str]]()
    for stretch, held in sorted(zip(stretches, inside, strict=True), reverse=True):
        incidents = {point[1] for point in held if point[1] in meeting.seen}
        # An old one says nothing where a newer one has the same incidents together, or it has but one.
        if stretch[1] < oldest and (len(incidents) < 2 or any(incidents <= other for other in known)):  # noqa: PLR2004 - a pair
            continue
        lasting.append(stretch)
        known.append(incidents)
        kept.update(_thinned(held, incidents, meeting.alerts))
    return msgspec.structs.replace(meeting, points=tuple(sorted(kept)), stretches=tuple(reversed(lasting)))


def _dense(points: Sequence[Point], alerts: int, within: timedelta) -> Iterator[Stretch]:
    """From each point back as far as `within` reaches, where that holds enough distinct alerts."""
    first, inside = 0, dict[str, int]()
    for at, _, alert in points:
        inside[alert] = inside.get(alert, 0) + 1
        while at - points[first][0] > within:
            left = points[first][2]
            inside[left] -= 1
            if not inside[left]:
                del inside[left]
            first += 1
        if len(inside) >= alerts:
            yield points[first][0], at


def _joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    found: list[Stretch] = []
    for first, last in sorted(stretches):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def _placed(points: Iterable[Point], stretches: Sequence[Stretch]) -> Iterator[tuple[int, Point]]:
    """Each point that is inside a stretch, with the place of that."""
    starts = [first for first, _ in stretches]
    for point in points:
        place = bisect_right(starts, point[0]) - 1
        if place >= 0 and point[0] <= stretches[place][1]:
            yield place, point


def _thinned(inside: Sequence[Point], incidents: Iterable[str], alerts: int) -> Iterator[Point]:
    """Each incident's first point, and at both ends as many distinct alerts as can extend the stretch."""
    left = set(incidents)
    for point in inside:
        if point[1] in left:
            left.remove(point[1])
            yield point
    for order in (inside, inside[::-1]):
        names: set[str] = set()
        for point in order:
            if point[2] not in names:
                names.add(point[2])
                yield point
            if len(names) >= alerts:
                break
