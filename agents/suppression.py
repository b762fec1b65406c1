"""Who is muted by what, as one partition of `incident-inputs` knows it: silences and sources that fire.

Both live in the partition's table `rules`; here is what is derived from them,
and what one step changes.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from agents.rules import inhibition
from agents.rules.inhibition import Held, Inhibitors
from agents.rules.silence import Silences
from sinks.rule_rows import RuleRow
from streams import codec
from streams.records import InhibitorChanged, InhibitorEntry, Silence, SilenceChanged
from streams.rules_inhibit import InhibitRule

DIRECTORY: Final = "directory"
"""The key under which the last applied place in the directory of silences stands."""
SILENCE: Final = "silence:"
SOURCE: Final = "source:"
CACHED: Final = 200_000

_silence = msgspec.msgpack.Decoder(Silence)
_held = msgspec.msgpack.Decoder(Held)
_number = msgspec.msgpack.Decoder(int)


class Suppression(msgspec.Struct, frozen=True):
    """By what an alert is muted now: ids of silences, fingerprints of alerts, names of time intervals."""

    silenced_by: tuple[str, ...] = ()
    inhibited_by: tuple[str, ...] = ()
    muted_by: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.silenced_by or self.inhibited_by or self.muted_by)


class Suppressor:
    """What a partition has applied."""

    def __init__(self, table: Mapping[str, bytes]) -> None:
        self.upto = _number.decode(table[DIRECTORY]) if DIRECTORY in table else 0
        self.silences = Silences(_silence.decode(v) for k, v in table.items() if k.startswith(SILENCE))
        self.inhibitors = Inhibitors(_held.decode(v) for k, v in table.items() if k.startswith(SOURCE))
        self.targets: dict[str, tuple[InhibitorEntry, ...]] = {}
        self.targets_of: tuple[InhibitRule, ...] = ()


class StepSuppressor:
    """What a partition has applied, as one step sees and changes it."""

    def __init__(self, partition: Suppressor) -> None:
        self.upto = partition.upto
        self.silences = partition.silences
        self.rows: dict[str, RuleRow] = {}
        self._partition = partition
        self._inhibitors = Inhibitors(under=partition.inhibitors)
        self._forgotten: dict[str, None] = {}

    def of(
        self,
        labels: Mapping[str, str],
        now: datetime,
        *,
        team: str = "default",
        rules: tuple[InhibitRule, ...] = (),
        key: str = "",
    ) -> Suppression:
        """By what an alert with these labels is muted. `key` names the label set, to be remembered by."""
        source = self._inhibitors.muting(self._targets(labels, rules, key)) if rules else ""
        return Suppression(self.silences.muting(labels, now, key, team), (source,) if source else ())

    def _targets(
        self, labels: Mapping[str, str], rules: tuple[InhibitRule, ...], key: str
    ) -> tuple[InhibitorEntry, ...]:
        partition = self._partition
        if partition.targets_of is not rules:
            partition.targets, partition.targets_of = {}, rules
        found = partition.targets.get(key) if key else None
        if found is None:
            found = inhibition.targets_of(rules, labels)
            if key and len(partition.targets) < CACHED:
                partition.targets[key] = found
        return found

    def apply_silences(self, record: SilenceChanged, now: datetime) -> None:
        """Take over silences that are newer than what is known, and forget those that are over."""
        known = self.silences.known
        # What is not after `upto` has been applied, and may have been forgotten since: a late copy of it says nothing.
        news = [one for one in record.items if one.sequence > max(self.upto, _place(known.get(one.id)))]
        following = self.silences.after(news)
        over = following.over(now)
        self.silences = following.after((), over) if over else following
        for one in news:
            self._put(SILENCE + one.id, one.sequence, codec.encode(one))
        for key in over:
            self._put(SILENCE + key, 0, None)
        if record.after <= self.upto < record.upto:
            self.upto = record.upto
            self._put(DIRECTORY, self.upto, codec.encode(self.upto))

    def reminded(self, silence_id: str) -> None:
        """Remember that the end of a silence has been announced."""
        done = msgspec.structs.replace(self.silences.known[silence_id], remind_at=None)
        self.silences = self.silences.after([done])
        self._put(SILENCE + silence_id, done.sequence, codec.encode(done))

    def apply_inhibitors(self, record: InhibitorChanged, now: datetime) -> None:
        """Take over what fires and mutes, and what has ended."""
        for held in self._inhibitors.hear(record.items, now):
            self._put(SOURCE + held.source.identity, held.source.revision, codec.encode(held))
        gone = self._inhibitors.forgettable(now)
        self._inhibitors.forget(gone)
        self._forgotten.update(dict.fromkeys(gone))
        for identity in gone:
            self._put(SOURCE + identity, 0, None)

    def commit(self) -> None:
        """Fold the step into the partition."""
        self._partition.upto, self._partition.silences = self.upto, self.silences
        self._partition.inhibitors.forget(self._forgotten)
        self._partition.inhibitors.fold(self._inhibitors)

    def _put(self, key: str, revision: int, value: bytes | None) -> None:
        self.rows[key] = RuleRow(key, revision, value)


def _place(silence: Silence | None) -> int:
    return silence.sequence if silence is not None else 0
