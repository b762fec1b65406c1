"""What people do to incidents, over HTTP: each action is a record, and is answered once its outcome is committed."""

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeVar, cast

import msgspec
from litestar import Request, Response, patch, post
from litestar.datastructures import ResponseHeader, State
from litestar.exceptions import NotFoundException
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody

from agents.rules import by_hand
from sinks import action_rows
from sinks.action_rows import Target
from streams import keys
from streams.records import Action, ActionArgs, ActionName, IncidentStatus, Kind, Severity
from streams.rules_yaml import duration
from web.action_sender import ActionSender
from web.database import Database
from web.incident_detail import IncidentDetail, detail_of, etag, tagged
from web.picture import Painter
from web.principal import principal
from web.problems import ConflictError, FieldProblemError, OutdatedError, own_team
from web.rights import teams_of

T = TypeVar("T")
Asked = Request[Any, Any, Any]
Words = Annotated[str, msgspec.Meta(max_length=4000)]
Name = Annotated[str, msgspec.Meta(max_length=200)]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Story = Annotated[str, msgspec.Meta(max_length=20_000)]
Labels = Annotated[
    dict[Annotated[str, msgspec.Meta(min_length=1, max_length=200)], Annotated[str, msgspec.Meta(max_length=2000)]],
    msgspec.Meta(max_length=64),
]
_UNKNOWN: Final = "No incident has this id"


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What may go with any action: a comment for the timeline."""

    comment: Words = ""


class SnoozeBody(Said, frozen=True, kw_only=True):
    """Until when it shall be quiet: a moment, or a duration such as 2h from now."""

    until: datetime | None = None
    lasting: Annotated[str, msgspec.Meta(max_length=50)] = msgspec.field(default="", name="for")


class AssignBody(Said, frozen=True, kw_only=True):
    """Who takes it; empty gives it back."""

    assignee: Name


class CommentBody(msgspec.Struct, frozen=True, kw_only=True):
    """What is said."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]


class LinkBody(Said, frozen=True, kw_only=True):
    """Somewhere to look further."""

    url: Annotated[str, msgspec.Meta(min_length=1, max_length=2000, pattern="^https?://")]
    title: Name = ""


class EditBody(Said, frozen=True, kw_only=True):
    """What shall be otherwise; what is left out stays. A severity of null follows the alerts again."""

    title: Title | msgspec.UnsetType = msgspec.UNSET
    description: Story | msgspec.UnsetType = msgspec.UNSET
    severity: Severity | msgspec.UnsetType | None = msgspec.UNSET
    kind: Kind | msgspec.UnsetType = msgspec.UNSET
    labels: Labels | msgspec.UnsetType = msgspec.UNSET
    assignee: Name | msgspec.UnsetType = msgspec.UNSET


class MergeBody(Said, frozen=True, kw_only=True):
    """Which incident shall speak for this one."""

    into: uuid.UUID


