"""A task finds its integration in the rules that made it, whatever the newest rules say."""

import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from agents.channels import Channels, Versions
from sinks import config_rows
from sinks.channel import Telling
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from sinks.postgres import open_pool
from sinks.task_rows import Claimed
from tests.sinks.outbox import body

RULES = """
route: {{receiver: ops}}
receivers:
  - name: ops
    webhook_configs:
      - url: http://127.0.0.1:9/{path}
        http_config: {{authorization: {{credentials: {secret}}}}}
"""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(database_url, size=2, statement_timeout_ms=4000, name="test")
    yield pool
    await pool.close()


def claimed(version: int, **changed: object) -> Claimed:
    given = {
        "id": uuid.UUID(int=1), "incident_id": uuid.UUID(int=2), "group_key": "g", "decision": 1,
        "config_version": version, "receiver": "ops", "integration": 0, "channel": "webhook", "target": "t",
        "urgency": 0, "reason": "first firing", "attempt": 1, "last_reason": "",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "age": timedelta(0), "body": json.dumps(body()), **changed,
    }  # fmt: skip
    return Claimed(**given)  # type: ignore[arg-type]


async def test_each_task_is_sent_by_the_rules_of_its_version(
    pool: asyncpg.Pool, conn: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.channels._KEPT", 1)  # each is read anew, older ones too
    old = await config_rows.store(conn, RULES.format(path="old", secret="s1"), "test")
    new = await config_rows.store(conn, RULES.format(path="new", secret="s2"), "test")
    seen: list[Telling] = []

    async def webhook(telling: Telling) -> Outcome:
        seen.append(telling)
        return Sent()

    channels = Channels(Versions(pool), {"webhook": webhook})
    for version in (old, new, old):
        assert isinstance(await channels.send(claimed(version, memory='{"ts":"1"}')), Sent)
    assert [one.options["authorization"] for one in seen] == ["Bearer s1", "Bearer s2", "Bearer s1"]
    assert [one.options["url"].rpartition("/")[2] for one in seen] == ["old", "new", "old"]
    assert seen[0].target == seen[2].target != seen[1].target
    assert seen[0].memory == {"ts": "1"}
    assert "s1" not in repr(seen[0])


@pytest.mark.parametrize(
    ("changed", "kind", "reason"),
    [
        ({"receiver": "gone"}, Failed, Reason.UNKNOWN_RECEIVER),
        ({"integration": 7}, Failed, Reason.UNKNOWN_RECEIVER),
        ({"body": "{}"}, Failed, Reason.BAD_NOTICE),
        ({"config_version": 99}, RetryLater, Reason.INTERNAL),
        ({}, Failed, Reason.UNKNOWN_CHANNEL),
    ],
)
async def test_what_leads_to_no_channel_says_why(
    pool: asyncpg.Pool, conn: asyncpg.Connection, changed: dict[str, object], kind: type[Outcome], reason: Reason
) -> None:
    version = await config_rows.store(conn, RULES.format(path="x", secret="s"), "test")

    async def webhook(_telling: Telling) -> Outcome:
        return Sent()

    known = {"webhook": webhook} if changed else {}
    outcome = await Channels(Versions(pool), known).send(claimed(version, **changed))
    assert (type(outcome), outcome.reason) == (kind, reason)
