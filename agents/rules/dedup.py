"""What one event means for one alert: pure decisions of (state, event, now)."""

from datetime import datetime, timedelta
from typing import Final

import msgspec

from streams.records import Alert, Change, Verdict

LATENESS: Final = timedelta(minutes=10)
_NEVER: Final = timedelta(0)


class Pulse(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag=1):
    """What changes with every event of an alert, small enough to read and write each time.

    An occurrence is numbered by the second it began (one more where two share a
    second) and a revision by the millisecond it began at, so that neither
    repeats after the state has been dropped. `row_count` is the count that
    Postgres has; `dirty_from` the first offset whose duplicates it has not (-1: none).
    `made_up` says that the sender gave no end, so that it is the resolve timeout's.
    `flaps` counts firings, this one too, that followed an end within the flap window, one upon the other.
    `said_start` is the latest start that was said of it since it fires.
    """

    content: bytes
    firing: bool
    occurrence: int
    revision: int
    event_at: datetime
    starts_at: datetime
    ends_at: datetime | None
    timeout_at: datetime | None
    first_seen_at: datetime
    last_seen_at: datetime
    count: int
    offset: int
    row_count: int
    row_at: datetime
    dirty_from: int = -1
    by_timeout: bool = False
    made_up: bool = False
    flaps: int = 0
    said_start: datetime | None = None


class GroupRef(msgspec.Struct, frozen=True, array_like=True):
    """A group that an alert was sent to: its key, its route, and the labels that make it."""

    group: str
    route: str
    labels: dict[str, str]


class AlertState(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag=1):
    """What an alert is: changes only with a verdict of new or changed. `left` are groups that the last change left.

    `former` are all groups that this occurrence was in before: they hear of its end too.
    """

    team: str
    fingerprint: str
    body: bytes
    groups: tuple[GroupRef, ...]
    config_version: int
    left: tuple[GroupRef, ...] = ()
    former: tuple[GroupRef, ...] = ()


class Decided(msgspec.Struct, frozen=True):
    """A verdict, the pulse after it, and what the alert's groups should hear (None: nothing)."""

    verdict: Verdict
    pulse: Pulse
    tell: Change | None
    reason: str = ""


def decide(
    known: Pulse | None, alert: Alert, *, now: datetime, accepted_at: datetime, offset: int, strict: bool = False,
    flap_window: timedelta = _NEVER, waited: bool = False,
) -> Decided:  # fmt: skip
    """Judge one event against what is known of its alert.

    An older firing after a newer end is late, unless the end is longer ago than
    the lateness bound when it is accepted: then the sender reuses an old start for a new firing. An end that
    `waited` where later words overtook it is late if it is older than the newest of them. In
    Alertmanager's mode (`strict`) what arrives last decides, and every end is told.
    """
    if known is None:
        return _began(None, alert, now=now, accepted_at=accepted_at, offset=offset)
    if strict and known.timeout_at is not None and known.timeout_at <= accepted_at:
        known = timed_out(known, due_at=known.timeout_at, now=now, offset=offset) or known
    if known.firing:
        overtaken = waited and not strict and alert.event_at < known.event_at
        judge = _fired_again if alert.firing else _ended
        return judge(known, alert, now=now, accepted_at=accepted_at, offset=offset, strict=strict, overtaken=overtaken)
    if not alert.firing:
        return _ended_again(known, alert, now=now, accepted_at=accepted_at, offset=offset, strict=strict)
    if not strict and _is_late(known, alert, accepted_at):
        pulse = _counted(known, now=now, accepted_at=accepted_at, offset=offset)
        return Decided(Verdict.LATE, pulse, None, "fired before an end that is known already")
    began = _began(known, alert, now=now, accepted_at=accepted_at, offset=offset)
    if known.ends_at is not None and accepted_at - known.ends_at < flap_window:
        return msgspec.structs.replace(began, pulse=msgspec.structs.replace(began.pulse, flaps=known.flaps + 1))
    return began


