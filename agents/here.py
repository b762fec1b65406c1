"""The system that runs on this machine: where its services are, for commands that were given no address."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from streams.settings import PREFIX, Settings

_URLS: Final = {"postgres": "database_url", "redis": "redis_url", "kafka": "kafka_url"}


def found_here(settings: Settings, environ: Mapping[str, str]) -> tuple[Settings, dict[str, Any]]:
    """The settings, with the services of the system that runs in the data folder where no address was given."""
    try:
        text = (Path(settings.data_dir) / "endpoints.json").read_text(encoding="utf-8")
        here: dict[str, Any] = json.loads(text)
    except (OSError, ValueError):
        return settings, {}
    given = {
        name: str(here[key]) for key, name in _URLS.items() if here.get(key) and not environ.get(PREFIX + name.upper())
    }
    if (amqp := here.get("amqp")) and not environ.get(f"{PREFIX}AMQP_URL"):
        given |= {"amqp_url": amqp["url"], "amqp_exchange": amqp["exchange"], "amqp_queue": amqp["queue"]}
    if "kafka_url" in given:
        given["log_generation"] = here.get("log_generation") or ""
        if here.get("partitions") and not environ.get(f"{PREFIX}PARTITIONS"):
            settings = replace(settings, partitions=int(here["partitions"]))
    return replace(settings, **given), here  # type: ignore[arg-type]  # these fields are texts
