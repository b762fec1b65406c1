"""What the owner of one partition of `incident-inputs` holds: groups, their members, and what falls due."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import msgspec

from agents.correlator import Correlator
from agents.deadlines import Deadlines, StepDeadlines
from agents.rules.group_state import GroupState, Member
from agents.suppression import Suppressor
from agents.work import Partition
from streams.records import Silence
from streams.redis_tables import View

GROUPS: Final = "groups"
MEMBERS: Final = "members"
RULES: Final = "rules"
CAUSES: Final = "causes"
"""In the table `rules`: how far this partition has heard of each partition of `alerts`."""
SAY_AGAIN: Final = "say again"
"""In the table `rules`, and as a deadline: the tables were built from rows, so what was sent last may be lost."""
UNSENT: Final = "unsent"
"""In the table `rules`: the actions for other owners that the last step sends."""
HELD: Final = timedelta(hours=24)
"""How long an empty group remembers its last incident."""
FLUSH: Final = "flush"
DROP: Final = "drop"
SNOOZE: Final = "snooze"
STALE: Final = "stale"
ESCALATE: Final = "escalate"
REMIND: Final = "remind"
"""Of a silence: that it ends soon."""


class Causes(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """By partition of `alerts`, the newest offset on that log whose changes have come.

    A partition's changes come in the order of their causes, so an older one came
    before: its repeat (a step done again, a former owner's late send) is not new,
    though no member may be left to tell it by. `last` has place and index of the
    newest cause's last change that came, where those are known.
    """

    log_id: str = ""
    newest: dict[int, int] = {}
    last: dict[int, tuple[int, int]] = {}


decode_group = msgspec.msgpack.Decoder(GroupState).decode
decode_member = msgspec.msgpack.Decoder(Member).decode
_decode_causes = msgspec.msgpack.Decoder(Causes).decode


@dataclass(kw_only=True)
class InputsPartition(Partition):
    """A partition of `incident-inputs` with an index of each group's members (as keyed there), and of what mutes."""

    members_of: dict[str, set[str]] = field(default_factory=dict)
    suppressor: Suppressor = field(default_factory=lambda: Suppressor({}))
    correlator: Correlator = field(default_factory=lambda: Correlator({}))
    causes: Causes = field(default_factory=Causes)

    @classmethod
    def over(cls, view: View, *, pg_applied: int, config_version: int, watermark: datetime) -> "InputsPartition":
        """Derive what is not in the tables from what is."""
        self = cls(view=view, pg_applied=pg_applied, config_version=config_version, watermark=watermark)
        self.suppressor = Suppressor(view.tables[RULES])
        if CAUSES in view.tables[RULES]:
            self.causes = _decode_causes(view.tables[RULES][CAUSES])
        for key in view.tables[MEMBERS]:
            self.members_of.setdefault(key.partition(":")[0], set()).add(key)
        for key, value in view.tables[GROUPS].items():
            group = decode_group(value)
            arm(self.deadlines, key, group)
            self.versions.add(group.config_version)
        arm_reminders(self.deadlines, self.suppressor.silences.known.values())
        self.correlator = Correlator(view.tables[RULES])
        self.correlator.arm(self.deadlines)
        if SAY_AGAIN in view.tables[RULES]:
            self.deadlines.push(watermark, SAY_AGAIN, "")
        return self


def due_at(what: str, group: GroupState) -> datetime | None:
    """When that is due by this group; None when it never is."""
    if what == FLUSH:
        return group.next_flush_at
    if what == SNOOZE:
        return group.handled.snoozed_until
    if what == STALE:
        return group.stale_at if group.alive else None
    if what == ESCALATE:
        return group.escalation.due_at if group.escalation is not None else None
    return group.updated_at + HELD if not group.alive and not group.members and not group.pending else None


def arm(deadlines: Deadlines | StepDeadlines, key: str, group: GroupState) -> None:
    """Push the deadlines that a group stands for."""
    for what in (FLUSH, DROP) if group.escalation is None else (FLUSH, DROP, ESCALATE):
        due = due_at(what, group)
        if due is not None:
            deadlines.push(due, what, key)
    if group.stale_at is not None and group.alive:
        deadlines.push(group.stale_at, STALE, key)
    if group.handling is not None and group.handling.snoozed_until is not None:
        deadlines.push(group.handling.snoozed_until, SNOOZE, key)


def arm_reminders(deadlines: Deadlines | StepDeadlines, silences: Iterable[Silence]) -> None:
    """Push when somebody is to be reminded of silences."""
    for silence in silences:
        if silence.remind_at is not None:
            deadlines.push(silence.remind_at, REMIND, silence.id)
