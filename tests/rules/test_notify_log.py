"""The decision table of the notification log."""

from datetime import UTC, datetime, timedelta

import pytest

from agents.rules.notify_log import MAINTENANCE, RETENTION, Pending, Reason, Told, in_force, told_of, why_notify

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REPEAT = timedelta(hours=4)


def told(firing: str = "", resolved: str = "", ago: timedelta = timedelta(minutes=5)) -> Told:
    return Told(tuple(firing), tuple(resolved), NOW - ago)


@pytest.mark.parametrize(
    ("entry", "firing", "resolved", "send_resolved", "reason"),
    [
        pytest.param(None, "", "", True, None, id="nothing was said and there is nothing to say"),
        pytest.param(None, "a", "", True, Reason.FIRST, id="the first firing is told"),
        pytest.param(None, "", "a", True, None, id="a recovery that nobody heard the start of is not announced"),
        pytest.param(told("a"), "ab", "", True, Reason.NEW_ALERTS, id="a firing that is not in the entry is new"),
        pytest.param(told("", "a"), "b", "", True, Reason.FIRST, id="a firing after an entry without one is first"),
        pytest.param(told("a"), "", "a", True, Reason.ALL_RESOLVED, id="the last end is told"),
        pytest.param(told("a"), "", "a", False, Reason.ALL_RESOLVED, id="the last end is logged even if not sent"),
        pytest.param(told("ab"), "a", "b", True, Reason.SOME_RESOLVED, id="an end that is not in the entry is told"),
        pytest.param(told("ab"), "a", "b", False, None, id="an end among firings waits where ends are not wanted"),
        pytest.param(told("a"), "a", "", True, None, id="nothing changed, and the entry is young"),
        pytest.param(told("a", ago=REPEAT + timedelta(seconds=1)), "a", "", True, Reason.REPEAT, id="it is repeated"),
        pytest.param(told("a", ago=REPEAT), "a", "", True, None, id="exactly the repeat interval is not over it"),
        pytest.param(told("", "a", ago=2 * REPEAT), "", "a", True, None, id="an end is never repeated"),
        pytest.param(told("ab", "", ago=2 * REPEAT), "a", "b", False, Reason.REPEAT, id="a repeat needs no end"),
    ],
)
def test_an_integration_is_told_for_these_reasons(
    entry: Told | None, firing: str, resolved: str, send_resolved: bool, reason: Reason | None
) -> None:
    why = why_notify(
        entry, firing=firing, resolved=resolved, send_resolved=send_resolved, repeat_interval=REPEAT, now=NOW
    )
    assert why is reason


def owing(*names: str, ago: timedelta = timedelta(minutes=5)) -> Told:
    return Told((), (), NOW - ago, names)


def test_an_end_that_is_owed_is_told_even_where_the_entry_no_longer_fires() -> None:
    for resolved, reason in (("a:1", Reason.ALL_RESOLVED), ("b:1", None)):
        why = why_notify(
            owing("a:1"), firing=(), resolved=(resolved,), send_resolved=True, repeat_interval=REPEAT, now=NOW
        )
        assert why is reason


@pytest.mark.parametrize(
    ("ago", "repeat", "counts"),
    [
        pytest.param(2 * REPEAT, REPEAT, True, id="for twice the repeat interval"),
        pytest.param(2 * REPEAT + MAINTENANCE + timedelta(seconds=1), REPEAT, False, id="no longer than until cleared"),
        pytest.param(RETENTION, timedelta(days=30), True, id="for the retention"),
        pytest.param(
            RETENTION + MAINTENANCE + timedelta(seconds=1), timedelta(days=30), False,
            id="a repeat interval beyond the retention leads to a duplicate",
        ),
    ],
)  # fmt: skip
def test_an_entry_counts(ago: timedelta, repeat: timedelta, counts: bool) -> None:
    entry = in_force(told("a", ago=ago), repeat, NOW)
    assert (entry is not None) == counts
    why = why_notify(entry, firing=("a",), resolved=(), send_resolved=True, repeat_interval=timedelta(days=31), now=NOW)
    assert why is (None if counts else Reason.FIRST)


def test_what_has_run_out_still_owes_the_ends_of_what_it_told() -> None:
    entry = in_force(Told(("a:1",), (), NOW - timedelta(days=9), ("a:1",)), REPEAT, NOW)
    assert entry == Told((), (), NOW - timedelta(days=9), ("a:1",))


@pytest.mark.parametrize(
    ("before", "firing", "resolved", "owed"),
    [
        pytest.param(None, ("a:1",), (), ("a:1",), id="a firing that is told owes its end"),
        pytest.param(("a:1",), (), ("a:1",), (), id="an end that is told is owed no more"),
        pytest.param(("a:1",), ("b:1",), (), ("a:1", "b:1"), id="what this notice left out is owed as before"),
        pytest.param(("a:1",), ("a:2",), (), ("a:2",), id="a new occurrence takes the place of the earlier"),
    ],
)
def test_after_a_success_there_is_owed(
    before: tuple[str, ...] | None, firing: tuple[str, ...], resolved: tuple[str, ...], owed: tuple[str, ...]
) -> None:
    entry = Told((), (), NOW, before) if before is not None else None
    assert told_of(entry, Pending(1, "t", firing, resolved, NOW), NOW) == Told(firing, resolved, NOW, owed)
