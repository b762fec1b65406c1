"""Who is told next of an incident, for people."""

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from agents.rules import escalation
from agents.rules.group_state import GroupState
from sinks.incident_reads import group_state_of
from streams.rules_config import RulesConfig

if TYPE_CHECKING:
    from web.database import Conn

_group: Final = msgspec.msgpack.Decoder(GroupState)


class IncidentEscalation(msgspec.Struct, frozen=True, kw_only=True):
    """An incident's place in its policy; a person's name begins with `@`.

    `state` is running, stopped (acknowledged, snoozed, merged), done (every step was told) or ended. `step` and
    `round` count from 1 and are told next, to `next_targets` at `next_at`; where that is null, nobody will be told
    unless something changes. `held` says what mutes all of the incident meanwhile.
    """

    policy: str
    state: str
    step: int
    round: int
    next_at: datetime | None
    next_targets: list[str]
    told: list[str]
    held: str


async def escalation_of(conn: "Conn", incident_id: uuid.UUID, config: RulesConfig) -> IncidentEscalation | None:
    """By the present rules; None for an incident without a policy, and for one whose group has a newer one."""
    packed = await group_state_of(conn, incident_id)
    if packed is None:
        return None
    group = _group.decode(packed)
    state = group.escalation
    if state is None or group.incident_id != str(incident_id):
        return None
    at, targets, step = next(escalation.upcoming(state, escalation.rules_of(config)), (None, (), state.step))
    return IncidentEscalation(
        policy=state.policy,
        state=state.phase,
        step=step,
        round=state.round,
        next_at=at,
        next_targets=list(targets),
        told=list(state.told),
        held=state.held,
    )
