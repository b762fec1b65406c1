"""Silences: whether one is on, whom it mutes, and what an edit makes of it. Pure, by time and labels alone."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from streams.records import Silence
from streams.rules_matchers import Matcher, in_order
from streams.rules_pattern_set import PatternSet

CACHED: Final = 200_000
"""Label sets whose silences are remembered until some silence changes."""

Sets = tuple[tuple[Matcher, ...], ...]
"""Alternatives, each of conditions that must all hold."""
Window = tuple[datetime, datetime]
Condition = tuple[str, str]
"""Name and value of an equality that a label set must meet."""
Alternative = tuple[str, tuple[Matcher, ...]]
"""A silence's id and one of its alternatives."""


class State(StrEnum):
    """Where a silence stands, by time alone."""

    PENDING = "pending"
    ACTIVE = "active"
    EXPIRED = "expired"


class SilenceError(ValueError):
    """Raised for a silence that cannot be; names the field."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class Edited(msgspec.Struct, frozen=True):
    """What storing a silence leads to: one that is written, and the one that it replaces, which ends now."""

    stored: Silence
    replaced: Silence | None = None


def state_at(windows: Sequence[Window], now: datetime) -> State:
    """Pending before and between windows, expired after the last."""
    if not windows or now >= windows[-1][1]:
        return State.EXPIRED
    return State.ACTIVE if any(start <= now < end for start, end in windows) else State.PENDING


def window_at(windows: Sequence[Window], now: datetime) -> Window:
    """The window that is on or comes next; the last one when all are over."""
    return next((window for window in windows if now < window[1]), windows[-1])


def sets_of(silence: Silence) -> Sets:
    """The silence's conditions, ready to be asked."""
    return tuple(tuple(Matcher(*matcher) for matcher in one) for one in silence.sets)


def matches(sets: Sets, labels: Mapping[str, str]) -> bool:
    """Whether one of the alternatives holds whole."""
    return any(all(matcher.matches(labels) for matcher in one) for one in sets)


def packed(sets: Iterable[Iterable[Matcher]]) -> tuple[tuple[tuple[str, str, str], ...], ...]:
    """Conditions as a record carries them, in Alertmanager's order."""
    return tuple(tuple((m.name, m.op, m.value) for m in in_order(list(one))) for one in sets)


def check(silence: Silence) -> None:
    """Refuse what mutes everything, or has no time to be on.

    Raises:
        SilenceError: names the field.
    """
    if not silence.sets or not all(silence.sets):
        raise SilenceError("matchers", "at least one matcher is needed")
    if any(all(matcher.matches({}) for matcher in one) for one in sets_of(silence)):
        raise SilenceError("matchers", "at least one matcher must not match the empty string")
    if not silence.windows or any(end <= start for start, end in silence.windows):
        raise SilenceError("endsAt", "start time must be before end time")


def edit(known: Silence | None, wanted: Silence, *, new_id: str, now: datetime) -> Edited:
    """What `wanted` makes of the silence it names (None: a new one); `new_id` is for one that has none yet.

    The rules are Alertmanager's (`silence/silence.go`, canUpdate): other
    conditions, or another past, end the old one and begin a new one; another
    future, or other words, keep the id. Windows that began before now begin now.
    """
    if known is not None and _keeps_its_past(known, wanted, now):
        return Edited(msgspec.structs.replace(wanted, id=known.id))
    first = wanted.windows[0]
    windows = ((max(first[0], now), first[1]), *wanted.windows[1:])
    stored = msgspec.structs.replace(wanted, id=new_id, windows=windows)
    over = known is None or state_at(known.windows, now) is State.EXPIRED
    return Edited(stored, None if over or known is None else expire(known, now))


def expire(silence: Silence, now: datetime) -> Silence:
    """The silence ended now; one that has ended stays as it is."""
    if state_at(silence.windows, now) is State.EXPIRED:
        return silence
    past = tuple((start, min(end, now)) for start, end in silence.windows if start < now)
    return msgspec.structs.replace(silence, windows=past or ((now, now),))


