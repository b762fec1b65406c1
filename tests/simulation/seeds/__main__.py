"""Many seeds, on all processors: `python -m tests.simulation.seeds --seeds 10000`. Exit code 1 where one fails."""

import argparse
import sys
import time
from typing import Final

from tests.simulation.seeds.judge import faults_of, shrunk
from tests.simulation.seeds.pool import judged
from tests.simulation.seeds.script import script_of

PARTS: Final = 10
"""How often it is said how far it is."""
SHOWN: Final = 3
"""Failing seeds that are shown with their script."""


def told(seed: int, faults: list[str]) -> str:
    """A failing seed for people: what is wrong, the least script that shows it, and how to live it again."""
    least = shrunk(script_of(seed))
    again = f"seed {seed} fails; again: make simulate SEEDS=1 SEED={seed}"
    return "\n".join([again, *faults, "the least that shows it:", str(least), *faults_of(least)])


def main() -> int:
    """Run them."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=0, help="the first one; with --seeds 1 only it")
    asked = options.parse_args()
    began, failed, said = time.monotonic(), 0, 0
    for done, found in judged(asked.seed, asked.seeds):
        for seed, faults in found:
            failed += 1
            print(told(seed, faults) if failed <= SHOWN else f"seed {seed} fails: {faults[0]}", flush=True)
        if done * PARTS // asked.seeds > said and done < asked.seeds:
            said = done * PARTS // asked.seeds
            print(f"{done} of {asked.seeds} seeds, {failed} failed, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{asked.seeds} seeds in {time.monotonic() - began:.1f} s, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
