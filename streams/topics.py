"""Every topic: its name, who writes and reads it, and how it is created.

alerts              AlertBatch, Tick, ConfigChanged      by identity   -> dedup
incident-inputs     InputBatch, Outcome, Tick, ...       by group      -> incidents
notification-tasks  TaskHint                             by incident   -> deliver
dead-letters        Rejected                             by event id   -> people
"""

from dataclasses import dataclass
from typing import Final

ALERTS: Final = "alerts"
INPUTS: Final = "incident-inputs"
TASKS: Final = "notification-tasks"
DEAD_LETTERS: Final = "dead-letters"


@dataclass(frozen=True)
class Topic:
    """How one topic is created. Retention in milliseconds and bytes per partition."""

    name: str
    retention_ms: int = 24 * 3_600_000
    retention_bytes: int = 1 << 30
    max_message_bytes: int = 2 << 20


TOPICS: Final = (
    Topic(ALERTS),
    Topic(INPUTS),
    Topic(TASKS, retention_bytes=1 << 28),
    Topic(DEAD_LETTERS, retention_ms=7 * 24 * 3_600_000, retention_bytes=1 << 28),
)


def topic_name(prefix: str, name: str) -> str:
    """The name on the broker: `prefix` keeps installations on one broker apart."""
    return f"{prefix}-{name}" if prefix else name
