"""The mix is what it says: seeded, shared out as stated, uneven in who repeats."""

from collections import Counter
from datetime import UTC, datetime
from itertools import islice

import pytest

from loadtests.bad import Fault, body_with
from loadtests.mixes import SAMPLE, STANDARD, Event, Intent, Mix, Shares, body, list_body
from loadtests.plan import LoadPlan, Shape, Via
from loadtests.shapes import due_times
from loadtests.storm import MESSAGES, sample_storm
from streams.intake import parse_own
from streams.records import Alert, Rejected
from streams.settings import Settings

AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
EVENTS = 20_000


def events_of(seed: int = 5, shares: Shares = STANDARD, count: int = EVENTS) -> list[Event]:
    mix = Mix("run", seed, shares)
    return [mix.next() for _ in range(count)]


def test_the_same_seed_gives_the_same_events_and_another_seed_does_not() -> None:
    assert events_of(count=500) == events_of(count=500)
    assert events_of(count=500) != events_of(seed=6, count=500)


@pytest.mark.parametrize("seed", range(4))
def test_the_standard_mix_has_a_fifth_of_new_alerts_and_a_twentieth_of_resolves(seed: int) -> None:
    events = events_of(seed)
    first_seen = len({event.identity for event in events})
    resolves = sum(event.intent is Intent.RESOLVE for event in events)
    assert first_seen >= 0.2 * EVENTS
    assert resolves >= 0.05 * EVENTS


def test_each_share_is_kept_within_a_hundredth() -> None:
    counts = Counter(event.intent for event in events_of(shares=SAMPLE))
    for intent, share in (
        (Intent.NEW, SAMPLE.new),
        (Intent.RESOLVE, SAMPLE.resolve),
        (Intent.CHANGE, SAMPLE.change),
        (Intent.COPY, SAMPLE.copy),
        (Intent.BAD, SAMPLE.bad),
    ):
        assert counts[intent] / EVENTS == pytest.approx(share, abs=0.01), intent


def test_few_identities_make_most_of_the_repeats() -> None:
    repeats = Counter(event.identity for event in events_of() if event.intent is Intent.REPEAT)
    ordered = [count for _, count in repeats.most_common()]
    tenth = sum(ordered[: len(ordered) // 10])
    assert tenth > 0.6 * sum(ordered)


def test_only_what_fires_is_resolved_and_only_what_does_not_fire_is_new() -> None:
    firing: set[int] = set()
    for event in events_of():
        match event.intent:
            case Intent.NEW:
                assert event.identity not in firing
                firing.add(event.identity)
            case Intent.RESOLVE:
                firing.remove(event.identity)
            case _:
                assert event.identity in firing


def test_a_copy_has_the_event_id_of_the_event_before_and_every_other_event_its_own() -> None:
    seen: set[str] = set()
    copies = 0
    for event in events_of(shares=SAMPLE):
        if event.intent is Intent.COPY:
            assert event.event_id in seen
            copies += 1
        else:
            assert event.event_id not in seen
        seen.add(event.event_id)
    assert copies


def test_intake_takes_every_good_message_with_its_send_time_and_identity() -> None:
    identities: dict[int, str] = {}
    for event in events_of(count=2000):
        (item,) = parse_own(body(event, AT), accepted_at=AT, limits=Settings(), header_event_id=event.event_id).items
        assert isinstance(item, Alert)
        assert item.event_id == event.event_id
        assert (item.starts_at if item.firing else item.ends_at) == AT
        assert item.firing is (event.intent is not Intent.RESOLVE)
        assert identities.setdefault(event.identity, item.identity) == item.identity
    assert len(set(identities.values())) == len(identities)


def test_intake_takes_a_list_with_the_event_id_of_each() -> None:
    events = events_of(count=10)
    items = parse_own(list_body(events, AT), accepted_at=AT, limits=Settings()).items
    assert [item.event_id for item in items] == [event.event_id for event in events]


@pytest.mark.parametrize("fault", list(Fault))
def test_intake_refuses_each_fault_as_one_event(fault: Fault) -> None:
    parsed = parse_own(body_with(fault, "run", 1), accepted_at=AT, limits=Settings(), header_event_id="run-1")
    (item,) = parsed.items
    assert isinstance(item, Rejected)
    assert item.event_id == "run-1"
    assert item.reason


def test_the_sample_storm_has_enough_of_everything() -> None:
    storm = sample_storm("demo")
    counts = Counter(event.intent for event in storm)
    assert MESSAGES - counts[Intent.BAD] >= 5000
    assert all(counts[intent] >= 20 for intent in Intent)
    assert storm[-1].intent is Intent.RESOLVE
    kinds = {event.alert.kind for event in storm if event.alert is not None}
    assert {"rate_limit", "cost", "latency", "hallucination", "prompt_injection"} <= kinds
    assert any(len(event.raw) > Settings().max_message_bytes for event in storm)


@pytest.mark.parametrize(("new", "resolve", "bad"), [(0.0, 0.1, 0.1), (0.8, 0.1, 0.3), (0.2, -0.1, 0.1)])
def test_shares_that_cannot_be_are_refused(new: float, resolve: float, bad: float) -> None:
    with pytest.raises(ValueError, match="shares"):
        Shares(new=new, resolve=resolve, bad=bad)


@pytest.mark.parametrize("shape", [Shape.STEADY, Shape.POISSON])
def test_arrivals_keep_the_rate_whatever_the_batch(shape: Shape) -> None:
    plan = LoadPlan(rate=1000, seconds=20, batch=4, shape=shape)
    due = list(due_times(plan))
    assert due == sorted(due)
    assert due[-1] < plan.seconds
    assert len(due) * plan.batch == pytest.approx(plan.rate * plan.seconds, rel=0.05)


def test_a_storm_brings_four_times_the_rate_in_the_middle_fifth() -> None:
    plan = LoadPlan(rate=1000, seconds=10, shape=Shape.STORM)
    per_second = Counter(int(due) for due in due_times(plan))
    assert per_second[1] == pytest.approx(1000, rel=0.01)
    assert per_second[5] == pytest.approx(4000, rel=0.01)


def test_both_ways_share_the_rate_and_no_identity() -> None:
    plan = LoadPlan(via=Via.BOTH, run="run")
    amqp, http = plan.half(Via.AMQP), plan.half(Via.HTTP)
    assert amqp.rate + http.rate == plan.rate
    assert amqp.run != http.run
    assert amqp.run.startswith("run")
    assert list(islice(due_times(amqp), 3)) == list(islice(due_times(http), 3))