def merged(known: Pulse | None, alert: Alert, accepted_at: datetime) -> tuple[datetime, datetime | None]:
    """Start and end (None: not known) of an alert after one more word of it.

    The rule is Alertmanager's (`provider/mem`, `types.go`, Merge): times that
    overlap keep the earlier start; an end that somebody gave beats one that was
    made up, and of two ends in the past the later counts. Others are replaced.
    """
    ends = alert.ends_at if alert.firing else _said_end(alert, accepted_at)
    starts = alert.starts_at or (ends if not alert.firing and ends and alert.ends_at else accepted_at)
    before = (known.timeout_at if known.firing else known.ends_at) if known is not None else None
    if known is None or before is None or ends is None:
        return (min(starts, known.starts_at) if known is not None and known.firing else starts), ends
    if not (known.starts_at < ends < before or known.starts_at < starts < before):
        return starts, ends
    kept = before > ends and (not known.firing if not alert.firing else known.firing and not known.made_up)
    return min(starts, known.starts_at), before if kept else ends


def _is_late(known: Pulse, alert: Alert, accepted_at: datetime) -> bool:
    if known.ends_at is None or alert.event_at >= known.ends_at or accepted_at - known.ends_at > LATENESS:
        return False
    # An end that nobody said is taken back by a firing that lasts longer.
    return not known.by_timeout or (alert.ends_at is not None and alert.ends_at <= known.ends_at)


def _said_end(alert: Alert, accepted_at: datetime) -> datetime:
    """The sender's end; one in the future is not believed further than the event's own time."""
    return min(alert.ends_at or accepted_at, max(accepted_at, alert.event_at))


def timed_out(known: Pulse, *, due_at: datetime, now: datetime, offset: int) -> Pulse | None:
    """The pulse after its sender's end, or resolve timeout, has passed; None when it has not."""
    if not known.firing or known.timeout_at is None or known.timeout_at > due_at:
        return None
    return msgspec.structs.replace(
        known,
        firing=False,
        ends_at=known.timeout_at,
        event_at=max(known.event_at, known.timeout_at),
        timeout_at=None,
        revision=known.revision + 1,
        offset=offset,
        row_count=known.count,
        row_at=now,
        dirty_from=-1,
        by_timeout=True,
    )


def in_row(pulse: Pulse, now: datetime) -> Pulse:
    """The pulse once its count is in its row."""
    if pulse.dirty_from < 0 and pulse.row_count == pulse.count:
        return pulse
    return msgspec.structs.replace(pulse, row_count=pulse.count, row_at=now, dirty_from=-1)


def _began(known: Pulse | None, alert: Alert, *, now: datetime, accepted_at: datetime, offset: int) -> Decided:
    seconds, milliseconds = int(now.timestamp()), int(now.timestamp() * 1000)
    starts_at, ends_at = merged(known, alert, accepted_at)
    pulse = Pulse(
        content=alert.content,
        firing=alert.firing,
        occurrence=max(known.occurrence + 1 if known else 0, seconds),
        revision=max(known.revision + 1 if known else 0, milliseconds),
        event_at=alert.event_at,
        starts_at=starts_at,
        ends_at=None if alert.firing else max(ends_at or accepted_at, starts_at),
        timeout_at=ends_at if alert.firing else None,
        first_seen_at=accepted_at,
        last_seen_at=accepted_at,
        count=1,
        offset=offset,
        row_count=1,
        row_at=now,
        made_up=alert.timeout,
        said_start=_said_start(alert, accepted_at) if alert.firing else None,
    )
    if alert.firing:
        return Decided(Verdict.NEW, pulse, Change.FIRED)
    return Decided(Verdict.RESOLVED, pulse, Change.RESOLVED, "nothing of it was firing")


