"""`incidents silence ...` and `incidents explain`: what people ask of silences and alerts on the command line."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from agents.api_client import Gateway, user
from agents.terminal import printable
from agents.terminal import say as _say
from streams.rules_matchers import MatcherError, parse
from streams.rules_yaml import duration

PATH: Final = "/api/v1/silences"
_at_url: Final = click.option("--url", envvar="GATEWAY_URL", default="", help="address of the gateway")


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
    except (MatcherError, OverflowError) as error:
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
            _at_url,
        )
    ):
        command = option(command)
    return command


@silence.command("add")
@_options
def add(url: str, **chosen: Any) -> None:  # noqa: ANN401 - the options
    """Create a silence for alerts that meet all MATCHERS, such as service=chat severity=~"info|warning"."""
    if not chosen["comment"]:
        raise click.ClickException("say why: --comment")
    made = _ask(url, "POST", PATH, body=_body(chosen))
    _say(made["id"])


@silence.command("preview")
@_options
def preview(url: str, **chosen: Any) -> None:  # noqa: ANN401 - the options
    """Show whom such a silence would mute; nothing is stored."""
    found = _ask(url, "POST", f"{PATH}/preview", body=_body(chosen))
    _say(f"{found['alert_count']} firing alerts, {found['incident_count']} open incidents")
    for one in found["incidents"]:
        _say(f"  incident {one['id']}  {one['muted']} of {one['firing']} alerts  {one['title']}")
    for one in found["alerts"]:
        _say(f"  alert {one['fingerprint']}  {_labels(one['labels'])}")


@silence.command("list")
@click.option("--expired", is_flag=True, help="those that ended lately instead")
@_at_url
def list_silences(url: str, expired: bool) -> None:  # noqa: FBT001 - click passes options so
    """List silences that are on or to come."""
    wanted = ("expired",) if expired else ("active", "pending")
    for one in _ask(url, "GET", PATH):
        if one["state"] in wanted:
            _say(f"{one['id']}  {one['state']:7}  until {one['ends_at']}  {_conditions(one)}  {one['comment']}")


@silence.command("show")
@click.argument("silence_id")
@_at_url
def show(url: str, silence_id: str) -> None:
    """Show one silence and who changed it."""
    one = _ask(url, "GET", f"{PATH}/{silence_id}")
    _say(f"{one['id']}  {one['state']}")
    _say(f"  {_conditions(one)}")
    _say(f"  from {one['starts_at']} until {one['ends_at']}, by {one['created_by']}: {one['comment']}")
    if one["recurrence"]:
        _say(f"  comes back by {one['recurrence']['rule']} ({one['recurrence']['zone']}) until {one['over_at']}")
    for entry in _ask(url, "GET", f"{PATH}/{silence_id}/audit"):
        _say(f"  {entry['at']}  {entry['action']} by {entry['actor']}")


@silence.command("expire")
@click.argument("silence_ids", nargs=-1, required=True)
@_at_url
def expire(url: str, silence_ids: Sequence[str]) -> None:
    """End silences now."""
    for silence_id in silence_ids:
        one = _ask(url, "POST", f"{PATH}/{silence_id}/expire", query={"by": user()})
        _say(f"{one['id']}  {one['state']}")


@click.command()
@click.argument("fingerprint")
@_at_url
def explain(url: str, fingerprint: str) -> None:
    """Tell one alert's story: what came, what was decided, who was told, and what happens next."""
    story = _ask(url, "GET", f"/api/v1/alerts/{fingerprint}/explain")
    alert = story["alert"]
    _say(f"{alert['summary'] or alert['fingerprint']}  {_labels(alert['labels'])}")
    _say(f"It is {alert['status']} and {story['standing']['state']}; {_receivers(story['receivers'])}.")
    for line in story["lines"]:
        _say(f"  {line['at'][:19].replace('T', ' ')}  {line['text']}")
    _say("Next:")
    for one in story["next"]:
        _say(f"  {(one['at'] or 'no time')[:19].replace('T', ' '):19}  {one['text']}")


def _receivers(names: Sequence[str]) -> str:
    return f"it goes to {', '.join(names)}" if names else "it goes to nobody"


def _labels(labels: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(labels.items()))


def _conditions(one: dict[str, Any]) -> str:
    alternatives = (" ".join(f'{m["name"]}{m["op"]}"{m["value"]}"' for m in each) for each in one["matchers"])
    return " or ".join(alternatives)
