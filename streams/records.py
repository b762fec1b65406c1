"""Frozen types that cross Kafka or live in tables; pure data, no I/O.

Structs are arrays on the wire: a field is only ever added at the end, with a
default, so that old and new processes read each other.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeVar

import msgspec


class Severity(StrEnum):
    """How bad an alert is, worst first."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    UNKNOWN = "unknown"

    @property
    def rank(self) -> int:
        """0 is the worst."""
        return _SEVERITY_RANK[self]


_SEVERITY_RANK = {severity: rank for rank, severity in enumerate(Severity)}


class Kind(StrEnum):
    """What an alert is about: the closed list."""

    PROVIDER_OUTAGE = "provider_outage"
    RATE_LIMIT = "rate_limit"
    LATENCY = "latency"
    COST = "cost"
    DRIFT = "drift"
    EVAL_DROP = "eval_drop"
    HALLUCINATION = "hallucination"
    FORMAT_BREAK = "format_break"
    PROMPT_INJECTION = "prompt_injection"
    DATA_LEAK = "data_leak"
    RUNAWAY_AGENT = "runaway_agent"
    STALE_INDEX = "stale_index"
    INFRASTRUCTURE = "infrastructure"
    APPLICATION = "application"
    SECURITY = "security"
    DATA = "data"
    OTHER = "other"


class Verdict(StrEnum):
    """What became of one event; `REDELIVERED` is counted but has no row."""

    NEW = "new"
    CHANGED = "changed"
    RESOLVED = "resolved"
    DUPLICATE = "duplicate"
    LATE = "late"
    REJECTED = "rejected"
    REDELIVERED = "redelivered"


class IncidentStatus(StrEnum):
    """Where an incident stands."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    MERGED = "merged"


class Link(msgspec.Struct, frozen=True, array_like=True):
    """Somewhere to look further."""

    href: str
    text: str = ""


class AlertBody(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What an alert says, apart from when. `raw` is the sender's own body, cut, or empty."""

    source: str
    severity: Severity
    kind: Kind
    summary: str
    description: str
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    links: tuple[Link, ...] = ()
    raw: str = ""
    generator_url: str = ""


class Alert(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag=0):
    """One accepted event in canonical form, with its body still packed.

    Dedup folds a repeat by looking at this header alone; `body` is an encoded
    `AlertBody`, and `content` a hash of it without `raw`.
    """

    event_id: str
    team: str
    identity: str
    content: bytes
    firing: bool
    event_at: datetime
    body: bytes
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    timeout: bool = False
    replay_of: str = ""


class Rejected(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag=1):
    """One event that intake refused: why, which field, and at most 64 KiB of what came."""

    event_id: str
    source: str
    field: str
    reason: str
    body: bytes = b""
    content_type: str = ""
    team: str = "default"
    replay_of: str = ""


class Traced(msgspec.Struct, frozen=True, array_like=True):
    """A trace, by the context of the span before (see `streams.trace_context`), and the items of a record in it."""

    context: str
    items: tuple[int, ...]


WAITED: Final = "rabbitmq"
"""`via` of what a gateway gave to RabbitMQ while Kafka was away: what came later may have overtaken it."""


class AlertBatch(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="alerts"):
    """Everything of one intake batch that falls on one partition of `alerts`.

    `trace` is what the first sender that speaks of a trace said of it; `traced` are those that are recorded.
    """

    accepted_at: datetime
    items: tuple[Alert | Rejected, ...]
    via: str = "http"
    trace: str = ""
    traced: tuple[Traced, ...] = ()


class Tick(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="tick"):
    """Time as a record: the earliest `due_at` that the partition's owner saw pass."""

    due_at: datetime


class ConfigChanged(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="config"):
    """A configuration version to apply; its text is the immutable row of that version."""

    version: int
    announced_at: datetime


AlertsRecord = AlertBatch | Tick | ConfigChanged


