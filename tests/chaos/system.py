"""A running system whose parts can be hurt: the supervisor's stack, with hands on every process."""

import asyncio
import json
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from embedded.console import Say
from embedded.process import Command
from embedded.roles import PREFIX, RoleProcess
from embedded.stack import Stack
from embedded.unit import Role, Server, Unit

ROLE_KINDS: Final = frozenset({Role.BRIDGE, Role.GATEWAY, Role.WORKER, Role.DELIVERY})
_POLL_S: Final = 0.1


class PlantedRole(RoleProcess):
    """A role whose process begins with a planted bug."""

    plant = ""

    def command(self) -> Command:
        made = super().command()
        *start, agents, role = made.argv
        if agents != "agents":
            raise ValueError(f"a role is not started as it was: {made.argv}")
        argv = [*start, "tests.chaos.planted", self.plant, role]
        return Command(argv=argv, cwd=made.cwd, env=made.env, log=made.log, yields=made.yields)


class ChaosStack(Stack):
    """A stack that lets one take processes down, keep them down, and change how many workers there are."""

    def __init__(
        self, folder: Path, overrides: dict[str, object], *, workers: int, kafka: str, say: Say, plant: str = ""
    ) -> None:
        super().__init__(folder, overrides, workers=workers, kafka=kafka, say=say)
        self.plant = plant

    def _make_roles(self) -> Iterable[RoleProcess]:
        for made in super()._make_roles():
            yield self._planted(made) if self.plant else made

    def _planted(self, made: RoleProcess) -> RoleProcess:
        role = PlantedRole(made.role, made.index, self.logs, lambda: self.settings, many=made.role is Role.WORKER)
        role.plant = self.plant
        return role

    def worker_without_ticks(self) -> RoleProcess:
        """A worker, not yet started, for which time stands still."""
        unit = PlantedRole(Role.WORKER, 90, self.logs, lambda: self.settings, many=True)
        unit.plant = "no_ticks"
        unit.draw_ports()
        return unit

    @property
    def topics(self) -> tuple[str, str]:
        """What the two agents read."""
        prefix = self.settings.get(f"{PREFIX}APP_PREFIX", "")
        return (f"{prefix}-alerts", f"{prefix}-incident-inputs") if prefix else ("alerts", "incident-inputs")

    def of(self, role: Role) -> list[Unit]:
        """The running units of a role."""
        return [unit for unit in self.units if unit.role is role]

    async def hold(self, unit: Unit) -> None:
        """End a unit at once and let nobody start it again."""
        await self._keeper.let_go(unit)
        await unit.kill()

    async def release(self, unit: Unit) -> None:
        """Start a unit that was held, and watch over it again."""
        if isinstance(unit, Server):
            await unit.start_again()
            self._keeper.watch(unit, unit.start_again)
        else:
            await unit.launch()
            self._keeper.watch(unit, unit.launch)
        self._publish()

    async def restart(self, unit: Unit) -> None:
        """Stop a unit in its own way, and start it again."""
        await self._keeper.let_go(unit)
        await unit.stop(15)
        await self.release(unit)

    async def add_worker(self) -> RoleProcess:
        """One worker more."""
        index = max(unit.index for unit in self._roles if unit.role is Role.WORKER) + 1
        unit = RoleProcess(Role.WORKER, index, self.logs, lambda: self.settings, many=True)
        unit.draw_ports()
        self._roles.append(unit)
        await self.release(unit)
        return unit

    async def drop_worker(self, unit: RoleProcess) -> None:
        """One worker fewer, stopped in its own way."""
        await self._keeper.let_go(unit)
        await unit.stop(15)
        self._roles.remove(unit)
        self._publish()

    async def ready(self, within: float) -> float | None:
        """Seconds until every unit answers that it is ready, lag included; None when they do not in time."""
        began = time.monotonic()
        while time.monotonic() - began < within:
            if await self._is_ready():
                return time.monotonic() - began
            await asyncio.sleep(_POLL_S)
        return None

    async def _is_ready(self) -> bool:
        try:
            async with asyncio.timeout(3):
                for unit in self.units:
                    if unit.child is None or unit.child.exit_code is not None:
                        return False
                    # Whether Kafka is there, its users say; a probe of it that is cut short leaves a connection open.
                    if unit.role is not Role.KAFKA:
                        await unit.probe()
        except Exception:  # noqa: BLE001 - any failure to answer means not ready yet
            return False
        return True

    async def lag(self) -> float | None:
        """Records that wait, over all workers; None when one does not say."""
        lags = [await unit.lag() for unit in self._roles if unit.role is Role.WORKER]
        return None if None in lags else sum(lag or 0 for lag in lags)

    async def sql(self, statement: str, *arguments: object) -> list[dict[str, Any]]:
        """Ask Postgres on a connection of one's own."""
        connection = await asyncpg.connect(self.endpoints["postgres"], timeout=5)
        try:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]
        finally:
            await connection.close()

    async def metric(self, unit: RoleProcess, name: str, label: str) -> dict[str, int]:
        """A counter's values by one of its labels."""
        async with httpx.AsyncClient(trust_env=False, timeout=3) as client:
            text = (await client.get(f"{unit.address}/metrics")).text
        values = {}
        for line in text.splitlines():
            if line.startswith(f"{name}{{"):
                labels, _, value = line.removeprefix(name).rpartition(" ")
                named = dict(part.split("=", 1) for part in labels.strip("{}").split(","))
                values[json.loads(named[label])] = int(float(value))
        return values

    async def informed(self, within: float = 60) -> None:
        """Wait until every partition knows the rules."""
        deadline = time.monotonic() + within
        partitions = int(self.settings[f"{PREFIX}PARTITIONS"])
        while time.monotonic() < deadline:
            rows = await self.sql(
                "SELECT count(*) AS known FROM stream_progress p"
                " WHERE p.config_version = (SELECT max(version) FROM config_versions) AND p.config_version > 0"
                " AND p.topic ~ '(alerts|incident-inputs)$'"
            )
            if rows[0]["known"] >= 2 * partitions:
                return
            await asyncio.sleep(_POLL_S)
        raise TimeoutError("not every partition has the rules")


def signal_to(unit: Unit, number: signal.Signals) -> int:
    """Send a signal to a unit's process; its pid."""
    if unit.child is None:
        raise RuntimeError(f"{unit.name} does not run")
    unit.child.send(number)
    return unit.child.pid


def family(pid: int) -> list[int]:
    """A process and everything below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    every, left = [], [pid]
    while left:
        one = left.pop()
        every.append(one)
        left += children.get(one, [])
    return every


def peak_memory(pid: int) -> float:
    """The most memory that a process ever had resident, in MiB; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0
