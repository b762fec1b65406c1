"""Stories of groups whose partition into incidents can be told beforehand: the oracle's own model of reopening.

A story is one group. Its episodes fire some alerts and end all of them. The gap
to the next episode is well inside or well outside of the reopen window, so that
no delay shorter than the margin changes what belongs together.
"""

import random
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

ALERTNAME: Final = "Story"
_ALERTS: Final = 3

Occurrence = tuple[str, int]
"""An alert's instance, and how many times it has fired."""
Partition = dict[str, frozenset[frozenset[Occurrence]]]
"""Of each story, its incidents as sets of occurrences."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. A gap is `near` or `far`; `margin` is what both keep away from the window's edge."""

    window: float
    dwell: float = 8.0
    near: float = 2.0
    margin: float = 20.0

    @property
    def far(self) -> float:
        """The gap that opens a new incident."""
        return self.window + self.margin

    def __post_init__(self) -> None:
        if self.near + self.margin > self.window:
            raise ValueError(f"a gap of {self.near} s is not {self.margin} s inside a window of {self.window} s")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a story, `at` seconds after its start at the earliest, after the step before it is confirmed."""

    at: float
    instance: str
    fires: bool


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of one group, and the incidents that they must lead to."""

    service: str
    over_http: bool
    steps: tuple[Step, ...]
    incidents: tuple[tuple[Occurrence, ...], ...]


def written(seed: int, count: int, seconds: float, timing: Timing) -> list[Story]:
    """So many stories that end before `seconds` are over; the same seed gives the same stories."""
    chance = random.Random(f"stories {seed}")
    return [_story(chance, number, seconds, timing) for number in range(count)]


def _story(chance: random.Random, number: int, seconds: float, timing: Timing) -> Story:
    service = f"story-{number:03d}"
    steps: list[Step] = []
    incidents: list[tuple[Occurrence, ...]] = []
    fired: dict[str, int] = {}
    at, near = chance.uniform(0, 3), False
    is_far_due = bool(number % 2)
    while not steps or at + timing.dwell + 2 < seconds:
        alerts = [f"{service}-{one}" for one in sorted(chance.sample(range(_ALERTS), chance.randint(1, _ALERTS)))]
        for place, instance in enumerate(alerts):
            steps.append(Step(at=at + place * 0.2, instance=instance, fires=True))
            fired[instance] = fired.get(instance, 0) + 1
        occurrences = tuple((instance, fired[instance]) for instance in alerts)
        if near:
            incidents[-1] += occurrences
        else:
            incidents.append(occurrences)
        over = at + timing.dwell
        steps += [Step(at=over + place * 0.2, instance=instance, fires=False) for place, instance in enumerate(alerts)]
        near, is_far_due = not is_far_due, not is_far_due
        at = over + 0.2 * len(alerts) + (timing.near if near else timing.far)
    return Story(service=service, over_http=chance.random() < 0.5, steps=tuple(steps), incidents=tuple(incidents))


def told(stories: Iterable[Story]) -> Partition:
    """What the model says."""
    return {story.service: frozenset(frozenset(one) for one in story.incidents) for story in stories}


def differences(expected: Partition, found: Partition, without: Sequence[str] = ()) -> list[str]:
    """The stories whose incidents are not the expected ones, in words."""
    return [
        f"{service}: expected {_words(expected.get(service))}, found {_words(found.get(service))}"
        for service in sorted(expected.keys() | found.keys())
        if service not in without and expected.get(service) != found.get(service)
    ]


def _words(incidents: frozenset[frozenset[Occurrence]] | None) -> str:
    if not incidents:
        return "nothing"
    return " | ".join(sorted(" ".join(f"{name[-1]}#{times}" for name, times in sorted(one)) for one in incidents))
