"""What a channel is: a function from one notice for one integration to how its send ended."""

import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from sinks.message import NoticeBody
from sinks.outcome import Outcome


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """One notice for one integration. `id` is the idempotency key; `reason` says why it is told.

    `options` are the integration's, secrets included; `made_at` is when the notice was decided, the same at every
    attempt; `memory` is what the channel kept (`Sent.memory`) of the last notice of this incident.
    """

    id: uuid.UUID
    target: str
    options: Mapping[str, Any]
    notice: NoticeBody
    reason: str
    made_at: datetime
    memory: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"Telling({self.id})"


Channel = Callable[[Telling], Awaitable[Outcome]]
