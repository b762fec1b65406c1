"""Replays: a refused event judged again and sent on its way, and what became of it.

A replay keeps its event id and travels like any event; dedup writes its end.
"""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from agents.record_replay import again
from agents.unhandled import RECORD
from sinks import dead_letter_rows as rows
from sinks.dead_letter_rows import PACKED_ALERT, Letter, LetterState
from sinks.postgres import Connection
from streams import codec
from streams.intake import parse_alertmanager, parse_own
from streams.intake_payload import KEPT_BODY
from streams.producer import EventProducer, ProducerError
from streams.records import Alert, AlertBatch, Rejected
from streams.settings import Settings
from streams.topics import topic_name

_PUBLISH_S: Final = 10.0
_POLL_S: Final = (0.02, 0.05, 0.1, 0.25)

Judged = tuple[Alert, ...] | Rejected


@dataclass(frozen=True)
class Outcome:
    """What one replay came to, and the verdict or reason."""

    event_id: str
    word: Literal["replayed", "refused", "dropped", "unconfirmed"]
    why: str


def judged_again(letter: Letter, mended: bytes | None, limits: Settings) -> Judged:
    """Intake's answer on the letter, or on a mended body, as of when the event was received.

    A body of several alerts is taken whole or not at all: the first takes the
    letter's place, the others are received as events of their own.
    """
    items = _items(letter, mended, limits)
    refused = next((item for item in items if isinstance(item, Rejected)), None)
    if refused is None and not items:
        refused = Rejected(event_id=letter.event_id, source=letter.source, field="body", reason="body: has no alert")
    if refused is not None:
        cut = mended is None and letter.size >= KEPT_BODY
        hint = "; only its first 64 KiB were kept: replay it with the whole body, --body FILE" if cut else ""
        return Rejected(
            event_id=letter.event_id,
            source=letter.source,
            field=refused.field,
            reason=refused.reason + hint,
            team=letter.team,
            replay_of=letter.event_id,
        )
    alerts = [_placed(item, letter) for item in items if isinstance(item, Alert)]
    named = {"event_id": letter.event_id} if len(alerts) == 1 else {}
    return (msgspec.structs.replace(alerts[0], replay_of=letter.event_id, **named), *alerts[1:])


def _items(letter: Letter, mended: bytes | None, limits: Settings) -> Sequence[Alert | Rejected]:
    if mended is None and letter.content_type == PACKED_ALERT:
        return _packed(letter)
    if mended is None and letter.via == "kafka":
        return _record(letter)
    body = letter.body if mended is None else mended
    parse = parse_own
    if letter.via == "alertmanager":
        parse = parse_alertmanager
        body = b"[" + body + b"]" if body.lstrip()[:1] == b"{" else body
    return parse(
        body, accepted_at=letter.received_at, limits=limits, team=letter.team, header_event_id=letter.event_id,
        content_type=letter.content_type,
    ).items  # fmt: skip


def _packed(letter: Letter) -> Sequence[Alert | Rejected]:
    try:
        return [codec.decode_alert(letter.body)]
    except codec.UndecodableRecordError as error:
        return [_unreadable(letter, f"the packed alert cannot be read: {error}")]


def _record(letter: Letter) -> Sequence[Alert | Rejected]:
    try:
        record = codec.decode_alerts(letter.body)
    except codec.UndecodableRecordError as error:
        return [_unreadable(letter, f"Kafka's record still cannot be read: {error}")]
    return record.items if isinstance(record, AlertBatch) else [_unreadable(letter, "it holds no events")]


def _unreadable(letter: Letter, what: str) -> Rejected:
    return Rejected(event_id=letter.event_id, source=letter.source, field="body", reason=f"body: {what}")


def _placed(alert: Alert, letter: Letter) -> Alert:
    """A firing that says no start began when it was received, not when it is replayed."""
    if alert.firing and alert.starts_at is None:
        return msgspec.structs.replace(alert, starts_at=letter.received_at)
    return alert


