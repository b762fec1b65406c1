"""`incidents user ...` and `incidents token ...`: who may sign in, and what programs show.

They work on the database itself, so that the first admin, and a lost password, need nobody who can sign in.
"""

import asyncio
import getpass
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncpg
import click
import msgspec

from agents.here import found_here
from agents.terminal import plain_json, printable
from sinks import audit_rows, token_rows, user_rows
from sinks.audit_rows import Deed
from streams.credentials import Role, Scope, digest, hash_password, new_password, new_token, refusal_of
from streams.settings import Settings, SettingsError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

T = TypeVar("T")
_MOST: Final = 1000
_team: Final = click.option("--team", "teams", multiple=True, help="only objects of this team; may be repeated")
_as_json: Final = click.option("--json", "as_json", is_flag=True, help="the same as JSON")


@click.group()
def user() -> None:
    """Who may sign in on the page. Exit codes: 0 done, 1 refused or failed, 3 there is no such user."""


@user.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), default="viewer", show_default=True)
@_team
@click.option("--password-stdin", is_flag=True, help="read the password from standard input instead of making one")
def user_add(name: str, role: str, teams: tuple[str, ...], password_stdin: bool) -> None:  # noqa: FBT001 - click passes options so
    """Make a user; the password that is made is shown once."""
    if role == Role.ADMIN and teams:
        raise click.UsageError("an admin sees all teams")
    password = _password(given=password_stdin)

    async def job(conn: "Conn") -> None:
        made = await user_rows.add(conn, name, role=role, teams=teams or None, password_hash=hash_password(password))
        if made is None:
            raise click.ClickException(f"the user {printable(name)} exists already")
        await _audit(conn, "user add", name, role=role, teams=list(teams))

    _do(job)
    _show_password(name, password, given=password_stdin)


@user.command("list")
@_as_json
def user_list(as_json: bool) -> None:  # noqa: FBT001 - click passes options so
    """Users, with their roles and teams."""
    found = _do(lambda conn: user_rows.listed(conn, _MOST))
    rows = [(one.name, one.role, _teams(one.teams), "disabled" if one.disabled_at else "") for one in found]
    _show(("NAME", "ROLE", "TEAMS", ""), rows, found, as_json=as_json)


@user.command("passwd")
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="read the password from standard input instead of making one")
def user_passwd(name: str, password_stdin: bool) -> None:  # noqa: FBT001 - click passes options so
    """Give a user another password and end all their sessions."""
    password = _password(given=password_stdin)

    async def job(conn: "Conn") -> None:
        if not await user_rows.set_password(conn, name, hash_password(password)):
            raise UnknownError(f"there is no user {printable(name)}")
        await _audit(conn, "user passwd", name)

    _do(job)
    _show_password(name, password, given=password_stdin)


@user.command("disable")
@click.argument("name")
@click.option("--undo", is_flag=True, help="let them sign in again")
def user_disable(name: str, undo: bool) -> None:  # noqa: FBT001 - click passes options so
    """Let a user sign in no more and end all their sessions; what they did stays."""

    async def job(conn: "Conn") -> None:
        known = await user_rows.held(conn, name)
        if known is None:
            raise UnknownError(f"there is no user {printable(name)}")
        await user_rows.change(conn, msgspec.structs.replace(known, disabled_at=None if undo else datetime.now(UTC)))
        await _audit(conn, "user disable", name, undo=undo)

    _do(job)


@user.command("first", hidden=True)
@click.argument("name")
def user_first(name: str) -> None:
    """Make the first admin, whose password is in FIRST_PASSWORD; exit code 3 where there is a user already."""
    password = os.environ.get("FIRST_PASSWORD", "")
    if refused := refusal_of(password):
        raise click.ClickException(f"FIRST_PASSWORD needs {refused}")

    async def job(conn: "Conn") -> None:
        if not await user_rows.add_first(conn, name, hash_password(password)):
            raise UnknownError("there are users already")
        await _audit(conn, "user add", name, role=Role.ADMIN.value)

    _do(job)


@click.group()
def token() -> None:
    """What programs show to the gateway. Exit codes: 0 done, 1 refused or failed, 3 there is no such token."""


