"""What must hold of every run, by what was sent and what was told: nothing lost, nothing doubled, a way out."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from agents.alert_partition import PULSES
from agents.group_partition import DROP, ESCALATE, FLUSH, GROUPS, MEMBERS, SNOOZE, due_at
from agents.rules import incident, routing
from agents.rules.inhibition import entries_of, targets_of
from agents.rules.notify_log import Reason
from streams import keys
from streams.records import ActionName, IncidentStatus, Verdict
from streams.rules_config import Route, RulesConfig
from tests.simulation.seeds import laws_of_people
from tests.simulation.seeds.lanes import at
from tests.simulation.seeds.machine import IDENTITIES, KNOWN, Machine, Told
from tests.simulation.seeds.script import ALERTS, CONFIGS, FADING, Script

REPEAT: Final = timedelta(hours=4)
PASSING: Final = frozenset({"severity", "merged", "split", "child merged", "child split", "child fires", "child ended"})
"""How it came about that an incident stands as it does: within one moment that depends on who is heard first."""
LASTING: Final = ("counts", "incidents", "families")
COUNTED: Final = ("counts",)
MUTING: Final = frozenset({"rules", "silence", "person"})
ESCALATED: Final = "escalation"
"""Parts of a story that do not depend on what happened within one moment."""


def truth(machine: Machine) -> set[int]:
    """The alerts that fire once all is quiet, by what their senders said last."""
    last: dict[int, tuple[datetime, bool]] = {}
    for one in machine.said:
        if one.alert not in last or last[one.alert][0] < one.event_at:
            last[one.alert] = (one.event_at, one.firing)
    return {number for number, (_, firing) in last.items() if firing and number not in FADING}


def broken(machine: Machine) -> Iterator[str]:
    """What does not hold once all is quiet."""
    fires = truth(machine)
    yield from _counts(machine)
    yield from _tables(machine, fires)
    yield from _families(machine)
    yield from _told(machine, fires)
    yield from _once(machine)
    yield from _ways_out(machine)
    yield from laws_of_people.broken(machine)


def alive(machine: Machine) -> Iterator[str]:
    """What goes on although somebody has resolved all there was."""
    for row in machine.rows.incidents.values():
        if row.status != "resolved":
            yield f"incident {row.title!r} was resolved by hand, and is {row.status}"


def left_over(machine: Machine) -> Iterator[str]:
    """What is still there although everything ended days ago."""
    for lane in machine.lanes:
        for table in (PULSES, GROUPS, MEMBERS):
            for key in lane.view.tables.get(table, {}):
                yield f"days later {table} still holds {key}"
    for row in machine.rows.incidents.values():
        if row.status != "resolved":
            yield f"days later incident {row.title!r} is {row.status}"
    for lane in machine.second:
        for key, meeting in lane.partition.correlator.meetings.items():
            if meeting.seen or not meeting.apart:  # what a person took apart is remembered for good
                yield f"days later {key} is still met at"
    untold = machine.rows.tasks.keys() - machine.rows.heard
    if untold:
        yield f"{len(untold)} notices never had an end that their group heard of"


def _counts(machine: Machine) -> Iterator[str]:
    rows = machine.rows
    counted = dict(zip(Verdict, rows.counted, strict=True))
    if sum(counted.values()) != machine.events:
        yield f"{machine.events} events came, {sum(counted.values())} were counted: {counted}"
    for verdict, count in counted.items():
        if verdict is not Verdict.REDELIVERED and rows.verdicts.get(verdict, 0) != count:
            yield f"{count} times {verdict} was counted, {rows.verdicts.get(verdict, 0)} have a verdict"
    if counted[Verdict.REDELIVERED] != machine.repeated:
        yield f"{machine.repeated} events came twice, {counted[Verdict.REDELIVERED]} were known again"
    if rows.doubled:
        yield f"{len(rows.doubled)} tasks were made twice"


def _tables(machine: Machine, fires: set[int]) -> Iterator[str]:
    should = {KNOWN[number].identity for number in fires}
    found = machine.firing()
    for identity in sorted(should ^ found):
        yield f"{_name(identity)} {'is not known to fire' if identity in should else 'is held to fire, and has ended'}"
    groups, members = machine.groups(), machine.members()
    root = CONFIGS[machine.version].route
    wanted = {(KNOWN[n].identity, route.id) for n in fires for route in routing.routes_for(root, ALERTS[n])}
    held = [(one.identity, groups[key].route) for key, one in members if one.firing and not groups[key].handled.by_hand]
    for identity, route in sorted(wanted.symmetric_difference(held)):
        yield f"{_name(identity)} {'is in no' if (identity, route) in wanted else 'is still in a'} group of {route}"
    if len(held) != len(set(held)):
        yield f"an alert is in two groups of one route: {sorted(held)}"
    for key, group in groups.items():
        count = sum(1 for of, one in members if of == key and one.firing)
        if sum(group.firing) != count:
            yield f"group {group.labels} counts {sum(group.firing)} firing, and has {count}"
        if group.alive != incident.fires(group) and not (group.written_off or laws_of_people.reopened(machine, group)):
            yield f"group {group.labels} is {group.status}, and {count} of it fire"
        row = machine.rows.incidents.get(group.incident_id)
        if row is None or (row.status, row.revision > group.revision) != (group.status, False):
            yield f"group {group.labels} is {group.status}, its row says {row and row.status}"
    ours = {group.incident_id for group in groups.values()}
    for row in machine.rows.incidents.values():
        if row.status != "resolved" and row.id not in ours:
            yield f"incident {row.title!r} is {row.status}, and no group works on it"


def _families(machine: Machine) -> Iterator[str]:
    """Whoever is silent has somebody who speaks for it, and both know it."""
    groups = machine.groups()
    by_incident = {group.incident_id: group for group in groups.values()}
    for group in groups.values():
        parent = by_incident.get(group.handled.parent_id)
        if group.status is IncidentStatus.MERGED and (parent is None or not parent.active):
            yield f"group {group.labels} is silent under {parent and parent.status}"
        for child_id, child in group.handled.children.items():
            own = by_incident.get(child_id)
            worst = own.worst if own is not None and own.handled.parent_id == group.incident_id else -1
            if child.worst != worst:
                yield f"group {group.labels} speaks for {child_id}, of which it knows {child.worst}: it is {worst}"


def _told(machine: Machine, fires: set[int]) -> Iterator[str]:
    begun: set[tuple[str, str]] = set()
    for told in machine.told:
        if not told.alerts:
            if not told.reason.startswith(ESCALATED):  # of one that a person opened again
                yield f"{told.target} was told of nothing"
        elif any(one.firing for one in told.alerts) or told.reason.startswith(ESCALATED):
            begun.add((told.target, told.group))
        elif (told.target, told.group) not in begun and told.reason != Reason.MISSED:
            yield f"{told.target} was told of an end, and had heard of no start: {sorted(told.alerts)}"
    last = _last_told(machine)
    yield from _starts_untold(machine, fires)
    yield from _ends_untold(machine, fires, last)


Last = dict[tuple[str, str], tuple[str, bool, str]]
"""By target and alert, what it was told last: of a firing since when, whether it lasts, and by which group."""


def _last_told(machine: Machine) -> Last:
    last: Last = {}
    for told in machine.told:
        for one in told.alerts:
            if last.get((told.target, one.identity), ("",))[0] <= one.since:
                last[told.target, one.identity] = (one.since, one.firing, told.group)
    return last


def _starts_untold(machine: Machine, fires: set[int]) -> Iterator[str]:
    config = CONFIGS[machine.version]
    last: dict[tuple[str, str, str], tuple[str, bool]] = {}
    for told in machine.told:
        for one in told.alerts:
            at = (told.target, one.identity, told.group)
            if last.get(at, ("",))[0] <= one.since:
                last[at] = (one.since, one.firing)
    for number in fires:
        if _is_inhibited(number, fires, config):
            continue
        for route in routing.routes_for(config.route, ALERTS[number]):
            for to in config.receivers[route.receiver].integrations:
                target = f"{route.receiver}/{to.index}"
                group = _group_of(ALERTS[number], route)
                knows = last.get((target, KNOWN[number].identity, group), ("", False))[1]
                if not knows and not _is_silent(machine, group):
                    yield f"{target} does not know that {ALERTS[number]} fires"


def _ends_untold(machine: Machine, fires: set[int], last: Last) -> Iterator[str]:
    config, groups = CONFIGS[machine.version], machine.groups()
    still = {KNOWN[number].identity for number in fires} | {key for key, group in groups.items() if group.alive}
    for (target, identity), (_, firing, group) in last.items():
        name, _, index = target.partition("/")
        receiver = config.told_as(name)
        if not firing or identity in still or receiver is None or not receiver.integrations[int(index)].send_resolved:
            continue
        there = groups.get(group)
        if there is not None and there.alive and there.escalation is not None and name in there.escalation.told:
            continue  # whom escalation told hears that the incident is over
        # Where other rules took it from that group while it was muted, its end may go unsaid.
        if all(group in _groups_of(identity, CONFIGS[version]) for version in versions(machine.script)):
            yield f"{target} was never told that {_name(identity)} ended"


def _is_silent(machine: Machine, key: str) -> bool:
    """Whether nobody is to be told of the incident of a group."""
    group = machine.groups().get(key)
    return group is not None and not group.speaks


def versions(script: Script) -> set[int]:
    """The versions of the rules that a script uses."""
    return {script.version, *(act.version for act in script.acts if act.what == "rules")}


def _groups_of(identity: str, config: RulesConfig) -> set[str]:
    """Keys of the groups of an alert by these rules; what a person opened is its own group."""
    if identity not in IDENTITIES.values():
        return {identity}
    labels = next(ALERTS[number] for number, known in enumerate(KNOWN) if known.identity == identity)
    return {_group_of(labels, route) for route in routing.routes_for(config.route, labels)}


def _group_of(labels: dict[str, str], route: Route) -> str:
    return keys.hashed(keys.group_of("default", route.id, routing.group_labels(route, labels).items()))


def _is_inhibited(number: int, fires: set[int], config: RulesConfig) -> bool:
    targets = {(one.rule, one.equal) for one in targets_of(config.inhibit_rules, ALERTS[number])}
    return any(
        (one.rule, one.equal) in targets for other in fires for one in entries_of(config.inhibit_rules, ALERTS[other])
    )


def _once(machine: Machine) -> Iterator[str]:
    before: dict[tuple[str, str], Told] = {}
    rules = [CONFIGS[version] for version in versions(machine.script)]
    if any(one.inhibit_rules or one.ours.correlation for one in rules):
        return  # as in Alertmanager, ends that are told while others are muted make those new
    # What could not be delivered before such an act comes so much after it.
    late = max((act.lasts for act in machine.script.acts if act.what == "away"), default=0.0)
    acts = [(at(act.at), at(act.at + act.lasts + act.late + late)) for act in machine.script.acts if act.what in MUTING]
    for told in machine.told:
        if told.reason.startswith(ESCALATED) or told.reason == Reason.REPEAT:
            continue
        last = before.get((told.target, told.group))
        before[told.target, told.group] = told
        if last is None or last.alerts != told.alerts or told.at - last.at >= REPEAT:
            continue
        if any(one.again for one in told.alerts):  # the same start, but another firing
            continue
        if not any(began <= told.at and last.at <= ended for began, ended in acts):
            yield f"{told.target} was told the same twice within {told.at - last.at}: {sorted(told.alerts)}"


def _ways_out(machine: Machine) -> Iterator[str]:
    """Whatever waits has a deadline that wakes it."""
    for lane in machine.second:
        armed = {(what, key): due for due, what, key in lane.partition.deadlines.entries()}
        for key, value in lane.view.tables[GROUPS].items():
            group = machine.group_of(value)
            for what in (FLUSH, DROP, SNOOZE, ESCALATE):
                due = due_at(what, group)
                if due is not None and armed.get((what, key), due + timedelta(1)) > due:
                    yield f"group {group.labels} waits for {what} at {due}, and nothing wakes it"
            if group.alive and group.members and group.next_flush_at is None:
                yield f"group {group.labels} is {group.status} and is never flushed again"


def _name(identity: str) -> str:
    return str(next((ALERTS[number] for number, known in enumerate(KNOWN) if known.identity == identity), identity))


def facts(machine: Machine) -> dict[str, Any]:
    """What every way to run a script must agree on, its delays included: where it ends."""
    groups = [group for group in machine.groups().values() if any(group.firing) and not group.handled.by_hand]
    # What fires when somebody says that it is over depends on what came before.
    ended = any(act.verb in (ActionName.RESOLVE, ActionName.REOPEN) for act in machine.script.acts)
    return {
        "events": machine.events,
        "firing": sorted(map(_name, machine.firing())),
        "groups": sorted((str(group.labels), group.route, group.firing) for group in groups),
        "alive": sorted((str(group.labels), group.route, group.alive) for group in groups if not ended),
    }


def story(machine: Machine) -> dict[str, Any]:
    """What every way without delays must agree on: everything that people see, and when."""
    incidents = sorted(
        (
            row.group_key, row.created_at, row.status, row.resolved_at or row.created_at, row.reopened,
            # Of alerts that end within one moment, who is heard of last says how bad it was at the end.
            row.severity if row.status != IncidentStatus.RESOLVED else "",
        )
        for row in machine.rows.incidents.values()
    )  # fmt: skip
    lines = sorted(
        (line.at, line.event, line.actor)
        for lines in machine.rows.timeline.values()
        for line in lines.values()
        if line.event not in PASSING
    )
    titles = {row.id: str(row.group_labels) for row in machine.rows.incidents.values()}
    families = sorted(
        (str(row.group_labels), row.created_at, titles.get(row.parent_id, ""), row.status)
        for row in machine.rows.incidents.values()
        if row.status != "resolved"
    )
    told = sorted((one.at, one.target, one.group, one.reason, sorted(one.alerts)) for one in machine.told)
    return {
        "counts": dict(machine.rows.verdicts),
        "incidents": incidents,
        "timeline": lines,
        "told": told,
        "families": families,
        "actions": [
            (action_id, one.outcome, one.reason)
            for action_id in sorted(machine.asked)
            if (one := machine.rows.actions.get(action_id)) is not None
        ],
    }
