"""One short run for each planted bug: the fault that it cannot stand, and the law that it breaks."""

import secrets
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from embedded.roles import PREFIX
from embedded.stack import Stack
from tests.chaos import laws
from tests.chaos.run import Account, Plan, Run

Say = Callable[[str], None]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What a plant is run under, and the laws of which one must turn red."""

    faults: str
    breaks: tuple[str, ...]
    workers: int = 1
    seconds: float = 8
    limit: int = 1
    rate: float = 250
    settings: dict[str, str] = {}


CASES: Final = {
    "ack_before_store": Case(faults="kill-bridge", breaks=("L1",)),
    "no_fencing": Case(
        faults="zombie-worker", breaks=("L2",), workers=2, seconds=10,
        settings={"session_timeout": "2.5", "delivery_timeout": "2"},
    ),
    "no_revision_check": Case(faults="repeat-records", breaks=("L4", "L5", "L6"), limit=3),
    "no_dead_letter": Case(faults="poison-records", breaks=("L1",)),
    "no_outbox": Case(faults="kill-worker", breaks=(laws.NOTICES,)),
}  # fmt: skip


async def plan_of(plant: str, urls: Mapping[str, str], *, planted: bool = True) -> Plan:
    """The run of a plant, or the same without it, on running services: a prefix and a database keep it apart."""
    case, prefix = CASES[plant], f"p{secrets.token_hex(4)}"
    settings = {
        **{name.removeprefix(PREFIX).lower(): url for name, url in urls.items()}, **case.settings,
        "app_prefix": prefix, "amqp_exchange": f"{prefix}-alerts", "amqp_queue": f"{prefix}-alerts.in",
        "database_url": await _new_database(urls[f"{PREFIX}DATABASE_URL"], prefix),
    }  # fmt: skip
    return Plan(
        seed=5, seconds=case.seconds, rate=case.rate, workers=case.workers, faults=case.faults, limit=case.limit,
        calm=1,
        plant=plant if planted else "", settings=settings, patience=6 if planted else 60, rebuild=False,
    )  # fmt: skip


async def _new_database(url: str, name: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return f"{url.rpartition('/')[0]}/{name}"


def is_found(plant: str, account: Account) -> bool:
    """Whether one of the laws that the bug breaks is red."""
    red = [finding.law for finding in account.findings if not finding.holds]
    return any(law.startswith(CASES[plant].breaks) for law in red)


def _opened(folder: Path) -> Path:
    folder.chmod(0o755)  # the servers run as another user
    return folder


async def every_plant(say: Say) -> bool:
    """All five on services of their own; says whether each was found."""
    missed = []
    with tempfile.TemporaryDirectory(prefix="chaos-planted-") as name:
        folder = _opened(Path(name))
        async with Stack(folder / "services", roles=(), kafka="apache") as services:
            for plant in CASES:
                plan = await plan_of(plant, services.services.urls())
                account = await Run(plan, folder / plant, say).account()
                red = [finding for finding in account.findings if not finding.holds]
                for finding in red:
                    say(f"  {plant}: {finding.law} is red: {finding.count}, {', '.join(finding.violations[:1])}")
                if not is_found(plant, account):
                    missed.append(plant)
                    say(f"  {plant} was NOT found")
    return not missed
