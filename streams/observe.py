"""What a process says of itself: its parts' health, and /healthz, /readyz and /metrics over HTTP.

Probes only read what was set; whoever owns a part checks it in the background.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from enum import StrEnum
from typing import Any, Final

import msgspec
import structlog
import uvicorn
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from streams import metrics
from streams.settings import Settings

JSON: Final = "application/json"
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_READS: Final = frozenset({"GET", "HEAD"})
_ONLY_READ: Final = (405, JSON, b'{"detail":"this is only read"}')
_ELSEWHERE: Final = (404, JSON, b'{"detail":"only /healthz, /readyz and /metrics are here"}')
_encode = msgspec.json.Encoder().encode
_LOOP_BEAT: Final = 0.5
_STALLED: Final = 10.0
_GIVEN_UP: Final = 5.0

log = structlog.get_logger(__name__)


class Phase(StrEnum):
    """What a process is at; only `RUNNING` can be ready."""

    STARTING = "starting"
    REBALANCING = "rebalancing"
    REBUILDING = "rebuilding"
    RUNNING = "running"
    DRAINING = "draining"


class Part(msgspec.Struct, frozen=True):
    """One thing the role depends on. `since` is when `ok` last changed, in unix seconds."""

    ok: bool
    required: bool
    since: float
    detail: str


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """The body of /readyz."""

    ready: bool
    role: str
    degraded: bool
    lag: float | None
    phase: str
    parts: dict[str, Part]


class Health:
    """The parts of one process; `set` is cheap enough to be called every step."""

    def __init__(self, role: str) -> None:
        self.role = role
        self._phase: str = Phase.STARTING
        self._lag: float | None = None
        self._parts: dict[str, Part] = {}
        self._any_of: list[tuple[str, ...]] = []
        self._beat = time.monotonic()

    def set(self, part: str, ok: bool, detail: str = "", required: bool = True) -> None:  # noqa: FBT001, FBT002 - reads as health.set("kafka", True)
        """Say how a part is; a change is logged once."""
        known = self._parts.get(part)
        if known is not None and (known.ok, known.required, known.detail) == (ok, required, detail):
            return
        same = known is not None and known.ok == ok
        since = known.since if known is not None and same else time.time()
        self._parts[part] = Part(ok=ok, required=required, since=since, detail=detail)
        metrics.part_up.labels(part).set(int(ok))
        if ok and known is not None and not same:
            log.info("part_up", part=part, detail=detail)
        elif not ok and not same:
            log.warning("part_down", part=part, required=required, detail=detail)

    def any_of(self, *parts: str) -> None:
        """One of these parts is enough; each of them alone counts as optional."""
        self._any_of.append(parts)

    def phase(self, name: str) -> None:
        """Name what the process is at: one of `Phase`, or a role's own word; only `running` can be ready."""
        if name != self._phase:
            log.info("phase", phase=name, before=self._phase)
        self._phase = name

    def lag(self, records: float | None) -> None:
        """Records not yet applied; None while that is unknown."""
        self._lag = records

    def is_ok(self, part: str) -> bool:
        """Whether a part was last seen well; False when it was never seen."""
        known = self._parts.get(part)
        return known is not None and known.ok

    def readiness(self) -> Readiness:
        """What /readyz answers now."""
        bad = {name for name, part in self._parts.items() if not part.ok}
        broken = any(self._parts[name].required for name in bad)
        nowhere = any(not any(self.is_ok(name) for name in parts) for parts in self._any_of)
        return Readiness(
            ready=self._phase == Phase.RUNNING and not (broken or nowhere),
            role=self.role,
            degraded=bool(bad),
            lag=self._lag,
            phase=self._phase,
            parts=dict(sorted(self._parts.items())),
        )

    def beat(self) -> None:
        """Called by the loop's own timer; /healthz falls when it stays away."""
        self._beat = time.monotonic()

    def is_alive(self) -> bool:
        """Whether the event loop ran lately."""
        return time.monotonic() - self._beat < _STALLED


