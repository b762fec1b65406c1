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


def failures(first: int, count: int) -> Iterator[tuple[int, list[str]]]:
    """The seeds that fail, of `count` from the first on; each processor has its process."""
    chunks = [range(start, min(start + CHUNK, first + count)) for start in range(first, first + count, CHUNK)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for found in pool.map(failing, chunks):
            yield from found
