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

TABLES_OF: Final = {
    ALERTS: ("alerts", "pulses", "recent"),
    INPUTS: ("groups", "members", "rules"),
}
