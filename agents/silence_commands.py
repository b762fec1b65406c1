"""`incidents silence ...` and `incidents explain`: what people ask of silences and alerts on the command line."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from agents.api_client import Gateway, GatewayError, UnknownError, user
from agents.incident_commands import SHORT, as_json, at_url
from agents.terminal import Column, local, printable, table, terminal_width
from agents.terminal import say as _say
from streams.rules_matchers import MatcherError, parse
from streams.rules_yaml import duration

PATH: Final = "/api/v1/silences"
_LONGEST_ID: Final = 36
_KEPT: Final = ("matchers", "starts_at", "ends_at", "annotations", "recurrence", "remind_before", "remind_to")
_COLUMNS: Final = (
    Column("id"), Column("state"), Column("until"), Column("mutes", yields=True), Column("by"),
    Column("why", yields=True),
)  # fmt: skip


def complete_silences(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of silences that are on or to come, with what they mute; nothing when nobody answers."""
    try:
        found = _ask(ctx.params.get("url") or "", "GET", PATH)
    except click.ClickException:
        return []
    known = [one for one in found if one["state"] != "expired" and one["id"].startswith(incomplete)]
    return [CompletionItem(one["id"][:SHORT], help=printable(_conditions(one))) for one in known]


_silence_id: Final = click.argument("silence_id", metavar="ID", shell_complete=complete_silences)


def _full_id(url: str, given: str) -> str:
    """The id that begins so, among those that are listed.

    Raises:
        GatewayError: none does, or more than one.
    """
    if len(given) == _LONGEST_ID:
        return given
    found = [one["id"] for one in _ask(url, "GET", PATH) if given and one["id"].startswith(given.lower())]
    if not found:
        raise UnknownError(f"no silence's id begins with {printable(given)}: `incidents silence list` has them")
    if len(found) > 1:
        raise GatewayError(f"{printable(given)} begins more than one silence's id: {', '.join(found)}")
    return str(found[0])


def _ask(url: str, method: str, path: str, **more: Any) -> Any:  # noqa: ANN401 - JSON
    return Gateway.found(url).ask(method, path, **more).body


@click.group()
def silence() -> None:
    """Mute alerts for a while: nobody is told of what a silence matches."""


def _body(chosen: dict[str, Any]) -> dict[str, Any]:
    try:
        matchers = [matcher for text in chosen["matchers"] for matcher in parse(text)]
        starts_at = _moment(chosen, "start") if chosen["start"] else datetime.now(UTC)
        ends_at = _moment(chosen, "end") if chosen["end"] else starts_at + _length(chosen, "duration")
        until = _moment(chosen, "until") if chosen["until"] else None
        remind = int(_length(chosen, "remind").total_seconds()) if chosen["remind"] else None
    except MatcherError as error:
        said = f"{error}; write matchers like service=chat or 'alertname=~\"Cost.*\"'"
        raise click.ClickException(printable(said)) from error
    except OverflowError as error:
        raise click.ClickException(printable(str(error))) from error
    if (until is None) != (not chosen["every"]):
        raise click.ClickException("--every and --until go together")
    recurrence = {"rule": chosen["every"], "zone": chosen["zone"], "until": until} if until else None
    return {
        "matchers": [[{"name": m.name, "op": m.op, "value": m.value} for m in matchers]],
        "starts_at": starts_at.isoformat(),
        "ends_at": ends_at.isoformat(),
        "created_by": chosen["author"],
        "comment": chosen["comment"],
        "recurrence": recurrence and {**recurrence, "until": until.isoformat() if until else ""},
        "remind_before": remind,
        "remind_to": chosen["remind_to"],
    }


def _moment(chosen: dict[str, Any], option: str) -> datetime:
    try:
        at = datetime.fromisoformat(chosen[option])
        return at if at.tzinfo is not None else at.astimezone()
    except (ValueError, OverflowError) as error:
        said = f"--{option} {chosen[option]} is not a moment: write it like 2027-01-31T18:00 or 2027-01-31T18:00+01:00"
        raise click.ClickException(said) from error


