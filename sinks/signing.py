"""Signatures of webhooks: HMAC-SHA256 over the time of sending and the body, by every secret that is live. Pure."""

import hmac
from collections.abc import Iterable
from datetime import datetime
from typing import Final

TIMESTAMP: Final = "X-Incidents-Timestamp"
SIGNATURE: Final = "X-Incidents-Signature"


def signed(secrets: Iterable[str], body: bytes, at: datetime) -> dict[str, str]:
    """The headers of a signed request.

    `X-Incidents-Timestamp` is `at` in unix seconds. `X-Incidents-Signature` has one `v1=<hex>` for each secret,
    separated by commas: the HMAC-SHA256 of `<timestamp>.<body>`. A receiver takes the request if one of them is of
    a secret that it knows and the time is less than five minutes off.
    """
    stamp = str(int(at.timestamp()))
    text = f"{stamp}.".encode() + body
    signatures = ",".join(f"v1={hmac.digest(secret.encode(), text, 'sha256').hex()}" for secret in secrets)
    return {TIMESTAMP: stamp, SIGNATURE: signatures} if signatures else {}
