"""After a break, whatever clocks and watchers did meanwhile, everything has its time again."""

from datetime import UTC, datetime, timedelta

import pytest

from agents.rules.heartbeat import watched

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOON - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("looked", "since_now", "back"),
    [
        pytest.param(1, False, False, id="a moment ago"),
        pytest.param(300, True, False, id="five minutes without anybody looking"),
        pytest.param(3600, True, False, id="or the clock was set an hour ahead"),
        pytest.param(-7200, True, True, id="the clock was set two hours back"),
        pytest.param(-3, False, False, id="a little back"),
    ],
)
def test_a_break_in_watching_starts_it_anew(looked: float, since_now: bool, back: bool) -> None:
    watch = watched(ago(looked), ago(9999), NOON)
    assert (watch.since_at == NOON, watch.turned_back) == (since_now, back)
