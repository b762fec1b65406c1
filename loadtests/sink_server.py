"""A webhook receiver that keeps its own ledger of every notice it got: the far end, seen from outside."""

import argparse
import asyncio
import contextlib
import hashlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from aiohttp import web

_KEY_HEADERS: Final = ("Idempotency-Key", "X-Idempotency-Key")
_LARGEST: Final = 8 << 20


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One POST. `attempt` counts those of one key to one target from 1; `answered` is our status code."""

    received_us: int
    target: str
    key: str
    incident: str
    status: str
    attempt: int
    body_hash: str
    answered: int


Answer = Callable[[int], int]
"""Gives the status code for the n-th notice, from 0."""


class Sink:
    """An async context manager: inside it the receiver runs; `notices` is its ledger, also written to a file."""

    def __init__(
        self,
        ledger: Path | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        answer: Answer | None = None,
        hangs: str = "",
    ) -> None:
        self.notices: list[Notice] = []
        self.port = port
        self._host = host
        self._hangs = hangs  # this target gets no answer
        self._file = ledger.open("ab", buffering=0) if ledger is not None else None
        self._answer = answer or (lambda _: 200)
        self._attempts: dict[tuple[str, str], int] = {}
        self._arrived = asyncio.Condition()
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_route("POST", "/{target:.*}", self._receive)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    @property
    def url(self) -> str:
        """Base address; the path behind it names the target."""
        return f"http://{self._host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        if self._file is not None:
            self._file.close()

    async def until(self, count: int, *, within: float = 30) -> None:
        """Wait until so many notices have come.

        Raises:
            TimeoutError: they did not come within so many seconds.
        """
        async with asyncio.timeout(within), self._arrived:
            await self._arrived.wait_for(lambda: len(self.notices) >= count)

    async def _receive(self, request: web.Request) -> web.Response:
        data = await request.read()
        target = request.match_info["target"]
        key = next((request.headers[name] for name in _KEY_HEADERS if name in request.headers), "")
        attempt = self._attempts[target, key] = self._attempts.get((target, key), 0) + 1
        said = _said(data)
        notice = Notice(
            received_us=time.time_ns() // 1000,
            target=target,
            key=key,
            incident=_text(said, "incident_id", "incident", "groupKey"),
            status=_text(said, "status"),
            attempt=attempt,
            body_hash=hashlib.blake2b(data, digest_size=16).hexdigest(),
            answered=self._answer(len(self.notices)),
        )
        async with self._arrived:
            self.notices.append(notice)
            self._arrived.notify_all()
        if self._file is not None:
            self._file.write(msgspec.json.encode(notice) + b"\n")
        if target == self._hangs:
            await asyncio.Event().wait()
        return web.Response(status=notice.answered)


def notices_of(path: Path) -> list[Notice]:
    """Everything in a sink's ledger file."""
    return msgspec.json.Decoder(Notice).decode_lines(path.read_bytes())


def _said(data: bytes) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return {}
    return said if isinstance(said, dict) else {}


def _text(said: dict[str, Any], *names: str) -> str:
    for name in names:
        value = said.get(name)
        if isinstance(value, dict):
            value = value.get("id")
        if value is not None:
            return str(value)
    return ""


async def _serve(port: int, ledger: Path, hangs: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with Sink(ledger, port=port, hangs=hangs) as sink:
        print(f"webhook sink on {sink.url}, ledger in {ledger}", flush=True)
        await stopped.wait()


def main(arguments: list[str] | None = None) -> int:
    """Run a sink until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.sink_server", description="Receive webhooks, keep a ledger."
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (0: a free one)")
    parser.add_argument(
        "--ledger", type=Path, default=Path("sink-ledger.jsonl"), help="file to append to (%(default)s)"
    )
    parser.add_argument("--hang", default="", metavar="TARGET", help="never answer what is posted to this path")
    given = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(given.port, given.ledger, given.hang))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
