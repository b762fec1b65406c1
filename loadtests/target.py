"""The system that a command works on: one that runs already, or one that it starts itself."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from embedded.console import Console
from embedded.stack import Stack
from loadtests.plan import Endpoints, endpoints_from
from streams.settings import Settings

FILE: Final = "endpoints.json"


class NoSystemError(RuntimeError):
    """Raised when the system that was named does not run."""


@asynccontextmanager
async def running_system(settings: Settings, named: str | None, rules: Path | None = None) -> AsyncIterator[Endpoints]:
    """The endpoints of the system in the file `named`, of the one in the data folder, or of a new one.

    With `rules` it is always a new one, which has these rules.

    A system that is started here has the settings of the environment, WORKERS
    and KAFKA among them, and is stopped at the end.

    Raises:
        NoSystemError: the file was named and there is no running system behind it, or one runs that has other rules.
    """
    path = Path(named) if named else Path(settings.data_dir) / FILE
    endpoints = endpoints_from(path)
    if rules is not None and (named or (endpoints is not None and endpoints.alive)):
        raise NoSystemError(f"{path}: rules of its own need a new system; stop that one or set INCIDENTS_DATA_DIR")
    if endpoints is not None and endpoints.alive:
        print(f"using the running system of {path}", flush=True)
        yield endpoints
        return
    if named:
        raise NoSystemError(f"{path}: no running system there")
    async with own_system(settings, rules) as stack:
        yield msgspec.convert(stack.endpoints, Endpoints)


@asynccontextmanager
async def own_system(settings: Settings, rules: Path | None = None) -> AsyncIterator[Stack]:
    """A new system in the data folder, with WORKERS, KAFKA and the settings of the environment."""
    workers = int(os.environ.get("WORKERS") or 1)
    overrides = {"config": rules} if rules is not None else {}
    async with Stack(settings.data_dir, overrides, workers=workers, say=Console()) as stack:
        yield stack
