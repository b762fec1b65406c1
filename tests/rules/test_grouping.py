"""A group is flushed when, as and to whom Alertmanager would."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from agents.rules.grouping import Flush, first_flush_at, flush, heard, pending
from agents.rules.incident import GroupState, Member, told_as
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


def reasons(after: Flush) -> dict[int, Reason]:
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