class Change(StrEnum):
    """What happened to one alert's membership in one group."""

    FIRED = "fired"
    CHANGED = "changed"
    RESOLVED = "resolved"
    LEFT = "left"


class MemberChange(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One alert's change as one group sees it.

    `reached` is told to groups that an alert has left: the receivers of those it
    belongs to now. `revision` grows with every change of the alert; the group ignores what is
    not newer than what it has. `cause` is the position's offset on `alerts`
    and `index` the item in that record. `accepted_at` is when intake had it.
    `config_version` is that of the rules whose routes led to the alert's present groups.
    `again`: a rebuild or a new log tells it once more, or it timed out: an end whose beginning nobody knows joins
    nothing then.
    `flaps` counts its firings that followed an end within the flap window, one upon the other.
    `place` counts the changes that the same cause told the same partition of groups before, where a step done
    again tells them in the same order (-1: it need not). `begins`: a rebuild tells how something began that is over.
    """

    change: Change
    group: str
    route: str
    group_labels: dict[str, str]
    team: str
    identity: str
    fingerprint: str
    occurrence: int
    revision: int
    starts_at: datetime
    ends_at: datetime | None
    accepted_at: datetime
    cause: int
    index: int
    cause_partition: int
    body: bytes = b""
    by_timeout: bool = False
    reached: tuple[str, ...] = ()
    again: bool = False
    config_version: int = 0
    flaps: int = 0
    place: int = -1
    begins: bool = False


class InputBatch(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="inputs"):
    """All member changes of one dedup step that fall on one partition of `incident-inputs`."""

    log_id: str
    accepted_at: datetime
    items: tuple[MemberChange, ...]
    trace: str = ""
    traced: tuple[Traced, ...] = ()


class Outcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="outcome"):
    """How one notification task ended, told to the group that made it.

    `state` is sent (by itself or by a digest) or failed (for good); `reason` is
    one of the closed list in `sinks.outcome`.
    """

    group: str
    task_id: str
    receiver: str
    integration: int
    decision: int
    state: str
    reason: str
    finished_at: datetime


class Silence(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One silence, whole. `sequence` is its place in the directory: a later one replaces an earlier one of the id.

    `sets` are alternatives of (label, operator, value) that must all hold;
    `windows` are (from, until) in order, when it is on: several where it recurs.
    `remind_at` is when somebody is told that it ends, at `remind_to` or the groups' own receivers.
    """

    id: str
    sequence: int
    sets: tuple[tuple[tuple[str, str, str], ...], ...]
    windows: tuple[tuple[datetime, datetime], ...]
    team: str = "default"
    created_by: str = ""
    comment: str = ""
    remind_at: datetime | None = None
    remind_to: str = ""


class SilenceChanged(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="silences"):
    """Silences whose place in the directory is after `after` and up to `upto`, all of them."""

    after: int
    upto: int
    items: tuple[Silence, ...]
    announced_at: datetime


class InhibitorEntry(msgspec.Struct, frozen=True, array_like=True):
    """An inhibition rule, a hash of the values of its equal labels, and whether the alert meets its other side too."""

    rule: str
    equal: bytes
    both: bool


class Inhibitor(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Where one alert mutes others at a revision of it; nowhere once it has ended."""

    identity: str
    fingerprint: str
    revision: int
    entries: tuple[InhibitorEntry, ...]


class InhibitorChanged(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="inhibitors"):
    """What one dedup step changed about alerts that can mute others."""

    accepted_at: datetime
    items: tuple[Inhibitor, ...]


class ActionName(StrEnum):
    """What is done to an incident from outside its alerts: the closed list.

    The last two travel between the owners of two groups: a child tells its parent
    how it is, and a parent that cannot speak for a child lets it go.
    """

    OPEN = "open"
    EDIT = "edit"
    ACKNOWLEDGE = "acknowledge"
    UNACKNOWLEDGE = "unacknowledge"
    RESOLVE = "resolve"
    REOPEN = "reopen"
    SNOOZE = "snooze"
    UNSNOOZE = "unsnooze"
    ASSIGN = "assign"
    COMMENT = "comment"
    LINK = "link"
    MERGE = "merge"
    SPLIT = "split"
    CORRELATE = "correlate"
    UNCORRELATE = "uncorrelate"
    REDACT = "redact"
    CHILD = "child"
    ORPHAN = "orphan"


class ActionArgs(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What an action is about; each action reads its own fields, and None or "" leaves a thing as it is.

    `severity` may be "auto": back to what the alerts say. `expected` is the
    revision that whoever edits has seen (0: any). `into` is the incident that
    shall speak for this one, of the group `into_group`; `rule` is why, where a
    rule decided it. Of `child` and `orphan`, `into` names the other incident, and
    `worst` is the rank of the child's worst firing alert (-1: none fires).
    `revision` is the child's when that was so: what is older than what is known changes
    nothing. `field` or `seq` (of the timeline) is what is redacted. Of `correlate`, `since` is
    when the incident opened that shall speak, `field` the key that decided it, and
    `evidence` (JSON) why.
    """

    comment: str = ""
    title: str | None = None
    description: str | None = None
    severity: str = ""
    kind: str = ""
    labels: dict[str, str] | None = None
    assignee: str | None = None
    until: datetime | None = None
    url: str = ""
    text: str = ""
    into: str = ""
    into_group: str = ""
    rule: str = ""
    field: str = ""
    seq: int = 0
    reason: str = ""
    receiver: str = ""
    expected: int = 0
    worst: int = -1
    evidence: str = ""
    since: datetime | None = None
    revision: int = 0


class Action(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="action"):
    """What a person, or another part in the name of a rule, does to one incident of one group.

    The same `id` counts once. `at` is when it was asked for.
    """

    id: str
    team: str
    group: str
    incident_id: str
    actor: str
    action: ActionName
    at: datetime
    args: ActionArgs = ActionArgs()


class Sighting(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One incident where a correlation rule looks for others: how it stands, and which alerts fired when.

    `key` names the rule and the label values; all that is said of it goes to one partition.
    Without `fired` (alert, when) it only says how the incident stands. `free` is one that
    is open and that nobody but this rule has put under another; `apart` are incidents that
    a person took it away from.
    """

    key: str
    group: str
    incident_id: str
    title: str
    opened_at: datetime
    said_at: datetime
    alive: bool
    free: bool
    parent_id: str
    parent_since: datetime | None
    parent_group: str
    parent_key: str
    apart: tuple[str, ...]
    severity: Severity
    revision: int
    team: str = ""
    rule: str = ""
    labels: dict[str, str] = {}
    within: timedelta = timedelta(0)
    alerts: int = 1
    fired: tuple[tuple[str, datetime], ...] = ()


class Sighted(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="sighted"):
    """What one step of incidents saw of the keys of one partition."""

    accepted_at: datetime
    items: tuple[Sighting, ...]


InputsRecord = InputBatch | Outcome | Tick | ConfigChanged | SilenceChanged | InhibitorChanged | Action | Sighted


class TaskHint(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="due"):
    """Ids of notification tasks that are due now; the rows in Postgres are the truth."""

    task_ids: tuple[str, ...]


_SAID_AT: Final[dict[type, str]] = {
    AlertBatch: "accepted_at",
    InputBatch: "accepted_at",
    InhibitorChanged: "accepted_at",
    ConfigChanged: "announced_at",
    SilenceChanged: "announced_at",
    Tick: "due_at",
    Outcome: "finished_at",
    Action: "at",
    Sighted: "accepted_at",
}
Timed = TypeVar("Timed")


def not_after(record: Timed, latest: datetime) -> Timed:
    """The record with its own time at most `latest`: a writer whose clock is ahead does not move a partition's time."""
    name = _SAID_AT.get(type(record))
    if name is None or getattr(record, name) <= latest:
        return record
    return msgspec.structs.replace(record, **{name: latest})  # type: ignore[type-var]
