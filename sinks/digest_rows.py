"""Rows of digests: tasks of no incident that speak for others, which end when the digest has ended."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import msgspec

from sinks.digests import digest_id, digest_of
from sinks.message import NoticeBody, encoded
from sinks.postgres import Connection
from sinks.task_rows import Claimed, Finished

MOST: Final = 500

# What waits for one integration and may be folded, oldest first: with an age, only what has waited so long and is
# not urgent; nothing of an incident of which something is just being sent or told by another digest, and nothing
# before which the target must hear something that is not folded with it.
_FOLDABLE: Final = """
SELECT mine.id, mine.team, notices.body
FROM notification_tasks mine JOIN notices ON notices.id = mine.notice_id
WHERE mine.receiver = $1 AND mine.integration = $2 AND mine.target = $3 AND mine.incident_id IS NOT NULL
    AND (mine.id = ANY($4::uuid[]) OR (mine.state = 'due' AND mine.last_reason <> 'digest_failed'
        AND ($5::interval IS NULL OR (mine.created_at < clock_timestamp() - $5 AND mine.urgency > 0))
        AND NOT EXISTS (
            SELECT FROM notification_tasks other
            WHERE other.incident_id = mine.incident_id AND other.target = mine.target AND other.id <> ALL($4::uuid[])
                AND (other.state IN ('sending', 'folded') OR (
                    other.state = 'due' AND other.decision < mine.decision AND (other.last_reason = 'digest_failed'
                        OR other.created_at >= clock_timestamp() - $5 OR (other.urgency = 0 AND $5 IS NOT NULL)))))))
ORDER BY mine.created_at, mine.decision LIMIT $6
FOR NO KEY UPDATE OF mine SKIP LOCKED
"""

# Adds a digest, due now, for the integration that its members were for.
_ADD: Final = """
WITH notice AS (
    INSERT INTO notices (id, incident_id, decision, body, created_at)
    VALUES ($1, NULL, 0, $2::jsonb, clock_timestamp())
)
INSERT INTO notification_tasks (id, notice_id, group_key, team, decision, config_version, receiver, integration,
    channel, target, urgency, reason, due_at, created_at, told_group)
VALUES ($1, $1, '', $3, 0, $4, $5, $6, $7, $8, 0, 'digest', clock_timestamp(), clock_timestamp(), true)
"""

# Leaves its members to the digest.
_FOLD: Final = """
UPDATE notification_tasks SET state = 'folded', digest_id = $1, lease_owner = NULL, lease_until = NULL
WHERE id = ANY($2::uuid[])
"""

# Ends the members of digests that were sent.
_DIGESTED: Final = """
UPDATE notification_tasks
SET state = 'digested', last_reason = 'digested', last_detail = 'told by digest ' || digest_id,
    finished_at = clock_timestamp()
WHERE digest_id = ANY($1::uuid[]) AND state = 'folded'
RETURNING id, group_key, decision, receiver, integration, state, last_reason AS reason, finished_at
"""

# Gives the members of digests that failed back, each to be sent by itself.
_UNFOLD: Final = """
UPDATE notification_tasks SET state = 'due', digest_id = NULL, last_reason = 'digest_failed', due_at = clock_timestamp()
WHERE digest_id = ANY($1::uuid[]) AND state = 'folded'
"""

_notice = msgspec.json.Decoder(NoticeBody)


async def fold(
    conn: Connection, like: Claimed, claimed: Sequence[uuid.UUID] = (), *, older_than: timedelta | None = None
) -> uuid.UUID | None:
    """Make one digest of what waits for the integration of `like`, and of the tasks `claimed` by this process.

    With `older_than`, only of what is not urgent and has waited so long. None where there are not two to fold.
    Inside a transaction of the caller's.
    """
    rows = await conn.fetch(_FOLDABLE, like.receiver, like.integration, like.target, list(claimed), older_than, MOST)
    if len(rows) < 2:  # noqa: PLR2004 - one alone is told by itself
        return None
    made = digest_id(row["id"] for row in rows)
    body = encoded(digest_of(made, [_notice.decode(row["body"]) for row in rows]))
    await conn.execute(
        _ADD, made, body, rows[0]["team"], like.config_version, like.receiver, like.integration, like.channel,
        like.target,
    )  # fmt: skip
    await conn.execute(_FOLD, made, [row["id"] for row in rows])
    return made


async def ended(conn: Connection, finished: Sequence[Finished]) -> list[Finished]:
    """Pass on to the members how digests ended; those that ended with them are returned."""
    sent = [one.id for one in finished if one.state == "sent"]
    failed = [one.id for one in finished if one.state == "failed"]
    if failed:
        await conn.execute(_UNFOLD, failed)
    rows = await conn.fetch(_DIGESTED, sent) if sent else []
    return [Finished(**dict(row)) for row in rows]