class RedactBody(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be blanked, a field or one line of the timeline by its `seq`; and why."""

    field: Literal["title", "description"] | None = None
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)] | None = None
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]


class OpenBody(Said, frozen=True, kw_only=True):
    """An incident that a person opens, for one of their teams. Without a receiver those of the top route are told."""

    title: Title
    description: Story = ""
    severity: Severity = Severity.ERROR
    kind: Kind = Kind.OTHER
    labels: Labels = {}
    assignee: Name = ""
    team: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    receiver: Name = ""


class Underway(msgspec.Struct, frozen=True, kw_only=True):
    """The action is taken and will be done, but is not done yet; the same Idempotency-Key asks for its outcome."""

    action: uuid.UUID
    state: Literal["underway"] = "underway"


_LATER: Final = {202: ResponseSpec(Underway, description="Taken, and not done yet", generate_examples=False)}
_TAGS: Final = ["actions"]
_TAGGED: Final = [ResponseHeader(name="etag", description="The incident's revision", documentation_only=True)]


def _url(what: str) -> str:
    return "/api/v1/incidents/{incident_id:uuid}/" + what


@post(_url("acknowledge"), summary="Take note of it", tags=_TAGS, status_code=200, responses=_LATER)
async def acknowledge(
    state: State, request: Asked, incident_id: FromPath[uuid.UUID], data: JSONBody[Said | None] = None
) -> Response[IncidentDetail]:
    """Repeats and escalation stop; new alerts and ends are still told."""
    return await _do(state, request, incident_id, ActionName.ACKNOWLEDGE, _said(data))


@post(_url("unacknowledge"), summary="Take the acknowledgement back", tags=_TAGS, status_code=200, responses=_LATER)
async def unacknowledge(
    state: State, request: Asked, incident_id: FromPath[uuid.UUID], data: JSONBody[Said | None] = None
) -> Response[IncidentDetail]:
    """Repeats and escalation begin again."""
    return await _do(state, request, incident_id, ActionName.UNACKNOWLEDGE, _said(data))


@post(_url("resolve"), summary="End it", tags=_TAGS, status_code=200, responses=_LATER)
async def resolve(
    state: State, request: Asked, incident_id: FromPath[uuid.UUID], data: JSONBody[Said | None] = None
) -> Response[IncidentDetail]:
    """Whoever was told of it hears that it is over. What fires on does not open it again; what fires anew does."""
    return await _do(state, request, incident_id, ActionName.RESOLVE, _said(data))


@post(_url("reopen"), summary="Open it again", tags=_TAGS, status_code=200, responses=_LATER)
async def reopen(
    state: State, request: Asked, incident_id: FromPath[uuid.UUID], data: JSONBody[Said | None] = None
) -> Response[IncidentDetail]:
    """One that its group has replaced by a newer incident stays resolved."""
    return await _do(state, request, incident_id, ActionName.REOPEN, _said(data))


@post(_url("snooze"), summary="Be quiet about it for a while", tags=_TAGS, status_code=200, responses=_LATER)
async def snooze(
    state: State, request: Asked, incident_id: FromPath[uuid.UUID], data: JSONBody[SnoozeBody]
) -> Response[IncidentDetail]:
    """No notices and no escalation until then; its end is told at once all the same."""
    args = ActionArgs(comment=data.comment, until=_until(data, datetime.now(UTC)))
    return await _do(state, request, incident_id, ActionName.SNOOZE, args)


@post(_url("unsnooze"), summary="End its snooze", tags=_TAGS, status_code=200, responses=_LATER)
async def unsnooze(
    state: State, request: Asked, incident_id: FromPath[uuid.UUID], data: JSONBody[Said | None] = None
) -> Response[IncidentDetail]:
    """What was withheld meanwhile is told."""
    return await _do(state, request, incident_id, ActionName.UNSNOOZE, _said(data))


@post(_url("assign"), summary="Say whose it is", tags=_TAGS, status_code=200, responses=_LATER)
async def assign(
    state: State, request: Asked, incident_id: FromPath[uuid.UUID], data: JSONBody[AssignBody]
) -> Response[IncidentDetail]:
    """An empty assignee gives it back."""
    args = ActionArgs(comment=data.comment, assignee=data.assignee)
    return await _do(state, request, incident_id, ActionName.ASSIGN, args)


@post(_url("comments"), summary="Say something about it", tags=_TAGS, status_code=200, responses=_LATER)
async def comment(
    state: State, request: Asked, incident_id: FromPath[uuid.UUID], data: JSONBody[CommentBody]
) -> Response[IncidentDetail]:
    """A line in its timeline; of past incidents too."""
    return await _do(state, request, incident_id, ActionName.COMMENT, ActionArgs(text=data.text))


@post(_url("links"), summary="Add a link", tags=_TAGS, status_code=200, responses=_LATER)
async def link(
    state: State, request: Asked, incident_id: FromPath[uuid.UUID], data: JSONBody[LinkBody]
) -> Response[IncidentDetail]:
    """One of the same address is replaced."""
    args = ActionArgs(comment=data.comment, url=data.url, text=data.title)
    return await _do(state, request, incident_id, ActionName.LINK, args)


@patch(
    "/api/v1/incidents/{incident_id:uuid}", summary="Edit it", tags=_TAGS, responses=_LATER, response_headers=_TAGGED
)
async def edit(
    state: State, request: Asked, incident_id: FromPath[uuid.UUID], data: JSONBody[EditBody]
) -> Response[IncidentDetail]:
    """With If-Match, only while its revision is that one (the header ETag of what was read)."""
    if data.severity is msgspec.UNSET:
        severity = ""
    else:
        severity = data.severity.value if isinstance(data.severity, Severity) else "auto"
    args = ActionArgs(
        comment=data.comment,
        title=_set(data.title),
        description=_set(data.description),
        severity=severity,
        kind=data.kind.value if isinstance(data.kind, Kind) else "",
        labels=_set(data.labels),
        assignee=_set(data.assignee),
    )
    return await _do(state, request, incident_id, ActionName.EDIT, args)


@post(_url("merge"), summary="Put it under another incident", tags=_TAGS, status_code=200, responses=_LATER)
async def merge(
    state: State, request: Asked, incident_id: FromPath[uuid.UUID], data: JSONBody[MergeBody]
) -> Response[IncidentDetail]:
    """The other one speaks for it: nobody is told of this one any more, save of ends that they wait for."""
    into = await _speaker(state, request, data.into)
    args = ActionArgs(comment=data.comment, into=str(into.id), into_group=into.group_key)
    return await _do(state, request, incident_id, ActionName.MERGE, args)


@post(_url("split"), summary="Take it out of the incident that it is merged into", tags=_TAGS, status_code=200,
      responses=_LATER)  # fmt: skip
async def split(
    state: State, request: Asked, incident_id: FromPath[uuid.UUID], data: JSONBody[Said | None] = None
) -> Response[IncidentDetail]:
    """It speaks for itself again, and no rule puts it back there."""
    return await _do(state, request, incident_id, ActionName.SPLIT, _said(data))


@post(_url("uncorrelate"), summary="Undo what a rule put together", tags=_TAGS, status_code=200, responses=_LATER)
async def uncorrelate(
    state: State, request: Asked, incident_id: FromPath[uuid.UUID], data: JSONBody[Said | None] = None
) -> Response[IncidentDetail]:
    """As split, for what a rule has merged; it stays apart."""
    return await _do(state, request, incident_id, ActionName.UNCORRELATE, _said(data))


@post(_url("redact"), summary="Blank what must not be read", tags=_TAGS, status_code=200, responses=_LATER)
async def redact(
    state: State, request: Asked, incident_id: FromPath[uuid.UUID], data: JSONBody[RedactBody]
) -> Response[IncidentDetail]:
    """Title or description with what the timeline has of them, or one line of it; who did it, and why, stays there."""
    if (data.field is None) == (data.seq is None):
        raise FieldProblemError("field", "give either field or seq")
    await _target(state, request, incident_id)
    if data.seq is not None:
        database: Database = state.database
        async with database.reading() as conn:
            if not await action_rows.has_line(conn, incident_id, data.seq):
                raise FieldProblemError("seq", "its timeline has no such line")
    args = ActionArgs(field=data.field or "", seq=data.seq or 0, reason=data.reason)
    return await _do(state, request, incident_id, ActionName.REDACT, args)


@post("/api/v1/incidents", summary="Open one by hand", tags=_TAGS, status_code=200, responses=_LATER,
      response_headers=_TAGGED)  # fmt: skip
async def open_incident(state: State, request: Asked, data: JSONBody[OpenBody]) -> Response[IncidentDetail]:
    """A group of its own, told at once, that lasts until somebody resolves it."""
    team = own_team(principal(request), data.team)
    action_id = _action_id(request, "new", ActionName.OPEN)
    group = by_hand.group_key(team, str(action_id))
    args = ActionArgs(
        comment=data.comment, title=" ".join(data.title.split()) or data.title, description=data.description,
        severity=data.severity, kind=data.kind, labels=data.labels, assignee=data.assignee, receiver=data.receiver,
    )  # fmt: skip
    target = Target(
        id=keys.derived_id("incident", group), team=team, group_key=group, status="", revision=0, parent_id=None
    )
    return await _done(state, request, target, action_id, ActionName.OPEN, args)


ROUTES: Final = (
    open_incident, merge, split, uncorrelate, redact, acknowledge, unacknowledge, resolve, reopen, snooze, unsnooze,
    assign, comment, link, edit,
)  # fmt: skip


def _said(data: Said | None) -> ActionArgs:
    return ActionArgs(comment=data.comment if data is not None else "")


def _set(value: T | msgspec.UnsetType) -> T | None:
    return None if isinstance(value, msgspec.UnsetType) else value


def _until(data: SnoozeBody, now: datetime) -> datetime:
    if (data.until is None) == (not data.lasting):
        raise FieldProblemError("until", "give either until or for")
    if data.until is None:
        try:
            return now + duration(data.lasting)
        except (ValueError, OverflowError) as error:
            raise FieldProblemError("for", "write a duration like 30m or 1h30m") from error
    if data.until.tzinfo is None:
        raise FieldProblemError("until", "it needs a time zone")
    return data.until.astimezone(UTC)


async def _do(
    state: State, request: Asked, incident_id: uuid.UUID, name: ActionName, args: ActionArgs
) -> Response[IncidentDetail]:
    """Have it done to an incident that is there, and answer with it as it is then."""
    target = await _target(state, request, incident_id)
    args = msgspec.structs.replace(args, expected=_expected(request, target))
    return await _done(state, request, target, _action_id(request, incident_id, name), name, args)


async def _done(
    state: State, request: Asked, target: Target, action_id: uuid.UUID, name: ActionName, args: ActionArgs
) -> Response[IncidentDetail]:
    sender: ActionSender = state.sender
    outcome = await sender.outcome(action_id)
    if outcome is None:
        action = Action(
            id=str(action_id), team=target.team, group=target.group_key, incident_id=str(target.id),
            actor=principal(request).name, action=name, at=datetime.now(UTC), args=args,
        )  # fmt: skip
        await sender.send(storable(action))
        outcome = await sender.ended(action_id)
    if outcome is None:
        return cast("Response[IncidentDetail]", Response(Underway(action=action_id), status_code=202))  # by `responses`
    if outcome.outcome == "refused":
        raise ConflictError(outcome.reason)
    return await _shown(state, request, target.id)


async def _speaker(state: State, request: Asked, into: uuid.UUID) -> Target:
    """The incident that shall speak for another, if it can."""
    try:
        found = await _target(state, request, into)
    except NotFoundException as error:
        raise FieldProblemError("into", "no incident has this id") from error
    if found.status == IncidentStatus.RESOLVED:
        raise ConflictError("the other incident is resolved")
    if found.status == IncidentStatus.MERGED:
        raise ConflictError(f"the other incident is merged itself, into {found.parent_id}")
    return found


async def _shown(state: State, request: Asked, incident_id: uuid.UUID) -> Response[IncidentDetail]:
    database: Database = state.database
    painter: Painter = state.painter
    async with database.reading() as conn:
        found = await detail_of(conn, incident_id, await painter.config(conn), teams_of(principal(request)))
    if found is None:
        raise NotFoundException(_UNKNOWN)
    return tagged(found)


async def _target(state: State, request: Asked, incident_id: uuid.UUID) -> Target:
    """The incident that is meant, if whoever asks may see it."""
    database: Database = state.database
    async with database.reading() as conn:
        found = await action_rows.target(conn, incident_id)
    if found is None or not principal(request).sees(found.team):
        raise NotFoundException(_UNKNOWN)
    return found


def _expected(request: Asked, target: Target) -> int:
    """The revision that whoever edits has read; 0 where they do not say."""
    wanted = request.headers.get("if-match", "").strip().removeprefix("W/")
    if not wanted or wanted == "*":
        return 0
    if etag(target.revision) not in {one.strip().removeprefix("W/") for one in wanted.split(",")}:
        raise OutdatedError(f"its revision is {target.revision} now: read it again")
    return target.revision


def _action_id(request: Asked, about: uuid.UUID | str, name: ActionName) -> uuid.UUID:
    """The same for the same Idempotency-Key of the same person, so that twice is once."""
    key = request.headers.get("idempotency-key", "")
    return keys.derived_id("action", principal(request).name, name, about, key) if key else uuid.uuid4()


def storable(action: Action) -> Action:
    """The action, if every text of it can be kept.

    Raises:
        FieldProblemError: one cannot; it names the field.
    """
    for field in ActionArgs.__struct_fields__:
        value = getattr(action.args, field)
        texts = [*value, *value.values()] if isinstance(value, dict) else [value]
        if any(isinstance(text, str) and "\x00" in text for text in texts):
            raise FieldProblemError(field, "a text holds a character that cannot be kept, such as NUL")
    return action
