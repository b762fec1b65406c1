"""What the supervisor keeps running: a process with a role, ports, a log and a way to see that it works."""

import asyncio
import os
import signal
import time
from abc import ABC, abstractmethod
from enum import StrEnum
from pathlib import Path

from embedded.account import HERE, Account, home_for
from embedded.errors import EndedEarlyError, StartError
from embedded.process import Child, Command, describe_exit


class Role(StrEnum):
    """Every process a running system may have."""

    BRIDGE = "bridge"
    GATEWAY = "gateway"
    WORKER = "worker"
    DELIVERY = "delivery"
    KAFKA = "kafka"
    REDIS = "redis"
    POSTGRES = "postgres"
    RABBITMQ = "rabbitmq"


class Unit(ABC):
    """One process. `start` returns when it answers; after that `child` is alive until it dies or is stopped."""

    role: Role
    stop_signal: signal.Signals = signal.SIGTERM
    ready_within: float = 30.0  # seconds

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.child: Child | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """What is shown to people."""

    @abstractmethod
    def draw_ports(self) -> None:
        """Choose the ports; called again when a start failed before the process ever answered."""

    async def prepare(self) -> None:  # noqa: B027 - many units need nothing made
        """Make the files that the process needs; called before each start."""

    @abstractmethod
    def command(self) -> Command:
        """How to start it now."""

    @abstractmethod
    async def probe(self) -> None:
        """Return when it truly answers; raise when not (yet)."""

    async def start(self) -> float:
        """Start for the first time, thrice where that may help, each time on fresh ports; returns seconds taken."""
        began = time.monotonic()
        for wait in (0.25, 1.0, None):
            self.draw_ports()
            try:
                await self.start_again()
            except EndedEarlyError as error:
                if wait is None or not self.worth_another_try(error):
                    raise
                await asyncio.sleep(wait)
            else:
                break
        return time.monotonic() - began

    async def start_again(self) -> None:
        """Start with the same ports and data, and wait until it answers."""
        rotate(self.log)
        await self.prepare()
        await self.launch()
        try:
            await self._until_ready()
        except BaseException:
            await self.kill()
            raise

    async def launch(self) -> None:
        """Start the process without waiting for it to answer."""
        self.child = Child(self.command())

    async def stop(self, grace: float) -> bool:
        """End it in its own way, or by force after `grace` seconds; False when force was needed."""
        return self.child is None or await self.child.stop(self.stop_signal, grace)

    async def kill(self) -> None:
        """End it at once."""
        if self.child is not None:
            await self.child.kill()

    async def _until_ready(self) -> None:
        child = self.child
        if child is None:
            raise StartError(f"{self.name} was not started", self.log)
        deadline = time.monotonic() + self.ready_within
        problem = ""
        while time.monotonic() < deadline:
            if (code := child.exit_code) is not None:
                raise EndedEarlyError(f"{self.name} ended with {describe_exit(code)} while starting", self.log)
            try:
                async with asyncio.timeout(2.0):
                    return await self.probe()
            except Exception as error:  # noqa: BLE001 - any failure to answer means not ready yet
                problem = f"{type(error).__name__}: {error}"
            await asyncio.sleep(0.1)
        raise StartError(f"{self.name} did not answer within {self.ready_within:.0f} s ({problem})", self.log)

    def worth_another_try(self, error: EndedEarlyError) -> bool:
        """Whether a first start may go better on other ports: when one of these was taken meanwhile."""
        text = str(error).lower()
        return any(words in text for words in ("address already in use", "eaddrinuse", "could not bind"))


class Server(Unit):
    """A unit that is a server program: it lives in a folder of its own, as root under another user."""

    def __init__(self, folder: Path, logs: Path, account: Account | None) -> None:
        super().__init__(self.role.value, logs / f"{self.role.value}.log")
        self.account = account
        self.home = folder
        home_for(folder, account)

    @property
    def here(self) -> str:
        """The server's own folder as the server itself can name it, wherever it lies."""
        return HERE if self.account is not None else str(self.home)

    def clean_env(self, **more: str) -> dict[str, str]:
        """A small environment, so that nothing of the caller's leaks into a server."""
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "TZ", "JAVA_HOME", "TMPDIR") if key in os.environ}
        return {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": self.here, **kept, **more}


def rotate(log: Path, keep_below: int = 4 * 1024 * 1024) -> None:
    """Put a grown log aside; one old one is kept."""
    if log.exists() and log.stat().st_size > keep_below:
        log.replace(log.with_suffix(".log.1"))
