"""Jobs over HTTP: list, show, make, run now, pause, drop; and background work with its progress, log and file."""

import uuid
from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, delete, get, post
from litestar.datastructures import State
from litestar.exceptions import HTTPException, NotFoundException, PermissionDeniedException
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Stream

from sinks import asked_job_rows, job_reads
from sinks.job_reads import MAX_PAGE, JobDetail, JobRun, JobRunDetail, JobRunPage, JobView
from streams.rules_jobs import NAME, Action, JobError, arguments_of
from streams.rules_schedule import Missed, ScheduleError, next_slot
from web.database import Database
from web.principal import NEEDS, Scope, principal
from web.problems import FieldProblemError, own_team
from web.rights import teams_of

_RUNS_SHOWN = 20
ADMIN = {NEEDS: Scope.ADMIN}
_SPACE = uuid.UUID("0d6c1ad5-9f57-4c77-8f0e-63a6e1d1c9b4")

AnyRequest = Request[Any, Any, Any]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="Runs in one answer")]
Cursor = Annotated[str, QueryParameter(max_length=100, description="`next` of the page before")]
RunState = Literal["due", "running", "succeeded", "failed", "cancelled", "skipped"]


class JobBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job as it shall be. Without a `schedule` it runs only when somebody asks.

    `missed` says what becomes of slots that no worker was there for.
    """

    name: Name
    action: Action
    arguments: dict[str, Any] = {}
    schedule: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    zone: Annotated[str, msgspec.Meta(max_length=100)] = "UTC"
    missed: Missed = Missed.SKIP
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=20)] = 3
    team: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = "default"


class WorkBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Background work to be done once: an export, a rebuild, a replay of dead letters."""

    action: Literal["export", "replay", "rebuild"]
    arguments: dict[str, Any] = {}
    team: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None


@get("/api/v1/jobs", summary="Jobs, with the last run of each", tags=["jobs"])
async def jobs(state: State, request: AnyRequest) -> list[JobView]:
    """Those that come next first, paused ones last."""
    async with _database(state).reading() as conn:
        return await job_reads.jobs(conn, teams_of(principal(request)))


@post("/api/v1/jobs", summary="Make a job", tags=["jobs"], status_code=201, opt=ADMIN)
async def create_job(state: State, request: AnyRequest, data: JSONBody[JobBody]) -> JobView:
    """Its first slot is the next one of its schedule."""
    who = principal(request)
    if not NAME.fullmatch(data.name):
        raise FieldProblemError("name", "use letters, digits and . _ : -")
    if not who.sees(data.team):
        raise FieldProblemError("team", "is not one of yours")
    if data.action in {Action.RETENTION, Action.CANARY}:
        raise FieldProblemError("action", "is done by a built-in job; change it in the rules file")
    _judge(data.action, data.arguments)
    async with _database(state).writing() as conn:
        now = await asked_job_rows.clock(conn)
        made = await asked_job_rows.add(
            conn, data.name, data.team, data.action, data.arguments, schedule=data.schedule, zone=data.zone,
            missed=data.missed, max_attempts=data.max_attempts, created_by=who.name,
            next_at=_next(data, now) if data.schedule is not None else None,
        )  # fmt: skip
        if not made:
            raise HTTPException("There is a job of this name", status_code=HTTPStatus.CONFLICT)
        return (await job_reads.jobs(conn, None, data.name))[0]


@get("/api/v1/jobs/{name:str}", summary="One job and its latest runs", tags=["jobs"])
async def job(state: State, request: AnyRequest, name: FromPath[str]) -> JobDetail:
    """Its runs, the newest first; /api/v1/job-runs has all of them."""
    async with _database(state).reading() as conn:
        found = await _job(conn, request, name)
        page = await job_reads.runs(
            conn, teams_of(principal(request)), job=name, states=None, after=None, limit=_RUNS_SHOWN
        )
        return JobDetail(job=found, runs=page.items)


@delete("/api/v1/jobs/{name:str}", summary="Drop a job", tags=["jobs"], status_code=204, opt=ADMIN)
async def drop_job(state: State, request: AnyRequest, name: FromPath[str]) -> None:
    """Only one that was made over the API; others go with the rules file. Its runs are kept for a while."""
    async with _database(state).writing() as conn:
        found = await _job(conn, request, name)
        if not await asked_job_rows.drop(conn, name, teams_of(principal(request))):
            said = f"It is a {found.origin} job: switch it off in the rules file, or pause it"
            raise HTTPException(said, status_code=HTTPStatus.CONFLICT)


@post("/api/v1/jobs/{name:str}/run", summary="Run a job now", tags=["jobs"], status_code=202)
async def run_job(state: State, request: AnyRequest, name: FromPath[str]) -> JobRun:
    """Beside its slots, and also while it is paused; 409 while one of its runs is not over."""
    async with _database(state).writing() as conn:
        await _job(conn, request, name)
        run_id = _new_id(request, name)
        await asked_job_rows.ask_for_job(conn, run_id, name, principal(request).name)
        made = await job_reads.run(conn, teams_of(principal(request)), run_id)
        if made is None:
            said = f"Its run {await asked_job_rows.unfinished(conn, name)} is not over"
            raise HTTPException(said, status_code=HTTPStatus.CONFLICT)
        return made.run


@post("/api/v1/jobs/{name:str}/pause", summary="Pause a job", tags=["jobs"], status_code=200)
async def pause_job(state: State, request: AnyRequest, name: FromPath[str]) -> JobView:
    """Its slots are left out until it is resumed; what is running goes on."""
    async with _database(state).writing() as conn:
        await _job(conn, request, name)
        await asked_job_rows.pause(conn, name, principal(request).name)
        return await _job(conn, request, name)


