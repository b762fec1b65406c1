"""Free TCP ports on loopback that nothing else on this machine is likely to take meanwhile."""

import random
import socket
from pathlib import Path
from typing import Final

_FIRST: Final = 15_000
_drawn: set[int] = set()
_random = random.SystemRandom()


def free_port() -> int:
    """A port that is free now and was never given out by this process before.

    It lies outside the range the kernel takes source ports from: a port inside
    it could be lost to any outgoing connection while its server restarts, and a
    client that dials it meanwhile can even end up connected to itself.
    """
    for port in _random.sample(range(_FIRST, _first_source_port()), k=200):
        if port not in _drawn and _is_free(port):
            _drawn.add(port)
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    _drawn.add(port)
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _first_source_port() -> int:
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        low = 32_768
    return low if low > _FIRST + 1_000 else 60_999