def _length(chosen: dict[str, Any], option: str) -> timedelta:
    try:
        return duration(chosen[option])
    except ValueError as error:
        said = f"--{option} {chosen[option]} is not a length of time: write it like 30m, 2h or 1h30m"
        raise click.ClickException(said) from error


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.argument("matchers", nargs=-1, required=True),
            click.option("--duration", "-d", default="1h", show_default=True, help="how long each time, as 30m or 2h"),
            click.option("--start", default="", help="when it begins, in ISO 8601; now if left out"),
            click.option("--end", default="", help="when it ends, instead of --duration"),
            click.option("--comment", "-c", default="", help="why"),
            click.option("--author", "-a", default=user, help="who; by default the user"),
            click.option("--every", default="", help="calendar rule by which it comes back, as FREQ=WEEKLY;BYDAY=SU"),
            click.option("--until", default="", help="last moment that it comes back"),
            click.option("--zone", default="UTC", show_default=True, help="time zone of the calendar rule"),
            click.option("--remind", default="", help="how long before its last end to remind, as 1h"),
            click.option("--remind-to", default="", help="receiver that is reminded; else those of the muted groups"),
            as_json,
            at_url,
        )
    ):
        command = option(command)
    return command


@silence.command("add")
@_options
def add(url: str, as_json: bool, **chosen: Any) -> None:  # noqa: ANN401, FBT001 - the options
    """Create a silence for alerts that meet all MATCHERS, such as service=chat severity=~"info|warning"."""
    if not chosen["comment"]:
        raise click.ClickException("say why: --comment")
    made = _ask(url, "POST", PATH, body=_body(chosen))
    click.echo(json.dumps(made) if as_json else made["id"])


@silence.command("preview")
@_options
def preview(url: str, as_json: bool, **chosen: Any) -> None:  # noqa: ANN401, FBT001 - the options
    """Show whom such a silence would mute; nothing is stored."""
    found = _ask(url, "POST", f"{PATH}/preview", body=_body(chosen))
    if as_json:
        click.echo(json.dumps(found))
        return
    _say(f"{_count(found['alert_count'], 'firing alert')}, {_count(found['incident_count'], 'open incident')}")
    for one in found["incidents"]:
        _say(f"  incident {one['id']}  {one['muted']} of {one['firing']} alerts  {one['title']}")
    for one in found["alerts"]:
        _say(f"  alert {one['fingerprint']}  {_labels(one['labels'])}")


@silence.command("list")
@click.option("--expired", is_flag=True, help="those that ended lately instead")
@as_json
@at_url
def list_silences(url: str, as_json: bool, expired: bool) -> None:  # noqa: FBT001 - click passes options so
    """List silences that are on or to come."""
    wanted = ("expired",) if expired else ("active", "pending")
    found = [one for one in _ask(url, "GET", PATH) if one["state"] in wanted]
    if as_json:
        for one in found:
            click.echo(json.dumps(one))
    elif found:
        rows = [
            [
                one["id"][:SHORT],
                one["state"],
                local(one["ends_at"]),
                _conditions(one),
                one["created_by"],
                one["comment"],
            ]
            for one in found
        ]
        click.echo("\n".join(table(_COLUMNS, rows, terminal_width())))
    else:
        click.echo("no silence has ended lately" if expired else "nothing is silenced", err=True)


@silence.command("show")
@_silence_id
@as_json
@at_url
def show(url: str, silence_id: str, as_json: bool) -> None:  # noqa: FBT001 - likewise
    """Show one silence and who changed it."""
    path = f"{PATH}/{_full_id(url, silence_id)}"
    one, audit = _ask(url, "GET", path), _ask(url, "GET", f"{path}/audit")
    if as_json:
        click.echo(json.dumps({**one, "audit": audit}))
        return
    _say(f"{one['id']}  {one['state']}")
    _say(f"  {_conditions(one)}")
    _say(f"  from {local(one['starts_at'])} until {local(one['ends_at'])}, by {one['created_by']}: {one['comment']}")
    if one["recurrence"]:
        _say(f"  comes back by {one['recurrence']['rule']} ({one['recurrence']['zone']}) until {local(one['over_at'])}")
    for entry in audit:
        _say(f"  {local(entry['at'])}  {entry['action']} by {entry['actor']}")


