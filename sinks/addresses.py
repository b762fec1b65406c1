"""Which addresses a notice may go to, checked where the connection is made.

The name is resolved, each address judged, and the connection opened to a judged
address: a name that resolves differently the second time gains nothing.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import Final

import httpcore

_METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_ONE_ADDRESS: Final = 1.5  # seconds, while another one is left to try

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RefusedAddressError(httpcore.ConnectError):
    """Raised for a name none of whose addresses may be connected to."""


def is_refused(address: Address) -> bool:
    """Whether no notice may go there: link-local, cloud metadata, multicast, unspecified, reserved.

    Loopback and private addresses are allowed: receivers of one's own live there.
    """
    plain = _embedded(address)
    return (
        plain.is_link_local
        or plain in _METADATA
        or plain.is_multicast
        or plain.is_unspecified
        or (plain.is_reserved and not plain.is_loopback)
        or (plain.version == 4 and plain in _THIS_NETWORK)  # noqa: PLR2004
    )


_THIS_NETWORK: Final = ipaddress.ip_network("0.0.0.0/8")


def _embedded(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


class CheckedBackend(httpcore.AnyIOBackend):
    """Opens TCP connections to checked addresses only."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's own
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Try the allowed addresses of `host` in turn."""
        allowed = [found for found in await _resolved(host, port) if not is_refused(_judged(found))]
        if not allowed:
            raise RefusedAddressError(f"{host} is not an address that notices may go to")
        for address in allowed[:-1]:
            try:
                return await super().connect_tcp(address, port, _ONE_ADDRESS, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await super().connect_tcp(allowed[-1], port, timeout, local_address, socket_options)


async def _resolved(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _judged(address: str) -> Address:
    return ipaddress.ip_address(address.partition("%")[0])
