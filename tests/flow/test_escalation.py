"""Escalation on the running system, over HTTP and SMTP, in steps of seconds: told in order, stopped, told once."""

import asyncio
import signal
from collections import Counter
from typing import Any

import pytest

from embedded.unit import Role
from tests.flow.world import System, alert, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

STEP = "escalation step {} of policy paged"
WHOLE = [
    ("@ada", STEP.format(1)), ("@bob", STEP.format(2)), ("desk", STEP.format(2)), ("@ada", STEP.format(3)),
    ("@bob", STEP.format(3)),
]  # fmt: skip
POLICY = [*WHOLE, *((target, f"{reason}, round 2") for target, reason in WHOLE)]


async def opened(system: System, service: str) -> str:
    """An incident that escalates; its id."""
    assert (await system.post("/api/v1/alerts", alert(service))).status_code == 202
    return str((await system.one_incident(service, "open"))["id"])


async def told(system: System, incident_id: str) -> list[tuple[str, str]]:
    """Whom escalation has told, as the outbox has it."""
    rows = await system.sql(
        "SELECT receiver, reason FROM notification_tasks WHERE incident_id = $1::uuid AND reason LIKE 'escalation%'"
        " AND state = 'sent' ORDER BY decision, receiver",
        incident_id,
    )
    return [(row["receiver"], row["reason"]) for row in rows]


async def escalation(system: System, incident_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await system.http.get(f"{system.url}/api/v1/incidents/{incident_id}")).json()["escalation"]
    return found


async def told_up_to(system: System, incident_id: str, last: tuple[str, str]) -> list[tuple[str, str]]:
    async def found() -> list[tuple[str, str]] | None:
        seen = await told(system, incident_id)
        return seen if last in seen else None

    return await until(found, f"{last[0]} is told: {last[1]}", within=90)


async def test_steps_go_out_by_http_and_mail_until_somebody_acknowledges(system: System, service: str) -> None:
    held, whole = f"paged-{service}-held", f"paged-{service}-whole"
    stopped = await opened(system, held)
    await told_up_to(system, stopped, ("desk", STEP.format(2)))
    answer = await system.post(f"/api/v1/incidents/{stopped}/acknowledge", {})
    assert answer.status_code == 200, answer.text
    at_ack = await told(system, stopped)
    state = await escalation(system, stopped)
    assert (state["policy"], state["state"], state["next_at"], state["next_targets"]) == ("paged", "stopped", None, [])

    # Meanwhile another incident goes all the way: much longer than the delay that was stopped.
    other = await opened(system, whole)
    assert sorted(await told_up_to(system, other, POLICY[-1])) == sorted(POLICY)
    assert await told(system, stopped) == at_ack
    assert at_ack == WHOLE[: len(at_ack)]
    assert (await escalation(system, other))["state"] == "done"

    assert (await system.post(f"/api/v1/incidents/{stopped}/unacknowledge", {})).status_code == 200
    assert sorted(await told_up_to(system, stopped, POLICY[-1])) == sorted(POLICY)

    over_http = [one.body["incident"]["reason"] for one in system.desk.about(whole)]
    assert [reason for reason in over_http if "escalation" in reason] == [
        reason for target, reason in POLICY if target != "@bob"
    ]
    keys = {row["id"] for row in await system.sql("SELECT id::text FROM notification_tasks WHERE receiver = '@bob'")}
    mails = [
        mail for mail in system.desk.mailbox.mails if mail["To"] == "bob@example.org" and whole in mail.as_string()
    ]
    assert {str(mail["Message-ID"])[1:].partition("@")[0] for mail in mails} <= keys
    assert len(mails) == 4
    await timeline_and_end(system, whole, other)


async def timeline_and_end(system: System, service: str, incident_id: str) -> None:
    """The timeline has each step; and whoever was told that it fires is told that it ended."""
    timeline = (await system.http.get(f"{system.url}/api/v1/incidents/{incident_id}/timeline")).json()
    steps = [one["detail"] for one in timeline if one["event"] == "escalated"]
    assert [(one["round"], one["step"], one["to"]) for one in steps] == [
        (turn, step, to)
        for turn in (1, 2)
        for step, to in ((1, "@ada"), (2, "@bob, desk"), (3, "@ada, @bob"))
    ]  # fmt: skip
    assert (await system.post("/api/v1/alerts", alert(service, "resolved"))).status_code == 202

    async def ended() -> bool:
        return any(
            one.body["status"] == "resolved" and one.body["receiver"] == "@ada" for one in system.desk.about(service)
        )

    await until(ended, "ada is told that it has ended", within=60)


async def test_each_step_is_told_once_though_a_worker_is_stopped_and_goes_on_in_the_middle(
    system: System, service: str
) -> None:
    services = [f"paged-{service}-{number}" for number in range(8)]
    opening = [await opened(system, name) for name in services]
    await told_up_to(system, opening[-1], ("@ada", STEP.format(1)))
    stopped = system.stack.kill(Role.WORKER, signal.SIGSTOP, index=0)
    try:
        # What the stopped worker owned is escalated by the other, once that has taken over.
        await asyncio.gather(*(told_up_to(system, one, POLICY[2]) for one in opening))
    finally:
        unit = next(unit for unit in system.stack.units if unit.role == Role.WORKER)
        if unit.child is not None and unit.child.pid == stopped:
            unit.child.send(signal.SIGCONT)
    await asyncio.gather(*(told_up_to(system, one, POLICY[-1]) for one in opening))
    for one in opening:
        assert Counter(await told(system, one)) == Counter(POLICY)
    received = Counter(
        (hit.key, hit.body["incident"]["reason"]) for name in services for hit in system.desk.about(name)
    )
    reasons = Counter(reason for _, reason in received if "escalation" in reason)
    assert reasons == Counter(
        {reason: 8 * count for reason, count in Counter(r for t, r in POLICY if t != "@bob").items()}
    )
