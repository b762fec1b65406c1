"""Every table: its key, its record, and the agent that owns it.

alerts    identity            -> AlertState   dedup       what an alert is and where it was sent
pulses    identity            -> Pulse        dedup       what changes with every event
recent    record's offset     -> event ids    dedup       which events were seen
groups    group               -> GroupState   incidents   header, timers, notification log
members   group + identity    -> Member       incidents   one alert in one group
rules     name                -> bytes        incidents   what was applied: configuration, silences, sources that mute
"""

from typing import Final

from streams.topics import ALERTS, INPUTS

FIELDS: Final = {
    "alerts": (
        "team",
        "fingerprint",
        "body",
        "groups",
        "config_version",
        "left",
    ),
    "pulses": (
        "content",
        "firing",
        "occurrence",
        "revision",
        "event_at",
        "starts_at",
        "ends_at",
        "timeout_at",
        "first_seen_at",
        "last_seen_at",
        "count",
        "offset",
        "row_count",
        "row_at",
        "dirty_from",
        "by_timeout",
        "made_up",
        "flaps",
        "said_start",
    ),
    "recent": (
        "at",
        "ids",
    ),
    "groups": (
        "team",
        "route",
        "labels",
        "receiver",
        "config_version",
        "revision",
        "incident_id",
        "status",
        "severity",
        "kind",
        "title",
        "description",
        "opened_at",
        "updated_at",
        "resolved_at",
        "acknowledged_at",
        "predecessor_id",
        "reopened",
        "firing",
        "members",
        "decision",
        "next_flush_at",
        "told",
        "pending",
        "flushed",
        "flushed_revision",
        "failed",
        "held_up",
        "empty_at",
        "missed",
        "suppressed",
        "muted_by",
    ),
    "members": (
        "identity",
        "fingerprint",
        "occurrence",
        "revision",
        "firing",
        "severity",
        "starts_at",
        "ends_at",
        "joined_at",
        "incident_id",
        "body",
        "seen",
        "flaps",
    ),
}
"""The names of each record's fields, for whoever shows a value without being its owner; later ones may be missing."""

TABLES_OF: Final = {
    ALERTS: ("alerts", "pulses", "recent"),
    INPUTS: ("groups", "members", "rules"),
}
