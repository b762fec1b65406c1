"""The TLS of a connection to a target: verified unless its `tls_config` says otherwise, at least TLS 1.2."""

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import httpx
import msgspec
import structlog

_VERSIONS: Final = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}

log = structlog.get_logger(__name__)


def client_context(options: Mapping[str, Any], trusted: str | None = None) -> ssl.SSLContext:
    """The context, made once, for a `tls_config`: PEM texts `ca`, `cert` and `key`, `insecure_skip_verify`, versions.

    `trusted` is a file of authorities that take the place of the usual ones where `ca` is not given.

    Raises:
        ssl.SSLError: the certificates or the key cannot be used.
    """
    return _made(msgspec.json.encode(options, order="deterministic"), trusted)


@lru_cache(64)
def _made(encoded: bytes, trusted: str | None) -> ssl.SSLContext:
    options: dict[str, Any] = msgspec.json.decode(encoded)
    if "ca" in options:
        context = ssl.create_default_context(cadata=options["ca"])
    elif trusted is not None:
        context = ssl.create_default_context(cafile=trusted)
    else:
        context = httpx.create_ssl_context(trust_env=False)
    context.minimum_version = _VERSIONS[options.get("min_version", "TLS12")]
    if "max_version" in options:
        context.maximum_version = _VERSIONS[options["max_version"]]
    if "cert" in options:
        with _file(options["cert"]) as certificate, _file(options["key"]) as key:
            context.load_cert_chain(certificate, key)
    if options.get("insecure_skip_verify"):
        log.warning("tls_unverified", server_name=options.get("server_name", ""))
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.contextmanager
def _file(text: str) -> Iterator[str]:
    """The text as a file of its own that only this user can read: OpenSSL takes keys from files alone."""
    number, path = tempfile.mkstemp()
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
        yield path
    finally:
        os.unlink(path)  # noqa: PTH108 - the name came from mkstemp
