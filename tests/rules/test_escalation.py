"""Who is told next while nobody acts: the clock of an incident, moved by hand."""

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from agents.rules import escalation
from agents.rules.escalation import Escalation, Phase, Rules, Standing, Telling
from streams.records import Severity
from streams.rules_config import load

FILE: Final = """\
route: {receiver: desk, group_by: [service]}
receivers:
  - {name: desk, webhook_configs: [{url: 'http://h.example/desk'}]}
  - {name: boss, webhook_configs: [{url: 'http://h.example/boss'}]}
incidents:
  people:
    ada: {webhook_configs: [{url: 'http://h.example/ada'}]}
    bob:
      webhook_configs: [{url: 'http://h.example/bob'}]
      time_zone: Europe/Berlin
      quiet_hours: [{from: "22:00", until: "07:00"}]
  policies:
    on-call:
      steps:
        - targets: [{person: ada}]
        - {delay: 10m, targets: [{person: ada}, {person: bob}]}
        - {delay: 15m, targets: [{receiver: boss}]}
      repeat: {times: 1, after: 20m}
  escalation:
    - {policy: none, severities: [info]}
    - {policy: on-call}
"""
T0: Final = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
OPEN: Final = Standing(True, "", {"service": "chat"}, "desk", Severity.ERROR)
CRITICAL: Final = OPEN._replace(severity=Severity.CRITICAL)
ACKED: Final = OPEN._replace(stopped_by="acknowledged")
OVER: Final = OPEN._replace(active=False)


def rules(text: str = FILE) -> Rules:
    ours = load(text).ours
    return Rules(ours.escalations, ours.people)


RULES: Final = rules()


def at(minutes: float, start: datetime = T0) -> datetime:
    return start + timedelta(minutes=minutes)


class Clock:
    """One incident's escalation, from its start on, and what it told: (minute, target, step, round)."""

    def __init__(self, start: datetime = T0, standing: Standing = OPEN, known: Rules = RULES) -> None:
        self.start, self.standing, self.rules = start, standing, known
        self.told: list[tuple[float, str, int, int]] = []
        self.withheld: list[tuple[float, str, str]] = []
        self.said: list[str] = []
        self.state: Escalation | None = None
        self.change(0, standing)

    @property
    def at(self) -> Escalation:
        assert self.state is not None
        return self.state

    def change(self, minute: float, standing: Standing) -> None:
        """The incident changes; what is due before is told first."""
        self.run(minute)
        self.standing = standing
        self.state, said = escalation.followed(self.state, standing, self.rules, at(minute, self.start))
        self.said += [said] if said else []

    def run(self, minute: float, muted: str = "") -> "Clock":
        """Let time pass up to a minute, without it."""
        while self.state is not None and (due := self.state.due_at) is not None and due < at(minute, self.start):
            done = escalation.advanced(self.state, self.standing, self.rules, due, muted=muted)
            now = (due - self.start) / timedelta(minutes=1)
            self.told += [(now, one.target, one.step, one.round) for one in done.tellings]
            self.withheld += [(now, one.target, one.reason) for one in done.withheld]
            self.said += [done.said] if done.said else []
            self.state = done.state
        return self

    def targets(self) -> list[tuple[float, str]]:
        return [(minute, target) for minute, target, _, _ in self.told]


def test_the_steps_follow_each_other_and_are_gone_through_again() -> None:
    clock = Clock().run(1000)
    assert clock.told == [
        (0, "@ada", 1, 1), (10, "@ada", 2, 1), (10, "@bob", 2, 1), (25, "boss", 3, 1),
        (45, "@ada", 1, 2), (55, "@ada", 2, 2), (55, "@bob", 2, 2), (70, "boss", 3, 2),
    ]  # fmt: skip
    assert clock.at.phase is Phase.DONE
    assert clock.at.told == ("@ada", "@bob", "boss")
    assert clock.said == ["begins", "has told every step"]


