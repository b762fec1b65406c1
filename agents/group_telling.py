"""What the groups of one step tell: flushes, escalation, reminders, and what became of notices that were told."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from agents import escalations, flushes, reminders
from agents.group_overlay import GroupOverlay
from agents.group_story import GroupStory
from agents.rules import grouping, times
from agents.rules.group_state import GroupState, Member
from agents.rules.incident import Event
from agents.step_traces import Told
from agents.suppression import StepSuppressor, Suppression
from sinks import task_rows
from streams import codec
from streams.records import Outcome
from streams.rules_config import Receiver, Route, RulesConfig

if TYPE_CHECKING:
    from agents.incidents import IncidentsLogic

_NOT_MUTED: Final = Suppression()


class GroupTelling:
    """Notices and tasks as a step makes them. `version` is that of the rules in force; `heard` are tasks that ended."""

    def __init__(
        self, logic: "IncidentsLogic", held: GroupOverlay, story: GroupStory, suppressor: StepSuppressor, *,
        version: int, strict: bool,
    ) -> None:  # fmt: skip
        self.version = version
        self.heard: list[str] = []
        self.notices: list[task_rows.Notice] = []
        self.tasks: list[task_rows.Task] = []
        self.told: list[Told] = []
        self._logic = logic
        self._held = held
        self._story = story
        self._suppressor = suppressor
        self._strict = strict

    def flush(self, key: str, group: GroupState, now: datetime) -> None:
        """Decide whom to tell of a group now."""
        route = self._route(group)
        config = self._logic.configs[self.version]
        made = flushes.flush(
            key,
            group,
            self._held.members_of(key),
            flushes.Setting(
                route=route,
                receiver=self._receiver(route),
                former=self._former(group, route),
                waiting=self._waiting(group, route),
                config_version=self.version,
                now=now,
                page_url=self._logic.settings.page_url,
                strict=self._strict,
                muted_by=lambda member: self._suppression(member, config, group.team, now),
                closed_by=times.closed_by(config.time_intervals, route, now),
                flap_window=self._logic.flap_window,
            ),
        )
        self.notices += made.notices
        self.tasks += made.tasks
        if made.trace:
            self.told.append(Told(made.trace, group.trace, group.incident_id, len(made.tasks)))
        self._held.put(key, made.group, visible=bool(made.events))
        for member in made.changed:
            self._held.keep(key, member)
        self._held.let_go(key, made.gone)
        self._story.tell(made.group, made.events, now)
        for decision in made.decisions:
            self._story.decide(key, made.group, *decision, now=now)

    def escalate(self, key: str, group: GroupState, now: datetime) -> None:
        """Tell those whose turn it is while nobody has the incident."""
        config = self._logic.configs[self.version]
        route = self._route(group)
        members = self._held.members_of(key)
        found = {one.identity: self._suppression(one, config, group.team, now) for one in members if one.firing}
        done = escalations.escalate(
            key, group, [one for one in members if not found.get(one.identity)],
            escalations.Setting(
                config=config,
                receiver=route.receiver,
                now=now,
                page_url=self._logic.settings.page_url,
                strict=self._strict,
                muted=_muting(list(found.values()), times.closed_by(config.time_intervals, route, now)),
            ),
        )  # fmt: skip
        self.notices += done.notices
        self.tasks += done.tasks
        self._held.put(key, done.group, visible=bool(done.events or done.decisions))
        self._story.tell(done.group, done.events, now)
        for decision in done.decisions:
            self._story.decide(key, done.group, *decision, now=now)

    def remind(self, silence_id: str, pushed_at: datetime, now: datetime) -> None:
        """Tell those who are muted by a silence that it ends soon."""
        silence = self._suppressor.silences.known.get(silence_id)
        if silence is None or silence.remind_at != pushed_at:
            return
        self._suppressor.reminded(silence_id)
        left = reminders.NOTICES
        for key in self._held.known_keys():
            group = self._held.group(key)
            muted = reminders.muted_by(group, silence) if group is not None else []
            if group is None or not muted:
                continue
            config = self._logic.configs[self.version]
            route = self._route(group)
            receiver = config.receivers.get(silence.remind_to) or self._receiver(route)
            done = reminders.remind(
                key, group, [one for one in self._held.members_of(key) if one.identity in muted], silence,
                receiver if left else Receiver(receiver.name, ()), config_version=self.version, now=now,
                page_url=self._logic.settings.page_url,
            )  # fmt: skip
            left = max(0, left - 1)
            self.notices += done.notices
            self.tasks += done.tasks
            self._held.put(key, done.group)
            self._story.tell(done.group, (done.event,), now)
            self._story.decide(key, done.group, *done.decision, now=now)

    def _suppression(self, member: Member, config: RulesConfig, team: str, now: datetime) -> Suppression:
        if not config.inhibit_rules and not self._suppressor.silences.known:
            return _NOT_MUTED
        labels = codec.decode_body(member.body).labels
        return self._suppressor.of(
            labels, now, team=team, rules=config.inhibit_rules, key=member.fingerprint
        )  # fmt: skip

    def hear(self, outcome: Outcome, now: datetime) -> None:
        """What became of a notice."""
        self.heard.append(outcome.task_id)
        group = self._held.group(outcome.group)
        if group is None:
            return
        key = f"{outcome.receiver}/{outcome.integration}"
        route = self._route(group)
        waiting = grouping.pending_of(group, key, outcome.task_id)
        late = waiting is not None and outcome.finished_at > waiting.at + route.group_interval
        sent = outcome.state == "sent"
        asked, said = escalations.answered(group, outcome.task_id, now, sent=sent)
        after = grouping.heard(
            asked, key, outcome.task_id, sent=sent, at=outcome.finished_at if late else None, strict=self._strict
        )
        if after is None and asked is group:
            return
        after = after or asked
        if key in after.missed and outcome.receiver != route.receiver:
            # Who is not told of the group by its route has only ends to hear of.
            after = msgspec.structs.replace(after, missed={k: v for k, v in after.missed.items() if k != key})
        members = self._held.members_of(outcome.group)
        receivers = (self._receiver(route), *self._former(group, route))
        left = grouping.after_outcome(
            after, members, receivers, now=now, strict=self._strict, waiting=self._waiting(group, route),
            flap_window=self._logic.flap_window,
        )  # fmt: skip
        after = msgspec.structs.replace(left.group, revision=group.revision + 1, updated_at=now)
        self._held.put(outcome.group, after)
        for member in left.hidden:
            self._held.keep(outcome.group, member)
        self._held.let_go(outcome.group, left.gone)
        name = "notice sent" if sent else "notice failed"
        self._story.tell(after, (Event(name, {"to": key, "reason": outcome.reason}),), now)
        if said is not None:
            self._story.decide(outcome.group, after, *said, now=now)

    def _route(self, group: GroupState) -> Route:
        """The group's route now; whoever opened it by hand may have named another receiver."""
        route = self._logic.route_of(group.route, self.version, group.config_version)
        named = group.handling.receiver if group.handling is not None else ""
        return msgspec.structs.replace(route, receiver=named) if named else route

    def _receiver(self, route: Route) -> Receiver:
        return self._logic.configs[self.version].receiver(route.receiver)

    def _former(self, group: GroupState, route: Route) -> tuple[Receiver, ...]:
        """Whoever else heard of the group, and is still there: by other rules, or by escalation once that is over."""
        if self._strict:
            return ()
        names = {key.rpartition("/")[0] for key, entry in group.told.items() if entry.owed} - {route.receiver}
        if not names and group.escalation is None:
            return ()
        return self._known(escalations.owed(group, names, route.receiver))

    def _waiting(self, group: GroupState, route: Route) -> tuple[Receiver, ...]:
        """Whom escalation told of an incident that goes on, beside the route's own receiver."""
        if self._strict or group.escalation is None or not group.alive:
            return ()
        return self._known(set(group.escalation.told) - {route.receiver})

    def _known(self, names: Iterable[str]) -> tuple[Receiver, ...]:
        config = self._logic.configs[self.version]
        found = (config.told_as(name) for name in sorted(names))
        return tuple(receiver for receiver in found if receiver is not None)


def _muting(found: Sequence[Suppression], closed_by: Sequence[str]) -> str:
    """What mutes all of a group; empty where something of it is heard. `found` is of each that fires."""
    if closed_by:
        return f"muted by {', '.join(closed_by)}"
    return flushes.in_words(found[0]) if found and all(found) else ""
