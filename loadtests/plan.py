"""What one load run does, and where: given to the generator process as JSON in LOAD_PLAN."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

VARIABLE: Final = "LOAD_PLAN"
STATUS_MARK: Final = "load-status "


class Via(StrEnum):
    """Which way the alerts come in."""

    AMQP = "amqp"
    HTTP = "http"
    BOTH = "both"


class Shape(StrEnum):
    """How arrivals are spread: evenly, at random (Poisson), or four times the rate in the middle fifth."""

    STEADY = "steady"
    POISSON = "poisson"
    STORM = "storm"


class Receivers(StrEnum):
    """Who is told during a run: nobody, a target that answers, or one beside which another never answers."""

    NONE = "none"
    HEALTHY = "healthy"
    HANGING = "hanging"


class AmqpEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where to publish."""

    url: str
    exchange: str
    queue: str


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a running system; our own roles also say where they answer probes."""

    role: str
    pid: int
    url: str = ""


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """What `endpoints.json` of a running system says."""

    http: str | None = None
    amqp: AmqpEndpoint | None = None
    postgres: str
    redis: str = ""
    kafka: str = ""
    processes: tuple[Process, ...] = ()

    @property
    def alive(self) -> bool:
        """Whether every process that it names is there."""
        return bool(self.processes) and all(Path(f"/proc/{process.pid}").exists() for process in self.processes)


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One run: alerts a second for so many seconds, `batch` alerts a message or request.

    The first `warmup` seconds, a quarter of the run at most, are not among the latencies: what runs there runs for the
    first time. With `rolling` every role of the system is restarted meanwhile, one process after the other.
    """

    rate: float = 1000
    seconds: float = 60
    warmup: float = 5
    via: Via = Via.AMQP
    batch: int = 1
    shape: Shape = Shape.STEADY
    seed: int = 1
    receivers: Receivers = Receivers.NONE
    rolling: bool = False
    run: str = "load"
    ledger: str = ""
    http: str | None = None
    amqp: AmqpEndpoint | None = None

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.seconds <= 0 or self.batch < 1:
            raise ValueError("rate and seconds are above 0, batch is at least 1")
        if self.warmup < 0:
            raise ValueError("warmup is 0 or more")

    @property
    def warm_after(self) -> float:
        """Seconds after the first send from which on latencies count."""
        return min(self.warmup, self.seconds / 4)

    def half(self, way: Via) -> "LoadPlan":
        """The part of one way: with `both` each has half of the rate and its own identities."""
        if self.via is not Via.BOTH:
            return self
        return msgspec.structs.replace(self, rate=self.rate / 2, run=f"{self.run}{way[0]}", via=way)


def endpoints_from(path: Path) -> Endpoints | None:
    """The endpoints of a running system, or None where there is no such file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Endpoints)
    except FileNotFoundError:
        return None


def plan_from_environ() -> LoadPlan:
    """The plan of this generator process; without one, a standard run against `INCIDENTS_DATA_DIR`."""
    text = os.environ.get(VARIABLE)
    if text:
        return msgspec.json.decode(text, type=LoadPlan)
    path = Path(os.environ.get("INCIDENTS_DATA_DIR") or ".data") / "endpoints.json"
    endpoints = endpoints_from(path)
    if endpoints is None:
        raise SystemExit(f"no running system: {path} is not there; `make run` first, or use `make load`")
    return LoadPlan(http=endpoints.http, amqp=endpoints.amqp, via=Via.BOTH if endpoints.amqp else Via.HTTP)
