"""The decision table of the notification log."""

from datetime import UTC, datetime, timedelta

import pytest

from agents.rules.notify_log import Reason, Told, why_notify

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
