"""The sample storm of `incidents demo`: a bad afternoon of an LLM platform, always the same."""

from typing import Final

from loadtests.mixes import SAMPLE, Event, Mix

MESSAGES: Final = 6000
_SEED: Final = 2


def sample_storm(run: str, messages: int = MESSAGES) -> list[Event]:
    """The messages of the storm in the order they are sent; only their ids differ from run to run."""
    mix = Mix(run, _SEED, SAMPLE)
    return [mix.next() for _ in range(messages)]
