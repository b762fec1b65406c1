"""A group is flushed when, as and to whom Alertmanager would."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from agents.rules.group_state import GroupState, Member, told_as
from agents.rules.grouping import SWEEP, Flush, after_outcome, first_flush_at, flush, heard, joined, pending, reloaded
from agents.rules.notify_log import Reason, Told
from streams.records import IncidentStatus, Kind, Severity
from streams.rules_config import load

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
CONFIG = load("""
route: {receiver: ops, group_wait: 30s, group_interval: 5m, repeat_interval: 12m}
receivers:
  - name: ops
    webhook_configs: [{url: "http://one.example/"}, {url: "http://two.example/", send_resolved: false}]
""")
ROUTE, OPS = CONFIG.route, CONFIG.receivers["ops"]


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def group(**changed: Any) -> GroupState:
    return msgspec.structs.replace(
        GroupState(
            team="default", route=ROUTE.id, labels={}, receiver="ops", config_version=0, revision=1, incident_id="i",
            status=IncidentStatus.OPEN, severity=Severity.ERROR, kind=Kind.OTHER, title="t", description="",
            opened_at=T0, updated_at=T0,
        ),
        **changed,
    )  # fmt: skip


def member(name: str, *, firing: bool = True, occurrence: int = 1) -> Member:
    return Member(
        identity=name, fingerprint=name, occurrence=occurrence, revision=1, firing=firing, severity=Severity.ERROR,
        starts_at=T0, ends_at=None if firing else at(1), joined_at=T0, incident_id="i", body=b"",
    )  # fmt: skip


def flushed(known: GroupState, members: Sequence[Member], minutes: float) -> Flush:
    return flush(known, members, ROUTE, OPS, now=at(minutes))


def sent(after: Flush, members: Sequence[Member], minutes: float, *, only: Sequence[int] = (0, 1)) -> GroupState:
    """The group once these integrations have what the flush made."""
    known = after.group
    for notice in after.notices:
        key, task = f"ops/{notice.integration.index}", f"task-{notice.decision}"
        waiting = pending(members, notice.decision, task, at(minutes))
        known = msgspec.structs.replace(known, pending={**known.pending, key: waiting})
        if notice.integration.index in only:
            told = heard(known, key, task, sent=True)
            assert told is not None
            known = told
    return known


def reasons(after: Flush) -> dict[int, str]:
    return {notice.integration.index: notice.reason for notice in after.notices}


def test_the_first_flush_waits_for_more_unless_its_alert_is_older_than_that() -> None:
    assert first_flush_at(ROUTE, T0, T0) == T0 + timedelta(seconds=30)
    assert first_flush_at(ROUTE, T0 - timedelta(seconds=30), T0) == T0 + timedelta(seconds=30)
    assert first_flush_at(ROUTE, T0 - timedelta(seconds=31), T0) == T0


def test_a_flush_tells_each_integration_and_comes_again_after_the_interval() -> None:
    after = flushed(group(), [member("a")], 0)
    assert reasons(after) == {0: Reason.FIRST, 1: Reason.FIRST}
    assert [notice.decision for notice in after.notices] == [1, 2]
    assert (after.group.next_flush_at, after.gone) == (at(5), ())


def test_nobody_gets_a_second_notice_while_one_is_under_way() -> None:
    members = [member("a")]
    known = sent(flushed(group(), members, 0), members, 0, only=[1])
    after = flushed(known, [*members, member("b")], 5)
    assert reasons(after) == {1: Reason.NEW_ALERTS}


def test_a_notice_that_failed_is_made_again_by_the_next_flush() -> None:
    members = [member("a")]
    known = sent(flushed(group(), members, 0), members, 0, only=[1])
    failed = heard(known, "ops/0", "task-1", sent=False)
    assert failed is not None
    assert reasons(flushed(failed, members, 5)) == {0: Reason.FIRST}


def test_a_resolved_alert_leaves_when_everybody_who_heard_of_it_knows() -> None:
    members = [member("a"), member("b")]
    known = sent(flushed(group(), members, 0), members, 0)
    members = [member("a"), member("b", firing=False)]
    after = flushed(known, members, 5)
    assert (reasons(after), after.gone) == ({0: Reason.SOME_RESOLVED}, ())
    assert flushed(sent(after, members, 5, only=[]), members, 10).gone == ()
    done = flushed(sent(after, members, 5), members, 10)
    assert (done.gone, done.group.members, done.notices) == (("b",), 1, ())


def test_an_alert_that_nobody_heard_of_leaves_at_once_and_its_group_counts_as_gone() -> None:
    after = flushed(group(), [member("a", firing=False)], 0)
    assert (after.notices, after.gone) == ((), ("a",))
    assert (after.group.members, after.group.next_flush_at) == (0, None)


def test_a_last_end_is_logged_where_ends_are_not_wanted_so_that_the_next_firing_is_first() -> None:
    members = [member("a")]
    known = sent(flushed(group(), members, 0), members, 0)
    over = [member("a", firing=False)]
    after = flushed(known, over, 5)
    assert reasons(after) == {0: Reason.ALL_RESOLVED}
    assert after.group.told["ops/1"] == Told((), (told_as(over[0]),), at(5))
    again = [member("a", occurrence=2)]
    assert reasons(flushed(sent(after, over, 5), again, 10)) == {0: Reason.FIRST, 1: Reason.FIRST}


def test_a_new_occurrence_is_new_even_if_its_end_was_never_told() -> None:
    members = [member("a")]
    known = sent(flushed(group(), members, 0), members, 0)
    assert reasons(flushed(known, [member("a", occurrence=2)], 5)) == {0: Reason.NEW_ALERTS, 1: Reason.NEW_ALERTS}


@pytest.mark.parametrize(("minutes", "told"), [(5, False), (10, False), (15, True)])
def test_a_repeat_is_rounded_up_to_a_flush(minutes: float, told: bool) -> None:
    members = [member("a")]
    known = sent(flushed(group(), members, 0), members, 0)
    assert reasons(flushed(known, members, minutes)) == (dict.fromkeys((0, 1), Reason.REPEAT) if told else {})


def test_an_outcome_counts_once_and_only_for_the_notice_that_is_waited_for() -> None:
    members = [member("a")]
    known = sent(flushed(group(), members, 0), members, 0, only=[])
    assert heard(known, "ops/0", "another", sent=True) is None
    once = heard(known, "ops/0", "task-1", sent=True)
    assert once is not None
    assert heard(once, "ops/0", "task-1", sent=True) is None


@pytest.mark.parametrize(
    ("known", "starts", "strict", "flush_at"),
    [
        pytest.param({}, 0, False, 0.5, id="a new group waits"),
        pytest.param({}, -5, False, 0, id="unless its alert is older than group_wait"),
        pytest.param({"next_flush_at": at(0.3)}, 0, False, 0.3, id="a group that waits goes on waiting"),
        pytest.param({"next_flush_at": at(0.3)}, -5, False, 0, id="an old alert brings its first flush on"),
        pytest.param({"next_flush_at": at(4), "flushed": True}, -5, False, 4, id="and no later one"),
        pytest.param({"next_flush_at": at(4), "flushed": True, "empty_at": at(-0.1)}, 0, True, 4,
                     id="in Alertmanager's mode an emptied group goes on ticking"),
        pytest.param({"next_flush_at": at(4), "flushed": True, "empty_at": T0 - SWEEP}, 0, True, 0.5,
                     id="until it is swept away"),
    ],
)  # fmt: skip
def test_the_next_flush_after_an_alert_joined(
    known: dict[str, Any], starts: float, strict: bool, flush_at: float
) -> None:
    alert = msgspec.structs.replace(member("a"), starts_at=at(starts))
    after = joined(group(**known), alert, ROUTE, now=T0, strict=strict)
    assert after.next_flush_at == at(flush_at)


def test_muted_alerts_are_left_out_before_the_log_is_asked_and_a_closed_route_is_silent() -> None:
    members = [member("a"), member("b")]
    assert reasons(flush(group(), members, ROUTE, OPS, now=T0, muted=True)) == {}
    after = flush(group(), members, ROUTE, OPS, now=T0, suppressed={"a"})
    assert [[m.identity for m in notice.members] for notice in after.notices] == [["b"], ["b"]]
    assert flush(group(), members, ROUTE, OPS, now=T0, suppressed={"a", "b"}).notices == ()


def test_an_end_that_is_owed_passes_what_mutes_it_but_for_alertmanagers_mode() -> None:
    members = [member("a")]
    known = sent(flushed(group(), members, 0), members, 0)
    over = [member("a", firing=False)]
    after = flush(known, over, ROUTE, OPS, now=at(5), suppressed={"a"})
    assert (reasons(after), after.gone) == ({0: Reason.ALL_RESOLVED}, ())
    closed = flush(known, over, ROUTE, OPS, now=at(5), muted=True)
    assert (closed.notices, closed.gone) == ((), ())
    assert reasons(flushed(closed.group, over, 10)) == {0: Reason.ALL_RESOLVED}
    strict = flush(group(), members, ROUTE, OPS, now=T0, strict=True)
    waiting = pending(members, 1, "t", T0, strict=True)
    there = heard(
        msgspec.structs.replace(strict.group, pending={"ops/0": waiting}), "ops/0", "t", sent=True, strict=True
    )
    assert there is not None
    lost = flush(there, over, ROUTE, OPS, now=at(5), suppressed={"a"}, strict=True)
    assert (lost.notices, lost.gone) == ((), ("a",))


def test_ended_members_leave_with_the_last_outcome_if_the_flush_had_seen_their_end() -> None:
    members = [member("a")]
    known = sent(flushed(group(), members, 0), members, 0)
    over = [msgspec.structs.replace(member("a", firing=False), seen=known.revision)]
    told = sent(flushed(known, over, 5), over, 5)
    assert after_outcome(told, over, (OPS,), now=at(5)).gone == ("a",)
    later = [msgspec.structs.replace(over[0], seen=told.revision + 5)]
    assert after_outcome(told, later, (OPS,), now=at(5)).gone == ()


def test_a_flush_that_fell_due_while_a_notice_was_under_way_comes_at_once_after_it_in_alertmanagers_mode() -> None:
    members = [member("a")]
    known = sent(flush(group(), members, ROUTE, OPS, now=T0, strict=True), members, 0, only=[])
    held = flush(known, [*members, member("b")], ROUTE, OPS, now=at(5), strict=True)
    assert (held.notices, held.group.held_up) == ((), True)
    ended = held.group
    for key, task in (("ops/0", "task-1"), ("ops/1", "task-2")):
        told = heard(ended, key, task, sent=True, strict=True)
        assert told is not None
        ended = told
    assert after_outcome(ended, members, (OPS,), now=at(7), strict=True).group.next_flush_at == at(7)


@pytest.mark.parametrize("others", [[], [member("b")]])
def test_what_could_not_be_told_and_ended_is_told_once_however_often_that_fails(others: list[Member]) -> None:
    members = [member("a")]
    known = sent(flushed(group(), members, 0), members, 0, only=[1])
    failed = heard(known, "ops/0", "task-1", sent=False)
    over = [member("a", firing=False), *others]
    for minutes in (5, 10, 15):
        assert failed is not None
        after = flushed(failed, over, minutes)
        notice = next(one for one in after.notices if one.integration.index == 0)
        assert (notice.reason, after.gone) == (Reason.FIRST if others else Reason.MISSED, ())
        assert "a" in {m.identity for m in notice.members}
        failed = heard(sent(after, over, minutes, only=[1]), "ops/0", f"task-{notice.decision}", sent=False)
    assert failed is not None
    after = flushed(failed, over, 20)
    told = sent(after, over, 20)
    assert after_outcome(told, over, (OPS,), now=at(20)).gone == ("a",)
    assert "a" not in {name.partition(":")[0] for names in told.missed.values() for name in names}
    assert 0 not in reasons(flushed(told, others, 25))


def test_a_reload_in_alertmanagers_mode_tells_old_groups_at_once_and_young_ones_after_their_wait() -> None:
    old, young = member("a"), msgspec.structs.replace(member("a"), starts_at=at(10))
    known = group(next_flush_at=at(14), flushed=True)
    assert reloaded(known, [old], ROUTE, now=at(10)).next_flush_at == at(10)
    assert reloaded(known, [young], ROUTE, now=at(10)).next_flush_at == at(10.5)
    assert reloaded(known, [], ROUTE, now=at(10)).next_flush_at is None


@pytest.mark.parametrize("flapping", [0, 1])
def test_the_end_of_a_firing_that_nobody_heard_of_ends_the_one_that_was_told(flapping: int) -> None:
    told = {"ops/0": Told((), ("b:1",), at(1), owed=("a:1",))}
    known = group(flushed=True, members=1, flapping=flapping, told=told)
    after = flushed(known, [member("a", firing=False, occurrence=2)], 5)
    assert reasons(after) == {0: Reason.ALL_RESOLVED}


def test_former_receivers_hear_of_the_ends_that_are_owed_to_them_and_of_nothing_else() -> None:
    members = [member("a"), member("b")]
    known = sent(flushed(group(), members, 0), members, 0)
    desk = msgspec.structs.replace(OPS, name="desk")
    still = flush(known, members, ROUTE, desk, now=at(5), former=(OPS,))
    assert {notice.receiver for notice in still.notices} == {"desk"}
    over = [member("a", firing=False), member("b")]
    after = flush(known, over, ROUTE, desk, now=at(5), former=(OPS,))
    owed = [notice for notice in after.notices if notice.receiver == "ops"]
    assert [([m.identity for m in notice.members], notice.integration.index) for notice in owed] == [(["a"], 0)]
    assert len({notice.decision for notice in after.notices}) == len(after.notices)


@pytest.mark.parametrize("receiver", ["ops", "desk"])
def test_who_heard_of_a_firing_hears_of_the_end_of_the_next_that_was_muted_or_told_to_others(receiver: str) -> None:
    members = [member("a")]
    known = sent(flushed(group(), members, 0), members, 0)
    over = [msgspec.structs.replace(member("a", firing=False), occurrence=members[0].occurrence + 1)]
    now = msgspec.structs.replace(OPS, name=receiver)
    after = flush(known, over, ROUTE, now, now=at(5), suppressed={"a"}, former=(OPS,) if receiver == "desk" else ())
    owed = [notice for notice in after.notices if notice.receiver == "ops" and notice.integration.index == 0]
    assert [(notice.reason, [m.identity for m in notice.members]) for notice in owed] == [("all resolved", ["a"])]
    assert after.gone == ()
    told = sent(after, over, 5)
    assert after_outcome(told, over, (OPS,), now=at(5)).gone == ("a",)


def test_what_a_former_receiver_missed_keeps_no_alert() -> None:
    known = group(missed={"ops/0": ("a:1",)}, flushed=True)
    over = [member("a", firing=False)]
    desk = msgspec.structs.replace(OPS, name="desk", integrations=())
    assert flush(known, over, ROUTE, desk, now=at(5), former=(OPS,)).gone == ("a",)
    assert flush(known, over, ROUTE, OPS, now=at(5)).gone == ()
    assert flush(known, [msgspec.structs.replace(over[0], left=True)], ROUTE, OPS, now=at(5)).gone == ("a",)
