"""Which alerts are muted because another one fires: pure.

The rules are Alertmanager's (`inhibit/inhibit.go`). An alert that meets both
sides of a rule is muted by no alert that meets both sides too, so it never mutes
itself or its like.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import takewhile
from typing import Final

import msgspec

from streams.records import Inhibitor, InhibitorEntry
from streams.rules_inhibit import InhibitRule
from streams.rules_matchers import Matcher

HELD: Final = timedelta(minutes=15)
"""How long an ended source is remembered, so that an older word about it, come late, changes nothing."""

Place = tuple[str, bytes]
"""A rule's id and a hash of the values of its equal labels."""


class Held(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one source, and when it was last heard of."""

    source: Inhibitor
    heard_at: datetime


def entries_of(rules: Iterable[InhibitRule], labels: Mapping[str, str]) -> tuple[InhibitorEntry, ...]:
    """Where an alert with these labels mutes others while it fires."""
    return tuple(
        InhibitorEntry(rule.id, equal_hash(rule, labels), _meets(rule.target, labels))
        for rule in rules
        if _meets(rule.source, labels)
    )


def targets_of(rules: Iterable[InhibitRule], labels: Mapping[str, str]) -> tuple[InhibitorEntry, ...]:
    """Where an alert with these labels can be muted, in the order of the rules."""
    return tuple(
        InhibitorEntry(rule.id, equal_hash(rule, labels), _meets(rule.source, labels))
        for rule in rules
        if _meets(rule.target, labels)
    )


def equal_hash(rule: InhibitRule, labels: Mapping[str, str]) -> bytes:
    """Names the values of the labels that must be equal; an absent label counts as empty."""
    values = [labels.get(name, "") for name in sorted(rule.equal)]
    return blake2b(msgspec.json.encode(values), digest_size=8).digest()


class Inhibitors:
    """The sources that fire, by the place where they mute. A step sees its own changes over those of the partition."""

    def __init__(self, held: Iterable[Held] = (), under: "Inhibitors | None" = None) -> None:
        self._under = under
        self._held: dict[str, Held] = {}
        self._at: dict[Place, dict[str, tuple[str, bool]]] = {}
        self._ended: dict[str, datetime] = {}
        for one in sorted(held, key=lambda one: one.heard_at):
            self._put(one)

    def held(self, identity: str) -> Held | None:
        """What is known of a source."""
        known = self._held.get(identity)
        return known if known is not None or self._under is None else self._under.held(identity)

    def hear(self, sources: Iterable[Inhibitor], now: datetime) -> list[Held]:
        """Take in what dedup announced; what is not newer than what is known is passed over. What changed."""
        changed = []
        for source in sources:
            known = self.held(source.identity)
            if known is None or known.source.revision < source.revision:
                changed.append(Held(source, now))
                self._put(changed[-1])
        return changed

    def forgettable(self, now: datetime) -> list[str]:
        """Sources that ended long ago."""
        under = self._under.forgettable(now) if self._under is not None else []
        mine = takewhile(lambda identity: self._ended[identity] + HELD <= now, self._ended)
        return [*(identity for identity in under if identity not in self._held), *mine]

    def forget(self, identities: Iterable[str]) -> None:
        """Drop sources that ended."""
        for identity in identities:
            self._held.pop(identity, None)
            self._ended.pop(identity, None)

    def muting(self, targets: Iterable[InhibitorEntry]) -> str:
        """The fingerprint of a source that mutes an alert of these places: of the first rule, and there the least."""
        for target in targets:
            found = [
                print_
                for print_, both in self._sources((target.rule, target.equal))
                if not (both and target.both)
            ]  # fmt: skip
            if found:
                return min(found)
        return ""

    def fold(self, step: "Inhibitors") -> None:
        """Take over what a step changed."""
        for one in step._held.values():  # noqa: SLF001 - its own kind
            self._put(one)

    def _put(self, one: Held) -> None:
        identity = one.source.identity
        before = self._held.get(identity)
        for entry in before.source.entries if before is not None else ():
            place = (entry.rule, entry.equal)
            self._at[place].pop(identity, None)
            if not self._at[place]:
                del self._at[place]
        self._held[identity] = one
        self._ended.pop(identity, None)
        if not one.source.entries:
            self._ended[identity] = one.heard_at
        for entry in one.source.entries:
            self._at.setdefault((entry.rule, entry.equal), {})[identity] = (one.source.fingerprint, entry.both)

    def _sources(self, place: Place) -> Iterator[tuple[str, bool]]:
        yield from self._at.get(place, {}).values()
        if self._under is not None:
            for identity, found in self._under._at.get(place, {}).items():  # noqa: SLF001 - its own kind
                if identity not in self._held:
                    yield found


def _meets(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    return all(matcher.matches(labels) for matcher in matchers)