@post("/api/v1/jobs/{name:str}/resume", summary="Resume a job", tags=["jobs"], status_code=200)
async def resume_job(state: State, request: AnyRequest, name: FromPath[str]) -> JobView:
    """From its next slot on; those in between count as left out, not as missed."""
    async with _database(state).writing() as conn:
        found = await _job(conn, request, name)
        if found.paused:
            now = await asked_job_rows.clock(conn)
            await asked_job_rows.resume(conn, name, _next(found, now) if found.schedule is not None else None)
        return await _job(conn, request, name)


@get("/api/v1/job-runs", summary="Runs of jobs, and background work", tags=["jobs"])
async def job_runs(
    state: State,
    request: AnyRequest,
    job: FromQuery[str | None] = None,
    run_state: Annotated[list[RunState] | None, QueryParameter(name="state", description="Only these states")] = None,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> JobRunPage:
    """The newest first."""
    after = None
    if cursor:
        try:
            after = uuid.UUID(cursor)
        except ValueError as error:
            raise FieldProblemError("cursor", "it is not a cursor of this list") from error
    async with _database(state).reading() as conn:
        return await job_reads.runs(
            conn, teams_of(principal(request)), job=job, states=run_state, after=after, limit=limit
        )


@post("/api/v1/job-runs", summary="Ask for background work", tags=["jobs"], status_code=202)
async def ask_for_work(state: State, request: AnyRequest, data: JSONBody[WorkBody]) -> JobRun:
    """Look at the run for its progress; with an Idempotency-Key, asking twice is asking once.

    A replay or rebuild is for those who see all teams.
    """
    who = principal(request)
    action = Action(data.action)
    team = own_team(who, data.team)
    if who.teams is not None and action is not Action.EXPORT:
        raise PermissionDeniedException("It concerns all teams")
    _judge(action, data.arguments)
    async with _database(state).writing() as conn:
        run_id = _new_id(request, action)
        await asked_job_rows.ask(conn, run_id, team, action, data.arguments, who.name, 3)
        return (await _run(conn, request, run_id)).run


@get("/api/v1/job-runs/{run_id:uuid}", summary="One run with its log", tags=["jobs"])
async def job_run(state: State, request: AnyRequest, run_id: FromPath[uuid.UUID]) -> JobRunDetail:
    """How far it is, how it ended, and what it said."""
    async with _database(state).reading() as conn:
        return await _run(conn, request, run_id)


@post("/api/v1/job-runs/{run_id:uuid}/cancel", summary="Cancel a run", tags=["jobs"], status_code=202)
async def cancel_run(state: State, request: AnyRequest, run_id: FromPath[uuid.UUID]) -> JobRun:
    """What has not begun ends at once, what runs within seconds; 409 when it is over."""
    async with _database(state).writing() as conn:
        await _run(conn, request, run_id)
        if not await asked_job_rows.cancel(conn, run_id, principal(request).name):
            raise HTTPException("It is over", status_code=HTTPStatus.CONFLICT)
        return (await _run(conn, request, run_id)).run


@get(
    "/api/v1/job-runs/{run_id:uuid}/file", summary="What an export wrote", tags=["jobs"],
    media_type="application/octet-stream",
)  # fmt: skip
async def job_file(state: State, request: AnyRequest, run_id: FromPath[uuid.UUID]) -> Stream:
    """JSON lines or CSV, once the run has succeeded."""
    async with _database(state).reading() as conn:
        found = await _run(conn, request, run_id)
    if found.run.state != "succeeded" or not found.file:
        raise NotFoundException("This run has no file, or not yet")
    kind = str(found.run.arguments.get("format", "jsonl"))
    name = f"{found.run.arguments.get('what', 'incidents')}-{run_id}.{kind}"

    async def pieces() -> Any:  # noqa: ANN401 - an iterator
        async with _database(state).reading() as conn:
            async for part in job_reads.parts(conn, run_id):
                yield part

    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Stream(pieces(), media_type="application/octet-stream", headers=headers)


async def _job(conn: Any, request: AnyRequest, name: str) -> JobView:  # noqa: ANN401 - a connection
    found = await job_reads.jobs(conn, teams_of(principal(request)), name)
    if not found:
        raise NotFoundException("No job has this name")
    return found[0]


async def _run(conn: Any, request: AnyRequest, run_id: uuid.UUID) -> JobRunDetail:  # noqa: ANN401 - a connection
    found = await job_reads.run(conn, teams_of(principal(request)), run_id)
    if found is None:
        raise NotFoundException("No run has this id")
    return found


def _next(job: JobBody | JobView, now: Any) -> Any:  # noqa: ANN401 - moments
    try:
        return next_slot(job.schedule or "", job.zone, now)
    except ScheduleError as error:
        raise FieldProblemError(error.field, error.reason) from error


def _judge(action: Action, arguments: dict[str, Any]) -> None:
    try:
        arguments_of(action, arguments)
    except JobError as error:
        raise FieldProblemError(error.field, error.reason) from error


def _new_id(request: AnyRequest, of: str) -> uuid.UUID:
    """The same Idempotency-Key of the same person for the same thing gives the same id."""
    key = request.headers.get("idempotency-key", "")
    return uuid.uuid5(_SPACE, f"{principal(request).name}\n{of}\n{key}") if key else uuid.uuid4()


def _database(state: State) -> Database:
    database: Database = state.database
    return database


ROUTES = (
    jobs, create_job, job, drop_job, run_job, pause_job, resume_job, job_runs, ask_for_work, job_run, cancel_run,
    job_file,
)  # fmt: skip
