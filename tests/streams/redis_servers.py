"""Redis servers that are not the usual one: a cluster of three nodes, one with TLS and users."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from embedded.redis import _program

SLOTS = 16384
BUS = 10_000


def pair_of_ports() -> int:
    """A port below the ephemeral ones whose cluster bus port is free as well."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with contextlib.ExitStack() as stack:
            try:
                for number in (port, port + BUS):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except OSError:
                continue
            return port


@asynccontextmanager
async def server(folder: Path, *options: str) -> AsyncIterator["asyncio.subprocess.Process"]:
    """A redis-server with these options; ends with the block."""
    folder.mkdir(parents=True)  # noqa: ASYNC240 - nothing else runs yet
    common = ("--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "no")
    with (folder / "log").open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            str(_program(None)), *common, *options, stdout=out, stderr=out, stdin=asyncio.subprocess.DEVNULL
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def answering(client: Redis, process: "asyncio.subprocess.Process") -> bool:
    """Whether it came up; a server that ended will not."""
    async with asyncio.timeout(10):
        while process.returncode is None:
            try:
                await client.ping()
            except (RedisError, OSError):
                await asyncio.sleep(0.05)
            else:
                return True
    return False


@asynccontextmanager
async def cluster(folder: Path, nodes: int = 3) -> AsyncIterator[Sequence[int]]:
    """A cluster of primaries on loopback that is ready; gives their ports."""
    async with contextlib.AsyncExitStack() as stack:
        ports = []
        clients: list[Any] = []
        for number in range(nodes):
            port = pair_of_ports()
            options = ("--port", str(port), "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
            process = await stack.enter_async_context(server(folder / str(number), *options))
            client = cast("Any", Redis(port=port))
            stack.push_async_callback(client.aclose)
            assert await answering(client, process)
            ports.append(port)
            clients.append(client)
        share = -(-SLOTS // nodes)
        for number, client in enumerate(clients):
            slots = range(number * share, min(SLOTS, (number + 1) * share))
            await client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            await client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                await client.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0])
        async with asyncio.timeout(20):
            for client in clients:
                while not await _agrees(client, nodes):
                    await asyncio.sleep(0.1)
        yield ports


async def _agrees(client: Any, nodes: int) -> bool:
    """Whether a node knows who has every slot, and believes it."""
    info = await client.execute_command("CLUSTER", "INFO")
    ready = (
        info.get("cluster_state") if isinstance(info, dict) else "ok" if b"cluster_state:ok" in info else ""
    ) == "ok"
    return ready and len(await client.execute_command("CLUSTER", "SLOTS")) == nodes
