"""Which letters that hold a record of our own can be sent again as they are, and why the others need not be. Pure."""

from dataclasses import dataclass

from agents.unhandled import partition_in
from sinks.dead_letter_rows import Letter
from streams import codec, keys
from streams.records import (
    Action,
    AlertBatch,
    AlertsRecord,
    ConfigChanged,
    InhibitorChanged,
    InputBatch,
    InputsRecord,
    Outcome,
    Sighted,
    SilenceChanged,
    Tick,
)
from streams.topics import ALERTS, INPUTS

_SENSELESS = {
    InputBatch: "an old change of an alert is passed over: its group hears of the alert with its next change",
    AlertBatch: "its events have letters of their own",
    Tick: "time goes on by itself: what was due is tried again every 10 minutes, and when its partition moves",
    SilenceChanged: "a later word about silences has been heard: save the silence once more, and all hear of it",
    InhibitorChanged: "an old change of an alert is passed over: the next change of the alert tells what it mutes",
    Sighted: "an old sighting is passed over: the incident is seen again with its next change",
}


@dataclass(frozen=True)
class Again:
    """One record to send once more."""

    topic: str
    partition: int
    key: bytes
    value: bytes


def record_in(letter: Letter) -> AlertsRecord | InputsRecord:
    """The record that a letter holds.

    Raises:
        UndecodableRecordError: it cannot be read, or was cut.
    """
    return codec.decode_alerts(letter.body) if letter.source == ALERTS else codec.decode_inputs(letter.body)


def again(letter: Letter, partitions: int) -> Again | str:
    """What is sent for a letter, or why nothing is."""
    try:
        record = record_in(letter)
    except codec.UndecodableRecordError as error:
        return f"the record cannot be read: {error}"
    if isinstance(record, Action | Outcome):
        return Again(INPUTS, keys.partition_of(record.group, partitions), record.group.encode(), letter.body)
    number = partition_in(letter.field)
    if isinstance(record, ConfigChanged) and number is not None and number < partitions:
        return Again(letter.source, number, b"config", letter.body)
    return _SENSELESS.get(type(record), "nobody would hear it")
