"""`incidents run`: the whole system on one machine, watched over until Ctrl-C."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Coroutine
from typing import Protocol

from embedded.console import Console, Tone, without_password
from embedded.errors import EmbeddedError
from embedded.roles import PREFIX
from embedded.stack import FIRST_USER, Stack
from embedded.tansu import Tansu
from embedded.unit import Role

__all__ = ["EmbeddedError", "Role", "Stack", "run"]


class RunSettings(Protocol):
    """The part of the settings that is needed here; the roles read theirs from the environment."""

    @property
    def data_dir(self) -> str:
        """Folder of everything that is kept."""


def run(settings: RunSettings) -> int:
    """Run until SIGINT or SIGTERM; returns the exit code. WORKERS and KAFKA come from the environment."""
    console = Console()
    workers = os.environ.get("WORKERS") or "1"
    if not workers.isdecimal() or int(workers) < 1:
        console(f"WORKERS must be a number from 1 up, not {workers!r}", Tone.BAD)
        return 2
    stack = Stack(settings.data_dir, workers=int(workers), say=console)
    return asyncio.run(_run(stack, console))


async def _run(stack: Stack, console: Console) -> int:
    asked = asyncio.Event()
    insisted = asyncio.Event()

    def on_signal() -> None:
        (insisted if asked.is_set() else asked).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    began = time.monotonic()
    code = 0
    try:
        if await _unless(asked, stack.start()):
            _report(stack, console, time.monotonic() - began)
            await asked.wait()
    except EmbeddedError as error:
        console(str(error), Tone.BAD)
        code = 1
    began = time.monotonic()
    console("stopping: intake, drain, workers, delivery, services (again Ctrl-C: at once)")
    if not await _unless(insisted, stack.stop(drain=code == 0)):
        await stack.kill_all()
    console(f"stopped after {time.monotonic() - began:.1f} s", Tone.GOOD)
    return code


async def _unless(event: asyncio.Event, work: Coroutine[object, object, None]) -> bool:
    """Do the work, or leave it when the event comes first; says whether it was done."""
    doing = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not doing.done():
        doing.cancel()
        with contextlib.suppress(asyncio.CancelledError, EmbeddedError):
            await doing
        return False
    await doing
    return True


def _report(stack: Stack, console: Console, seconds: float) -> None:
    found, services = stack.endpoints, stack.services
    console(f"everything runs after {seconds:.1f} s", Tone.GOOD)
    amqp = found["amqp"]
    intake = f"{without_password(amqp['url'])} exchange {amqp['exchange']}, queue {amqp['queue']}" if amqp else "off"
    console.table([
        ("page and API", f"{found['http']}/" if found["http"] else "off"),
        ("RabbitMQ", intake),
        ("Postgres", without_password(found["postgres"])),
        ("Redis", without_password(found["redis"])),
        ("Kafka", found["kafka"]),
        ("with passwords", str(stack.data_dir / "endpoints.json")),
        ("logs", str(stack.logs)),
    ])  # fmt: skip
    embedded = ", ".join(service.name for service in services.running()) or "nothing"
    kafka = services.kafka.title if services.kafka else f"the one at {found['kafka']}"
    console(f"Kafka is {kafka}; embedded: {embedded}", Tone.WARNING if isinstance(services.kafka, Tansu) else Tone.STEP)
    for note in services.notes:
        console(note, Tone.WARNING)
    if stack.first_password:
        console(
            f"sign in as {FIRST_USER} with the password {stack.first_password} (it is shown this once)", Tone.WARNING
        )
    if not stack.signing_in:
        console(f"{PREFIX}AUTH=off: everyone who can reach 127.0.0.1 on this machine may do everything", Tone.WARNING)
