"""Scripts played by the real Alertmanager until it kept their times: on a machine that is busy its timers are late."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.differential import oracle
from tests.differential.batches import Batch
from tests.differential.scripts import Script

Logs = dict[str, list[Batch]]
_TRIES: Final = 3


async def played(folder: Path, scripts: Sequence[Script], fits: Callable[[Logs], bool]) -> Logs:
    """What its receivers got the first time that it fits, or else the last time: what is wrong is so each time.

    Each time it starts with nothing: what it remembers of having told would silence it.
    """
    logs: Logs | None = None
    for number in range(_TRIES):
        fresh = folder / f"play-{number}"
        fresh.mkdir()
        try:
            logs = await oracle.told(fresh, scripts)
        except oracle.TooBusyError:
            continue
        if fits(logs):
            break
    if logs is None:
        pytest.skip("the machine is too busy for the scripts' times")
    return logs
