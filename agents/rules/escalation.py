"""Who is told next while nobody acts on an incident: pure decisions of (state, what happened, now).

The clock of an incident runs through the steps of its policy. It stops while
somebody has the incident (acknowledged, snoozed, merged into another) and then
goes on with what was left; when the incident ends it ends, and a reopened one
begins anew. A delay that runs keeps its time when the rules change: the new
rules count from what is told next on.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from streams.records import Severity
from streams.rules_config import RulesConfig
from streams.rules_escalation import Escalations, Policy
from streams.rules_people import MARK, Person

HOLD: Final = timedelta(minutes=1)
"""So long a step waits, again and again, while everything of its incident is muted."""
_START: Final = timedelta(0)


class Phase(StrEnum):
    """How the clock stands. `DONE`: every step was told, and the incident still waits for somebody."""

    RUNNING = "running"
    STOPPED = "stopped"
    DONE = "done"
    ENDED = "ended"


class Later(msgspec.Struct, frozen=True, array_like=True):
    """A step that one person is told of once their quiet hours end."""

    target: str
    at: datetime
    step: int
    round: int


class Escalation(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """An incident's place in its policy.

    `step` is told next, at `next_at` where the clock runs; `left` of its delay remain where that is stopped.
    Steps and rounds count from 1, `run` counts beginnings. Nothing is told before `not_before`: the group waits for
    its first flush, or all of it is muted, by `held`. Of the tasks of the last step `asked` have no outcome yet, and
    with `reached` one of them was sent. `told` are all whom it told of the incident.
    """

    policy: str
    phase: Phase = Phase.RUNNING
    run: int = 1
    round: int = 1
    step: int = 1
    next_at: datetime | None = None
    left: timedelta | None = None
    not_before: datetime | None = None
    held: str = ""
    later: tuple[Later, ...] = ()
    asked: tuple[str, ...] = ()
    reached: bool = False
    told: tuple[str, ...] = ()

    @property
    def due_at(self) -> datetime | None:
        """When somebody is to be told; None while nobody is."""
        if self.phase not in {Phase.RUNNING, Phase.DONE}:
            return None
        first = min((one.at for one in self.later), default=self.next_at)
        if first is None or (self.next_at is not None and self.next_at < first):
            first = self.next_at
        if first is None or self.not_before is None:
            return first
        return max(first, self.not_before)


class Standing(NamedTuple):
    """What an incident is to escalation. `stopped_by` says why nobody is to be told, `flush_at` when its group is."""

    active: bool
    stopped_by: str
    labels: Mapping[str, str]
    receiver: str
    severity: Severity
    flush_at: datetime | None = None
    """The group's first flush, until that was."""


class Telling(NamedTuple):
    """One target to be told. `late`: it was quiet when the step was due."""

    target: str
    step: int
    round: int
    late: bool = False


class Withheld(NamedTuple):
    """One target that is not told now, and why."""

    target: str
    reason: str


