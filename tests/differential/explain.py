"""Why our normal mode says something else than Alertmanager: each difference by one of the tagged rules, or not at all.

It reads the two logs and what was true of the alerts, nothing of how we decide.
Something that only we tell must be news by a rule; what only they tell, we must
have told too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.differential.batches import Batch, Shown
from tests.differential.compare import WINDOW, Difference, compare
from tests.differential.scripts import RELOAD_AT, Script

PERIOD: Final = 2.0
"""group_interval of the scripts."""
REPEAT: Final = 5.0
Labels = tuple[tuple[str, str], ...]
Ends = Mapping[Labels, Sequence[float]]
"""When each alert ended, by the script."""

TAGS: Final = {
    "B1": "an end is told although it was muted, and what fires after it is new",
    "B3": "what ended and fired again within one interval is told as flapping",
    "5": "a group that was emptied counts as gone: the next firing waits for group_wait alone",
    "reload": "a reload does not move the clocks of groups, nor show again what had ended before",
    "known": "told by us before, or repeated from then on, because of one of the others",
}


@dataclass(frozen=True)
class Explained:
    """A difference with its tag; an empty one is not accounted for."""

    tag: str
    difference: Difference


def explain(theirs: Sequence[Batch], ours: Sequence[Batch], script: Script, ends: Ends) -> list[Explained]:
    """Account for every difference of one script."""
    found: list[Explained] = []
    logs = _Logs(theirs, ours, script, ends)
    for difference in compare(theirs, ours):
        earlier = {one.tag for one in found if _same_place(one.difference, difference)}
        found.append(Explained(_tag(difference, logs, earlier), difference))
    return found


class _Logs:
    """What each side has told, and what was true."""

    def __init__(self, theirs: Sequence[Batch], ours: Sequence[Batch], script: Script, ends: Ends) -> None:
        self.theirs = theirs
        self.ours = ours
        self._script = script
        self._ends = ends

    def ended_between(self, labels: Labels, after: float, before: float) -> bool:
        return any(after - WINDOW <= at < before for at in self._ends.get(labels, ()))

    def moved(self, batch: Batch) -> str:
        """Why our group's clock may stand otherwise than theirs by then; empty when it may not."""
        if self._script.reloads and batch.at > RELOAD_AT - WINDOW:
            return "reload"
        return "5" if any(self.ended_between(alert[1], 0, batch.at) for alert in batch.alerts) else ""

    def muted_nearby(self, batch: Batch) -> bool:
        """Whether all that a batch says was silenced a little later, when the other clock came round."""
        return all(any(self._silenced(a[1], batch.at + late) for late in (0.5, 1.0, 1.8)) for a in batch.alerts)

    def _silenced(self, labels: Labels, at: float) -> bool:
        named = dict(labels)
        for action in self._script.actions:
            if not action.silence or not all(_matches(named.get(n, ""), v, r) for n, v, r in action.matchers):
                continue
            over = min([action.until, *(a.at for a in self._script.actions if a.expire == action.silence)])
            if action.at <= at < over:
                return True
        return False


def _matches(value: str, wanted: str, regex: bool) -> bool:
    return bool(re.fullmatch(wanted, value)) if regex else value == wanted


def _tag(difference: Difference, logs: _Logs, earlier: set[str]) -> str:
    theirs, ours = difference.theirs, difference.ours
    if theirs is not None and ours is not None:
        return _of_two(theirs, ours, logs)
    if ours is not None:
        return _of_ours(ours, logs, earlier)
    assert theirs is not None
    return _of_theirs(theirs, logs, earlier)


def _of_two(theirs: Batch, ours: Batch, logs: _Logs) -> str:
    only_ours = [alert for alert in ours.alerts if alert[:2] not in {one[:2] for one in theirs.alerts}]
    only_theirs = [alert for alert in theirs.alerts if alert[:2] not in {one[:2] for one in ours.alerts}]
    news = {_news(alert, ours, logs) for alert in only_ours}
    known = all(_told_too(alert, theirs, logs.ours) for alert in only_theirs)
    return _first(news) if (only_ours or only_theirs) and known and "" not in news else ""


