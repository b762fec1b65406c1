"""Jobs as they are written: the closed list of actions with what each may be told, and the part `incidents: jobs:`."""

import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
import yaml

from streams.addresses import is_refused_host
from streams.records import Kind, Severity
from streams.rules_schedule import Missed, ScheduleError, check
from streams.rules_yaml import ConfigError, Node, Problems, duration

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
MAX_ARGUMENTS: Final = 16_384
_JOB: Final = frozenset({"action", "schedule", "zone", "missed", "attempts", "with", "enabled"})
_DIGEST: Final = frozenset({"schedule", "zone"})
_MAX_ATTEMPTS: Final = 20


class Action(StrEnum):
    """What a job can do."""

    RETENTION = "retention"
    CANARY = "canary"
    STALE = "stale"
    DIGEST = "digest"
    EXPORT = "export"
    REPLAY = "replay"
    REBUILD = "rebuild"
    WEBHOOK = "webhook"
    ALERT = "alert"


class JobError(ValueError):
    """Raised for a job that cannot be; `field` names what is wrong."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class _Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an action is told."""


class Retention(_Told, frozen=True, kw_only=True):
    """How long to keep alerts that are over, runs of jobs, notices of incidents that are over, dead letters that
    nothing is to be done about, who did what (at least a month), and incidents of the canary.
    """

    alerts: str = "30d"
    runs: str = "30d"
    notices: str = "90d"
    letters: str = "90d"
    audit: str = "365d"
    canaries: str = "1h"


class Canary(_Told, frozen=True, kw_only=True):
    """Within which time the canary must be back."""

    within: str = "30s"


class Stale(_Told, frozen=True, kw_only=True):
    """How long an open incident may be without a change."""

    after: str = "24h"


class Digest(_Told, frozen=True, kw_only=True):
    """Whom to tell of how long a time."""

    receiver: str
    of: str = "24h"


class Export(_Told, frozen=True, kw_only=True):
    """What to write, and of which time (by the incident's creation, or the alert's start)."""

    what: Literal["incidents", "alerts"] = "incidents"
    format: Literal["jsonl", "csv"] = "jsonl"
    since: str = ""
    until: str = ""


class Replay(_Told, frozen=True, kw_only=True):
    """Which dead letters that wait are judged again: all, or those of one source."""

    source: str = ""


class Rebuild(_Told, frozen=True, kw_only=True):
    """Which topic's tables are written to Redis anew by their owners."""

    topic: Literal["alerts", "incident-inputs"] = "incident-inputs"


class Webhook(_Told, frozen=True, kw_only=True):
    """What is sent where; the run's id is the Idempotency-Key."""

    url: str
    method: Literal["POST", "PUT", "GET"] = "POST"
    headers: dict[str, str] = {}
    body: Any = None
    timeout: str = "30s"


class Raise(_Told, frozen=True, kw_only=True):
    """An alert, fired or ended by the job."""

    summary: str
    status: Literal["firing", "resolved"] = "firing"
    severity: Severity = Severity.WARNING
    kind: Kind = Kind.OTHER
    description: str = ""
    labels: dict[str, str] = {}


ARGUMENTS: Final[dict[Action, type[_Told]]] = {
    Action.RETENTION: Retention,
    Action.CANARY: Canary,
    Action.STALE: Stale,
    Action.DIGEST: Digest,
    Action.EXPORT: Export,
    Action.REPLAY: Replay,
    Action.REBUILD: Rebuild,
    Action.WEBHOOK: Webhook,
    Action.ALERT: Raise,
}
_LEAST_AUDIT: Final = timedelta(days=31)
_LENGTHS: Final = frozenset({
    "alerts", "runs", "notices", "letters", "audit", "canaries", "within", "after", "of", "timeout",
})  # fmt: skip


class JobRule(msgspec.Struct, frozen=True, kw_only=True):
    """One job of the built-in list or of a rules file. Without a schedule it runs only when somebody asks."""

    name: str
    action: Action
    arguments: dict[str, Any] = {}
    schedule: str | None = None
    zone: str = "UTC"
    missed: Missed = Missed.SKIP
    max_attempts: int = 3
    origin: Literal["built-in", "configuration"] = "configuration"


BUILT_IN: Final = (
    JobRule(
        name="retention", action=Action.RETENTION, schedule="11 * * * *", missed=Missed.RUN_ONCE, origin="built-in"
    ),
    JobRule(name="canary", action=Action.CANARY, schedule="* * * * *", max_attempts=1, origin="built-in"),
    JobRule(name="stale-incidents", action=Action.STALE, schedule="*/10 * * * *", origin="built-in"),
)


