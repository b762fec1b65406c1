"""Silences stored, edited and ended: decided by the rules, written with who did it, placed in the directory."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from agents.rules import silence as rules
from agents.rules.silence import SilenceError, Window
from sinks import silence_rows
from sinks.silence_rows import Recurrence, StoredSilence
from streams import codec
from streams.records import Silence
from web.database import Database
from web.recurrence import windows_of

NIL: Final = str(uuid.UUID(int=0))
MAX_BYTES: Final = 64 << 10
_FIRST: Final = datetime(3, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9900, 1, 1, tzinfo=UTC)


class UnknownSilenceError(Exception):
    """Raised for an id that no silence has."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants a silence to be; `sets` are alternatives of (label, operator, value), no `team` is all."""

    sets: rules.Sets
    starts_at: datetime
    ends_at: datetime
    created_by: str
    comment: str
    team: str = ""
    annotations: dict[str, str] = {}
    recurrence: Recurrence | None = None
    remind_before: timedelta | None = None
    remind_to: str = ""


def moment(field: str, at: datetime) -> datetime:
    """The moment in UTC; one so far away that nothing can be added to it is moved nearer.

    Raises:
        SilenceError: it has no time zone.
    """
    if at.tzinfo is None:
        raise SilenceError(field, "needs a time zone")
    return min(max(at, _FIRST), _LAST).astimezone(UTC)


def silence_of(draft: Draft) -> Silence:
    """The silence that a draft describes, checked; it has no id and no place yet.

    Raises:
        SilenceError: it cannot be; names the field.
    """
    windows = _windows(draft)
    before = draft.remind_before
    silence = Silence(
        id=NIL,
        sequence=0,
        sets=rules.packed(draft.sets),
        windows=windows,
        created_by=draft.created_by,
        comment=draft.comment,
        team=draft.team,
        remind_at=windows[-1][1] - before if before is not None else None,
        remind_to=draft.remind_to,
    )
    rules.check(silence)
    if len(codec.encode(silence)) > MAX_BYTES:
        raise SilenceError("matchers", f"the silence takes more than {MAX_BYTES} bytes")
    return silence


def _windows(draft: Draft) -> tuple[Window, ...]:
    if draft.ends_at <= draft.starts_at:
        raise SilenceError("endsAt", "start time must be before end time")
    if draft.recurrence is None:
        return ((draft.starts_at, draft.ends_at),)
    return windows_of(draft.recurrence, draft.starts_at, draft.ends_at)


class SilenceStore:
    """The silences as the gateway writes them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store(
        self,
        draft: Draft,
        actor: str,
        silence_id: uuid.UUID | None,
        now: datetime,
        check: Callable[[StoredSilence], None] | None = None,
    ) -> StoredSilence:
        """Keep a new silence, or what becomes of the one named; it may have another id afterwards.

        `check` is shown the one named before it is changed, and may refuse by raising.

        Raises:
            SilenceError: it cannot be; names the field.
            UnknownSilenceError: there is none of that id.
        """
        wanted = silence_of(draft)
        if wanted.windows[-1][1] <= now:
            raise SilenceError("endsAt", "end time can't be in the past")
        async with self._database.writing() as conn:
            place = await silence_rows.take(conn, 2)
            known = await silence_rows.by_id(conn, silence_id) if silence_id is not None else None
            if silence_id is not None and known is None:
                raise UnknownSilenceError(str(silence_id))
            if known is not None and check is not None:
                check(known)
            old = known.silence if known is not None else None
            edited = rules.edit(old, wanted, new_id=str(uuid.uuid4()), now=now)
            if edited.replaced is not None and known is not None:
                ended = _moved(known, edited.replaced, place + 1, now)
                await silence_rows.put(conn, ended)
                await silence_rows.audit(conn, "replaced", actor, known, ended, now)
            before = known if known is not None and edited.stored.id == known.silence.id else None
            after = StoredSilence(
                silence=msgspec.structs.replace(edited.stored, sequence=place + 2),
                updated_at=now,
                annotations=draft.annotations,
                recurrence=draft.recurrence,
                remind_before=draft.remind_before,
                replaces=before.replaces if before is not None else silence_id,
                created_at=before.created_at if before is not None else now,
            )
            await silence_rows.put(conn, after)
            await silence_rows.audit(conn, "edited" if before is not None else "created", actor, before, after, now)
        return after

    async def expire(self, silence_id: uuid.UUID, actor: str, now: datetime) -> StoredSilence:
        """End a silence now; one that has ended stays as it is.

        Raises:
            UnknownSilenceError: there is none of that id.
        """
        async with self._database.writing() as conn:
            place = await silence_rows.take(conn, 1)
            known = await silence_rows.by_id(conn, silence_id)
            if known is None:
                raise UnknownSilenceError(str(silence_id))
            ended = rules.expire(known.silence, now)
            if ended is known.silence:
                return known
            after = _moved(known, ended, place + 1, now)
            await silence_rows.put(conn, after)
            await silence_rows.audit(conn, "expired", actor, known, after, now)
        return after


def _moved(known: StoredSilence, silence: Silence, place: int, now: datetime) -> StoredSilence:
    placed = msgspec.structs.replace(silence, sequence=place, remind_at=None)
    return msgspec.structs.replace(known, silence=placed, updated_at=now)