def _of_ours(ours: Batch, logs: _Logs, earlier: set[str]) -> str:
    moved = logs.moved(ours)
    if moved and _near(ours, logs.theirs):
        return moved
    tags = {_news(alert, ours, logs) for alert in ours.alerts} - {""}
    if tags:
        return _first(tags)
    if moved and logs.muted_nearby(ours):
        return moved
    return "known" if earlier and _is_repeat(ours, logs.ours) else ""


def _of_theirs(theirs: Batch, logs: _Logs, earlier: set[str]) -> str:
    moved = logs.moved(theirs)
    if moved and (_near(theirs, logs.ours) or logs.muted_nearby(theirs)):
        return moved
    if moved == "reload" and all(alert[0] == "resolved" and (alert[4] or 0) < RELOAD_AT for alert in theirs.alerts):
        return moved
    told = all(_told_too(alert, theirs, logs.ours) for alert in theirs.alerts)
    if moved == "reload" and told:
        return moved
    return "known" if earlier and told else ""


def _news(alert: Shown, batch: Batch, logs: _Logs) -> str:
    """By which rule an alert in our batch is news to its target, and was not to theirs."""
    status, labels = alert[:2]
    mine = _last(labels, batch, logs.ours)
    other = _last(labels, batch, logs.theirs)
    if status == "resolved":
        return "B1" if mine is not None and mine[0] == "firing" and (other is None or other[0] == "firing") else ""
    if other is None or mine is None or other[0] != "firing":
        return ""
    told_at = max((one.at for one in _before(batch, logs.ours) if _has(one, "firing", labels)), default=None)
    if told_at is None or not logs.ended_between(labels, told_at, batch.at):
        return ""
    return "B3" if batch.flapping else "B1"


def _told_too(alert: Shown, batch: Batch, ours: Sequence[Batch]) -> bool:
    """Whether we told the same of an alert by then."""
    last = _last(alert[1], batch, ours, until=batch.at + WINDOW)
    return last is not None and last[0] == alert[0]


def _last(labels: Labels, batch: Batch, log: Sequence[Batch], until: float | None = None) -> Shown | None:
    limit = batch.at - WINDOW if until is None else until
    shown = [a for one in log if one.target == batch.target and one.at < limit for a in one.alerts if a[1] == labels]
    return shown[-1] if shown else None


def _before(batch: Batch, log: Sequence[Batch]) -> list[Batch]:
    return [one for one in log if one.target == batch.target and one.at < batch.at - WINDOW]


def _has(batch: Batch, status: str, labels: Labels) -> bool:
    return any(alert[:2] == (status, labels) for alert in batch.alerts)


def _covers(one: Batch, other: Batch) -> bool:
    """Whether one batch says at least what the other does."""
    place = (one.target, one.group) == (other.target, other.group)
    return place and {alert[:2] for alert in other.alerts} <= {alert[:2] for alert in one.alerts}


def _near(batch: Batch, log: Sequence[Batch]) -> bool:
    """Whether the other side says the same a little before or after."""
    return any(abs(one.at - batch.at) <= PERIOD + WINDOW and _covers(one, batch) for one in log)


def _is_repeat(batch: Batch, log: Sequence[Batch]) -> bool:
    before = [one.at for one in _before(batch, log) if one.group == batch.group]
    return bool(before) and batch.at - before[-1] >= REPEAT - WINDOW


def _same_place(one: Difference, other: Difference) -> bool:
    first, second = one.theirs or one.ours, other.theirs or other.ours
    assert first is not None
    assert second is not None
    return (first.target, first.group) == (second.target, second.group)


def _first(tags: set[str]) -> str:
    return next((tag for tag in TAGS if tag in tags), "known")
