"""Which faults a run does: by name or family, as far as this machine can show them."""

import os
import random
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

from embedded.unit import Role
from tests.chaos.faults import FAULTS

_ON_DISKS: Final = tuple(name for name in FAULTS if name.startswith(("full-", "brimful-")))
# On a full disk a lone Kafka node loses the list of its topics, and RabbitMQ 3.10 its quorum queue for good: what
# follows is a lost log, or what was confirmed and is lost, which no run outlives.
_ONLY_BY_NAME: Final = frozenset({"full-kafka", "brimful-rabbitmq"})
_ALONE: Final = frozenset({"zombie-worker"})


def chosen(words: str, *, workers: int, durable_log: bool, disks: bool) -> tuple[list[str], list[str]]:
    """Names of the faults that the words name, by name or family ("none": no fault), and what cannot be shown here.

    Raises:
        ValueError: a word names nothing.
    """
    wanted = [word for word in words.replace(",", " ").split() if word]
    if wanted == ["none"]:
        return [], []
    for word in wanted:
        if word not in FAULTS and not any(name.startswith(f"{word}-") for name in FAULTS):
            raise ValueError(f"no fault or family {word!r}; there are {', '.join(FAULTS)}")
    names = [name for name in FAULTS if _is_meant(name, wanted)]
    not_here = [
        name
        for name in names
        if (name in _ON_DISKS and not disks)
        or (name == "fsync-postgres" and shutil.which("strace") is None)
        or (name.startswith("cut-") and not can_cut())
        or (name in _ALONE and workers < 2)
        or (name.partition("-")[2] in {"kafka", "brokers"} and not durable_log)
    ]
    return [name for name in names if name not in not_here], not_here


def _is_meant(name: str, wanted: Sequence[str]) -> bool:
    if name in _ONLY_BY_NAME:
        return name in wanted
    return not wanted or name in wanted or any(name.startswith(f"{word}-") for word in wanted)


def disks_of(names: Sequence[str]) -> list[Role]:
    """The services that need a disk of their own for these faults."""
    return sorted({Role(name.rpartition("-")[2]) for name in names if name in _ON_DISKS})


def can_cut() -> bool:
    """Whether connections of this machine can be cut: by root, where the kernel has been built for it."""
    if shutil.which("ss") is None or os.geteuid() != 0:
        return False
    answer = subprocess.run(
        ["ss", "-K", "dst", "127.0.0.1", "dport", "=", ":1"], capture_output=True, text=True, check=False
    )
    return answer.returncode == 0 and "not supported" not in answer.stderr


def drawn(names: Sequence[str], chance: random.Random) -> "list[str]":
    """All of the names in an order by chance; asked again, another order."""
    return chance.sample(list(names), len(names))
