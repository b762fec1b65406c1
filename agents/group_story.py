"""The lines that a step adds to timelines and decisions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from agents.rules.group_state import GroupState
from agents.rules.incident import Event
from sinks.incident_rows import DecisionRow, TimelineRow
from streams import codec, metrics
from streams.records import Severity

OPENED: Final = "opened"
_MEASURED: Final = frozenset(metrics.INCIDENT_EVENTS)
_PLACES: Final = 64
"""Lines that one revision of a group may have."""


class GroupStory:
    """Rows for the story of the groups of one step."""

    def __init__(self) -> None:
        self.timeline: list[TimelineRow] = []
        self.decisions: list[DecisionRow] = []
        self.counted: dict[str, int] = {}
        self.opened: list[Severity] = []

    def tell(self, group: GroupState, events: Sequence[Event], now: datetime) -> None:
        """Add lines to the timeline of a group's incident."""
        if not events:
            return
        self.opened += [group.severity for event in events if event.name == OPENED]
        if group.incident_id:
            self.tell_of(group.incident_id, group.revision, events, now)

    def tell_of(self, incident_id: str, revision: int, events: Sequence[Event], now: datetime) -> None:
        """Add lines to an incident's timeline, at a revision of its group."""
        for place, event in enumerate(events):
            self.counted[event.name] = self.counted.get(event.name, 0) + 1
            self.timeline.append(
                TimelineRow(
                    incident_id=incident_id,
                    seq=revision * _PLACES + place,
                    at=now,
                    event=event.name,
                    actor=event.actor,
                    detail=codec.to_json(event.detail),
                )
            )

    def measure(self) -> None:
        """Count what happened to incidents, once it is committed."""
        for event, times in self.counted.items():
            if event in _MEASURED:
                metrics.incidents.labels(event).inc(times)
        for severity in self.opened:
            metrics.opened_severity.labels(severity).inc()

    def decide(
        self, key: str, group: GroupState, decision: str, reason: str, detail: Mapping[str, object],
        identity: str | None, now: datetime,
    ) -> None:  # fmt: skip
        """Add a line to a group's decisions."""
        if not group.incident_id:
            return
        row = DecisionRow(
            key,
            (group.revision << 20) + len(self.decisions) % (1 << 20),
            group.incident_id,
            identity,
            decision,
            reason,
            codec.to_json(detail),
            now,
        )
        self.decisions.append(row)
