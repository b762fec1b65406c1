"""What people do to incidents on the command line; the gateway answers once it is committed."""

import json
import sys
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

import click

from agents.api_client import Gateway, GatewayError, Reply
from agents.incident_commands import PATH, SESSION, SEVERITIES, SHORT, as_json, at_url, each, full_id, incident_ids
from agents.terminal import coloured, printable

_AUTOMATIC: Final = "auto"
_EDITS: Final = 5
_with_comment: Final = click.option("--comment", "-m", default="", help="why, written into the timeline")


def _all_of(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments that every action on incidents takes."""
    for option in (at_url, as_json, incident_ids):
        command = option(command)
    return command


def _plain(name: str, path: str, words: str) -> click.Command:
    """A command that needs to know no more than which incidents."""

    @click.command(name, help=words)
    @_all_of
    @_with_comment
    def command(url: str, ids: tuple[str, ...], as_json: bool, comment: str) -> None:  # noqa: FBT001 - click passes options so
        _do(url, ids, path, {"comment": comment} if comment else {}, as_json=as_json)

    return command


ack: Final = _plain("ack", "acknowledge", "Acknowledge incidents: somebody looks at them, so escalation stops.")
unack: Final = _plain("unack", "unacknowledge", "Take acknowledging back: escalation begins again.")
resolve: Final = _plain("resolve", "resolve", "Resolve incidents, whatever still fires.")
reopen: Final = _plain("reopen", "reopen", "Open incidents again that were resolved.")
unsnooze: Final = _plain("unsnooze", "unsnooze", "End a snooze now.")
split: Final = _plain("split", "split", "Let incidents that were merged stand for themselves again.")
uncorrelate: Final = _plain("uncorrelate", "uncorrelate", "Undo that a rule put incidents under another one, for good.")


@click.command()
@_all_of
@click.option("--for", "-d", "length", default="", help="how long, as 30m, 2h or 1h30m")
@click.option("--until", default="", help="or until when, in ISO 8601")
@_with_comment
def snooze(url: str, ids: tuple[str, ...], as_json: bool, length: str, until: str, comment: str) -> None:  # noqa: FBT001 - click passes options so
    """Have nobody told of incidents for a while."""
    if bool(length) == bool(until):
        raise click.UsageError("say how long with --for 2h, or until when with --until 2027-01-31T18:00")
    body = {"for": length} if length else {"until": _moment(until)}
    _do(url, ids, "snooze", {**body, **({"comment": comment} if comment else {})}, as_json=as_json)


@click.command()
@_all_of
@click.option("--to", default="", help="whom; without it, you")
@click.option("--nobody", is_flag=True, help="take it from whom it is assigned to")
@_with_comment
def assign(url: str, ids: tuple[str, ...], as_json: bool, to: str, nobody: bool, comment: str) -> None:  # noqa: FBT001 - click passes options so
    """Say who works on incidents."""
    if to and nobody:
        raise click.UsageError("--to and --nobody exclude each other")
    gateway = Gateway.found(url)
    whom = "" if nobody else to or str(gateway.get(SESSION)["name"])
    _do(url, ids, "assign", {"assignee": whom, **({"comment": comment} if comment else {})}, as_json=as_json)


@click.command("comment")
@_all_of
@click.option("--message", "-m", "text", default="", help="the comment; without it, what comes in, or an editor")
def comment_on(url: str, ids: tuple[str, ...], as_json: bool, text: str) -> None:  # noqa: FBT001 - click passes options so
    """Write into the timeline of incidents."""
    said = text or (click.edit() if sys.stdin.isatty() else click.get_text_stream("stdin").read()) or ""
    if not said.strip():
        raise click.UsageError("there is nothing to say: --message")
    _do(url, ids, "comments", {"text": said.strip()}, as_json=as_json)


@click.command()
@_all_of
@click.option("--into", required=True, metavar="ID", help="the incident that shall speak for them")
@_with_comment
def merge(url: str, ids: tuple[str, ...], as_json: bool, into: str, comment: str) -> None:  # noqa: FBT001 - click passes options so
    """Put incidents under another one, which speaks for them; `split` undoes it."""
    parent = full_id(Gateway.found(url), into)
    _do(url, ids, "merge", {"into": parent, **({"comment": comment} if comment else {})}, as_json=as_json)


@click.command()
@_all_of
@click.option("--to", "address", required=True, metavar="URL", help="where the link leads")
@click.option("--title", default="", help="what it is called")
def link(url: str, ids: tuple[str, ...], as_json: bool, address: str, title: str) -> None:  # noqa: FBT001 - click passes options so
    """Add a link to incidents: a dashboard, a ticket, a call."""
    _do(url, ids, "links", {"url": address, "title": title}, as_json=as_json)


@click.command()
@_all_of
@click.option("--field", type=click.Choice(["title", "description"]), help="what is blacked out")
@click.option("--seq", type=int, help="or which entry of the timeline: `incidents show --json` has their numbers")
@click.option("--reason", required=True, help="why; it stays to be read")
def redact(url: str, ids: tuple[str, ...], as_json: bool, field: str, seq: int | None, reason: str) -> None:  # noqa: FBT001 - click passes options so
    """Black out what should not have been written; that it was done stays in the timeline."""
    if bool(field) == (seq is not None):
        raise click.UsageError("name what to black out: --field, or --seq")
    _do(url, ids, "redact", {**({"field": field} if field else {"seq": seq}), "reason": reason}, as_json=as_json)


@click.command("open")
@click.argument("title")
@click.option("--severity", type=click.Choice(SEVERITIES), help="how bad it is")
@click.option("--kind", "-k", default="", help="what kind, as cost or provider_outage")
@click.option("--description", "-d", default="", help="more than the title says")
@click.option("--label", "-l", "labels", multiple=True, metavar="NAME=VALUE", help="may be given several times")
@click.option("--team", default="", help="whose it is")
@click.option("--receiver", default="", help="who is told; else the route of its labels says")
@as_json
@at_url
def open_incident(url: str, as_json: bool, labels: tuple[str, ...], **said: Any) -> None:  # noqa: ANN401, FBT001 - the options
    """Open an incident by hand; prints its id."""
    body = {name: value for name, value in said.items() if value}
    if labels:
        body["labels"] = {name: value for name, value in map(_label, labels) if value is not None}
    reply = Gateway.found(url).ask("POST", PATH, body=body)
    if reply.status == HTTPStatus.ACCEPTED:
        _tell(reply, "", as_json=as_json)
    elif as_json:
        click.echo(json.dumps(reply.body))
    else:
        click.echo(reply.body["incident"]["id"])


@click.command()
@_all_of
@click.option("--title")
@click.option("--description")
@click.option("--severity", type=click.Choice([*SEVERITIES, _AUTOMATIC]), help="auto: what its alerts say, again")
@click.option("--kind", "-k", help="what kind, as cost or provider_outage")
@click.option("--assignee", help='"" for nobody')
@click.option("--label", "-l", "labels", multiple=True, metavar="NAME=VALUE", help="add it; NAME= takes it away")
def edit(url: str, ids: tuple[str, ...], as_json: bool, labels: tuple[str, ...], **said: Any) -> None:  # noqa: ANN401, FBT001 - the options
    """Change what incidents are called, what they are, or how bad."""
    changed = {name: value for name, value in said.items() if value is not None}
    if not changed and not labels:
        raise click.UsageError("say what to change: --title, --description, --severity, --kind, --assignee or --label")
    if changed.get("severity") == _AUTOMATIC:
        changed["severity"] = None
    gateway = Gateway.found(url)

    def act(given: str) -> None:
        path = f"{PATH}/{full_id(gateway, given)}"
        _tell(_edited(gateway, path, changed, labels), given, as_json=as_json)

    each(ids, act)


def _edited(gateway: Gateway, path: str, changed: dict[str, Any], labels: tuple[str, ...]) -> Reply:
    """Edit what was just read; alerts may change an incident at any moment, so it is read again a few times."""
    for left in reversed(range(_EDITS)):
        seen = gateway.ask("GET", path)
        body = {**changed, **({"labels": _relabelled(seen.body, labels)} if labels else {})}
        try:
            return gateway.ask("PATCH", path, body=body, headers={"if-match": seen.etag})
        except GatewayError as error:
            if error.status != HTTPStatus.PRECONDITION_FAILED or not left:
                raise
    raise AssertionError  # the last try returns or raises


def _do(url: str, ids: tuple[str, ...], path: str, body: dict[str, Any], *, as_json: bool) -> None:
    gateway = Gateway.found(url)

    def act(given: str) -> None:
        _tell(gateway.ask("POST", f"{PATH}/{full_id(gateway, given)}/{path}", body=body), given, as_json=as_json)

    each(ids, act)


def _tell(reply: Reply, given: str, *, as_json: bool) -> None:
    """How an incident stands now, or that what was asked for is on its way."""
    if as_json:
        click.echo(json.dumps(reply.body))
    elif reply.status == HTTPStatus.ACCEPTED:
        click.echo(f"{printable(given)}: taken, and not done yet; `incidents show` tells when it is".removeprefix(": "))
    else:
        incident = reply.body["incident"]
        click.echo(f"{incident['id'][:SHORT]}  {coloured(incident['status'])}  {printable(incident['title'])}")


def _moment(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"{printable(text)} is not a moment: write it like 2027-01-31T18:00") from error
    return (at if at.tzinfo is not None else at.astimezone()).isoformat()


def _label(text: str) -> tuple[str, str | None]:
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise click.UsageError(f"{printable(text)} is not a label: write it like service=chat")
    return name, value or None


def _relabelled(detail: dict[str, Any], labels: tuple[str, ...]) -> dict[str, str]:
    kept = dict(detail["labels"])
    for name, value in map(_label, labels):
        if value is None:
            kept.pop(name, None)
        else:
            kept[name] = value
    return kept
