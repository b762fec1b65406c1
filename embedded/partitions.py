"""How many partitions an embedded Kafka's topics get: as many as fit this machine, for as long as the folder lives."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from embedded.errors import EmbeddedError
from embedded.roles import PREFIX
from streams.settings import Settings

VARIABLE: Final = f"{PREFIX}PARTITIONS"
_LEAST: Final = 2
_MOST: Final = 12
_FILE_NAME: Final = "partitions"
_BROKERS: Final = ("kafka", "tansu")


def fitting(processors: int, workers: int) -> int:
    """One for each processor, within bounds, and never fewer than workers: each more costs every step a little."""
    return max(workers, min(max(_LEAST, processors), _MOST))


def settled(data: Path, environ: Mapping[str, str], workers: int) -> str:
    """What `INCIDENTS_PARTITIONS` says, else what this folder began with; a new folder's choice is written down.

    Raises:
        EmbeddedError: the file in the folder holds no number.
    """
    file = data / _FILE_NAME
    given = environ.get(VARIABLE)
    if given:
        chosen = given
    elif file.exists():
        chosen = file.read_text(encoding="ascii").strip()
        if not chosen.isdecimal():
            raise EmbeddedError(f"{file} must hold the number of partitions, not {chosen!r}: write it there")
    elif any((data / broker).exists() for broker in _BROKERS):
        chosen = str(Settings.partitions)
    else:
        chosen = str(fitting(len(os.sched_getaffinity(0)), workers))
    if chosen.isdecimal() and not file.exists():
        fresh = file.with_suffix(".new")
        fresh.write_text(f"{chosen}\n", encoding="ascii")
        fresh.replace(file)
    return chosen
