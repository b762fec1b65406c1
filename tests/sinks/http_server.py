"""A raw HTTP server that does what a test tells it, for everything that a real client would never meet."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

Answer = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A raw HTTP server that answers each request as it is told, and keeps what it was sent."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.open: set[asyncio.Task[None]] = set()
        self.url = ""
        self.answer: Answer = plain(200)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.get_running_loop().create_task(self.serve(reader, writer))
        self.open.add(serving)

    async def close(self) -> None:
        for serving in self.open:
            serving.cancel()
        await asyncio.gather(*self.open, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.talk(reader, writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                [length] = [
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                ]
                self.requests.append(head + await reader.readexactly(length))
                await self.answer(self.requests[-1], reader, writer)


def plain(status: int, headers: str = "", body: bytes = b"said") -> Answer:
    async def answer(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = "" if status in {204, 304} else f"Content-Length: {len(body)}\r\n"
        writer.write(f"HTTP/1.1 {status} X\r\n{headers}{length}\r\n".encode())
        if length:
            writer.write(body)
        await writer.drain()

    return answer


@contextlib.asynccontextmanager
async def running(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server()
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/hook"
    try:
        yield server
    finally:
        listener.close()
        await server.close()
        await listener.wait_closed()