class Replayer:
    """Sends letters through intake again and waits until what became of them is committed."""

    def __init__(self, settings: Settings, conn: Connection, producer: EventProducer, wait: float) -> None:
        self._settings = settings
        self._conn = conn
        self._producer = producer
        self._wait = wait

    async def replay(self, letters: Sequence[Letter], mended: bytes | None = None) -> list[Outcome]:
        """What each replay came to, in order."""
        ours = [letter for letter in letters if letter.content_type == RECORD]
        if ours:
            others = [letter for letter in letters if letter.content_type != RECORD]
            ended = {one.event_id: one for one in await self.replay(others, mended)} if others else {}
            ended |= {letter.event_id: await self._send_again(letter) for letter in ours}
            return [ended[letter.event_id] for letter in letters]
        accepted_at = datetime.now(UTC)
        failed = dict(await asyncio.gather(*(self._publish(letter, mended, accepted_at) for letter in letters)))
        sent = {letter.event_id: letter for letter in letters if not failed[letter.event_id]}
        moved = await self._moved(sent)
        taken = [event_id for event_id, now in moved.items() if now.state is LetterState.REPLAYED]
        verdicts = await rows.verdicts(self._conn, taken, since=accepted_at) if taken else {}
        return [
            self._outcome(letter, failed[letter.event_id], moved.get(letter.event_id), verdicts.get(letter.event_id))
            for letter in letters
        ]

    async def _send_again(self, letter: Letter) -> Outcome:
        """A record of our own goes once more to whoever could not handle it."""
        sent = again(letter, self._settings.partitions)
        if isinstance(sent, str):
            return Outcome(letter.event_id, "refused", sent)
        topic = topic_name(self._settings.app_prefix, sent.topic)
        try:
            offset = await self._producer.send_on(topic, sent.partition, sent.key, sent.value, within=_PUBLISH_S)
        except ProducerError as error:
            return Outcome(letter.event_id, "unconfirmed", f"{error}; replay it again, that repeats nothing")
        deadline = asyncio.get_running_loop().time() + self._wait
        for pause in itertools.chain(_POLL_S, itertools.repeat(_POLL_S[-1])):
            if await rows.is_applied(self._conn, sent.topic, sent.partition, offset):
                break
            if asyncio.get_running_loop().time() >= deadline:
                why = f"no worker has come to it within {self._wait:g} s; replay it again, that repeats nothing"
                return Outcome(letter.event_id, "unconfirmed", why)
            await asyncio.sleep(pause)
        if await rows.settle_as_it_was(self._conn, letter):
            return Outcome(letter.event_id, "replayed", "handled")
        [now] = (await rows.standings(self._conn, [letter.event_id])).values()
        return Outcome(letter.event_id, "refused", now.reason)

    async def _publish(self, letter: Letter, mended: bytes | None, accepted_at: datetime) -> tuple[str, str]:
        judged = judged_again(letter, mended, self._settings)
        items = judged if isinstance(judged, tuple) else (judged,)
        try:
            batch = AlertBatch(accepted_at=accepted_at, items=items, via=letter.via)
            await self._producer.publish(batch, within=_PUBLISH_S)
        except ProducerError as error:
            return letter.event_id, str(error)
        return letter.event_id, ""

    async def _moved(self, sent: dict[str, Letter]) -> dict[str, rows.Standing]:
        """The letters that a step has written since they were sent, waiting for all of them within bounds."""
        moved: dict[str, rows.Standing] = {}
        deadline = asyncio.get_running_loop().time() + self._wait
        for pause in itertools.chain(_POLL_S, itertools.repeat(_POLL_S[-1])):
            found = await rows.standings(self._conn, sent.keys() - moved.keys())
            moved |= {name: now for name, now in found.items() if now.changed_at > sent[name].changed_at}
            if len(moved) == len(sent) or asyncio.get_running_loop().time() >= deadline:
                break
            await asyncio.sleep(pause)
        return moved

    def _outcome(self, letter: Letter, failed: str, now: rows.Standing | None, verdict: str | None) -> Outcome:
        if failed:
            return Outcome(letter.event_id, "unconfirmed", f"{failed}; replay it again, that repeats nothing")
        if now is None:
            why = f"no worker has decided within {self._wait:g} s; look with `incidents dlq show`, or replay it again"
            return Outcome(letter.event_id, "unconfirmed", why)
        if now.state is LetterState.REPLAYED:
            return Outcome(letter.event_id, "replayed", verdict or "by an earlier replay")
        if now.state is LetterState.DROPPED and letter.state is not LetterState.DROPPED:
            return Outcome(letter.event_id, "dropped", "its event is known already, or somebody dropped it meanwhile")
        return Outcome(letter.event_id, "refused", now.reason)
