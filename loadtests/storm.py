"""The sample storm of `incidents demo`: a bad afternoon of an LLM platform, always the same."""

from typing import Final

from loadtests.mixes import SAMPLE, Event, Mix

MESSAGES: Final = 6000
_SEED: Final = 2
_RECOVERS: Final = 1 / 3


def sample_storm(run: str, messages: int = MESSAGES) -> list[Event]:
    """So many messages in the order they are sent, and then some ends: a third of what is wrong recovers.

    Only the ids differ from run to run.
    """
    mix = Mix(run, _SEED, SAMPLE)
    return [*(mix.next() for _ in range(messages)), *mix.recover(_RECOVERS)]