def arguments_of(action: Action, given: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the record of that action
    """What an action is told, as its record of `ARGUMENTS`.

    Raises:
        JobError: it cannot be told that.
    """
    try:
        found = msgspec.convert(dict(given), ARGUMENTS[action], strict=True)
    except msgspec.ValidationError as error:
        raise JobError("arguments", str(error)) from error
    if len(msgspec.json.encode(given)) > MAX_ARGUMENTS:
        raise JobError("arguments", f"larger than {MAX_ARGUMENTS} bytes")
    for name in _LENGTHS & set(found.__struct_fields__):
        _length(name, getattr(found, name))
    if isinstance(found, Retention) and duration(found.audit) < _LEAST_AUDIT:
        raise JobError("arguments.audit", "who did what is kept for at least 31d")
    if isinstance(found, Webhook):
        _refuse_target(found.url)
    return found


def _refuse_target(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise JobError("arguments.url", "must be an http or https URL")
    if is_refused_host(parts.hostname or ""):
        raise JobError("arguments.url", "is not an address that anything may be sent to")


def _length(name: str, text: str) -> None:
    try:
        span = duration(text)
    except ValueError as error:
        raise JobError(f"arguments.{name}", f"{text!r} is not a length of time; write it like 30m or 24h") from error
    if not span:
        raise JobError(f"arguments.{name}", "must not be zero")


def jobs_of(node: Node | None, problems: Problems) -> tuple[JobRule, ...]:
    """Read the part `jobs`: every job, those that are built in with what the file says of them."""
    known = {rule.name: rule for rule in BUILT_IN}
    for name, entry in node.entries().items() if node is not None else ():
        with problems.noted():
            rule = _job(name, entry, known.get(name))
            known.pop(name, None)
            if rule is not None:
                known[name] = rule
    return tuple(known.values())


def digest_of(receiver: str, node: Node) -> JobRule:
    """The job that a receiver's `digest` asks for."""
    fields = node.fields(_DIGEST)
    if "schedule" not in fields:
        raise node.error("has no schedule", 'write it like {schedule: "0 8 * * *", zone: Europe/Berlin}')
    schedule, zone = _schedule(fields)
    return JobRule(
        name=f"digest:{receiver}", action=Action.DIGEST, arguments={"receiver": receiver}, schedule=schedule, zone=zone,
        missed=Missed.RUN_ONCE,
    )  # fmt: skip


def _job(name: str, node: Node, built_in: JobRule | None) -> JobRule | None:
    """None where the file switches it off."""
    fields = node.fields(_JOB)
    if not NAME.fullmatch(name):
        raise node.error("is not a name for a job", "use letters, digits and . _ : -")
    action = _action(node, fields, built_in)
    if "enabled" in fields and not fields["enabled"].flag():
        return None
    given = _plain(fields["with"]) if "with" in fields else dict(built_in.arguments) if built_in else {}
    try:
        arguments_of(action, given)
    except JobError as error:
        raise fields.get("with", node).error(str(error), "look up what this action takes") from error
    schedule, zone = _schedule(fields)
    default = built_in or JobRule(name=name, action=action)
    return JobRule(
        name=name,
        action=action,
        arguments=given,
        schedule=schedule or default.schedule,
        zone=zone,
        missed=_missed(fields["missed"]) if "missed" in fields else default.missed,
        max_attempts=_attempts(fields["attempts"]) if "attempts" in fields else default.max_attempts,
    )


def _action(node: Node, fields: Mapping[str, Node], built_in: JobRule | None) -> Action:
    if "action" not in fields:
        if built_in is None:
            raise node.error("has no action", f"use {', '.join(Action)}")
        return built_in.action
    try:
        action = Action(fields["action"].text())
    except ValueError as error:
        raise fields["action"].error("is not an action", f"use {', '.join(Action)}") from error
    if built_in is not None and action is not built_in.action:
        raise fields["action"].error(f"a built-in job does {built_in.action}", "give yours another name")
    return action


def _schedule(fields: Mapping[str, Node]) -> tuple[str | None, str]:
    zone = fields["zone"].text() if "zone" in fields else "UTC"
    if "schedule" not in fields:
        if "zone" in fields:
            raise fields["zone"].error("belongs to a schedule", "write the schedule too, or leave it out")
        return None, zone
    schedule = fields["schedule"].text()
    try:
        check(schedule, zone)
    except ScheduleError as error:
        raise fields[error.field].error(error.reason, "write it like 30 2 * * MON") from error
    return schedule, zone


def _missed(node: Node) -> Missed:
    try:
        return Missed(node.text())
    except ValueError as error:
        raise node.error("is not a policy", f"use {' or '.join(Missed)}") from error


def _attempts(node: Node) -> int:
    attempts = node.count()
    if not 1 <= attempts <= _MAX_ATTEMPTS:
        raise node.error("is out of bounds", f"write 1 to {_MAX_ATTEMPTS}")
    return attempts


def _plain(node: Node) -> dict[str, Any]:
    node.entries()  # a mapping, with no key twice
    try:
        found = yaml.SafeLoader("").construct_document(node.raw)
        read: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found))
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise node.error("cannot be read", "write plain values") from error
    if not isinstance(read, dict):
        raise ConfigError(node.line, node.path, "must be a mapping", "write `key: value` lines here")
    return read
