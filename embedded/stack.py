"""A whole running system on one machine: services, roles, and the order in which they come and go."""

import asyncio
import fcntl
import os
import secrets
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from embedded import endpoints, partitions
from embedded.console import Say, Tone, silent
from embedded.errors import EmbeddedError, StartError
from embedded.keeper import Keeper
from embedded.process import run_once
from embedded.roles import PREFIX, ROLES, RoleProcess, agents_command, role_environ, run_agents
from embedded.services import Services, ServiceStarter
from embedded.together import together
from embedded.unit import Role, Unit, rotate
from streams.settings import Settings

_STOP_WITHIN: Final = 14.0  # seconds for everything; a second is left for the last resort
_DRAIN_WITHIN: Final = 8.0
_CALM: Final = 2
FIRST_USER: Final = "admin"
_THERE_ARE_USERS: Final = 3
_GRACE: Final = 4.0  # the longest that one role may take
_RESTART_GRACE: Final = 15.0
_RESERVED: Final = {Role.BRIDGE: 9.0, Role.GATEWAY: 6.5, Role.WORKER: 4.0, Role.DELIVERY: 2.5}  # for what stops later


class Stack:
    """An async context manager: inside it the system runs, after it no process is left.

    Args:
        data_dir: everything that is kept lies here; two stacks need two folders.
        settings_overrides: settings by name (`http_port`), put over the environment.
        workers: number of worker processes.
        kafka: "apache", "tansu", or None for the variable KAFKA, else the best there is.
        roles: roles to run; none of them for services only.
        rabbitmq: False leaves RabbitMQ out.
        say: where progress goes.
    """

    def __init__(
        self,
        data_dir: str | Path,
        settings_overrides: Mapping[str, object] | None = None,
        *,
        workers: int = 1,
        kafka: str | None = None,
        roles: Sequence[Role | str] = ROLES,
        rabbitmq: bool = True,
        say: Say = silent,
    ) -> None:
        self.data_dir = Path(data_dir).resolve()
        self.logs = self.data_dir / "logs"
        self.endpoints: dict[str, Any] = {}
        self.first_password = ""
        self._environ = role_environ({**(settings_overrides or {}), "data_dir": self.data_dir})
        self._workers = workers
        self._kafka = kafka or os.environ.get("KAFKA")
        self._wanted = [Role(role) for role in roles]
        self._rabbitmq = rabbitmq
        self._say = say
        self._keeper = Keeper(self._publish, say)
        self._starter: ServiceStarter | None = None
        self._roles: list[RoleProcess] = []
        self._lock: int | None = None

    @property
    def services(self) -> Services:
        """What runs embedded, and the URLs of everything."""
        if self._starter is None:
            raise EmbeddedError("the stack was not started")
        return self._starter.services

    @property
    def roles(self) -> list[RoleProcess]:
        """The processes of the roles."""
        return list(self._roles)

    @property
    def units(self) -> list[Unit]:
        """Every process that was started, in the order of `endpoints.json`."""
        return [*self._roles, *(self._starter.services.running() if self._starter else [])]

    @property
    def processes(self) -> list[dict[str, Any]]:
        """Role and pid of each running process."""
        found: list[dict[str, Any]] = self.endpoints.get("processes", [])
        return found

    @property
    def settings(self) -> dict[str, str]:
        """The environment that the role processes get, less what is each one's own."""
        return {**self._environ, **self.services.urls()}

    @property
    def signing_in(self) -> bool:
        """Whether people must say who they are."""
        return Settings.from_environ(_of_ours(self.settings)).signing_in

    def kill(self, role: Role | str, number: signal.Signals = signal.SIGKILL, index: int = 0) -> int:
        """Send a signal to a process of a role; returns its pid."""
        child = [unit for unit in self.units if unit.role == role][index].child
        if child is None:
            raise EmbeddedError(f"no process of the role {role}")
        child.send(number)
        return child.pid

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop(drain=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start services, prepare database and topics, start the roles; returns when all of them answer."""
        self._take_folder()
        if not self._environ.get(f"{PREFIX}KAFKA_URL"):
            self._environ[partitions.VARIABLE] = partitions.settled(self.data_dir, self._environ, self._workers)
        self._starter = ServiceStarter(self.data_dir, self.logs, self._environ, self._say)
        services = await self._starter.start(self._kafka, rabbitmq=self._rabbitmq)
        if self._wanted:
            await self._prepare("migrate", "topics")
            await self._make_first_user()
        self._roles = list(self._make_roles())
        await together(self._begin(unit) for unit in self._roles)
        self._publish()
        for service in services.running():
            forgot = services.forgetful and service is services.kafka
            self._keeper.watch(service, self._log_was_lost if forgot else service.start_again)
        self._watch_roles()

    async def stop(self, *, drain: bool = True) -> None:
        """Stop intake, let the workers finish, then workers, delivery and services; all within 15 s."""
        deadline = time.monotonic() + _STOP_WITHIN
        await self._keeper.let_go()
        await self._stop_role(Role.BRIDGE, deadline)
        await self._stop_role(Role.GATEWAY, deadline)
        if drain:
            await self._drain(min(_DRAIN_WITHIN, deadline - _RESERVED[Role.GATEWAY] - time.monotonic()))
        await self._stop_role(Role.WORKER, deadline)
        await self._stop_role(Role.DELIVERY, deadline)
        services = self._starter.services.running() if self._starter else []
        left = max(1.0, deadline - time.monotonic())
        await together(self._end(service, left) for service in services)
        if self._lock is not None:
            (self.data_dir / endpoints.FILE_NAME).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    async def start_role(self, role: Role | str) -> None:
        """Start one more process of a role, such as one that was left out at first; returns when it answers."""
        place = sum(unit.role == role for unit in self._roles)
        unit = RoleProcess(Role(role), place, self.logs, lambda: self.settings, many=role == Role.WORKER)
        self._roles.append(unit)
        await self._begin(unit)
        self._publish()
        self._keeper.watch(unit, unit.launch)

    async def stop_role(self, role: Role | str) -> None:
        """Stop a role's newest process; the others go on."""
        unit = [unit for unit in self._roles if unit.role == role][-1]
        self._roles.remove(unit)
        await self._keeper.let_go(unit)
        await self._end(unit, _GRACE)
        self._publish()

    async def restart_role(self, unit: RoleProcess) -> None:
        """Stop one process in its own way and start it again, while the others go on; returns when it answers."""
        await self._keeper.let_go(unit)
        await self._end(unit, _RESTART_GRACE)
        await unit.start_again()
        self._publish()
        self._keeper.watch(unit, unit.launch)

    async def kill_all(self) -> None:
        """The last resort: everything at once."""
        await self._keeper.let_go()
        await asyncio.gather(*(unit.kill() for unit in self.units))

    def _take_folder(self) -> None:
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(self.data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise EmbeddedError(
                f"another run uses {self.data_dir}: stop it, or set {PREFIX}DATA_DIR to another folder"
            ) from None
        self._lock = lock

    def _make_roles(self) -> Iterable[RoleProcess]:
        for role in self._wanted:
            if role is Role.BRIDGE and not self.settings[f"{PREFIX}AMQP_URL"]:
                continue
            count = self._workers if role is Role.WORKER else 1
            for index in range(count):
                yield RoleProcess(role, index, self.logs, lambda: self.settings, many=role is Role.WORKER)

    async def _prepare(self, *commands: str) -> None:
        began = time.monotonic()
        await asyncio.gather(*(run_agents(name, self.settings, self.logs / f"{name}.log") for name in commands))
        self._say(f"{' and '.join(commands)} done after {time.monotonic() - began:.1f} s", Tone.GOOD)

    async def _make_first_user(self) -> None:
        """Where people must sign in and nobody can yet: an admin, with a password that is told once."""
        if not self.signing_in:
            return
        password = secrets.token_urlsafe(15)
        env = {**self.settings, "FIRST_PASSWORD": password}
        making = agents_command("user", "first", FIRST_USER, env=env, log=self.logs / "user.log")
        code = await run_once(making, 60)
        if code == 0:
            self.first_password = password
        elif code != _THERE_ARE_USERS:
            raise StartError("the first user cannot be made", self.logs / "user.log")

    async def _begin(self, unit: Unit) -> None:
        seconds = await unit.start()
        self._say(f"{unit.name} is ready after {seconds:.1f} s, {unit.address}", Tone.GOOD)

    def _watch_roles(self) -> None:
        for unit in self._roles:
            self._keeper.watch(unit, unit.launch)

    def _publish(self) -> None:
        self.endpoints = endpoints.describe(self.settings, self.units)
        endpoints.write(self.data_dir, self.endpoints)

    async def _log_was_lost(self) -> None:
        """The broker forgot everything: Redis must forget too, and the roles begin with a new life of the log."""
        services = self.services
        redis = services.redis
        await self._keeper.let_go(*self._roles, *([redis] if redis else []))
        await asyncio.gather(*(unit.kill() for unit in self._roles), *([redis.kill()] if redis else []))
        if services.kafka:
            await services.kafka.start_again()
        if redis:
            redis.forget()
            await redis.start_again()
            self._keeper.watch(redis, redis.start_again)
        if self._wanted:
            await self._prepare("topics")
        for unit in self._roles:
            rotate(unit.log)
            await unit.launch()
        self._watch_roles()

    async def _stop_role(self, role: Role, deadline: float) -> None:
        grace = min(_GRACE, deadline - _RESERVED[role] - time.monotonic())
        await together(self._end(unit, grace) for unit in self._roles if unit.role is role)

    async def _end(self, unit: Unit, grace: float) -> None:
        began = time.monotonic()
        if not await unit.stop(grace):
            self._say(f"{unit.name} did not stop within {grace:.1f} s and was ended", Tone.WARNING)
        else:
            self._say(f"{unit.name} stopped after {time.monotonic() - began:.1f} s")

    async def _drain(self, within: float) -> None:
        workers = [
            unit for unit in self._roles if unit.role is Role.WORKER and unit.child and unit.child.exit_code is None
        ]
        began = time.monotonic()
        calm = 0  # readings in a row without lag; between two topics a record is in neither for a moment
        lags: list[float] = []
        while workers and calm < _CALM and time.monotonic() - began < within:
            lags = [lag for lag in await asyncio.gather(*(unit.lag() for unit in workers)) if lag is not None]
            if not lags:
                return
            calm = 0 if any(lags) else calm + 1
            await asyncio.sleep(0.1)
        if workers:
            self._say(f"workers drained to lag {sum(lags):g} after {time.monotonic() - began:.1f} s")


def _of_ours(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(PREFIX)}
