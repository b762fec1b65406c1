"""A route is closed inside its mute intervals and outside its active ones."""

from datetime import UTC, datetime

import pytest

from agents.rules.times import closed_by
from streams.rules_config import load

RULES = """
route: {{receiver: r, routes: [{{receiver: r, matchers: [a="1"], {how}}}]}}
receivers: [{{name: r}}]
time_intervals:
  - {{name: night, time_intervals: [{{times: [{{start_time: "00:00", end_time: "06:00"}}]}}]}}
  - {{name: noon, time_intervals: [{{times: [{{start_time: "11:00", end_time: "13:00"}}]}}]}}
"""


@pytest.mark.parametrize(
    ("how", "hour", "by"),
    [
        ("mute_time_intervals: [night]", 3, ("night",)),
        ("mute_time_intervals: [night]", 6, ()),
        ("mute_time_intervals: [noon, night]", 12, ("noon",)),
        ("active_time_intervals: [night]", 3, ()),
        ("active_time_intervals: [night]", 9, ("night",)),
        ("active_time_intervals: [noon, night]", 9, ("night", "noon")),
        ("active_time_intervals: [noon, night]", 12, ()),
        ("active_time_intervals: [noon], mute_time_intervals: [noon]", 12, ("noon",)),
        ("active_time_intervals: [noon], mute_time_intervals: [night]", 3, ("night", "noon")),
        ("group_by: [a]", 3, ()),
    ],
)
def test_closed(how: str, hour: int, by: tuple[str, ...]) -> None:
    config = load(RULES.format(how=how))
    [route] = config.route.routes
    now = datetime(2026, 1, 1, hour, tzinfo=UTC)
    assert closed_by(config.time_intervals, route, now) == by
    assert closed_by({}, route, now) == ()
