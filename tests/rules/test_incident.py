"""An incident is one occurrence of one group."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from agents.rules.group_state import GroupState, Member
from agents.rules.incident import Applied, Event, apply
from agents.rules.notify_log import Told
from streams.records import AlertBody, Change, IncidentStatus, Kind, MemberChange, Severity

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
WINDOW = timedelta(minutes=5)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


class Story:
    """One group, told one change after another."""

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.group: GroupState | None = None
        self.members: dict[str, Member] = {}
        self.revision = 0

    def tell(
        self, name: str, change: Change, seconds: float, severity: Severity = Severity.ERROR, *,
        by_timeout: bool = False, revision: int | None = None, occurrence: int = 1,
    ) -> Applied | None:  # fmt: skip
        self.revision += 1
        told = MemberChange(
            change=change, group="g", route="{}", group_labels={"service": "api"}, team="default", identity=name,
            fingerprint=name, occurrence=occurrence, revision=revision or self.revision, starts_at=at(seconds),
            ends_at=at(seconds) if change is Change.RESOLVED else None, accepted_at=at(seconds), cause=self.revision,
            index=0, cause_partition=0, by_timeout=by_timeout,
        )  # fmt: skip
        body = AlertBody(
            source="t", severity=severity, kind=Kind.COST, summary=f"{name} is dear", description="", labels={}
        )
        applied = apply(
            self.group, self.members.get(name), told, body, log_id="log", receiver="ops", config_version=1,
            reopen_window=WINDOW, now=at(seconds), strict=self.strict,
        )  # fmt: skip
        if applied is not None:
            assert self.group is None or applied.group.revision > self.group.revision
            self.group = applied.group
            self.members.pop(name, None)
            if applied.member is not None:
                self.members[name] = applied.member
            assert applied.group.members == len(self.members)
        return applied

    @property
    def now(self) -> GroupState:
        assert self.group is not None
        return self.group


def names(applied: Applied | None) -> list[str]:
    assert applied is not None
    return [event.name for event in applied.events]


def test_the_first_firing_opens_it() -> None:
    story = Story()
    assert names(story.tell("a", Change.FIRED, 0)) == ["opened", "alert fired"]
    now = story.now
    assert (now.status, now.title, now.kind, now.opened_at) == (IncidentStatus.OPEN, "a is dear", Kind.COST, T0)
    assert story.members["a"].incident_id == now.incident_id


def test_the_last_end_resolves_it_and_no_earlier_one() -> None:
    story = Story()
    story.tell("a", Change.FIRED, 0)
    story.tell("b", Change.FIRED, 1)
    assert names(story.tell("a", Change.RESOLVED, 2)) == ["alert resolved"]
    assert story.now.active
    assert names(story.tell("b", Change.RESOLVED, 3)) == ["alert resolved", "resolved"]
    assert (story.now.status, story.now.resolved_at) == (IncidentStatus.RESOLVED, at(3))


def test_it_is_not_over_before_it_began_whatever_word_comes_last() -> None:
    story = Story()
    story.tell("a", Change.FIRED, 5)
    story.tell("b", Change.FIRED, 1)
    story.tell("a", Change.RESOLVED, 6)
    story.tell("b", Change.RESOLVED, 2)
    assert (story.now.opened_at, story.now.resolved_at) == (at(5), at(5))


def test_a_timeout_resolves_it_and_says_so() -> None:
    story = Story()
    story.tell("a", Change.FIRED, 0)
    assert names(story.tell("a", Change.RESOLVED, 9, by_timeout=True)) == ["alert timed out", "resolved"]


@pytest.mark.parametrize(("later", "reopens"), [(0, True), (300, True), (301, False)])
def test_a_firing_soon_after_reopens_it_and_a_later_one_opens_its_successor(later: float, reopens: bool) -> None:
    story = Story()
    story.tell("a", Change.FIRED, 0)
    story.tell("a", Change.RESOLVED, 10)
    first = story.now.incident_id
    events = names(story.tell("b", Change.FIRED, 10 + later))
    assert events[0] == ("reopened" if reopens else "opened")
    assert (story.now.incident_id == first) == reopens
    assert (story.now.predecessor_id, story.now.reopened) == (("", 1) if reopens else (first, 0))
    assert (story.now.active, story.now.resolved_at) == (True, None)


def test_its_severity_is_that_of_the_worst_firing_alert() -> None:
    story = Story()
    seen = []
    for name, change, severity in (
        ("a", Change.FIRED, Severity.WARNING), ("b", Change.FIRED, Severity.CRITICAL),
        ("c", Change.FIRED, Severity.INFO), ("b", Change.CHANGED, Severity.ERROR),
        ("b", Change.RESOLVED, Severity.ERROR), ("a", Change.LEFT, Severity.WARNING),
        ("c", Change.RESOLVED, Severity.INFO),
    ):  # fmt: skip
        story.tell(name, change, 1, severity)
        seen.append(story.now.severity)
    assert seen == ["warning", "critical", "critical", "error", "warning", "info", "info"]


def test_what_is_not_newer_changes_nothing() -> None:
    story = Story()
    story.tell("a", Change.FIRED, 0, revision=7)
    assert story.tell("a", Change.RESOLVED, 1, revision=7) is None
    assert story.tell("a", Change.FIRED, 1, revision=6) is None
    assert story.tell("b", Change.LEFT, 1) is None
    assert Story().tell("a", Change.RESOLVED, 0) is None


def test_a_firing_alert_that_leaves_takes_along_what_was_told_of_it() -> None:
    story = Story()
    story.tell("a", Change.FIRED, 0)
    story.tell("b", Change.FIRED, 0)
    assert story.group is not None
    story.group = _told(story.group, ("a:1", "b:1"))
    story.tell("a", Change.LEFT, 1)
    assert story.now.told["ops/0"].firing == ("b:1",)
    assert names(story.tell("b", Change.LEFT, 2)) == ["alert left", "resolved"]
    assert story.members == {}


def test_an_end_of_what_never_fired_joins_a_group_that_is_there_and_in_alertmanagers_mode_begins_one() -> None:
    story = Story()
    assert story.tell("a", Change.RESOLVED, 0) is None
    story.tell("a", Change.FIRED, 1)
    assert names(story.tell("b", Change.RESOLVED, 2)) == ["alert resolved"]
    assert (story.members["b"].firing, story.now.active) == (False, True)
    alone = Story(strict=True)
    alone.tell("a", Change.RESOLVED, 0)
    assert (alone.now.incident_id, alone.now.active) == ("", False)
    assert names(alone.tell("a", Change.FIRED, 1, occurrence=2))[:2] == ["opened", "alert fired"]


def test_it_counts_how_often_an_alert_fired_again_before_it_was_told() -> None:
    story = Story()
    for occurrence in (1, 2, 3):
        story.tell("a", Change.FIRED, occurrence, occurrence=occurrence)
        story.tell("a", Change.RESOLVED, occurrence)
    applied = story.tell("a", Change.FIRED, 9, occurrence=4)
    assert applied is not None
    assert applied.events[-1] == Event("flapping", {"alert": "a", "times": 3})
    assert story.members["a"].flaps == 3


def _told(group: GroupState, firing: tuple[str, ...]) -> GroupState:
    return msgspec.structs.replace(group, told={"ops/0": Told(firing, (), T0)})


def test_an_ended_alert_that_leaves_waits_until_its_end_is_told() -> None:
    story = Story()
    story.tell("a", Change.FIRED, 0)
    story.tell("a", Change.RESOLVED, 1)
    story.tell("a", Change.LEFT, 2)
    assert not story.members["a"].firing


def test_an_alert_that_fires_again_is_a_new_occurrence_in_the_same_group() -> None:
    story = Story()
    story.tell("a", Change.FIRED, 0)
    story.tell("a", Change.RESOLVED, 1)
    assert names(story.tell("a", Change.FIRED, 2, occurrence=2)) == ["reopened", "alert fired", "flapping"]
    assert (story.members["a"].occurrence, sum(story.now.firing)) == (2, 1)
