"""Every state answers every input, none is without a way out, and what is drawn is what is so."""

from itertools import product
from pathlib import Path

import pytest

from agents.rules import life
from agents.rules.life import OVER, SNOOZED, Happening, Other, Refusal, State
from streams.records import ActionName, IncidentStatus

INPUTS = (*Happening, *ActionName)
PEOPLE = frozenset(ActionName) - {ActionName.CHILD, ActionName.ORPHAN}
OPEN, ACKED, SNOOZED_OPEN, SNOOZED_ACKED = (
    State.OPEN,
    State.ACKNOWLEDGED,
    State.OPEN_SNOOZED,
    State.ACKNOWLEDGED_SNOOZED,
)
MERGED, RESOLVED, MERGED_RESOLVED = State.MERGED, State.RESOLVED, State.MERGED_RESOLVED

# One line an input: what open, acknowledged, open snoozed, acknowledged snoozed, merged, resolved, resolved while
# merged answer. "-" stays, "no" refuses, "new" begins another incident.
EXPECTED = """
FIRES           -  -  -   -   -   O   M
FIRES_LATE      -  -  -   -   -   new new
REPEATS         -  -  -   -   -   -   -
CEASES          R  R  R   R   MR  -   -
GOES_STALE      R  R  R   R   MR  -   -
SNOOZE_ENDS     -  -  O   A   -   -   -
OPEN            no no no  no  no  no  no
EDIT            -  -  -   -   -   -   -
ACKNOWLEDGE     A  no AS  no  no  no  no
UNACKNOWLEDGE   no O  no  OS  no  no  no
RESOLVE         R  R  R   R   MR  no  no
REOPEN          no no no  no  no  O   M
SNOOZE          OS AS -   -   no  no  no
UNSNOOZE        no no O   A   no  no  no
ASSIGN          -  -  -   -   -   -   -
COMMENT         -  -  -   -   -   -   -
LINK            -  -  -   -   -   -   -
MERGE           M  M  M   M   no  no  no
CORRELATE       M  M  M   M   M   no  no
SPLIT           no no no  no  O   no  R
UNCORRELATE     no no no  no  O   no  R
ORPHAN          no no no  no  O   no  R
REDACT          -  -  -   -   -   -   -
CHILD           -  -  -   -   no  no  no
"""
WORDS = {
    "O": OPEN, "A": ACKED, "OS": SNOOZED_OPEN, "AS": SNOOZED_ACKED, "M": MERGED, "R": RESOLVED, "MR": MERGED_RESOLVED,
    "-": Other.STAYS, "new": Other.NEXT,
}  # fmt: skip
LINES = [line.split() for line in EXPECTED.strip().splitlines()]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_every_pair_is_answered_as_the_table_says(line: list[str]) -> None:
    [what] = [one for one in INPUTS if one.name == line[0]]
    for state, word in zip(State, line[1:], strict=True):
        answer = life.answer(state, what)
        if word == "no":
            assert isinstance(answer, Refusal)
            assert answer.reason
        else:
            assert answer == WORDS[word], (state, what)


def test_the_table_has_every_input() -> None:
    assert [line[0] for line in LINES] == sorted((one.name for one in INPUTS), key=[line[0] for line in LINES].index)
    assert {line[0] for line in LINES} == {one.name for one in INPUTS}


def test_what_alerts_and_time_do_is_never_refused() -> None:
    for state, what in product(State, Happening):
        assert not isinstance(life.answer(state, what), Refusal)


def test_from_every_state_an_incident_can_end_and_from_every_end_it_can_go_on() -> None:
    for state in set(State) - OVER:
        assert life.answer(state, Happening.CEASES) in OVER
        assert life.answer(state, ActionName.RESOLVE) in OVER
    for state in OVER:
        assert life.answer(state, Happening.FIRES) not in OVER
        assert life.answer(state, Happening.FIRES_LATE) is Other.NEXT
        assert life.answer(state, ActionName.REOPEN) not in OVER


def test_every_state_is_reached_from_an_open_incident() -> None:
    found, new = {OPEN}, {OPEN}
    while new:
        new = {a for s, what in product(new, INPUTS) if isinstance(a := life.answer(s, what), State)} - found
        found |= new
    assert found == set(State)


def test_an_action_done_twice_is_refused_or_changes_nothing() -> None:
    for state, what in product(State, PEOPLE):
        answer = life.answer(state, what)
        if isinstance(answer, State):
            again = life.answer(answer, what)
            assert isinstance(again, Refusal) or again in {answer, Other.STAYS}, (state, what)


def test_a_state_follows_from_its_parts_and_back() -> None:
    for status, snoozed, parent in product(IncidentStatus, (False, True), (False, True)):
        state = life.state_of(status, snoozed=snoozed, parent=parent)
        assert life.status_of(state) is status
        if state in SNOOZED:
            assert snoozed


def test_the_drawing_in_the_readme_names_every_status() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    drawing = text.partition("## An incident's life")[2].partition("\n## ")[0]
    for status in IncidentStatus:
        assert f"[ {status.value} ]" in drawing, status
