"""The laws of a whole run, each checked against accounts that the product cannot write: L1 to L11.

What came in (L1 to L5) is judged by `loadtests.ledger`. What was told (L6 to
L8) is judged here, from the receiver's ledger; what belongs together (L10)
against the model of `tests.chaos.stories`; L9 in `tests.chaos.tables`.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import asyncpg
import msgspec

from loadtests.ledger import Verification
from tests.chaos.faults import Hurt
from tests.chaos.figures import Answer
from tests.chaos.receiver import Notice, names
from tests.chaos.stories import ALERTNAME, Partition

EXAMPLES: Final = 5
_GRACE_US: Final = 3_000_000
OPEN_STATES: Final = frozenset({"due", "sending"})

NOTICES: Final = "L6 no notice lost"
SAME: Final = "L7 a repeat is the same notice"
ORDER: Final = "L8 order of each target"
TABLES: Final = "L9 tables equal a rebuild"
TOGETHER: Final = "L10 same input, same incidents"
COUNTERS: Final = "L11 counters add up"
INGEST: Final = "ingest stays open, and honest"
INCIDENTS: Final = "L4 incidents count their links"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """How one law came out; `note` says what was looked at."""

    law: str
    violations: tuple[str, ...] = ()
    count: int = 0
    note: str = ""

    @property
    def holds(self) -> bool:
        return self.count == 0


def found(law: str, violations: Iterable[str], note: str = "") -> Finding:
    """A finding with a few examples."""
    every = list(violations)
    return Finding(law=law, violations=tuple(every[:EXAMPLES]), count=len(every), note=note)


def of_intake(verification: Verification) -> list[Finding]:
    """L1 to L5 as this page says them."""
    note = f"{verification.events:,} events, {verification.confirmed:,} confirmed, {verification.unknown:,} unknown"
    return [
        Finding(law=str(one.law), violations=one.examples, count=one.violations, note=note if not place else "")
        for place, one in enumerate(verification.findings)
    ]


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One notice to one target as Postgres has it; `id` is the key that the receiver sees."""

    id: str
    incident: str
    group: str
    decision: int
    state: str


_TASKS: Final = """
    SELECT id::text, incident_id::text AS incident, group_key AS "group", decision, state FROM notification_tasks
"""
_FIRING: Final = """
    SELECT i.group_key, a.labels
    FROM incidents i
    LEFT JOIN incident_alerts l ON l.incident_id = i.id AND l.firing
    LEFT JOIN alerts a ON a.identity = l.identity AND a.occurrence = l.occurrence
"""
_STORIES: Final = """
    SELECT i.group_labels->>'service' AS service, l.incident_id::text AS incident, a.labels->>'instance' AS instance,
           dense_rank() OVER (PARTITION BY a.identity ORDER BY a.occurrence) AS times
    FROM incidents i
    JOIN incident_alerts l ON l.incident_id = i.id
    JOIN alerts a ON a.identity = l.identity AND a.occurrence = l.occurrence
    WHERE i.group_labels->>'alertname' = $1
"""
_COUNTED: Final = """
    SELECT i.id::text AS id, i.status, count(DISTINCT l.identity) AS alerts, count(*) FILTER (WHERE l.firing) AS firing,
           coalesce(sum(a.event_count), 0)::bigint AS events
    FROM incidents i
    LEFT JOIN incident_alerts l ON l.incident_id = i.id
    LEFT JOIN alerts a ON a.identity = l.identity AND a.occurrence = l.occurrence
    GROUP BY i.id
"""
_SUMS: Final = """
    SELECT sum(new) AS new, sum(changed) AS changed, sum(resolved) AS resolved, sum(duplicate) AS duplicate,
           sum(late) AS late, sum(rejected) AS rejected, sum(redelivered) AS redelivered, sum(received) AS received
    FROM stream_progress
"""


async def tasks_of(connection: "asyncpg.Connection[asyncpg.Record]") -> list[Task]:
    return [Task(**dict(row)) for row in await connection.fetch(_TASKS)]


async def firing_now(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, str]:
    """Of each group, the name of the alerts that fire in it; empty when none does."""
    labels: dict[str, list[Mapping[str, str]]] = {}
    for row in await connection.fetch(_FIRING):
        held = labels.setdefault(row["group_key"], [])
        if row["labels"] is not None:
            held.append(json.loads(row["labels"]))
    return {group: names(held) for group, held in labels.items()}


def of_notices(notices: Sequence[Notice], tasks: Sequence[Task], firing: Mapping[str, str]) -> list[Finding]:
    """L6 to L8: what the receiver saw, against what was to be told and what is true at the end."""
    return [
        found(NOTICES, _lost(notices, tasks, firing), f"{len(notices):,} requests, {len(tasks):,} notices"),
        found(SAME, _unlike(notices), f"{_repeats(notices)} came again"),
        found(ORDER, _disordered(notices, {task.id: task.decision for task in tasks})),
    ]


def _lost(notices: Sequence[Notice], tasks: Sequence[Task], firing: Mapping[str, str]) -> Iterable[str]:
    taken = {notice.key for notice in notices if notice.taken}
    for task in tasks:
        if task.state in OPEN_STATES:
            yield f"{task.id} is still {task.state}"
        elif task.state == "sent" and task.id not in taken:
            yield f"{task.id} counts as sent and was never taken"
    given_up = {task.group for task in tasks if task.state == "failed"}
    group_of = {task.id: task.group for task in tasks}
    last = {group_of.get(notice.key, ""): notice.firing for notice in notices if notice.taken}
    for group, now in firing.items():
        told = last.get(group, "")
        if told != now and group not in given_up:
            yield f"{group}: {'other alerts fire' if now and told else 'firing' if now else 'the end'} was never told"
    yield from (f"{notice.key} is no notice of ours" for notice in notices if notice.key not in group_of)


