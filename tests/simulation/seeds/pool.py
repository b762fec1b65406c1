"""Seeds judged on all processors."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

from tests.simulation.seeds.judge import faults_of
from tests.simulation.seeds.script import script_of

CHUNK: Final = 50


def failing(seeds: range) -> list[tuple[int, list[str]]]:
    """Those of the seeds that fail, and what is wrong with each."""
    return [(seed, faults) for seed in seeds if (faults := faults_of(script_of(seed)))]


def judged(first: int, count: int) -> Iterator[tuple[int, list[tuple[int, list[str]]]]]:
    """How many of `count` seeds from the first on are done, and which of the last of them fail; in order.

    Each processor has its process.
    """
    chunks = [range(start, min(start + CHUNK, first + count)) for start in range(first, first + count, CHUNK)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for chunk, found in zip(chunks, pool.map(failing, chunks), strict=True):
            yield chunk.stop - first, found


def failures(first: int, count: int) -> Iterator[tuple[int, list[str]]]:
    """The seeds that fail, of `count` from the first on."""
    for _, found in judged(first, count):
        yield from found
