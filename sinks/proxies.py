"""Which hosts are reached without the proxy: `no_proxy` as Go's httpproxy reads it; pure."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Final

import httpx

_PORTS: Final = {"http": 80, "https": 443}


def proxy_for(url: httpx.URL, options: Mapping[str, Any]) -> str | None:
    """The proxy of an integration's `http_config` for this address, None where it is reached directly.

    `no_proxy` holds, by commas, `*`, names (with all below them; with a leading dot only those below), addresses
    and networks, each but a network perhaps with a port. With it, this machine itself is never reached by proxy.
    """
    proxy: str | None = options.get("proxy_url")
    entries = [entry.strip().lower() for entry in options.get("no_proxy", "").split(",") if entry.strip()]
    if proxy is None or not entries:
        return proxy
    host, port = url.host.lower().rstrip("."), str(url.port or _PORTS.get(url.scheme, 0))
    direct = _is_this_machine(host) or any(_means(entry, host, port) for entry in entries)
    return None if direct else proxy


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _means(entry: str, host: str, port: str) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return _in_network(entry, host)
    name, colon, given = entry.rpartition(":")
    if colon and given.isdecimal() and (":" not in name or name.endswith("]")):
        if given != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*")
    if entry.startswith("."):
        return host.endswith(entry)
    return host == entry or host.endswith(f".{entry}")


def _in_network(entry: str, host: str) -> bool:
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        return False