@token.command("create")
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, required=True, type=click.Choice([scope.value for scope in Scope]),
    help="what it is good for; may be repeated",
)  # fmt: skip
@_team
@click.option("--days", type=click.IntRange(0, 3660), default=365, show_default=True, help="0: until it is revoked")
def token_create(name: str, scopes: tuple[str, ...], teams: tuple[str, ...], days: int) -> None:
    """Make a token and print it, once."""
    if Scope.ADMIN in scopes and teams:
        raise click.UsageError("an admin sees all teams")
    if Scope.INGEST in scopes and len(teams) > 1:
        raise click.UsageError("what a token sends belongs to one team")
    secret = new_token()
    until = datetime.now(UTC) + timedelta(days=days) if days else None

    async def job(conn: "Conn") -> None:
        await token_rows.add(
            conn, name=name, hashed=digest(secret), scopes=sorted(set(scopes)), teams=teams or None,
            created_by=_actor(), expires_at=until,
        )  # fmt: skip
        await _audit(conn, "token create", name, scopes=sorted(set(scopes)), teams=list(teams))

    _do(job)
    click.echo(secret)
    if sys.stderr.isatty():
        click.echo("It is shown this once.", err=True)


@token.command("list")
@click.option("--revoked", is_flag=True, help="also those that were revoked")
@_as_json
def token_list(revoked: bool, as_json: bool) -> None:  # noqa: FBT001 - click passes options so
    """Tokens, without their secrets."""
    found = _do(lambda conn: token_rows.listed(conn, _MOST, revoked=revoked))
    rows = [
        (one.name, ",".join(one.scopes), _teams(one.teams), _day(one.expires_at), _day(one.last_used_at),
         "revoked" if one.revoked_at else "")
        for one in found
    ]  # fmt: skip
    _show(("NAME", "SCOPES", "TEAMS", "EXPIRES", "LAST USED", ""), rows, found, as_json=as_json)


@token.command("revoke")
@click.argument("name")
def token_revoke(name: str) -> None:
    """End a token; gateways refuse it within a few seconds."""

    async def job(conn: "Conn") -> None:
        if await token_rows.revoke(conn, None, name) is None:
            raise UnknownError(f"there is no live token {printable(name)}")
        await _audit(conn, "token revoke", name)

    _do(job)


class UnknownError(click.ClickException):
    """Raised for a name that nothing has."""

    exit_code = 3


def _do(job: Any) -> Any:  # noqa: ANN401 - from a connection to whatever the job gives
    try:
        return asyncio.run(_in_transaction(job))
    except token_rows.TakenError as error:
        raise click.ClickException(f"a live token has the name {printable(str(error))}") from error
    except asyncpg.CheckViolationError as error:
        raise click.ClickException("names of users are like ada or ada.l@example.org: lower case") from error
    except (OSError, asyncpg.PostgresError, token_rows.TooManyError) as error:
        raise click.ClickException(f"{type(error).__name__}: {printable(str(error))}") from error


async def _in_transaction(job: Any) -> Any:  # noqa: ANN401 - likewise
    async with _connected() as conn, conn.transaction():
        work: Coroutine[Any, Any, Any] = job(conn)
        return await work


@asynccontextmanager
async def _connected() -> AsyncIterator["Conn"]:
    conn = await asyncpg.connect(database_of(os.environ), timeout=10)
    try:
        yield conn
    finally:
        await conn.close()


def database_of(environ: Any) -> str:  # noqa: ANN401 - os.environ or what stands for it
    """The database that the settings name, or else that of the system that runs here."""
    try:
        settings = Settings.from_environ(environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    return found_here(settings, environ)[0].database_url


async def _audit(conn: "Conn", action: str, about: str, **detail: object) -> None:
    deed = Deed(
        at=datetime.now(UTC), actor=_actor(), actor_kind="command line", address="", action=action, object=about,
        outcome="done", detail=detail,
    )  # fmt: skip
    await audit_rows.add(conn, [deed])


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _password(*, given: bool) -> str:
    if not given:
        return new_password()
    password = click.get_text_stream("stdin").readline().rstrip("\n")
    if refused := refusal_of(password):
        raise click.ClickException(f"the password needs {refused}")
    return password


def _show_password(name: str, password: str, *, given: bool) -> None:
    if not given:
        click.echo(f"The password of {printable(name)}, shown this once: {password}")


def _teams(teams: list[str] | None) -> str:
    return "all" if teams is None else ",".join(teams)


def _day(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d") if at is not None else "never"


def _show(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], found: Any, *, as_json: bool) -> None:  # noqa: ANN401 - JSON
    if as_json:
        click.echo(plain_json(msgspec.json.encode(found)))
        return
    lines = [tuple(printable(text) for text in row) for row in (head, *rows)]
    widths = [max(len(row[place]) for row in lines) for place in range(len(head))]
    for row in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