@silence.command("edit")
@_silence_id
@click.option("--duration", "-d", default="", help="how long from now, as 30m or 2h")
@click.option("--end", default="", help="or when it ends, in ISO 8601")
@click.option("--comment", "-c", default="", help="why, anew")
@click.option("--author", "-a", default=user, help="who changes it; by default the user")
@as_json
@at_url
def edit(url: str, silence_id: str, as_json: bool, **chosen: Any) -> None:  # noqa: ANN401, FBT001 - the options
    """Give a silence another end or another comment."""
    if not (chosen["duration"] or chosen["end"] or chosen["comment"]):
        raise click.UsageError("say what to change: --duration, --end or --comment")
    path = f"{PATH}/{_full_id(url, silence_id)}"
    seen = Gateway.found(url).ask("GET", path)
    one = seen.body
    if one["recurrence"] and (chosen["duration"] or chosen["end"]):
        raise click.ClickException("it comes back by a calendar rule: expire it, and add another one")
    kept = {name: one[name] for name in _KEPT}
    if chosen["end"]:
        kept["ends_at"] = _moment(chosen, "end").isoformat()
    elif chosen["duration"]:
        kept["ends_at"] = (datetime.now(UTC) + _length(chosen, "duration")).isoformat()
    kept["comment"] = chosen["comment"] or one["comment"]
    body = {**kept, "team": one["team"] or None, "created_by": chosen["author"]}
    _told(_ask(url, "PUT", path, body=body, headers={"if-match": seen.etag}), as_json=as_json)


@silence.command("expire")
@click.argument("silence_ids", nargs=-1, required=True, metavar="ID...", shell_complete=complete_silences)
@as_json
@at_url
def expire(url: str, silence_ids: Sequence[str], as_json: bool) -> None:  # noqa: FBT001 - likewise
    """End silences now."""
    for silence_id in silence_ids:
        path = f"{PATH}/{_full_id(url, silence_id)}/expire"
        _told(_ask(url, "POST", path, query={"by": user()}), as_json=as_json)


def _told(one: dict[str, Any], *, as_json: bool) -> None:
    click.echo(json.dumps(one) if as_json else f"{one['id']}  {one['state']}  until {local(one['ends_at'])}")


@click.command()
@click.argument("fingerprint")
@as_json
@at_url
def explain(url: str, fingerprint: str, as_json: bool) -> None:  # noqa: FBT001 - click passes options so
    """Tell one alert's story: what came, what was decided, who was told, and what happens next.

    `incidents show` has the fingerprints of an incident's alerts.
    """
    story = _ask(url, "GET", f"/api/v1/alerts/{fingerprint}/explain")
    if as_json:
        click.echo(json.dumps(story))
        return
    alert = story["alert"]
    _say(f"{alert['summary'] or alert['fingerprint']}  {_labels(alert['labels'])}")
    _say(f"It is {alert['status']} and {story['standing']['state']}; {_receivers(story['receivers'])}.")
    for line in story["lines"]:
        _say(f"  {local(line['at'])}  {line['text']}")
    _say("Next:")
    for one in story["next"]:
        _say(f"  {local(one['at']) if one['at'] else 'no time':19}  {one['text']}")


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _receivers(names: Sequence[str]) -> str:
    return f"it goes to {', '.join(names)}" if names else "it goes to nobody"


def _labels(labels: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(labels.items()))


def _conditions(one: dict[str, Any]) -> str:
    alternatives = (" ".join(f'{m["name"]}{m["op"]}"{m["value"]}"' for m in each) for each in one["matchers"])
    return " or ".join(alternatives)
