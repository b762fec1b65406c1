"""`make differential`: random scripts against the real Alertmanager and against us, their receivers' logs compared.

Exit code 0 only if in Alertmanager's mode nothing differs, and in the normal
mode every difference is accounted for by one of the tags.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.differential import oracle, ours, simulated
from tests.differential.batches import Batch
from tests.differential.compare import PATIENT, compare
from tests.differential.explain import TAGS, Explained, explain
from tests.differential.scripts import Script, script

ROUND: Final = 40
"""Scripts that are played at once."""
_TRIES: Final = 4

Logs = dict[str, list[Batch]]


def main() -> int:
    """Run the scripts that the arguments name; the number of those that differ decides."""
    options = _options()
    began, report = time.monotonic(), _Report()
    for scripts in _rounds(options.seed, options.scripts):
        asyncio.run(_round(scripts, options, report))
        print(f"{report.scripts} scripts, {report.failed} differ, {time.monotonic() - began:.0f} s", flush=True)
    print(report.summary())
    if options.report:
        Path(options.report).write_text(json.dumps(report.as_json(), indent=1), encoding="utf-8")
    return 1 if report.failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make differential", description=__doc__)
    parser.add_argument("--scripts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first script; every script prints its own")
    parser.add_argument("--mode", choices=["on", "off", "both"], default="both", help="INCIDENTS_ALERTMANAGER_MODE")
    parser.add_argument("--simulated", action="store_true", help="our side without services, in no time")
    parser.add_argument("--report", default="", help="file for everything as JSON")
    return parser.parse_args()


def _rounds(seed: int, count: int) -> Iterator[list[Script]]:
    """Four of five scripts without a reload, the others with one; reloads are of all, so they are played apart."""
    plain = [script(seed + place) for place in range(count) if place % 5]
    again = [script(seed + place, reloads=True) for place in range(count) if not place % 5]
    for scripts, size in ((plain, ROUND), (again, ROUND // 2)):
        yield from (scripts[start : start + size] for start in range(0, len(scripts), size))


async def _round(scripts: Sequence[Script], options: argparse.Namespace, report: "_Report") -> None:
    theirs = await _patiently(lambda folder: oracle.told(folder, scripts))
    for strict in {"on": [True], "off": [False], "both": [True, False]}[options.mode]:
        if options.simulated:
            mine = simulated.told(scripts, strict=strict)
        else:
            mine = await _patiently(lambda folder, strict=strict: ours.told(folder, scripts, strict=strict))  # type: ignore[misc]
        for one in scripts:
            report.add(one, theirs[one.name], mine[one.name], strict=strict)


async def _patiently(play: Callable[[Path], Awaitable[Logs]]) -> Logs:
    """Play again while the machine is too busy for the script's times."""
    for left in reversed(range(_TRIES)):
        with tempfile.TemporaryDirectory(prefix="differential-") as folder:
            try:
                return await play(Path(folder))
            except oracle.TooBusyError as error:
                if not left:
                    raise
                print(f"the machine was {error}; once more", file=sys.stderr, flush=True)
    raise AssertionError


class _Report:
    """What was found, script by script."""

    def __init__(self) -> None:
        self.scripts = self.failed = self.batches = 0
        self.tags: Counter[str] = Counter()
        self._found: list[dict[str, Any]] = []

    def add(self, one: Script, theirs: list[Batch], mine: list[Batch], *, strict: bool) -> None:
        if strict:
            found = [Explained("", difference) for difference in compare(theirs, mine, PATIENT)]
        else:
            found = explain(theirs, mine, one, simulated.play([one], strict=False)[1])
        self.scripts += 1
        self.batches += len(theirs)
        self.tags.update(item.tag for item in found if item.tag)
        bad = [item for item in found if not item.tag]
        self.failed += bool(bad)
        mode = "on" if strict else "off"
        if bad:
            print(f"seed {one.seed} ({one.name}), Alertmanager mode {mode}:", *map(_line, bad), sep="\n", flush=True)
        if found:
            lines = [[item.tag, str(item.difference)] for item in found]
            self._found.append({"seed": one.seed, "script": one.name, "mode": mode, "differences": lines})

    def summary(self) -> str:
        tagged = [f"  {self.tags[tag]:4} {tag}: {text}" for tag, text in TAGS.items() if self.tags[tag]]
        head = f"{self.scripts} scripts played twice, {self.batches} notices of Alertmanager, {self.failed} differ"
        return "\n".join([head, *(["differences on purpose, by their tags:", *tagged] if tagged else [])])

    def as_json(self) -> dict[str, Any]:
        return {
            "scripts": self.scripts, "failed": self.failed, "notices": self.batches, "tags": dict(self.tags),
            "found": self._found,
        }  # fmt: skip


def _line(item: Explained) -> str:
    return str(item.difference)


if __name__ == "__main__":
    sys.exit(main())
