"""Which incidents belong together: whatever the order in which they are heard of."""

import random
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from agents.rules import correlation
from agents.rules.correlation import HELD, MOST, Meeting
from streams.records import Severity, Sighting
from tests.agents.stage import at

MINUTE = timedelta(minutes=1)


def sighting(
    name: str, *fired: float, alive: bool = True, revision: int = 1, opened: float = -1, **how: Any
) -> Sighting:
    """An incident `name` whose alerts (each its own, unless `alert` names it) fired at these seconds."""
    alert = how.pop("alert", "")
    said: dict[str, Any] = {
        "key": "k", "group": f"group-{name}", "incident_id": name, "title": name, "free": True, "parent_id": "",
        "parent_since": None, "parent_group": "", "parent_key": "",
        "apart": (), "severity": Severity.ERROR, "team": "default", "rule": "r", "labels": {"service": "api"},
        "within": MINUTE, "alerts": 1,
    }  # fmt: skip
    opened_at = at(opened if opened >= 0 else min(fired, default=0))
    said_at = at(how.pop("said", max(fired, default=0)))
    points = tuple((alert or f"{name}@{seconds}", at(seconds)) for seconds in fired)
    said |= {"opened_at": opened_at, "said_at": said_at, "fired": points, "alive": alive, "revision": revision}
    return Sighting(**{**said, **how})


def heard(*sightings: Sighting, meeting: Meeting | None = None) -> tuple[Meeting, dict[str, str]]:
    """One record after the other; who was put under whom in the end, as the groups have it then."""
    under: dict[str, str] = {}
    for one in sightings:
        meeting = correlation.hear(meeting, [one])
        assert meeting is not None
        meeting, adoptions = correlation.decide("k", meeting)
        under.update((adoption.incident_id, adoption.parent_id) for adoption in adoptions)
    assert meeting is not None
    return meeting, under


