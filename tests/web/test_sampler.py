from datetime import UTC, datetime

from sinks.progress_reads import OpenIncidents, Totals
from web.live import Sampler, event

AT = datetime(2026, 1, 1, tzinfo=UTC)
OPEN = OpenIncidents(critical=1, warning=2, acknowledged=1)


def test_a_rate_needs_two_readings_and_follows_the_sums() -> None:
    sampler = Sampler()
    assert sampler.add(Totals(received=100), OPEN, AT, 10.0).point is None
    point = sampler.add(Totals(received=300, duplicate=150), OPEN, AT, 12.0).point
    assert point is not None
    assert (point.received, point.folded, point.open) == (100.0, 75.0, 3)


def test_an_outage_leaves_a_hole_and_not_a_peak() -> None:
    sampler = Sampler()
    sampler.add(Totals(received=100), OPEN, AT, 10.0)
    sampler.interrupt()
    assert sampler.add(Totals(received=9000), OPEN, AT, 70.0).point is None


def test_sums_that_began_anew_are_no_negative_rate() -> None:
    sampler = Sampler()
    sampler.add(Totals(received=100), OPEN, AT, 10.0)
    point = sampler.add(Totals(received=5), OPEN, AT, 11.0).point
    assert point is not None
    assert point.received == 0


def test_an_event_carries_its_cursor_as_id() -> None:
    assert event("changed", [1], AT) == b"event: changed\nid: 1767225600000000\ndata: [1]\n\n"