def _keeps_its_past(known: Silence, wanted: Silence, now: datetime) -> bool:
    state = state_at(known.windows, now)
    if known.sets != wanted.sets or state is State.EXPIRED:
        return False
    if state is State.PENDING and known.windows[0][0] >= now:
        return wanted.windows[0][0] >= now
    same_start = int(wanted.windows[0][0].timestamp()) == int(known.windows[0][0].timestamp())
    return same_start and wanted.windows[-1][1] >= now


class Silences:
    """Many silences, found by an equality that a label set must meet; never changed, only followed by another."""

    def __init__(self, items: Iterable[Silence] = ()) -> None:
        self.known: dict[str, Silence] = {}
        self._at: dict[Condition, tuple[Alternative, ...]] = {}
        self._anywhere: tuple[Alternative, ...] = ()
        self._found: dict[str, tuple[str, ...]] = {}
        self._by_pattern: dict[str, tuple[PatternSet, list[Alternative]]] | None = None
        self._add(items)

    def after(self, changed: Iterable[Silence], gone: Iterable[str] = ()) -> "Silences":
        """The silences with some of them changed or new, and some forgotten."""
        new = {silence.id: silence for silence in changed}
        left_out = {*new, *gone}
        following = Silences()
        following.known = {key: silence for key, silence in self.known.items() if key not in left_out}
        if left_out & self.known.keys():
            kept = {place: tuple(one for one in at if one[0] not in left_out) for place, at in self._at.items()}
            following._at = {place: at for place, at in kept.items() if at}
            following._anywhere = tuple(one for one in self._anywhere if one[0] not in left_out)
        else:
            following._at, following._anywhere = dict(self._at), self._anywhere
        following._add(new.values())
        return following

    def over(self, now: datetime) -> list[str]:
        """Ids of silences that have ended."""
        return [key for key, one in self.known.items() if state_at(one.windows, now) is State.EXPIRED]

    def muting(self, labels: Mapping[str, str], now: datetime, key: str = "", team: str = "default") -> tuple[str, ...]:
        """Ids of the silences that are on for these labels and that team, sorted.

        `key` names the label set, to be remembered by; a silence of no team is everybody's.
        """
        found = self._found.get(key) if key else None
        if found is None:
            found = self._matching(labels)
            if key and len(self._found) < CACHED:
                self._found[key] = found
        return tuple(
            one for one in found
            if self.known[one].team in {"", team} and state_at(self.known[one].windows, now) is State.ACTIVE
        )  # fmt: skip

    def _matching(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        near = [one for item in labels.items() for one in self._at.get(item, ())]
        if self._by_pattern is None:
            self._by_pattern = _by_pattern(self._anywhere)
        for name, (patterns, alternatives) in self._by_pattern.items():
            near += alternatives if not name else [alternatives[at] for at in patterns.matching(labels.get(name, ""))]
        held = {key for key, one in near if all(matcher.matches(labels) for matcher in one)}
        return tuple(sorted(held))

    def _add(self, items: Iterable[Silence]) -> None:
        near: dict[Condition, list[Alternative]] = {}
        anywhere: list[Alternative] = []
        for silence in items:
            self.known[silence.id] = silence
            for one in sets_of(silence):
                places = [(m.name, m.value) for m in one if m.op == "=" and m.value]
                if places:
                    rarest = min(places, key=lambda at: len(self._at.get(at, ())) + len(near.get(at, ())))
                    near.setdefault(rarest, []).append((silence.id, one))
                else:
                    anywhere.append((silence.id, one))
        self._at.update({place: (*self._at.get(place, ()), *found) for place, found in near.items()})
        self._anywhere = (*self._anywhere, *anywhere)


def _by_pattern(anywhere: Iterable[Alternative]) -> dict[str, tuple[PatternSet, list[Alternative]]]:
    """Alternatives by the label of their first expression; those without any under no name."""
    found: dict[str, tuple[list[str], list[Alternative]]] = {}
    for alternative in anywhere:
        first = next((matcher for matcher in alternative[1] if matcher.op == "=~"), None)
        patterns, alternatives = found.setdefault(first.name if first is not None else "", ([], []))
        patterns.append(first.value if first is not None else "")
        alternatives.append(alternative)
    return {name: (PatternSet(patterns), alternatives) for name, (patterns, alternatives) in found.items()}
