"""Which addresses a notice may never go to: pure, so that a rules file can be judged as well as a connection."""

import ipaddress
import socket
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
_METADATA_NAMES: Final = frozenset({"metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"})
_THIS_NETWORK: Final = ipaddress.ip_network("0.0.0.0/8")
_NAT64: Final = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48")))


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
        or (isinstance(plain, ipaddress.IPv4Address) and plain in _THIS_NETWORK)
    )


def is_global(address: Address) -> bool:
    """Whether everybody may reach it: the only addresses that a stranger's redirect may lead to."""
    return _embedded(address).is_global and not is_refused(address)


def is_refused_host(host: str) -> bool:
    """Whether a host can be refused by its look alone: an address in any notation, or a name of a metadata service."""
    name = host.strip("[]").rstrip(".").lower()
    if name in _METADATA_NAMES:
        return True
    try:
        return is_refused(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        pass
    try:
        # 0xa9.254.43518 and the like, which resolvers take for addresses.
        return is_refused(ipaddress.IPv4Address(socket.inet_aton(name)))
    except (OSError, UnicodeError):
        return False


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address carries, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
