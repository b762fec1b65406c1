"""One child process: in a session of its own, ended when we end, waited on, its output in a log file."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess  # nosec B404
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedded.account import Account

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)


_YIELDING: Final = 5


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to start and how. `env` is the whole environment of the child."""

    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str]
    log: Path
    account: Account | None = None
    on_our_death: signal.Signals = signal.SIGKILL  # what the kernel sends the child when we are gone
    yields: bool = False  # lets what works on accepted alerts go first where processors are short


class Child:
    """A running process that we started."""

    def __init__(self, command: Command) -> None:
        account = command.account
        command.log.parent.mkdir(parents=True, exist_ok=True)
        with command.log.open("ab") as log:
            self._popen = subprocess.Popen(  # noqa: S603 # nosec B603
                list(command.argv),
                cwd=command.cwd,
                env=dict(command.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                # Set after the change of user, which would clear it again.
                preexec_fn=_prepared(command.on_our_death, yields=command.yields),  # noqa: PLW1509 - only a system call
            )
        self.pid = self._popen.pid
        self.lived = 0.0  # seconds, known once it has ended
        self._began = time.monotonic()

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    async def wait(self) -> int:
        """Wait for the end, without a thread, and take away what is left of its process group."""
        if (code := self._popen.poll()) is None:
            await _pid_ended(self.pid)
            code = self._popen.wait()
        self.lived = self.lived or time.monotonic() - self._began
        self._kill_group()
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal unless it has ended."""
        if self._popen.poll() is None:
            self._popen.send_signal(number)

    async def stop(self, number: signal.Signals, grace: float) -> bool:
        """Ask to end, then insist after `grace` seconds; says whether asking was enough."""
        self.send(number)
        try:
            await asyncio.wait_for(self.wait(), grace)
        except TimeoutError:
            await self.kill()
            return False
        return True

    async def kill(self) -> int:
        """End it at once."""
        self._kill_group()
        self.send(signal.SIGKILL)
        return await self.wait()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def describe_exit(code: int) -> str:
    """`exit code 3` or `SIGKILL`."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


async def run_once(command: Command, within: float) -> int:
    """Run a command to its end; raises TimeoutError, with the process gone, when it takes longer."""
    child = Child(command)
    try:
        return await asyncio.wait_for(child.wait(), within)
    finally:
        if child.exit_code is None:
            await child.kill()


def _prepared(number: signal.Signals, *, yields: bool) -> Callable[[], None]:
    parent = os.getpid()

    def apply() -> None:
        if yields:
            os.nice(_YIELDING)
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return apply


async def _pid_ended(pid: int) -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    descriptor = os.pidfd_open(pid)
    try:
        loop.add_reader(descriptor, _settle, ended)
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
