"""Two logs of receivers side by side: what one has and the other has not, and what they say differently."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.differential.batches import Batch, Shown

WINDOW: Final = 0.95
"""Seconds between two batches that count as the same moment: below half of a flush's period."""
PATIENT: Final = 1.4
"""The same where clocks of groups cannot differ: still below a flush's period, for a machine that is busy."""
SLACK: Final = 0.6
"""Seconds between two times inside a batch that count as the same."""


@dataclass(frozen=True)
class Difference:
    """A batch that has no partner on the other side, or one that does not say the same."""

    theirs: Batch | None
    ours: Batch | None

    def __str__(self) -> str:
        if self.theirs is not None and self.ours is not None:
            return f"  theirs {told(self.theirs)}\n  ours   {told(self.ours)}"
        one = self.theirs or self.ours
        assert one is not None
        return f"  only {'theirs' if self.theirs else 'ours'} {told(one)}"


def compare(theirs: Sequence[Batch], ours: Sequence[Batch], window: float = WINDOW) -> list[Difference]:
    """Pair batches of one target and group in order of time, and list what does not agree."""
    differences = []
    places = sorted({(one.target, one.group) for one in (*theirs, *ours)})
    for target, group in places:
        left = [one for one in theirs if (one.target, one.group) == (target, group)]
        right = [one for one in ours if (one.target, one.group) == (target, group)]
        differences += _paired(left, right, window)
    return sorted(differences, key=lambda one: (one.theirs or one.ours).at)  # type: ignore[union-attr]


def told(batch: Batch) -> str:
    """A batch in one line."""
    alerts = ", ".join(
        f"{dict(labels).get('alertname')}:{status}[{starts:.1f}..{'' if ends is None else f'{ends:.1f}'}]"
        for status, labels, _, starts, ends in batch.alerts
    )
    group = ",".join(f"{name}={value}" for name, value in batch.group if name != "script")
    return f"{batch.at:6.2f} {batch.target} {{{group}}} {alerts}"


def _paired(left: list[Batch], right: list[Batch], window: float) -> list[Difference]:
    """Those that say the same first; what is left and close in time is a pair that says something else."""
    alone, rest = [], list(right)
    for one in left:
        same = next((other for other in rest if abs(other.at - one.at) <= window and _agree(one, other)), None)
        if same is None:
            alone.append(one)
        else:
            rest.remove(same)
    found = []
    for one in alone:
        near = next((other for other in rest if abs(other.at - one.at) <= SLACK), None)
        found.append(Difference(one, near))
        if near is not None:
            rest.remove(near)
    return [*found, *(Difference(None, other) for other in rest)]


def _agree(one: Batch, other: Batch) -> bool:
    times = zip(one.alerts, other.alerts, strict=False)
    return one.said == other.said and all(_same_times(mine, theirs) for mine, theirs in times)


def _same_times(one: Shown, other: Shown) -> bool:
    if (one[4] is None) != (other[4] is None):
        return False
    return abs(one[3] - other[3]) <= SLACK and (one[4] is None or other[4] is None or abs(one[4] - other[4]) <= SLACK)
