"""What is kept of a group, its incident and its members, between one change and the next: pure data."""

from datetime import datetime
from typing import Final

import msgspec

from agents.rules import life
from agents.rules.escalation import Escalation
from agents.rules.handling import UNTOUCHED, Handling
from agents.rules.life import State
from agents.rules.notify_log import Pending, Told
from streams.records import IncidentStatus, Kind, Severity

_ACTIVE: Final = (IncidentStatus.OPEN, IncidentStatus.ACKNOWLEDGED)
_ALIVE: Final = (*_ACTIVE, IncidentStatus.MERGED)


class GroupState(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag=1):
    """A group and its newest incident.

    `firing` counts firing members by severity, worst first. `revision` grows
    with every change and never repeats; `decision` counts notify decisions.
    `config_version` is that of the rules in which `route` was found last.
    `incident_id` is empty while no alert of the group has fired. Since the group
    came to be it was flushed or not; `flushed_revision` is its revision then, and
    tells which members that flush saw. `failed` and `held_up` are of the last
    flush: some notice of it failed; another was due while one was under way.
    `missed` are firings that could not be told to an integration; `suppressed`
    (identity -> by what) and `muted_by` are what the last flush found. `trace` is
    the context of what the next flush tells of, where that is traced. `handling` is None while nobody has
    touched the incident, `escalation` while it has had no policy. At `stale_at` it is given up, if nothing is heard
    of it until then.
    `flapping` is the most that an alert of the incident has flapped.
    """

    team: str
    route: str
    labels: dict[str, str]
    receiver: str
    config_version: int
    revision: int
    incident_id: str
    status: IncidentStatus
    severity: Severity
    kind: Kind
    title: str
    description: str
    opened_at: datetime
    updated_at: datetime
    resolved_at: datetime | None = None
    acknowledged_at: datetime | None = None
    predecessor_id: str = ""
    reopened: int = 0
    firing: tuple[int, ...] = (0,) * len(Severity)
    members: int = 0
    decision: int = 0
    next_flush_at: datetime | None = None
    told: dict[str, Told] = {}
    pending: dict[str, Pending] = {}
    flushed: bool = False
    flushed_revision: int = 0
    failed: bool = False
    held_up: bool = False
    empty_at: datetime | None = None
    missed: dict[str, tuple[str, ...]] = {}
    suppressed: dict[str, str] = {}
    muted_by: tuple[str, ...] = ()
    trace: str = ""
    handling: Handling | None = None
    stale_at: datetime | None = None
    flapping: int = 0
    escalation: Escalation | None = None
    sighted: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        """Whether the incident is open or acknowledged."""
        return self.status in _ACTIVE

    @property
    def alive(self) -> bool:
        """Whether the incident is not over; a merged one lives on under its parent."""
        return self.status in _ALIVE

    @property
    def handled(self) -> Handling:
        """What people have made of it."""
        return self.handling or UNTOUCHED

    @property
    def state(self) -> State:
        """Where the incident stands in `life`."""
        handled = self.handled
        return life.state_of(self.status, snoozed=handled.snoozed_until is not None, parent=bool(handled.parent_id))

    @property
    def speaks(self) -> bool:
        """Whether anybody is told of it now: it is active and not snoozed."""
        return self.status in _ACTIVE and self.handled.snoozed_until is None

    @property
    def worst(self) -> int:
        """The rank of its worst firing alert; -1 when none counts any more."""
        ranks = (rank for rank, count in enumerate(self.firing) if count)
        return next(ranks, -1) if self.alive else -1

    @property
    def written_off(self) -> bool:
        """Whether it is over although alerts may fire on: somebody, or a timeout, ended it."""
        return self.status is IncidentStatus.RESOLVED and bool(self.handled.resolved_by)


class Member(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag=1):
    """One alert in one group, as the group last heard of it.

    `seen` is the group's revision when it did; `flaps` counts how often the alert
    fired again since it was told last. One that `left` is kept for those alone who
    were told by this group that it fires, and who do not hear of it elsewhere.
    """

    identity: str
    fingerprint: str
    occurrence: int
    revision: int
    firing: bool
    severity: Severity
    starts_at: datetime
    ends_at: datetime | None
    joined_at: datetime
    incident_id: str
    body: bytes
    seen: int = 0
    flaps: int = 0
    left: bool = False
    flapping: int = 0
    told_flapping: int = 0
    moved_at: datetime | None = None


def told_as(member: Member, *, strict: bool = False) -> str:
    """Names one occurrence of an alert in a notification log; in Alertmanager's mode all of them alike."""
    return member.identity if strict else f"{member.identity}:{member.occurrence}"
