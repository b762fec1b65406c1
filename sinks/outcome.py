"""How a send ended: a value, never an exception, with the closed list of reasons."""

from datetime import timedelta
from enum import StrEnum

import msgspec


class Reason(StrEnum):
    """Why a send ended as it did; the same word stands in the row, the metric and the log."""

    ACCEPTED = "accepted"
    AUTH = "auth"
    RATE_LIMITED = "rate_limited"
    CLIENT_ERROR = "client_error"
    SERVER_ERROR = "server_error"
    REDIRECTED = "redirected"
    TIMEOUT = "timeout"
    NETWORK = "network"
    TLS = "tls"
    REFUSED_TARGET = "refused_target"
    BAD_NOTICE = "bad_notice"
    UNKNOWN_CHANNEL = "unknown_channel"
    UNKNOWN_RECEIVER = "unknown_receiver"
    EXPIRED = "expired"
    OVER_LIMIT = "over_limit"
    DIGESTED = "digested"
    DIGEST_FAILED = "digest_failed"
    INTERNAL = "internal"


class Sent(msgspec.Struct, frozen=True):
    """The target has it. `memory` is what the channel wants to know at the incident's next notice; None: no change."""

    detail: str = ""
    memory: dict[str, str] | None = None

    @property
    def reason(self) -> Reason:
        """Always accepted."""
        return Reason.ACCEPTED


class RetryLater(msgspec.Struct, frozen=True):
    """Not now: the same notice may pass later; `after` is the target's own wish, if it had one."""

    reason: Reason
    detail: str = ""
    after: timedelta | None = None


class Failed(msgspec.Struct, frozen=True):
    """Never: sending the same notice again would end the same way."""

    reason: Reason
    detail: str = ""


Outcome = Sent | RetryLater | Failed
