"""The four roles of the system as processes, started with the settings in their environment."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import httpx

from embedded.errors import EndedEarlyError, StartError
from embedded.ports import free_port
from embedded.process import Command, run_once
from embedded.unit import Role, Unit

PREFIX: Final = "INCIDENTS_"
ROLES: Final = (Role.GATEWAY, Role.BRIDGE, Role.WORKER, Role.DELIVERY)
YIELDING: Final = frozenset({Role.GATEWAY, Role.BRIDGE})
"""Those of the intake: what was accepted already goes first."""


class RoleProcess(Unit):
    """`python -m agents <role>`; its health is read over HTTP."""

    ready_within = 60.0

    def __init__(
        self, role: Role, index: int, logs: Path, environ: Callable[[], Mapping[str, str]], *, many: bool = False
    ) -> None:
        name = f"{role.value}-{index + 1}" if many else role.value
        super().__init__(name, logs / f"{name}.log")
        self.role = role
        self.index = index
        self._environ = environ
        self._port = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def draw_ports(self) -> None:
        given = self._environ().get(f"{PREFIX}HTTP_PORT") if self.role is Role.GATEWAY else None
        self._port = int(given) if given else free_port()

    def worth_another_try(self, error: EndedEarlyError) -> bool:
        """A role stops itself when it is unsure, in the middle of a rebalance for one; what is wrong for good stays."""
        del error
        return True

    def command(self) -> Command:
        env = dict(self._environ())
        if self.role is Role.GATEWAY:
            env[f"{PREFIX}HTTP_PORT"] = str(self._port)
        else:
            env[f"{PREFIX}OBSERVE_PORT"] = str(self._port)
        if self.role is Role.WORKER:
            env[f"{PREFIX}WORKER_NAME"] = f"w{self.index + 1}"
        return agents_command(self.role.value, env=env, log=self.log, yields=self.role in YIELDING)

    async def probe(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            answer = await client.get(f"{self.address}/readyz")
        if answer.status_code != httpx.codes.OK:
            raise ConnectionError(f"/readyz says {answer.status_code}: {answer.text[:500]}")

    async def lag(self) -> float | None:
        """Records not yet worked on, as the worker counts them; None when it does not say."""
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=1) as client:
                lag = (await client.get(f"{self.address}/readyz")).json().get("lag")
        except (httpx.HTTPError, ValueError, AttributeError):
            return None
        return lag if isinstance(lag, int | float) else None


def agents_command(*arguments: str, env: Mapping[str, str], log: Path, yields: bool = False) -> Command:
    """A command of the `agents` package, run by this very Python."""
    argv = [sys.executable, "-m", "agents", *arguments]
    return Command(argv=argv, cwd=Path.cwd(), env=env, log=log, yields=yields)


async def run_agents(name: str, env: Mapping[str, str], log: Path, within: float = 60.0) -> None:
    """Run one command that ends by itself; raises StartError when it fails or takes too long."""
    try:
        code = await run_once(agents_command(name, env=env, log=log), within)
    except TimeoutError as error:
        raise StartError(f"incidents {name} did not end within {within:.0f} s", log) from error
    if code != 0:
        raise StartError(f"incidents {name} ended with exit code {code}", log)


def role_environ(overrides: Mapping[str, object]) -> dict[str, str]:
    """The caller's environment with settings put over it; names may be given as `http_port` or in full."""
    environ = dict(os.environ)
    for key, value in overrides.items():
        name = key.upper()
        environ[name if name.startswith(PREFIX) else PREFIX + name] = str(value)
    return environ
