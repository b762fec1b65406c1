"""Identity and group keys: pure, versioned, readable before they are hashed."""

import uuid
from collections.abc import Iterable, Mapping
from hashlib import blake2b, sha1
from typing import Final

import msgspec

VERSION: Final = "v1"
_NAMESPACE: Final = uuid.UUID("6f0c7b1e-8a53-5a0e-9d52-3d3a3c2c9a10")
_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3
_MASK: Final = 0xFFFFFFFFFFFFFFFF

_encode = msgspec.json.Encoder().encode


def identity_of_labels(team: str, labels: Mapping[str, str]) -> bytes:
    """The readable identity of an alert that is known by its whole label set."""
    return _encode((VERSION, team, "labels", sorted(labels.items())))


def identity_of_key(team: str, scope: str, dedup_key: str) -> bytes:
    """The readable identity of an alert that its sender named itself, within `scope`."""
    return _encode((VERSION, team, "key", scope, dedup_key))


def group_of(team: str, route: str, labels: Iterable[tuple[str, str]]) -> bytes:
    """The readable key of the group that `route` (its matcher path) makes of these label values."""
    return _encode((VERSION, team, "group", route, sorted(labels)))


def hashed(readable: bytes) -> str:
    """blake2b-128 of a readable key, in 32 hexadecimal digits."""
    return blake2b(readable, digest_size=16).hexdigest()


def fingerprint(labels: Mapping[str, str]) -> str:
    """Alertmanager's fingerprint of a label set: 64-bit FNV-1a over names and values.

    Names in sorted order, name and value each followed by the byte 0xFF
    (prometheus/common `model/signature.go`).
    """
    value = _FNV_OFFSET
    parts = [part.encode("utf-8", "surrogatepass") for name in sorted(labels) for part in (name, labels[name])]
    data = b"\xff".join([*parts, b""])
    # Four bytes a turn: what is cut off to 64 bits later is a longer number meanwhile, and fewer operations.
    rest = len(data) & ~3
    turns = iter(data[:rest])
    for a, b, c, d in zip(turns, turns, turns, turns, strict=True):
        value = ((((((((value ^ a) * _FNV_PRIME) ^ b) * _FNV_PRIME) ^ c) * _FNV_PRIME) ^ d) * _FNV_PRIME) & _MASK
    for byte in data[rest:]:
        value = ((value ^ byte) * _FNV_PRIME) & _MASK
    return f"{value:016x}"


def derived_id(*parts: object) -> uuid.UUID:
    """The same id for the same parts, today and on a replay (uuid5)."""
    digest = sha1(_NAMESPACE.bytes + "|".join(map(str, parts)).encode(), usedforsecurity=False).digest()
    return uuid.UUID(bytes=digest[:16], version=5)


def partition_of(hashed_key: str, partitions: int) -> int:
    """The partition of a key from `hashed` (or any hexadecimal digest of 8 digits or more).

    The digest is uniform already, so its first 32 bits serve; Kafka's murmur2
    over it would cost 9 us in Python and spread no better.
    """
    return int(hashed_key[:8], 16) % partitions
