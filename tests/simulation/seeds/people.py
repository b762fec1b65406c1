"""What people do in a run: an act of the script as the action that a gateway would send."""

from datetime import datetime, timedelta
from typing import Any, Final

from agents.rules import by_hand
from sinks.incident_rows import IncidentRow
from streams import keys
from streams.records import Action, ActionArgs, ActionName, IncidentStatus
from tests.simulation.seeds.lanes import Rows
from tests.simulation.seeds.script import Act

NAMES: Final = ("ann", "bob", "cem", "dia")
_SEVERITIES: Final = ("critical", "info", "auto", "warning")
_REDACTED: Final = ("title", "description", "", "nothing")
_LINE: Final = _REDACTED.index("")
_GONE: Final = (IncidentStatus.RESOLVED, IncidentStatus.MERGED)


def in_order(rows: Rows) -> list[IncidentRow]:
    """All incidents, the newest first; the same ones in every way to run a script."""
    return sorted(rows.incidents.values(), key=lambda row: (row.created_at, row.group_key), reverse=True)


def asked(act: Act, rows: Rows, now: datetime, number: int) -> Action | None:
    """The `number`th action; None where there is nothing to do it to, or the gateway would refuse it."""
    verb, action_id = ActionName(act.verb), str(keys.derived_id("person", number))
    if verb is ActionName.OPEN:
        return opening(action_id, now, receiver=("", "desk")[act.which[1] % 2])
    known = in_order(rows)
    if not known:
        return None
    one = known[act.which[0] % len(known)]
    args = _args(verb, act, now, one)
    if verb is ActionName.MERGE:
        into = known[(act.which[0] + act.which[1] + 1) % len(known)]
        if into.status in _GONE:
            return None
        args = ActionArgs(into=into.id, into_group=into.group_key)
    return of(one, verb, action_id, now, args, NAMES[number % len(NAMES)])


def of(
    one: IncidentRow, verb: ActionName, action_id: str, now: datetime, args: ActionArgs, actor: str = NAMES[0]
) -> Action:
    """An action on an incident."""
    return Action(
        id=action_id, team="default", group=one.group_key, incident_id=one.id, actor=actor, action=verb, at=now,
        args=args,
    )  # fmt: skip


def opening(action_id: str, now: datetime, *, receiver: str) -> Action:
    """An incident opened by hand."""
    group = by_hand.group_key("default", action_id)
    return Action(
        id=action_id, team="default", group=group,
        incident_id=str(keys.derived_id("incident", group)), actor=NAMES[0], action=ActionName.OPEN, at=now,
        args=ActionArgs(title="answers are cut off", severity="error", receiver=receiver),
    )  # fmt: skip


def _args(verb: ActionName, act: Act, now: datetime, one: IncidentRow) -> ActionArgs:
    pick = act.which[1]
    said: dict[ActionName, dict[str, Any]] = {
        ActionName.SNOOZE: {"until": now + timedelta(seconds=act.lasts)},
        ActionName.ASSIGN: {"assignee": NAMES[pick], "comment": "yours" if pick else ""},
        ActionName.COMMENT: {"text": f"at {now:%M:%S}"},
        ActionName.LINK: {"url": f"https://wiki.example/{pick}", "text": "page"},
        ActionName.EDIT: {
            "severity": _SEVERITIES[pick],
            "title": f"it is {pick}" if pick else None,
            "expected": one.revision if pick == 1 else 0,
        },
        ActionName.REDACT: {"field": _REDACTED[pick], "seq": int(pick == _LINE), "reason": "a name"},
    }
    return ActionArgs(**said.get(verb, {"comment": "so it is" if pick == 0 else ""}))
