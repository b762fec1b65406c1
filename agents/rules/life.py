"""The state machine of an incident: what each state answers to each input. Pure, and complete.

An answer is the state that follows, a word of `Other`, or a `Refusal` that says
why not. People's actions may be refused; what alerts and time do may not.
"""

from enum import StrEnum
from typing import Final

import msgspec

from streams.records import ActionName, IncidentStatus


class State(StrEnum):
    """Where an incident stands, with everything that its answers depend on."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    OPEN_SNOOZED = "open, snoozed"
    ACKNOWLEDGED_SNOOZED = "acknowledged, snoozed"
    MERGED = "merged"
    RESOLVED = "resolved"
    MERGED_RESOLVED = "resolved while merged"


class Happening(StrEnum):
    """What happens to an incident without anybody asking for it.

    `FIRES` is a new occurrence of an alert, `FIRES_LATE` one after the reopen
    window, `REPEATS` more about one that fires already; `CEASES` says that
    nothing of it or of what was merged into it fires any more.
    """

    FIRES = "an alert fires"
    FIRES_LATE = "an alert fires after the reopen window"
    REPEATS = "an alert that fires says more"
    CEASES = "nothing fires any more"
    GOES_STALE = "nothing was heard of it for too long"
    SNOOZE_ENDS = "its snooze ends"


class Other(StrEnum):
    """Answers that are no state: it stays where it is, or another incident begins."""

    STAYS = "stays"
    NEXT = "a new incident"


class Refusal(msgspec.Struct, frozen=True):
    """Why an action cannot be done now."""

    reason: str


Input = ActionName | Happening
Answer = State | Other | Refusal

_O, _A, _OS, _AS = State.OPEN, State.ACKNOWLEDGED, State.OPEN_SNOOZED, State.ACKNOWLEDGED_SNOOZED
_M, _R, _MR = State.MERGED, State.RESOLVED, State.MERGED_RESOLVED
_STAYS, _NEXT = Other.STAYS, Other.NEXT
_NO_ACK: Final = Refusal("nobody has acknowledged it")
_ACKED: Final = Refusal("it is acknowledged already")
_OVER: Final = Refusal("it is resolved")
_ENDED: Final = Refusal("it is resolved already")
_LIVES: Final = Refusal("it is not resolved")
_UNDER: Final = Refusal("it is merged into another incident, which speaks for it")
_MERGED: Final = Refusal("it is merged already: split it first")
_APART: Final = Refusal("it is not merged")
_AWAKE: Final = Refusal("it is not snoozed")
_THERE: Final = Refusal("it is there already")

# In the order of `State`: open, acknowledged, open snoozed, acknowledged snoozed, merged, resolved, resolved merged.
_TABLE: Final[dict[Input, tuple[Answer, ...]]] = {
    Happening.FIRES: (_STAYS, _STAYS, _STAYS, _STAYS, _STAYS, _O, _M),
    Happening.FIRES_LATE: (_STAYS, _STAYS, _STAYS, _STAYS, _STAYS, _NEXT, _NEXT),
    Happening.REPEATS: (_STAYS,) * 7,
    Happening.CEASES: (_R, _R, _R, _R, _MR, _STAYS, _STAYS),
    Happening.GOES_STALE: (_R, _R, _R, _R, _MR, _STAYS, _STAYS),
    Happening.SNOOZE_ENDS: (_STAYS, _STAYS, _O, _A, _STAYS, _STAYS, _STAYS),
    ActionName.OPEN: (_THERE,) * 7,
    ActionName.ACKNOWLEDGE: (_A, _ACKED, _AS, _ACKED, _UNDER, _OVER, _OVER),
    ActionName.UNACKNOWLEDGE: (_NO_ACK, _O, _NO_ACK, _OS, _UNDER, _OVER, _OVER),
    ActionName.RESOLVE: (_R, _R, _R, _R, _MR, _ENDED, _ENDED),
    ActionName.REOPEN: (_LIVES, _LIVES, _LIVES, _LIVES, _LIVES, _O, _M),
    ActionName.SNOOZE: (_OS, _AS, _STAYS, _STAYS, _UNDER, _OVER, _OVER),
    ActionName.UNSNOOZE: (_AWAKE, _AWAKE, _O, _A, _AWAKE, _AWAKE, _AWAKE),
    ActionName.MERGE: (_M, _M, _M, _M, _MERGED, _OVER, _OVER),
    ActionName.CORRELATE: (_M, _M, _M, _M, _M, _OVER, _OVER),
    ActionName.SPLIT: (_APART, _APART, _APART, _APART, _O, _APART, _R),
    ActionName.UNCORRELATE: (_APART, _APART, _APART, _APART, _O, _APART, _R),
    ActionName.ORPHAN: (_APART, _APART, _APART, _APART, _O, _APART, _R),
    ActionName.CHILD: (_STAYS, _STAYS, _STAYS, _STAYS, _UNDER, _OVER, _OVER),
    ActionName.EDIT: (_STAYS,) * 7,
    ActionName.ASSIGN: (_STAYS,) * 7,
    ActionName.COMMENT: (_STAYS,) * 7,
    ActionName.LINK: (_STAYS,) * 7,
    ActionName.REDACT: (_STAYS,) * 7,
}
_ANSWERS: Final = {
    (state, what): answer for what, row in _TABLE.items() for state, answer in zip(State, row, strict=True)
}
_STATUS: Final = {
    State.OPEN: IncidentStatus.OPEN,
    State.OPEN_SNOOZED: IncidentStatus.OPEN,
    State.ACKNOWLEDGED: IncidentStatus.ACKNOWLEDGED,
    State.ACKNOWLEDGED_SNOOZED: IncidentStatus.ACKNOWLEDGED,
    State.MERGED: IncidentStatus.MERGED,
    State.RESOLVED: IncidentStatus.RESOLVED,
    State.MERGED_RESOLVED: IncidentStatus.RESOLVED,
}
SNOOZED: Final = frozenset({State.OPEN_SNOOZED, State.ACKNOWLEDGED_SNOOZED})
OVER: Final = frozenset({State.RESOLVED, State.MERGED_RESOLVED})


def state_of(status: IncidentStatus, *, snoozed: bool, parent: bool) -> State:
    """The state that these make together."""
    if status is IncidentStatus.MERGED:
        return State.MERGED
    if status is IncidentStatus.RESOLVED:
        return State.MERGED_RESOLVED if parent else State.RESOLVED
    if status is IncidentStatus.ACKNOWLEDGED:
        return State.ACKNOWLEDGED_SNOOZED if snoozed else State.ACKNOWLEDGED
    return State.OPEN_SNOOZED if snoozed else State.OPEN


def status_of(state: State) -> IncidentStatus:
    """What the state is called towards people."""
    return _STATUS[state]


def answer(state: State, what: Input) -> Answer:
    """What a state answers to an input."""
    return _ANSWERS[state, what]
