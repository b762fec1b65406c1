"""Alerts that can mute others: what one step of dedup changed about them, for every partition of incident-inputs."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from agents.rules.dedup import AlertState, Pulse
from agents.rules.inhibition import entries_of
from agents.work import Outgoing
from streams import codec
from streams.records import Inhibitor, InhibitorChanged, InhibitorEntry
from streams.rules_inhibit import InhibitRule

BATCH_LIMIT: Final = 512
Rules = tuple[InhibitRule, ...]


class Sources:
    """Gathered over a step: of each alert only where it stands at the end."""

    def __init__(self) -> None:
        self._changed: dict[str, Inhibitor] = {}

    def __bool__(self) -> bool:
        return bool(self._changed)

    def tell(
        self, identity: str, before: AlertState | None, state: AlertState, pulse: Pulse, rules: Rules, former: Rules
    ) -> None:
        """Note an alert that meets, or met by its former labels or the former rules, a source side."""
        if not rules and not former:
            return
        entries = _entries(rules, state)
        if entries or (before is not None and _entries(former, before)):
            self._changed[identity] = Inhibitor(
                identity=identity,
                fingerprint=state.fingerprint,
                revision=pulse.revision,
                entries=entries if pulse.firing else (),
            )

    def outgoing(self, topic: str, partitions: int, now: datetime) -> Iterator[Outgoing]:
        """The same records to each partition."""
        items = list(self._changed.values())
        for start in range(0, len(items), BATCH_LIMIT):
            record = InhibitorChanged(accepted_at=now, items=tuple(items[start : start + BATCH_LIMIT]))
            value = codec.encode(record)
            for number in range(partitions):
                yield Outgoing(topic, number, b"inhibitors", value)


def _entries(rules: Rules, state: AlertState) -> tuple[InhibitorEntry, ...]:
    return entries_of(rules, codec.decode_body(state.body).labels) if rules else ()
