"""Silences stand where time puts them, mute whom their conditions name, and are edited by Alertmanager's rules."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.rules import silence as rule
from agents.rules.silence import Silences, State
from streams.records import Silence

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
NEW = "new"


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def silence(*matchers: tuple[str, str, str], name: str = "s", windows: Any = ((0, 60),), **changes: Any) -> Silence:
    said = {"id": name, "sequence": 1, "sets": (matchers or (("service", "=", "chat"),),)}
    return Silence(**{**said, "windows": tuple((at(a), at(b)) for a, b in windows), **changes})


@pytest.mark.parametrize(
    ("windows", "minutes", "state"),
    [
        (((0, 60),), -1, State.PENDING),
        (((0, 60),), 0, State.ACTIVE),
        (((0, 60),), 59.9, State.ACTIVE),
        (((0, 60),), 60, State.EXPIRED),
        (((0, 10), (20, 30)), 15, State.PENDING),
        (((0, 10), (20, 30)), 25, State.ACTIVE),
        (((0, 10), (20, 30)), 31, State.EXPIRED),
        (((5, 5),), 4, State.PENDING),
        (((5, 5),), 5, State.EXPIRED),
    ],
)
def test_state_follows_time_alone(windows: Any, minutes: float, state: State) -> None:
    assert rule.state_at(silence(windows=windows).windows, at(minutes)) is state


@pytest.mark.parametrize(
    ("minutes", "window"), [(-1, (0, 10)), (5, (0, 10)), (10, (20, 30)), (15, (20, 30)), (99, (20, 30))]
)
def test_the_window_shown_is_the_present_the_next_or_the_last(minutes: float, window: tuple[int, int]) -> None:
    windows = silence(windows=((0, 10), (20, 30))).windows
    assert rule.window_at(windows, at(minutes)) == (at(window[0]), at(window[1]))


@pytest.mark.parametrize(
    ("matchers", "field"),
    [
        ((), "matchers"),
        ((("a", "=", ""),), "matchers"),
        ((("a", "=~", ".*"),), "matchers"),
        ((("a", "!=", "x"),), "matchers"),
        ((("a", "!=", ""),), None),
        ((("a", "=~", ".+"),), None),
        ((("a", "=", "x"), ("b", "=~", ".*")), None),
    ],
)
def test_a_silence_must_name_something(matchers: Any, field: str | None) -> None:
    found = silence()
    made = msgspec.structs.replace(found, sets=(matchers,) if matchers else ())
    if field is None:
        rule.check(made)
        return
    with pytest.raises(rule.SilenceError) as refused:
        rule.check(made)
    assert refused.value.field == field


def test_a_silence_that_ends_as_it_starts_is_refused() -> None:
    with pytest.raises(rule.SilenceError, match="start time must be before end time"):
        rule.check(silence(windows=((5, 5),)))


EDITS: list[tuple[str, dict[str, Any], float, str, bool]] = [
    # what is tried, what changes, minute, id of what is stored, whether the old one is ended
    ("extending an active one keeps the id", {"windows": ((0, 90),)}, 30, "s", False),
    ("shortening it into the future keeps the id", {"windows": ((0, 40),)}, 30, "s", False),
    ("another comment keeps the id", {"comment": "later"}, 30, "s", False),
    ("ending it in the past makes a new one", {"windows": ((0, 20),)}, 30, NEW, True),
    ("another start of an active one makes a new one", {"windows": ((10, 60),)}, 30, NEW, True),
    ("other matchers make a new one", {"sets": ((("service", "=", "other"),),)}, 30, NEW, True),
    ("a pending one may start at another time", {"windows": ((10, 60),)}, -30, "s", False),
    ("a pending one may not start in the past", {"windows": ((-40, 60),)}, -30, NEW, True),
    ("an expired one is not brought back", {"windows": ((0, 300),)}, 90, NEW, False),
]


@pytest.mark.parametrize(
    ("changes", "minutes", "stored", "ends"), [row[1:] for row in EDITS], ids=[e[0] for e in EDITS]
)
def test_edits(changes: dict[str, Any], minutes: float, stored: str, ends: bool) -> None:
    known, now = silence(), at(minutes)
    wanted = silence(**changes) if "windows" in changes else msgspec.structs.replace(known, **changes)
    edited = rule.edit(known, wanted, new_id=NEW, now=now)
    assert edited.stored.id == stored
    assert edited.stored.windows[0][0] >= min(now, known.windows[0][0])
    if ends:
        assert edited.replaced is not None
        assert rule.state_at(edited.replaced.windows, now) is State.EXPIRED
    else:
        assert edited.replaced is None


def test_a_new_silence_cannot_begin_before_it_was_made() -> None:
    assert rule.edit(None, silence(windows=((-60, 60),)), new_id=NEW, now=T0).stored.windows == ((T0, at(60)),)


@pytest.mark.parametrize(
    ("windows", "minutes", "after"),
    [
        (((0, 60),), 30, ((0, 30),)),
        (((0, 60),), -10, ((-10, -10),)),
        (((0, 60),), 60, ((0, 60),)),
        (((0, 10), (20, 30), (40, 50)), 25, ((0, 10), (20, 25))),
        (((0, 10), (20, 30)), 15, ((0, 10),)),
    ],
)
def test_expiring_ends_it_now_and_twice_is_once(windows: Any, minutes: float, after: Any) -> None:
    ended = rule.expire(silence(windows=windows), at(minutes))
    assert ended.windows == tuple((at(a), at(b)) for a, b in after)
    assert rule.state_at(ended.windows, at(minutes)) is State.EXPIRED
    assert rule.expire(ended, at(minutes + 1)) == ended


def test_one_alternative_is_enough_and_a_silence_that_is_not_on_mutes_nobody() -> None:
    both = silence(name="both", sets=((("a", "=", "1"),), (("b", "=~", "x|y"), ("a", "!=", "2"))))
    later = silence(name="later", windows=((10, 20),))
    found = Silences([both, later])
    assert found.muting({"a": "1"}, T0) == ("both",)
    assert found.muting({"b": "y"}, T0) == ("both",)
    assert found.muting({"b": "y", "a": "2"}, T0) == ()
    assert found.muting({"service": "chat", "a": "1"}, T0) == ("both",)
    assert found.muting({"service": "chat", "a": "1"}, at(15)) == ("both", "later")


VALUES = st.sampled_from(["", "1", "2", "12"])
NAMES = st.sampled_from(["a", "b", "c"])
MATCHERS = st.one_of(
    st.tuples(NAMES, st.sampled_from(["=", "!="]), VALUES),
    st.tuples(NAMES, st.sampled_from(["=~", "!~"]), st.sampled_from(["", ".*", "1|2", "1.*"])),
)
SETS = st.lists(st.lists(MATCHERS, min_size=1, max_size=3).map(tuple), min_size=1, max_size=2).map(tuple)
CHANGES = st.lists(st.tuples(st.integers(0, 5), SETS), max_size=12)


@given(changes=CHANGES, gone=st.sets(st.integers(0, 5)), labels=st.dictionaries(NAMES, VALUES))
def test_the_index_finds_what_asking_each_one_finds(changes: Any, gone: set[int], labels: dict[str, str]) -> None:
    found, known = Silences(), {}
    for number, sets in changes:
        one = silence(name=str(number), sets=sets)
        known[one.id] = one
        found = found.after([one])
    found = found.after((), map(str, gone))
    left = {key: one for key, one in known.items() if int(key) not in gone}
    expected = tuple(sorted(key for key, one in left.items() if rule.matches(rule.sets_of(one), labels)))
    assert found.muting(labels, T0, key="k") == expected
    assert found.muting(labels, T0, key="k") == expected


def test_many_expressions_asked_at_once_find_what_each_finds_alone() -> None:
    patterns = [f"svc{n}|.*x{n}" for n in range(60)] + ["", ".*", "é+", "(?i)SVC7", r"svc\d"]
    known = [silence(("a", "=~", pattern), ("b", "!=", "no"), name=f"{at:02}") for at, pattern in enumerate(patterns)]
    found = Silences(known)
    for value in ("svc7", "SVC7", "x59", "yyx5", "", "éé", "svc5x", "other", "svc59 x3"):
        for labels in ({"a": value}, {"a": value, "b": "no"}, {"b": value}):
            alone = tuple(one.id for one in known if rule.matches(rule.sets_of(one), labels))
            assert found.muting(labels, T0) == alone
