"""`endpoints.json`: where a running system can be found, for other programs on the machine."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from embedded.roles import PREFIX, ROLES
from embedded.unit import Role, Unit

FILE_NAME: Final = "endpoints.json"


def describe(settings: Mapping[str, str], units: Iterable[Unit]) -> dict[str, Any]:
    """The mapping that is written; None stands for a part that does not run."""
    running = [unit for unit in units if unit.child is not None]
    gateway = next((unit for unit in running if unit.role is Role.GATEWAY), None)
    amqp = settings.get(f"{PREFIX}AMQP_URL")
    return {
        "http": gateway.address if gateway else None,
        "amqp": {
            "url": amqp,
            "exchange": settings.get(f"{PREFIX}AMQP_EXCHANGE") or "alerts",
            "queue": settings.get(f"{PREFIX}AMQP_QUEUE") or "alerts.in",
        }
        if amqp
        else None,
        "postgres": settings[f"{PREFIX}DATABASE_URL"],
        "redis": settings[f"{PREFIX}REDIS_URL"],
        "kafka": settings[f"{PREFIX}KAFKA_URL"],
        "partitions": settings.get(f"{PREFIX}PARTITIONS") or None,
        "log_generation": settings.get(f"{PREFIX}LOG_GENERATION") or "",
        "processes": [_process(unit) for unit in running],
    }


def _process(unit: Unit) -> dict[str, Any]:
    """Role and pid; of our own roles also where they answer probes."""
    process: dict[str, Any] = {"role": unit.role.value, "pid": unit.child.pid if unit.child else None}
    return {**process, "url": unit.address} if unit.role in ROLES else process


def write(folder: Path, endpoints: Mapping[str, Any]) -> None:
    """Replace the file as a whole: a reader never sees half of it, nor anyone else any of it."""
    fresh = folder / f".{FILE_NAME}.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(endpoints, file, indent=2)
        file.write("\n")
    fresh.replace(folder / FILE_NAME)