class Question:
    """Asks a part whether it is there, one question at a time; nobody waits for one that hangs, and its cleaning up."""

    def __init__(self, ask: Callable[[], Awaitable[object]], within: float) -> None:
        self._ask = ask
        self._within = within
        self._asked: asyncio.Task[object] | None = None
        self._asked_at = 0.0

    async def flaw(self, *known: type[BaseException]) -> str:
        """Why there is no answer, within so many seconds; empty when there is one.

        Raises:
            Exception: what the question raises and is not `known`.
        """
        if self._asked is None:
            self._asked, self._asked_at = asyncio.create_task(self._awaited()), time.monotonic()
        asked = self._asked
        try:
            done, _ = await asyncio.wait({asked}, timeout=self._within)
        except asyncio.CancelledError:
            asked.cancel()
            raise
        if not done:
            if time.monotonic() - self._asked_at > _GIVEN_UP:
                asked.cancel()
                self._asked = None
            return f"no answer within {self._within:g} s"
        self._asked = None
        try:
            asked.result()
        except TimeoutError:
            return "it took too long"
        except known as error:
            return repr(error)
        return ""

    async def _awaited(self) -> object:
        return await self._ask()


def probe(health: Health, path: str, accept: str = "") -> tuple[int, str, bytes] | None:
    """Status, content type and body for a probe's path; None when the path is another's.

    Whoever accepts OpenMetrics has exemplars with the metrics.
    """
    if path == "/healthz":
        alive = health.is_alive()
        return (200 if alive else 503), JSON, _encode({"alive": alive, "role": health.role})
    if path == "/readyz":
        readiness = health.readiness()
        return (200 if readiness.ready else 503), JSON, _encode(readiness)
    if path == "/metrics":
        encode, content_type = choose_encoder(accept)
        return 200, content_type, encode(REGISTRY)
    return None


async def watch_loop(health: Health) -> None:
    """Measure how late the event loop wakes; runs until cancelled."""
    while True:
        due = time.monotonic() + _LOOP_BEAT
        await asyncio.sleep(_LOOP_BEAT)
        metrics.loop_lag_seconds.observe(max(0.0, time.monotonic() - due))
        health.beat()


@contextlib.asynccontextmanager
async def watched(health: Health) -> AsyncIterator[None]:
    """Keep `watch_loop` running inside the block."""
    task = asyncio.create_task(watch_loop(health))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def probes(health: Health, other: App | None = None) -> App:
    """An ASGI app that answers the probes and hands everything else to `other`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        is_http = scope["type"] == "http"
        is_read = is_http and scope["method"] in _READS
        answer = probe(health, scope["path"], _accepted(scope)) if is_read else None
        if answer is None and is_http and not is_read and scope["path"] in PATHS:
            answer = _ONLY_READ
        if answer is None and other is not None:
            await other(scope, receive, send)
            return
        status, content_type, body = answer or _ELSEWHERE
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            *([(b"allow", b"GET, HEAD")] if answer is _ONLY_READ else ()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return app


def _accepted(scope: Scope) -> str:
    if scope["path"] != "/metrics":
        return ""
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")


class Server(uvicorn.Server):
    """uvicorn inside a process that handles its own signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to their owner."""
        yield


@contextlib.asynccontextmanager
async def serve(settings: Settings, health: Health) -> AsyncIterator[int]:
    """Answer the probes on `settings.observe_host` and `observe_port` inside the block; gives the port that was taken.

    Raises:
        OSError: the port is in use.
    """
    with contextlib.ExitStack() as stack:
        listener = listen(settings.observe_host, settings.observe_port)
        stack.callback(listener.close)
        port = int(listener.getsockname()[1])
        config = uvicorn.Config(
            probes(health), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        server = Server(config)
        async with watched(health):
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            log.info("observing", role=health.role, port=port)
            try:
                yield port
            finally:
                server.should_exit = True
                await serving


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one.

    Raises:
        OSError: the port is in use.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
