"""Every state of an alert has an answer to every event."""

import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from agents.rules.dedup import Decided, Pulse, decide, in_row, merged, timed_out
from streams.records import Alert, Change, Verdict

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def event(firing: bool, seconds: float, *, content: str = "a", ends: float | None = None) -> Alert:
    return Alert(
        event_id="e", team="default", identity="i", content=content.encode(), firing=firing, event_at=at(seconds),
        body=b"", starts_at=at(seconds) if firing else None, ends_at=at(ends) if ends is not None else None,
    )  # fmt: skip


def judged(known: Pulse | None, alert: Alert, seconds: float, offset: int = 1) -> Decided:
    return decide(known, alert, now=at(seconds), accepted_at=at(seconds), offset=offset)


def fired(seconds: float = 0, ends: float | None = None) -> Pulse:
    return judged(None, event(True, seconds, ends=ends), seconds).pulse


def ended(seconds: float = 60) -> Pulse:
    return judged(fired(), event(False, seconds, ends=seconds), seconds).pulse


def lapsed(seconds: float = 60) -> Pulse:
    pulse = timed_out(fired(ends=seconds), due_at=at(seconds), now=at(seconds), offset=2)
    assert pulse is not None
    return pulse


@pytest.mark.parametrize(
    ("known", "alert", "now", "verdict", "tell", "firing"),
    [
        pytest.param(None, event(True, 0), 0, Verdict.NEW, Change.FIRED, True, id="a first firing is new"),
        pytest.param(
            None, event(False, 0, ends=0), 0, Verdict.RESOLVED, Change.RESOLVED, False, id="a first end is told too"
        ),
        pytest.param(fired(), event(True, 1), 1, Verdict.DUPLICATE, None, True, id="the same again is a duplicate"),
        pytest.param(
            fired(), event(True, 1, content="b"), 1, Verdict.CHANGED, Change.CHANGED, True, id="other words change it"
        ),
        pytest.param(
            fired(5), event(True, 1, content="b"), 6, Verdict.DUPLICATE, None, True, id="older words change nothing"
        ),
        pytest.param(
            fired(), event(False, 9, ends=9), 9, Verdict.RESOLVED, Change.RESOLVED, False, id="an end resolves it"
        ),
        pytest.param(fired(50), event(False, 9, ends=9), 51, Verdict.LATE, None, True, id="an end before it is late"),
        pytest.param(
            judged(fired(), event(True, 50), 50).pulse,
            event(False, 40, ends=40),
            51,
            Verdict.LATE,
            None,
            True,
            id="an end is late of which somebody knew that it fired again",
        ),
        pytest.param(
            ended(60), event(False, 60, ends=60), 61, Verdict.DUPLICATE, None, False, id="a second end is a duplicate"
        ),
        pytest.param(ended(60), event(True, 59), 61, Verdict.LATE, None, False, id="a firing before the end is late"),
        pytest.param(ended(60), event(True, 60), 61, Verdict.NEW, Change.FIRED, True, id="a firing at the end is new"),
        pytest.param(
            ended(60), event(True, 1), 661, Verdict.NEW, Change.FIRED, True, id="after ten minutes none is late"
        ),
        pytest.param(
            lapsed(60), event(True, 1), 61, Verdict.NEW, Change.FIRED, True, id="a timeout is taken back by a firing"
        ),
        pytest.param(
            lapsed(60), event(True, 1, ends=59), 61, Verdict.LATE, None, False, id="but not by one that is over"
        ),
    ],
)
def test_an_event_means(
    known: Pulse | None, alert: Alert, now: float, verdict: Verdict, tell: Change | None, firing: bool
) -> None:
    decided = judged(known, alert, now)
    assert (decided.verdict, decided.tell, decided.pulse.firing) == (verdict, tell, firing)
    if known is not None:
        same = decided.pulse.occurrence == known.occurrence
        assert same == (verdict is not Verdict.NEW)
        assert decided.pulse.count == (known.count + 1 if same else 1)
        assert (decided.pulse.revision > known.revision) == (tell is not None)


def test_a_duplicate_is_behind_its_row_from_the_first_on() -> None:
    pulse = judged(judged(fired(), event(True, 1), 1, 5).pulse, event(True, 2), 2, 6).pulse
    assert (pulse.count, pulse.row_count, pulse.dirty_from) == (3, 1, 5)
    assert (in_row(pulse, at(3)).row_count, in_row(pulse, at(3)).dirty_from) == (3, -1)


def test_a_later_end_moves_an_end_and_an_earlier_does_not() -> None:
    assert judged(ended(60), event(False, 70, ends=70), 71).pulse.ends_at == at(70)
    assert judged(ended(60), event(False, 50, ends=50), 71).pulse.ends_at == at(60)