def _fired_again(
    known: Pulse, alert: Alert, *, now: datetime, accepted_at: datetime, offset: int, strict: bool,
    overtaken: bool,  # noqa: ARG001 - the family's signature: what else it says holds all the same
) -> Decided:  # fmt: skip
    newest = strict or alert.event_at >= known.event_at
    starts_at, ends_at = merged(known, alert, accepted_at) if newest else (known.starts_at, known.timeout_at)
    timeout_at, made_up = ends_at, alert.timeout if newest else known.made_up
    said_start = _later(known.said_start, _said_start(alert, accepted_at))
    if not newest or (alert.content == known.content and starts_at == known.starts_at):
        pulse = _counted(known, now=now, accepted_at=accepted_at, offset=offset)
        if timeout_at != known.timeout_at or alert.event_at > known.event_at or said_start != known.said_start:
            pulse = msgspec.structs.replace(
                pulse, timeout_at=timeout_at, made_up=made_up, event_at=max(known.event_at, alert.event_at),
                said_start=said_start,
            )  # fmt: skip
        return Decided(Verdict.DUPLICATE, pulse, None)
    pulse = msgspec.structs.replace(
        known,
        content=alert.content,
        revision=known.revision + 1,
        event_at=alert.event_at,
        starts_at=starts_at,
        timeout_at=timeout_at,
        made_up=made_up,
        said_start=said_start,
        last_seen_at=accepted_at,
        count=known.count + 1,
        offset=offset,
        row_count=known.count + 1,
        row_at=now,
        dirty_from=-1,
    )
    return Decided(Verdict.CHANGED, pulse, Change.CHANGED)


def _ended(
    known: Pulse, alert: Alert, *, now: datetime, accepted_at: datetime, offset: int, strict: bool, overtaken: bool
) -> Decided:
    before = min(known.starts_at, known.first_seen_at)
    # Of a firing that was said to begin later, whoever said this end did not know.
    if overtaken or (not strict and alert.event_at < max(before, known.said_start or before)):
        pulse = _counted(known, now=now, accepted_at=accepted_at, offset=offset)
        return Decided(Verdict.LATE, pulse, None, "ended before the present firing began")
    starts_at, ends_at = merged(known, alert, accepted_at)
    pulse = msgspec.structs.replace(
        known,
        firing=False,
        revision=known.revision + 1,
        event_at=max(known.event_at, alert.event_at),
        starts_at=starts_at,
        ends_at=ends_at,
        timeout_at=None,
        made_up=False,
        last_seen_at=accepted_at,
        count=known.count + 1,
        offset=offset,
        row_count=known.count + 1,
        row_at=now,
        dirty_from=-1,
    )
    return Decided(Verdict.RESOLVED, pulse, Change.RESOLVED)


def _ended_again(
    known: Pulse, alert: Alert, *, now: datetime, accepted_at: datetime, offset: int, strict: bool
) -> Decided:
    """An end after an end changes times alone; its group hears of it if they did."""
    pulse = _counted(known, now=now, accepted_at=accepted_at, offset=offset)
    starts_at, ends_at = merged(known, alert, accepted_at)
    later = known.ends_at is not None and ends_at is not None and ends_at > known.ends_at
    if not strict and not later:
        return Decided(Verdict.DUPLICATE, pulse, None)
    pulse = msgspec.structs.replace(
        pulse, starts_at=starts_at, ends_at=ends_at, event_at=max(known.event_at, alert.event_at), by_timeout=False,
        revision=known.revision + 1, row_count=pulse.count, row_at=now, dirty_from=-1,
    )  # fmt: skip
    return Decided(Verdict.DUPLICATE, pulse, Change.RESOLVED)


def _counted(known: Pulse, *, now: datetime, accepted_at: datetime, offset: int) -> Pulse:  # noqa: ARG001 - the family's signature
    return Pulse(
        content=known.content,
        firing=known.firing,
        occurrence=known.occurrence,
        revision=known.revision,
        event_at=known.event_at,
        starts_at=known.starts_at,
        ends_at=known.ends_at,
        timeout_at=known.timeout_at,
        first_seen_at=known.first_seen_at,
        last_seen_at=max(known.last_seen_at, accepted_at),
        count=known.count + 1,
        offset=offset,
        row_count=known.row_count,
        row_at=known.row_at,
        dirty_from=known.dirty_from if known.dirty_from >= 0 else offset,
        by_timeout=known.by_timeout,
        made_up=known.made_up,
        flaps=known.flaps,
        said_start=known.said_start,
    )


def _said_start(alert: Alert, accepted_at: datetime) -> datetime | None:
    """The start that the sender gave; one in the future is not believed."""
    return alert.starts_at if alert.starts_at is not None and alert.starts_at <= accepted_at else None


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(one, other) if one is not None and other is not None else one or other
