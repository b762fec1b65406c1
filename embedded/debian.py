"""Installs RabbitMQ from Debian's package, and sees to it that no system service comes up with it."""

import asyncio
import os
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Final

from embedded.errors import EmbeddedError, StartError
from embedded.process import Command, run_once

HOW_TO_GET: Final = "install it (apt-get install rabbitmq-server, or your system's package) or set INCIDENTS_AMQP_URL"
_UNITS: Final = ("rabbitmq-server.service", "epmd.socket", "epmd.service")
_INSTALL_WITHIN: Final = 300.0  # seconds


def can_install() -> bool:
    """Whether this is Debian and we may install packages."""
    return os.geteuid() == 0 and Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None


async def install_rabbitmq(log: Path) -> None:
    """Install the package; raises EmbeddedError when that cannot be done in time."""
    masked = await _mask(log)
    try:
        if not await _apt(log, "install", "--download-only"):
            await _run(log, "apt-get", "-q", "update")
            if not await _apt(log, "install", "--download-only"):
                raise StartError("apt-get could not get rabbitmq-server", log)
        # Breaking off here would leave the system's packages half set up.
        if not await _to_the_end(_apt(log, "install")):
            raise StartError("apt-get could not install rabbitmq-server", log)
    finally:
        for unit in masked:
            await _run(log, "systemctl", "unmask", "--runtime", unit)
            await _run(log, "systemctl", "disable", unit)


async def _mask(log: Path) -> list[str]:
    """Keep systemd, where it runs, from starting what the package brings; returns what is to be unmasked."""
    if not Path("/run/systemd/system").exists():
        return []
    masked = []
    for unit in _UNITS:
        known = await _run(log, "systemctl", "cat", unit) == 0
        if not known and await _run(log, "systemctl", "mask", "--runtime", unit) == 0:
            masked.append(unit)
    return masked


async def _apt(log: Path, *arguments: str) -> bool:
    options = ("-q", "-y", "--no-install-recommends", "--no-upgrade", "-o", "DPkg::Lock::Timeout=120")
    return await _run(log, "apt-get", *options, *arguments, "rabbitmq-server") == 0


async def _run(log: Path, *argv: str) -> int:
    # RUNLEVEL=1 tells Debian's scripts that this is no time to start services.
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    try:
        return await run_once(Command(argv=argv, cwd=Path("/"), env=env, log=log), within=_INSTALL_WITHIN)
    except (TimeoutError, OSError) as error:
        raise EmbeddedError(f"{argv[0]} did not work: {str(error) or 'it took too long'}; see {log}") from error


async def _to_the_end(work: Coroutine[object, object, bool]) -> bool:
    doing = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await doing
        raise
