"""Keeps units alive: one that dies is started again, later and later when it keeps dying."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from embedded.console import Say, Tone
from embedded.errors import EmbeddedError
from embedded.process import describe_exit
from embedded.unit import Unit

_FIRST_WAIT: Final = 0.25  # seconds
_LONGEST_WAIT: Final = 30.0
_STEADY_AFTER: Final = 60.0  # a unit that lived this long starts over with the shortest wait


def restart_wait(deaths_in_a_row: int) -> float:
    """Seconds to wait before the next start: doubling, bounded."""
    return float(min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(deaths_in_a_row, 16)))


class Keeper:
    """Watches units from when they are given to it until it is told to let go."""

    def __init__(self, changed: Callable[[], None], say: Say) -> None:
        self._changed = changed
        self._say = say
        self._watches: dict[Unit, asyncio.Task[None]] = {}

    def watch(self, unit: Unit, revive: Callable[[], Awaitable[object]]) -> None:
        """Call `revive` each time the unit has died."""
        self._watches[unit] = asyncio.create_task(self._keep(unit, revive), name=f"keep {unit.name}")

    async def let_go(self, *units: Unit) -> None:
        """Stop watching these units, or all of them."""
        tasks = [self._watches.pop(unit) for unit in (units or list(self._watches)) if unit in self._watches]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, unit: Unit, revive: Callable[[], Awaitable[object]]) -> None:
        deaths = 0
        while unit.child is not None:
            child = unit.child
            code = await child.wait()
            deaths = 0 if child.lived > _STEADY_AFTER else deaths
            wait = restart_wait(deaths)
            deaths += 1
            how = f"{unit.name} ({child.pid}) ended with {describe_exit(code)}"
            self._say(f"{how}; starting it again in {wait:g} s; its log: {unit.log}", Tone.BAD)
            await asyncio.sleep(wait)
            try:
                await revive()
            except (EmbeddedError, OSError) as error:
                self._changed()
                self._say(f"{unit.name} does not start: {error}", Tone.BAD)
            else:
                self._changed()
                self._say(f"{unit.name} runs again ({unit.child.pid})", Tone.GOOD)