def test_a_timeout_waits_for_its_time_and_moves_with_repeats() -> None:
    pulse = judged(fired(ends=60), event(True, 30, ends=90), 30).pulse
    assert timed_out(pulse, due_at=at(89), now=at(89), offset=9) is None
    after = timed_out(pulse, due_at=at(95), now=at(95), offset=9)
    assert after is not None
    assert (after.firing, after.ends_at, after.row_count) == (False, at(90), after.count)
    assert timed_out(after, due_at=at(99), now=at(99), offset=9) is None


def test_no_time_of_start_or_end_in_the_future_keeps_an_alert_from_ending_or_firing() -> None:
    started_ahead = decide(
        None,
        Alert(event_id="e", team="t", identity="i", content=b"", firing=True, event_at=at(0), body=b"",
              starts_at=at(10**6)),
        now=at(0), accepted_at=at(0), offset=0,
    ).pulse  # fmt: skip
    over = judged(started_ahead, event(False, 5, ends=5), 5)
    assert over.verdict is Verdict.RESOLVED
    ends_ahead = judged(fired(), event(False, 300, ends=10**6), 1).pulse
    assert judged(ends_ahead, event(True, 400), 400).verdict is Verdict.NEW


@pytest.mark.parametrize(
    ("known", "starts", "ends", "made_up", "merged_to"),
    [
        pytest.param((0, 100, False), 50, 200, False, (0, 200), id="overlapping firings keep the earliest start"),
        pytest.param((0, 100, False), 50, 80, True, (0, 100), id="an end that was given beats a made-up one"),
        pytest.param((0, 100, True), 50, 80, False, (0, 80), id="and a made-up one gives way"),
        pytest.param((0, 100, False), 150, 200, False, (150, 200), id="disjoint times are replaced"),
        pytest.param((50, 100, False), 10, 200, False, (10, 200), id="an earlier start is taken over"),
    ],
)
def test_the_times_of_two_firings_are_merged(
    known: tuple[int, int, bool], starts: int, ends: int, made_up: bool, merged_to: tuple[int, int]
) -> None:
    before = msgspec.structs.replace(fired(), starts_at=at(known[0]), timeout_at=at(known[1]), made_up=known[2])
    word = msgspec.structs.replace(event(True, 60, ends=ends), starts_at=at(starts), timeout=made_up)
    assert merged(before, word, at(60)) == (at(merged_to[0]), at(merged_to[1]))


@pytest.mark.parametrize(
    ("ends", "merged_to"),
    [
        pytest.param(55, (0, 60), id="of two ends that overlap the later counts"),
        pytest.param(65, (65, 65), id="a later end of its own replaces the earlier"),
    ],
)
def test_the_times_of_two_ends_are_merged(ends: int, merged_to: tuple[int, int]) -> None:
    before = msgspec.structs.replace(ended(60), starts_at=at(0))
    word = msgspec.structs.replace(event(False, 70, ends=ends), starts_at=None)
    assert merged(before, word, at(70)) == (at(merged_to[0]), at(merged_to[1]))


def test_in_alertmanagers_mode_arrival_decides_and_every_end_is_told() -> None:
    late = event(True, 59)
    assert judged(ended(60), late, 61).verdict is Verdict.LATE
    assert decide(ended(60), late, now=at(61), accepted_at=at(61), offset=9, strict=True).verdict is Verdict.NEW
    over = event(False, 60, ends=60)
    again = decide(ended(60), over, now=at(61), accepted_at=at(61), offset=9, strict=True)
    assert (again.verdict, again.tell) == (Verdict.DUPLICATE, Change.RESOLVED)


_LIVES = [words for length in range(2, 6) for words in itertools.product((True, False), repeat=length)]


def _merged_in_every_way(waiting: Sequence[int], direct: Sequence[int]) -> Iterator[list[int]]:
    """Both in their own order, one word of either after another."""
    size = len(waiting) + len(direct)
    for places in itertools.combinations(range(size), len(waiting)):
        waits, comes = iter(waiting), iter(direct)
        yield [next(waits) if place in places else next(comes) for place in range(size)]


@pytest.mark.parametrize("starts", [False, True], ids=["no times", "starts"])
@pytest.mark.parametrize("delay", [10, 1000])
def test_words_that_waited_on_rabbitmq_while_later_ones_overtook_them_lead_to_the_same_end(
    *, starts: bool, delay: int
) -> None:
    """Kafka is away from one word to another: these wait, and come at any time among those said after them."""
    for words in _LIVES:
        said = [event(firing, second) for second, firing in enumerate(words)]
        if not starts:
            said = [msgspec.structs.replace(one, starts_at=None) for one in said]
        for away, back in itertools.combinations(range(len(words) + 1), 2):
            for order in _merged_in_every_way(range(away, back), range(back, len(words))):
                pulse: Pulse | None = None
                for offset, place in enumerate((*range(away), *order)):
                    waited = away <= place < back
                    now = place if offset < away else place + delay
                    pulse = decide(
                        pulse, said[place], now=at(now), accepted_at=at(place), offset=offset, waited=waited
                    ).pulse
                assert pulse is not None
                assert pulse.firing is words[-1], (words, away, back, order)
