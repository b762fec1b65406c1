"""A server that takes what is posted to it, on a port of its own; what it makes of it is for others to say."""

from types import TracebackType
from typing import Self

from aiohttp import web

_LARGEST = 8 << 20


class Listener:
    """Listens inside the block; `url` is its address."""

    def __init__(self, path: str) -> None:
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_post(path, self.take)
        self._runner = web.AppRunner(app, access_log=None)
        self.url = ""

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def take(self, request: web.Request) -> web.Response:
        """Answer one request."""
        raise NotImplementedError
