"""Connections to checked addresses only.

The name is resolved, each address judged, and the connection opened to a judged
address: a name that resolves differently the second time gains nothing.
"""

import asyncio
import contextlib
import ipaddress
import select
import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpcore

from streams.addresses import is_global, is_refused, is_refused_host

_ONE_ADDRESS: Final = 1.5  # seconds, while another one is left to try
# Resolvers block their thread; one name that hangs must not hold up the others.
_resolvers: Final = ThreadPoolExecutor(32, thread_name_prefix="resolve")


class RefusedAddressError(httpcore.ConnectError):
    """Raised for a name none of whose addresses may be connected to."""


class CheckedBackend(httpcore.AnyIOBackend):
    """Opens TCP connections to checked addresses only; `abroad` to such as everybody may reach."""

    def __init__(self, *, abroad: bool = False) -> None:
        super().__init__()
        self._abroad = abroad

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's own
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Try the allowed addresses of `host` in turn."""
        allowed = await allowed_addresses(host, port, abroad=self._abroad)
        for address in allowed[:-1]:
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return _Polled(await super().connect_tcp(address, port, _ONE_ADDRESS, local_address, socket_options))
        return _Polled(await super().connect_tcp(allowed[-1], port, timeout, local_address, socket_options))


class _Polled(httpcore.AsyncNetworkStream):
    """A connection that says quickly whether it may be used again: the pool asks all that are idle at each request."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self.read, self.write, self.aclose = stream.read, stream.write, stream.aclose  # type: ignore[method-assign]
        self._poll = select.poll()
        self._socket = stream.get_extra_info("socket")
        self._poll.register(self._socket, select.POLLIN)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's own
    ) -> httpcore.AsyncNetworkStream:
        return _Polled(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - the interface's own
        if info == "is_readable":
            return self._socket.fileno() < 0 or bool(self._poll.poll(0))
        return self._stream.get_extra_info(info)


async def allowed_addresses(host: str, port: int, *, abroad: bool = False) -> list[str]:
    """The addresses of a host that may be connected to, at least one; `abroad` only those that everybody may reach.

    Raises:
        RefusedAddressError: there is none.
        httpcore.ConnectError: the name cannot be resolved.
    """
    found = [] if is_refused_host(host) else await _resolved(host, port)
    judged = [(one, ipaddress.ip_address(one.partition("%")[0])) for one in found]
    allowed = [one for one, address in judged if (is_global(address) if abroad else not is_refused(address))]
    if not allowed:
        raise RefusedAddressError(f"{host} is not an address that notices may go to")
    return allowed


async def connected_socket(host: str, port: int) -> socket.socket:
    """A TCP connection to a checked address of a host; the caller closes it.

    Raises:
        RefusedAddressError: no address of it may be connected to.
        OSError: nobody answers there.
        httpcore.ConnectError: the name cannot be resolved.
    """
    allowed = await allowed_addresses(host, port)
    for address in allowed[:-1]:
        try:
            async with asyncio.timeout(_ONE_ADDRESS):
                return await _connected(address, port)
        except OSError:
            continue
    return await _connected(allowed[-1], port)


async def _connected(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)  # noqa: FBT003 - its only argument
        await asyncio.get_running_loop().sock_connect(made, (address, port))
    except BaseException:
        made.close()
        raise
    return made


async def _resolved(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.run_in_executor(_resolvers, _ask, host.strip("[]"), port)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
    return list(dict.fromkeys(found))


def _ask(host: str, port: int) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