@pytest.mark.parametrize(
    ("start", "ends"),
    [
        # At 01:30 in Berlin half an hour before the clock leaps to three, and before it goes back to two.
        ("2026-03-29T00:30+00:00", "2026-03-29T05:00+00:00"),
        ("2026-10-25T00:30+00:00", "2026-10-25T06:00+00:00"),
    ],
)
def test_an_hour_of_escalation_over_a_change_of_the_clocks(start: str, ends: str) -> None:
    began = datetime.fromisoformat(start)
    clock = Clock(began).run(1000)
    bob = (datetime.fromisoformat(ends) - began) / timedelta(minutes=1)
    assert clock.targets() == [
        (0, "@ada"), (10, "@ada"), (25, "boss"), (45, "@ada"), (55, "@ada"), (70, "boss"), (bob, "@bob"),
    ]  # fmt: skip
    assert clock.told[-1][2:] == (2, 1)
    assert [(minute, target) for minute, target, _ in clock.withheld] == [(10, "@bob"), (55, "@bob")]
    assert clock.withheld[0][2] == f"quiet hours until {ends[:10]} {ends[11:16]} UTC"


def test_what_is_critical_wakes_people() -> None:
    night = datetime(2026, 3, 2, 23, 0, tzinfo=UTC)
    clock = Clock(night, CRITICAL).run(11)
    assert clock.targets() == [(0, "@ada"), (10, "@ada"), (10, "@bob")]
    risen = Clock(night).run(12)
    assert risen.targets() == [(0, "@ada"), (10, "@ada")]
    risen.change(12, CRITICAL)
    assert risen.run(13).told[-1] == (12, "@bob", 2, 1)


def test_a_person_who_waits_for_the_morning_is_told_once_of_what_goes_on() -> None:
    night = datetime(2026, 3, 3, 5, 45, tzinfo=UTC)  # 06:45 in Berlin: step 2 comes at 06:55, its repeat at 07:40
    clock = Clock(night).run(200)
    assert [entry for entry in clock.targets() if entry[1] == "@bob"] == [(15, "@bob"), (55, "@bob")]
    slept = Clock(night)
    slept.change(12, ACKED)
    assert "@bob" not in {target for _, target in slept.run(200).targets()}


def test_acknowledging_stops_the_clock_and_taking_that_back_starts_it_where_it_stood() -> None:
    clock = Clock()
    clock.change(6, ACKED)
    clock.run(500)
    assert clock.targets() == [(0, "@ada")]
    assert clock.at.due_at is None
    clock.change(500, OPEN)
    clock.run(520)
    assert clock.told[1:] == [(504, "@ada", 2, 1), (504, "@bob", 2, 1), (519, "boss", 3, 1)]
    assert clock.said == ["begins", "is stopped: acknowledged", "goes on"]


def test_what_was_acknowledged_after_all_steps_begins_anew() -> None:
    clock = Clock().run(100)
    clock.change(100, ACKED)
    clock.change(200, OPEN)
    assert clock.run(201).told[-1] == (200, "@ada", 1, 1)
    assert clock.at.run == 2


def test_the_end_ends_it_and_a_reopened_incident_begins_anew() -> None:
    clock = Clock()
    clock.change(12, OVER)
    clock.run(100)
    assert clock.at.phase is Phase.ENDED
    clock.change(100, OPEN)
    clock.run(111)
    assert clock.targets()[3:] == [(100, "@ada"), (110, "@ada"), (110, "@bob")]
    assert clock.at.run == 2


def test_acknowledged_when_it_ends_it_stays_quiet_until_it_is_reopened() -> None:
    clock = Clock()
    clock.change(1, ACKED)
    clock.change(2, OVER)
    clock.change(3, ACKED)
    assert clock.run(100).targets() == [(0, "@ada")]


def test_nobody_is_told_of_what_has_no_policy_until_it_gets_worse() -> None:
    clock = Clock(standing=OPEN._replace(severity=Severity.INFO))
    assert clock.state is None
    clock.change(30, OPEN)
    assert clock.run(31).targets() == [(30, "@ada")]
    clock.change(31, OPEN._replace(severity=Severity.INFO))
    assert clock.run(41).targets()[1:] == [(40, "@ada"), (40, "@bob")]


def test_nothing_is_told_before_the_first_flush() -> None:
    clock = Clock(standing=OPEN._replace(flush_at=at(0.5)))
    assert clock.run(11).targets() == [(0.5, "@ada"), (10.5, "@ada"), (10.5, "@bob")]


