"""One seed: run in several ways, each judged by the laws, and all of them compared."""

import random
import traceback
from typing import Any, Final

from tests.simulation.seeds import laws
from tests.simulation.seeds.machine import How, Machine
from tests.simulation.seeds.script import CONFIGS, Script

PLAIN: Final = How(partitions=1)
MOST: Final = 12
"""Complaints of one run that are shown."""


def faults_of(script: Script) -> list[str]:
    """What is wrong with the runs of a script; nothing, if all is well.

    Each is lived in pieces with crashes, and shuffled. Where all clocks are right it is lived as it comes, too: then
    everything that people see must be the same in pieces, and not only where it ends.
    """
    chance = random.Random(~script.seed)
    cut = How(partitions=chance.choice((2, 3)), cut=True, crashes=chance.choice((0.0, 0.1)))
    delayed = How(partitions=chance.choice((1, 2, 3)), cut=True, crashes=chance.choice((0.0, 0.1)), delays=True)
    exact = script.skew == 0.0
    ways = (PLAIN, cut, delayed) if exact else (cut, delayed)
    runs: dict[How, tuple[Any, Any]] = {}
    for place, how in enumerate(ways):
        try:
            # Who reads a clock that is far off orders by it: late, that would be another story.
            machine = Machine(script._replace(skew=0.0) if how.delays else script, how)
            found, runs[how] = _judged(machine, whole=place == script.seed // 2 % 3)
        except Exception:  # noqa: BLE001 - whatever the code under test raises is what is looked for
            found = [traceback.format_exc()]
        if found:
            return [f"{how}: {fault}" for fault in found[:MOST]]
    found = _differences(*(_story(script, runs[how][0]) for how in (PLAIN, cut))) if exact else []
    for how in ways[1:]:
        found += _differences(runs[ways[0]][1], runs[how][1])
    return [f"{', '.join(map(str, ways))}: {fault}" for fault in found[:MOST]]


def _story(script: Script, story: dict[str, Any]) -> dict[str, Any]:
    """What of a story must not depend on how its log is cut."""
    used = laws.versions(script)
    if not any(CONFIGS[version].ours.correlation for version in used):
        return story
    # Incidents may meet for a moment, until all is heard: whoever is let go then is told at once, and not later.
    if len(used) > 1:
        return {}
    # What a person then finds, and can do, may differ for good.
    lasting = laws.COUNTED if any(act.what == "person" for act in script.acts) else laws.LASTING
    return {what: story[what] for what in lasting}


def _judged(machine: Machine, *, whole: bool) -> tuple[list[str], tuple[Any, Any]]:
    """Complaints, the story and where it ends; the `whole` life goes on until everything is over and forgotten."""
    machine.run()
    faults = list(laws.broken(machine))
    ends = laws.story(machine), laws.facts(machine)
    if not whole:
        return faults, ends
    if not faults and machine.script.seed % 2:
        machine.resolve()
        faults += laws.alive(machine)
    if not faults:
        machine.end()
        machine.resolve()
        faults += (*laws.alive(machine), *laws.broken(machine))
    if not faults:
        machine.forget()
        faults += laws.left_over(machine)
    return faults, ends


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [_difference(what, mine, other[what]) for what, mine in one.items() if mine != other[what]]


def _difference(what: str, mine: Any, theirs: Any) -> str:
    if isinstance(mine, list):
        mine, theirs = [each for each in mine if each not in theirs], [each for each in theirs if each not in mine]
    return f"{what} differ:\n    {mine}\n    {theirs}"


def shrunk(script: Script) -> Script:
    """A part of a failing script that fails still: acts are left out, as many at once as can be."""
    size = len(script.acts) // 2
    while size:
        place = 0
        while place < len(script.acts) > 1:
            fewer = script._replace(acts=script.acts[:place] + script.acts[place + size :])
            if fewer.acts and faults_of(fewer):
                script = fewer
            else:
                place += size
        size //= 2
    return script