@pytest.mark.parametrize(
    ("why", "sightings", "under"),
    [
        ("one alone", [sighting("a", 0)], {}),
        ("two within the window", [sighting("a", 0), sighting("b", 60)], {"b": "a"}),
        ("the window is over", [sighting("a", 0), sighting("b", 61)], {}),
        ("an alert extends the window", [sighting("a", 0, 50), sighting("b", 100)], {"b": "a"}),
        ("a third follows the second", [sighting("a", 0), sighting("b", 50), sighting("c", 100)], {"b": "a", "c": "a"}),
        ("the oldest speaks, heard last or not", [sighting("b", 50), sighting("a", 0)], {"b": "a"}),
        ("one that is over does not", [sighting("a", 0, alive=False), sighting("b", 5), sighting("c", 9)], {"c": "b"}),
        ("nor one that a person put elsewhere", [sighting("a", 0, free=False), sighting("b", 5)], {}),
        ("what is worse keeps its voice", [sighting("a", 0), sighting("b", 5, severity=Severity.CRITICAL)], {}),
        (
            "and speaks for those after it",
            [
                sighting("a", 0, severity=Severity.INFO), sighting("b", 5), sighting("c", 9),
                sighting("d", 9, severity=Severity.INFO),
            ],
            {"c": "b", "d": "a"},
        ),
        ("of two that opened at once the lesser group", [sighting("b", 0), sighting("a", 0)], {"b": "a"}),
        ("three alerts are needed", [sighting("a", 0, alerts=3), sighting("b", 5, alerts=3)], {}),
        ("three alerts are there", [sighting("a", 0, 1, alerts=3), sighting("b", 5, alerts=3)], {"b": "a"}),
        ("one alert three times is one",
         [sighting("a", 0, 1, 2, alert="x", alerts=2), sighting("b", 5, alert="x", alerts=2)], {}),
        ("three, but not in time", [sighting("a", 0, 1, alerts=3), sighting("b", 62, alerts=3)], {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_who_speaks_for_whom(why: str, sightings: Sequence[Sighting], under: dict[str, str]) -> None:
    assert heard(*sightings)[1] == under


def test_when_the_speaker_is_over_the_oldest_that_is_left_takes_its_place() -> None:
    meeting, under = heard(sighting("a", 0), sighting("b", 10), sighting("c", 20))
    assert under == {"b": "a", "c": "a"}
    over = sighting("a", opened=0, alive=False, revision=2, said=30)
    assert heard(over, meeting=meeting)[1] == {"c": "b"}
    meeting, _ = heard(over, meeting=meeting)
    again = sighting("a", opened=0, revision=3, said=40)
    assert heard(again, meeting=meeting)[1] == {"b": "a", "c": "a"}


def test_what_becomes_worse_than_its_speaker_is_let_go() -> None:
    meeting, under = heard(sighting("a", 0), sighting("b", 10))
    assert under == {"b": "a"}
    meeting, _ = heard(sighting("b", revision=2, opened=10, parent_id="a", parent_key="k"), meeting=meeting)
    worse = sighting("b", revision=3, opened=10, parent_id="a", parent_key="k", severity=Severity.CRITICAL)
    assert heard(worse, meeting=meeting)[1] == {"b": ""}
    elsewhere = msgspec.structs.replace(worse, parent_key="another")
    assert heard(elsewhere, meeting=meeting)[1] == {}


def test_what_was_told_is_not_told_again_until_the_parent_has_changed() -> None:
    meeting, _ = heard(sighting("a", 0), sighting("b", 10))
    assert heard(sighting("b", 10, revision=1), meeting=meeting)[1] == {}
    meeting, under = heard(sighting("b", 10, 20, revision=2), meeting=meeting)
    assert under == {}
    assert heard(sighting("a", 0, revision=5), meeting=meeting)[1] == {"b": "a"}
    meeting, _ = heard(sighting("b", 10, revision=3, parent_id="a"), meeting=meeting)
    assert heard(sighting("a", 0, revision=6), meeting=meeting)[1] == {}


def test_a_group_that_a_person_took_away_stays_away_for_good_its_next_incidents_too() -> None:
    meeting, _ = heard(sighting("a", 0), sighting("b", 10), sighting("c", 20))
    meeting, under = heard(sighting("b", opened=10, revision=2, apart=("a",)), meeting=meeting)
    assert under == {}
    later = sighting("b2", 30, group="group-b")
    meeting, under = heard(later, sighting("d", 40), meeting=meeting)
    assert under == {"d": "a"}
    ended = [sighting(name, opened=0, alive=False, revision=9, said=50) for name in ("a", "b", "c", "b2", "d")]
    meeting, _ = heard(*ended, meeting=meeting)
    assert correlation.due_at(meeting) == at(50) + MINUTE + HELD
    left = correlation.forgotten(meeting, at(50) + MINUTE + HELD)
    assert left is not None
    assert (left.seen, left.points, left.apart) == ({}, (), ("group-b",))
    assert heard(sighting("a3", 90), sighting("b3", 95, group="group-b"), meeting=left)[1] == {}


def test_a_person_who_takes_away_an_incident_of_another_meeting_changes_nothing_here() -> None:
    assert heard(sighting("a", 0), sighting("b", 10, apart=("elsewhere",)))[1] == {"b": "a"}


def test_nothing_is_left_of_a_meeting_whose_incidents_ended_long_ago() -> None:
    meeting, _ = heard(sighting("a", 0), sighting("b", 10))
    assert correlation.due_at(meeting) is None
    meeting, _ = heard(*(sighting(name, alive=False, revision=2, said=20) for name in "ab"), meeting=meeting)
    due = correlation.due_at(meeting)
    assert due is not None
    assert correlation.forgotten(meeting, due - timedelta(seconds=1)) == meeting
    assert correlation.forgotten(meeting, due) is None
    assert correlation.hear(None, [sighting("a", alive=False)]) is None


def random_sightings(chance: random.Random, alerts: int) -> list[Sighting]:
    """Incidents of which alerts fire by and by, and some that end."""
    said = []
    for name in "abcdefg":
        times = sorted(chance.randrange(0, 600) for _ in range(chance.randrange(1, 9)))
        for revision, seconds in enumerate(times, 1):
            alert = f"{chance.choice('xyz')}{chance.randrange(4)}"
            said.append(
                sighting(name, seconds, opened=times[0], revision=revision, alerts=alerts, alert=alert, said=seconds)
            )
        if chance.random() < 0.4:
            said.append(sighting(name, alive=False, opened=times[0], revision=99, said=times[-1]))
    return said


def interleaved(said: Sequence[Sighting], chance: random.Random) -> list[Sighting]:
    """Another order, in which each incident's own is kept: its group's partition sends them."""
    order = chance.sample([one.incident_id for one in said], len(said))
    queues = {name: iter([one for one in said if one.incident_id == name]) for name in set(order)}
    return [next(queues[name]) for name in order]


@pytest.mark.parametrize("alerts", [1, 2, 3, 5])
def test_neither_the_order_nor_the_parts_in_which_it_is_heard_show(alerts: int) -> None:
    chance = random.Random(alerts)
    for _ in range(150):
        said = random_sightings(chance, alerts)
        [whole] = {_outcome([said])}
        for _ in range(4):
            shuffled = interleaved(said, chance)
            cuts = sorted(chance.sample(range(1, len(said)), min(3, len(said) - 1)))
            pieces = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(said)], strict=True)]
            assert _outcome([*pieces, *chance.sample(pieces, 1)]) == whole


def _outcome(parts: Iterable[Sequence[Sighting]]) -> str:
    meeting = None
    for part in parts:
        meeting = correlation.hear(meeting, part)
        if meeting is not None:
            meeting, _ = correlation.decide("k", meeting)
    assert meeting is not None
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(meeting), type=Meeting) == meeting
    return str((correlation.bunches(meeting), meeting.stretches))


@pytest.mark.parametrize("alerts", [1, 3])
def test_thinning_out_loses_nothing_that_matters(alerts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(7 + alerts)
    cases = [sorted(random_sightings(chance, alerts), key=lambda one: one.said_at) for _ in range(150)]
    thin = [_outcome([said]) for said in cases]
    step = [_outcome([[one] for one in said]) for said in cases]
    monkeypatch.setattr(correlation, "_thinned", lambda inside, *_: iter(inside))
    assert thin == [_outcome([said]) for said in cases] == step


def test_a_storm_and_a_long_life_stay_small() -> None:
    meeting, _ = heard(sighting("a", *(second / 100 for second in range(3000)), alerts=20))
    assert len(meeting.points) <= 41
    meeting, _ = heard(sighting("a", 0), sighting("b", 9))
    for day in range(1, 200):
        again = (sighting(name, day * 86_400 + later, opened=later) for name, later in (("a", 0), ("b", 9)))
        meeting, _ = heard(*again, meeting=meeting)
    assert (len(meeting.stretches), len(meeting.points)) == (1, 2)
    many = correlation.hear(meeting, [sighting(f"i{number}", 200 * 86_400) for number in range(MOST + 50)])
    assert many is not None
    assert len(many.seen) == MOST
    assert len(correlation.decide("k", many)[1]) == MOST - 3