class Advanced(NamedTuple):
    """What became due: the state after it, who is told, who is not, and what is to be said of the clock itself."""

    state: Escalation
    tellings: tuple[Telling, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    said: str = ""


class Rules(NamedTuple):
    """Policies and people of one version of the rules."""

    escalations: Escalations
    people: Mapping[str, Person]

    def quiet_until(self, target: str, now: datetime, severity: Severity) -> datetime | None:
        """When a person may be told; None: now, and receivers always."""
        person = self.people.get(target.removeprefix(MARK)) if target.startswith(MARK) else None
        return person.quiet_until(now, severity) if person is not None else None


def rules_of(config: RulesConfig) -> Rules:
    """What escalation knows of a version of the rules."""
    return Rules(config.ours.escalations, config.ours.people)


def followed(
    state: Escalation | None, standing: Standing, rules: Rules, now: datetime
) -> tuple[Escalation | None, str]:
    """The state after the incident changed, and what that means for the clock; empty where nothing."""
    if not standing.active:
        return _ended(state)
    if standing.stopped_by:
        return _stopped(state, standing.stopped_by, now)
    if state is None or state.phase is Phase.ENDED:
        return _begun(state, standing, rules, now)
    if state.phase is Phase.STOPPED:
        if state.left is None:
            return _begun(state, standing, rules, now)
        return msgspec.structs.replace(state, phase=Phase.RUNNING, next_at=now + state.left, left=None), "goes on"
    return (_pierced(state, standing.severity, rules, now) if state.later else state), ""


def _ended(state: Escalation | None) -> tuple[Escalation | None, str]:
    if state is None or state.phase is Phase.ENDED:
        return state, ""
    return _over(state), "has ended" if state.phase is Phase.RUNNING else ""


def _over(state: Escalation) -> Escalation:
    return msgspec.structs.replace(
        state, phase=Phase.ENDED, next_at=None, left=None, not_before=None, held="", later=(), asked=()
    )


def _stopped(state: Escalation | None, why: str, now: datetime) -> tuple[Escalation | None, str]:
    if state is None or state.phase in {Phase.STOPPED, Phase.ENDED}:
        return state, ""
    left = max(_START, state.next_at - now) if state.next_at is not None else None
    stopped = msgspec.structs.replace(state, phase=Phase.STOPPED, next_at=None, left=left, held="", asked=())
    return stopped, f"is stopped: {why}" if state.phase is Phase.RUNNING else ""


def _begun(state: Escalation | None, standing: Standing, rules: Rules, now: datetime) -> tuple[Escalation | None, str]:
    policy = rules.escalations.policy_for(standing.labels, standing.receiver, standing.severity)
    if policy is None:
        return state, ""
    begun = Escalation(
        policy=policy.name, run=state.run + 1 if state is not None else 1, next_at=now + policy.steps[0].delay,
        not_before=standing.flush_at, told=state.told if state is not None else (),
    )  # fmt: skip
    return begun, "begins"


def _pierced(state: Escalation, severity: Severity, rules: Rules, now: datetime) -> Escalation:
    """What has become so severe that it pierces is told at once."""
    later = tuple(
        one if one.at <= now or rules.quiet_until(one.target, now, severity) else msgspec.structs.replace(one, at=now)
        for one in state.later
    )
    return msgspec.structs.replace(state, later=later) if later != state.later else state


def advanced(state: Escalation, standing: Standing, rules: Rules, now: datetime, *, muted: str = "") -> Advanced:
    """What is due by `now`. `muted` says by what all of the incident is muted: then nobody is told, and it waits."""
    if muted:
        held = msgspec.structs.replace(state, held=muted, not_before=now + HOLD)
        return Advanced(held, said=f"waits: {muted}" if muted != state.held else "")
    state = msgspec.structs.replace(state, held="", not_before=None)
    policy = rules.escalations.policies.get(state.policy)
    if policy is None:
        return _policy_gone(state, standing, rules, now)
    return _step(state, policy, standing.severity, rules, now)


def _policy_gone(state: Escalation, standing: Standing, rules: Rules, now: datetime) -> Advanced:
    why = f"the rules have no policy {state.policy} any more"
    ended = _over(state)
    begun, said = _begun(ended, standing, rules, now)
    return Advanced(begun or ended, said=f"{said or 'has ended'}: {why}")


def _step(state: Escalation, policy: Policy, severity: Severity, rules: Rules, now: datetime) -> Advanced:
    asked: list[Telling] = []
    after = state
    if state.next_at is not None and state.next_at <= now:
        # A policy that was cut shorter has no such step: its round is over.
        targets = policy.steps[state.step - 1].targets if state.step <= len(policy.steps) else ()
        asked = [Telling(target, state.step, state.round) for target in targets]
        after = _moved_on(state, policy, now)
    ripe = [one for one in state.later if one.at <= now]
    asked += [
        Telling(one.target, one.step, one.round, late=True)
        for one in ripe
        if all(one.target != telling.target for telling in asked)
    ]
    told, later, withheld = _awake(asked, [one for one in state.later if one not in ripe], severity, rules, now)
    after = msgspec.structs.replace(
        after, later=later, told=(*state.told, *(one.target for one in told if one.target not in state.told))
    )
    return Advanced(after, told, withheld, "has told every step" if after.phase is not state.phase else "")


def _moved_on(state: Escalation, policy: Policy, now: datetime) -> Escalation:
    if state.step < len(policy.steps):
        return msgspec.structs.replace(state, step=state.step + 1, next_at=now + policy.steps[state.step].delay)
    if state.round <= policy.repeat:
        next_at = now + policy.pause + policy.steps[0].delay
        return msgspec.structs.replace(state, step=1, round=state.round + 1, next_at=next_at)
    return msgspec.structs.replace(state, phase=Phase.DONE, next_at=None)


def _awake(
    asked: Sequence[Telling], waiting: Sequence[Later], severity: Severity, rules: Rules, now: datetime
) -> tuple[tuple[Telling, ...], tuple[Later, ...], tuple[Withheld, ...]]:
    """Who can be told now; whoever cannot waits for the end of their quiet hours, once."""
    told: list[Telling] = []
    later = {one.target: one for one in waiting}
    withheld: list[Withheld] = []
    for one in asked:
        until = rules.quiet_until(one.target, now, severity)
        if until is None:
            told.append(one)
            later.pop(one.target, None)
            continue
        later.setdefault(one.target, Later(one.target, until, one.step, one.round))
        withheld.append(Withheld(one.target, f"quiet hours until {until:%Y-%m-%d %H:%M} UTC"))
    return tuple(told), tuple(later.values()), tuple(withheld)


def answered(state: Escalation, task_id: str, now: datetime, *, sent: bool) -> tuple[Escalation, str]:
    """The state after a task of a step ended: when all of them failed for good, the next step does not wait."""
    if task_id not in state.asked:
        return state, ""
    asked = tuple(one for one in state.asked if one != task_id)
    after = msgspec.structs.replace(state, asked=asked, reached=state.reached or sent)
    in_vain = not asked and not after.reached and state.phase is Phase.RUNNING
    if in_vain and state.step > 1 and state.next_at is not None and state.next_at > now:
        return msgspec.structs.replace(after, next_at=now), "does not wait: its last step reached nobody"
    return after, ""


def reason(policy: str, telling: Telling) -> str:
    """Why somebody is told, as the notice says it."""
    again = f", round {telling.round}" if telling.round > 1 else ""
    return f"escalation step {telling.step} of policy {policy}{again}{', after quiet hours' if telling.late else ''}"


def upcoming(state: Escalation, rules: Rules) -> Iterator[tuple[datetime, tuple[str, ...], int]]:
    """When, who, and of which step: what is told next if nothing else happens, soonest first."""
    policy = rules.escalations.policies.get(state.policy)
    found: list[tuple[datetime, tuple[str, ...], int]] = []
    if state.phase is Phase.RUNNING and state.next_at is not None and policy is not None:
        targets: Collection[str] = policy.steps[state.step - 1].targets if state.step <= len(policy.steps) else ()
        found.append((max(state.next_at, state.not_before or state.next_at), tuple(targets), state.step))
    if state.phase in {Phase.RUNNING, Phase.DONE}:
        found += [(max(one.at, state.not_before or one.at), (one.target,), one.step) for one in state.later]
    yield from sorted(found)