def _repeats(notices: Sequence[Notice]) -> int:
    return len(notices) - len({(notice.target, notice.key) for notice in notices})


def _unlike(notices: Sequence[Notice]) -> Iterable[str]:
    bodies: dict[tuple[str, str], set[str]] = defaultdict(set)
    keys: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for notice in notices:
        bodies[notice.target, notice.key].add(notice.body_hash)
        keys[notice.target, notice.incident, notice.body_hash].add(notice.key)
    yield from (f"{key} came with {len(some)} bodies" for (_, key), some in bodies.items() if len(some) > 1)
    for (_, incident, _), some in keys.items():
        if len(some) > 1:
            yield f"{incident}: the same notice came under {len(some)} keys"
    yield from ("a notice without a key" for notice in notices if not notice.key)


def _disordered(notices: Sequence[Notice], decisions: Mapping[str, int]) -> Iterable[str]:
    newest: dict[tuple[str, str], int] = {}
    for notice in notices:
        place = (notice.target, notice.incident)
        decision = decisions.get(notice.key, -1)
        before = newest.get(place)
        if before is None and notice.status == "resolved" and notice.firing:
            yield f"{notice.incident}: an end that says that alerts fire"
        if before is not None and decision < before:
            yield f"{notice.incident}: notice {decision} came after {before}"
        newest[place] = max(decision, before if before is not None else decision)
    yield from _ends_before_beginnings(notices)


def _ends_before_beginnings(notices: Sequence[Notice]) -> Iterable[str]:
    """A group that is told an end first must not be told of the same incident's beginning afterwards."""
    ended_first: set[tuple[str, str]] = set()
    begun: set[tuple[str, str]] = set()
    for notice in notices:
        place = (notice.target, notice.group)
        if notice.status == "resolved" and place not in begun:
            ended_first.add((notice.target, notice.incident))
        if notice.status == "firing":
            begun.add(place)
            if (notice.target, notice.incident) in ended_first:
                yield f"{notice.incident}: its end was told before its beginning"


async def stories_of(connection: "asyncpg.Connection[asyncpg.Record]") -> Partition:
    """Of each story, its incidents as sets of occurrences, as Postgres has them."""
    incidents: dict[str, dict[str, set[tuple[str, int]]]] = {}
    for row in await connection.fetch(_STORIES, ALERTNAME):
        of_service = incidents.setdefault(row["service"], {})
        of_service.setdefault(row["incident"], set()).add((row["instance"], int(row["times"])))
    return {service: frozenset(frozenset(one) for one in some.values()) for service, some in incidents.items()}


async def counted(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, dict[str, Any]]:
    """Each incident's status and counts, through its links."""
    return {row["id"]: dict(row) for row in await connection.fetch(_COUNTED)}


def of_incidents(by_links: Mapping[str, Mapping[str, Any]], said: Sequence[Mapping[str, Any]]) -> Finding:
    """L4 for incidents: open exactly while something fires, and the API's counts are those of the links."""
    wrong = []
    for incident, row in by_links.items():
        if (row["status"] in {"open", "acknowledged"}) != (row["firing"] > 0):
            wrong.append(f"{incident} is {row['status']} while {row['firing']} alerts fire")
    for one in said:
        row = by_links.get(str(one["id"]), {})
        wrong += [
            f"{one['id']}: {one[name]} {name} by the API, {row.get(name)} through its links"
            for name in ("alerts", "firing", "events")
            if one[name] != row.get(name)
        ]
    return found(INCIDENTS, wrong, f"{len(by_links):,} incidents, {len(said):,} of them by the API")


def of_ingest(answers: Sequence[Answer], hurts: Sequence[Hurt], down_s: float) -> Finding:
    """While one broker is there everything is taken, whatever else is down; while none is, nothing is."""
    wrong, seen = [], 0
    for hurt in hurts:
        if not hurt.name.startswith("down-") or hurt.name == "down-rabbitmq":
            continue
        none_is_there = hurt.name == "down-brokers"
        since = hurt.began_us + _GRACE_US
        until = hurt.began_us + int(down_s * 1e6) if none_is_there else hurt.mended_us
        statuses = [one.status for one in answers if since <= one.at_us <= until]
        seen += len(statuses)
        bad = [one for one in statuses if (one not in {429, 503} if none_is_there else not 200 <= one < 300)]
        if bad:
            wrong.append(f"{hurt.name}: {len(bad)} of {len(statuses)} answers were {sorted(set(bad))}")
    return found(INGEST, wrong, f"{seen:,} answers while something was down")


async def sums_of(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    """What the progress rows say, over all partitions."""
    row = await connection.fetchrow(_SUMS)
    return {name: int(value or 0) for name, value in dict(row or {}).items()}


def of_counters(sums: Mapping[str, int], told: int, metrics: Mapping[str, int] | None) -> Finding:
    """L11: what was received is what was told once and what came again; /metrics agree where no worker ended."""
    wrong = []
    parts = {name: value for name, value in sums.items() if name != "received"}
    if sums.get("received", 0) != sum(parts.values()):
        wrong.append(f"received {sums.get('received')}, by verdict {sum(parts.values())}")
    if sum(parts.values()) - parts.get("redelivered", 0) != told:
        wrong.append(f"{sum(parts.values()) - parts.get('redelivered', 0)} counted once, {told} in verdict rows")
    for verdict, value in (metrics or {}).items():
        if parts.get(verdict, 0) != value:
            wrong.append(f"{verdict}: {value} by /metrics, {parts.get(verdict, 0)} by Postgres")
    return found(COUNTERS, wrong, "by Postgres and /metrics" if metrics is not None else "by Postgres: workers ended")
