"""Many seeds, on all processors: `python -m tests.simulation.seeds --seeds 10000`. Exit code 1 where one fails."""

import argparse
import sys
import time
from typing import Final

from tests.simulation.seeds.judge import faults_of, shrunk
from tests.simulation.seeds.pool import failures
from tests.simulation.seeds.script import script_of

SHOWN: Final = 3
"""Failing seeds that are shown with their script."""


def told(seed: int, faults: list[str]) -> str:
    """A failing seed for people: what is wrong, and the least script that shows it."""
    least = shrunk(script_of(seed))
    return "\n".join([*faults, "the least that shows it:", str(least), *faults_of(least)])


def main() -> int:
    """Run them."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=0, help="the first one; with --seeds 1 only it")
    asked = options.parse_args()
    began, failed = time.monotonic(), 0
    for seed, faults in failures(asked.seed, asked.seeds):
        failed += 1
        print(told(seed, faults) if failed <= SHOWN else f"seed {seed} fails: {faults[0]}", flush=True)
    print(f"{asked.seeds} seeds in {time.monotonic() - began:.1f} s, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
