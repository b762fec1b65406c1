"""What a channel is: a function from one notice for one integration to how its send ended."""

import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

import msgspec

from sinks.message import NoticeBody
from sinks.outcome import Outcome


class Texts(Protocol):
    """Renders an integration's templates with one notice. A template that fails gives an empty text."""

    def text(self, template: str, *, escape: Callable[[str], str] | None = None) -> str:
        """The text of a template; `escape` is applied to everything that came from alerts, not to the template."""

    def html(self, template: str) -> str:
        """The same as HTML, with everything that came from alerts escaped."""


class NoTexts:
    """Renders no template: a digest is told in words of the channel's own, as templates speak of one group."""

    def text(self, template: str, *, escape: Callable[[str], str] | None = None) -> str:  # noqa: ARG002 - as in Texts
        """The text itself where it is no template."""
        return "" if "{{" in template else template

    def html(self, template: str) -> str:
        """Likewise."""
        return self.text(template)


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
    texts: Texts
    memory: Mapping[str, str] = {}

    def option(self, name: str, *, escape: Callable[[str], str] | None = None) -> str:
        """An option's template, rendered; empty where there is none."""
        template = self.options.get(name) or ""
        return self.texts.text(template, escape=escape) if "{{" in template else template

    def __repr__(self) -> str:
        return f"Telling({self.id})"


Channel = Callable[[Telling], Awaitable[Outcome]]
