"""Secrets that prove who asks: tokens and sessions, kept as SHA-256, and passwords, kept as argon2id.

A token is 256 random bits, so a plain hash of it is as good as it gets, and quick. Passwords are guessable: their
hash is slow on purpose, with the parameters of RFC 9106's second choice on one lane.
"""

import hashlib
import hmac
import secrets
from enum import StrEnum
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

TOKEN_PREFIX: Final = "inc_"  # noqa: S105 - so that scanners and people know one when they see it
LEAST_PASSWORD: Final = 10
MOST_PASSWORD: Final = 1000
MOST_TOKEN: Final = 200
_BYTES: Final = 32
_hasher = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=1)


class Scope(StrEnum):
    """What a credential is good for."""

    INGEST = "ingest"
    READ = "read"
    ACT = "act"
    ADMIN = "admin"


class Role(StrEnum):
    """What a user is; a token has the role that its scopes amount to."""

    VIEWER = "viewer"
    RESPONDER = "responder"
    ADMIN = "admin"


GRANTS: Final = {
    Scope.INGEST: frozenset({Scope.INGEST}),
    Scope.READ: frozenset({Scope.READ}),
    Scope.ACT: frozenset({Scope.READ, Scope.ACT}),
    Scope.ADMIN: frozenset(Scope),
}
"""What each scope of a token allows."""
ROLE_SCOPES: Final = {
    Role.VIEWER: GRANTS[Scope.READ],
    Role.RESPONDER: GRANTS[Scope.ACT],
    Role.ADMIN: GRANTS[Scope.ADMIN],
}


def new_token() -> str:
    """A fresh API token."""
    return TOKEN_PREFIX + secrets.token_urlsafe(_BYTES)


def new_session() -> str:
    """A fresh secret for a cookie."""
    return secrets.token_urlsafe(_BYTES)


def new_password() -> str:
    """A fresh password that can be typed."""
    return secrets.token_urlsafe(15)


def digest(secret: str) -> bytes:
    """What is kept of a token or a session."""
    return hashlib.sha256(_bytes(secret)).digest()


def csrf_of(session: str) -> str:
    """What the page shows with each change, and another site cannot know; it says nothing of the session's secret."""
    return hmac.new(session.encode(), b"csrf", hashlib.sha256).hexdigest()


def hash_password(password: str) -> str:
    """What is kept of a password; takes some hundredths of a second and 64 MiB."""
    return _hasher.hash(_bytes(password))


def is_password(kept: str, password: str) -> bool:
    """Whether a password is the one that was kept; as slow as keeping it."""
    try:
        return _hasher.verify(kept, _bytes(password))
    except (VerificationError, InvalidHashError):
        return False


def refusal_of(password: str) -> str:
    """Why a password cannot be used; '' if it can."""
    if len(password) < LEAST_PASSWORD:
        return f"at least {LEAST_PASSWORD} characters"
    if len(password) > MOST_PASSWORD:
        return f"at most {MOST_PASSWORD} characters"
    return ""


def _bytes(secret: str) -> bytes:
    return secret.encode("utf-8", "surrogatepass")
