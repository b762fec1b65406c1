"""The far end, as a process of its own: a webhook receiver that writes down every notice before it answers.

Now and then, by seed, it takes a notice and lets the answer get lost, or says
503: what it writes is what a receiver really saw.
"""

import asyncio
import hashlib
import json
import os
import random
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

_LARGEST: Final = 64 << 20
LOST, BUSY = 0, 503


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `answered` is our status code, 0 when the answer was lost; `firing` names what fires in it."""

    at_us: int
    target: str
    key: str
    incident: str
    group: str
    status: str
    body_hash: str
    firing: str
    answered: int

    @property
    def taken(self) -> bool:
        """Whether the sender was told that it arrived."""
        return 200 <= self.answered < 300


def names(labels: Iterable[Mapping[str, str]]) -> str:
    """One name for a set of alerts, by nothing but their labels."""
    texts = sorted(json.dumps(dict(one), sort_keys=True, ensure_ascii=False) for one in labels)
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=12).hexdigest() if texts else ""


def noted(target: str, key: str, data: bytes, answered: int) -> Notice:
    """What a request says."""
    said: dict[str, Any] = json.loads(data)
    return Notice(
        at_us=time.time_ns() // 1000,
        target=target,
        key=key,
        incident=said["incident"]["id"],
        group=said["groupKey"],
        status=said["status"],
        body_hash=hashlib.blake2b(data, digest_size=16).hexdigest(),
        firing=names(one["labels"] for one in said["alerts"] if one["status"] == "firing"),
        answered=answered,
    )


def notices_of(path: Path) -> list[Notice]:
    """Everything in a receiver's ledger, in the order of arrival."""
    return msgspec.json.Decoder(Notice).decode_lines(path.read_bytes()) if path.exists() else []


class Receiver:
    """Answers every POST; the path is the target's name."""

    def __init__(self, ledger: Path, seed: int, trouble: float) -> None:
        self._file = ledger.open("ab", buffering=0)
        self._chance = random.Random(f"receiver {seed}")
        self._trouble = trouble

    async def take(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        drawn = self._chance.random()
        answered = LOST if drawn < self._trouble / 2 else BUSY if drawn < self._trouble else 200
        notice = noted(request.match_info["target"], request.headers.get("Idempotency-Key", ""), data, answered)
        self._file.write(msgspec.json.encode(notice) + b"\n")
        if answered == LOST and request.transport is not None:
            request.transport.abort()
        return web.Response(status=answered or 200)


async def _serve(port: int, ledger: Path, seed: int, trouble: float) -> None:
    receiver = Receiver(ledger, seed, trouble)
    app = web.Application(client_max_size=_LARGEST)
    app.router.add_post("/{target}", receiver.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    while os.getppid() != 1:
        await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