def test_while_all_of_it_is_muted_a_step_waits() -> None:
    clock = Clock().run(10)
    clock.run(13.5, muted="silenced by x")
    assert clock.targets() == [(0, "@ada")]
    assert clock.said == ["begins", "waits: silenced by x"]
    clock.run(40)
    assert clock.targets()[1:] == [(14, "@ada"), (14, "@bob"), (29, "boss")]


def test_a_change_of_the_rules_keeps_the_delay_that_runs_and_tells_by_the_new_ones() -> None:
    clock = Clock().run(5)
    clock.rules = rules(
        FILE.replace("{person: ada}, {person: bob}", "{receiver: boss}").replace("delay: 15m", "delay: 1h")
    )
    clock.run(100)
    assert clock.targets()[1:] == [(10, "boss"), (70, "boss"), (90, "@ada")]


def test_a_policy_that_was_cut_short_goes_on_with_its_next_round() -> None:
    clock = Clock().run(11)
    clock.rules = rules(FILE.replace("        - {delay: 15m, targets: [{receiver: boss}]}\n", ""))
    clock.run(1000)
    assert clock.told[3:] == [(45, "@ada", 1, 2), (55, "@ada", 2, 2), (55, "@bob", 2, 2)]


def test_a_policy_that_is_gone_gives_way_to_the_one_that_the_rules_give_now() -> None:
    other = FILE.replace("on-call", "night").replace("targets: [{person: ada}]\n", "targets: [{receiver: boss}]\n")
    clock = Clock().run(5)
    clock.rules = rules(other)
    assert clock.run(11).told[1:] == [(10, "boss", 1, 1)]
    assert (clock.at.policy, clock.at.run) == ("night", 2)
    assert clock.said[-1] == "begins: the rules have no policy on-call any more"
    none = Clock().run(5)
    none.rules = rules("route: {receiver: desk}\nreceivers: [{name: desk}]\n")
    assert none.run(500).targets() == [(0, "@ada")]
    assert none.at.phase is Phase.ENDED
    assert none.said[-1] == "has ended: the rules have no policy on-call any more"


def test_a_step_that_reached_nobody_is_not_waited_for() -> None:
    state = escalation.advanced(Clock().at, OPEN, RULES, T0).state
    asked = Escalation(policy="on-call", step=2, next_at=state.next_at, asked=("a", "b"))
    one, said = escalation.answered(asked, "a", at(1), sent=False)
    assert (one.next_at, said) == (at(10), "")
    both, said = escalation.answered(one, "b", at(2), sent=False)
    assert (both.next_at, said) == (at(2), "does not wait: its last step reached nobody")
    reached, _ = escalation.answered(one, "b", at(2), sent=True)
    assert reached.next_at == at(10)
    late, _ = escalation.answered(escalation.answered(asked, "b", at(1), sent=True)[0], "a", at(2), sent=False)
    assert late.next_at == at(10)
    assert escalation.answered(asked, "c", at(1), sent=False) == (asked, "")
    # Going through all of it again waits all the same: a mistake in one address tells nobody a hundred times.
    round_two = Escalation(policy="on-call", step=1, round=2, next_at=at(45), asked=("a",))
    again, said = escalation.answered(round_two, "a", at(26), sent=False)
    assert (again.next_at, said) == (at(45), "")


def test_what_comes_next_is_known_beforehand() -> None:
    night = datetime(2026, 3, 2, 23, 0, tzinfo=UTC)
    clock = Clock(night).run(11)
    assert list(escalation.upcoming(clock.at, RULES)) == [
        (at(25, night), ("boss",), 3), (datetime(2026, 3, 3, 6, tzinfo=UTC), ("@bob",), 2),
    ]  # fmt: skip
    clock.change(12, ACKED)
    assert list(escalation.upcoming(clock.at, RULES)) == []


@pytest.mark.parametrize(
    ("telling", "reason"),
    [
        (Telling("@ada", 2, 1), "escalation step 2 of policy on-call"),
        (Telling("@ada", 1, 3, late=True), "escalation step 1 of policy on-call, round 3, after quiet hours"),
    ],
)
def test_the_notice_says_why(telling: Telling, reason: str) -> None:
    assert escalation.reason("on-call", telling) == reason
