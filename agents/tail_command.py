"""`incidents tail`: what changes, line by line, as the gateway's server-sent events tell it."""

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import click

from agents.api_client import AwayError, Gateway
from agents.incident_commands import (
    PATH,
    SEVERITIES,
    SHORT,
    STATUSES,
    as_json,
    at_url,
    complete_ids,
    entry_line,
    full_id,
)
from agents.terminal import coloured, cut, printable, terminal_width

STREAM: Final = "/api/v1/stream"
_LONGEST_PAUSE: Final = 30.0
_REMEMBERED: Final = 2000


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    name: str
    data: str
    id: str


@dataclass
class Follower:
    """The stream, taken up again where it broke off."""

    gateway: Gateway
    pause: Callable[[float], None] = time.sleep
    last_event_id: str = ""
    told: bool = field(default=False)

    def events(self) -> Iterator[Event]:
        """Every event, for ever; says on stderr when the connection is lost and when it is back.

        Raises:
            GatewayError: the gateway refuses, or was never there.
        """
        import httpx  # noqa: PLC0415 - only who follows waits for it

        wait, reached = 1.0, False
        while True:
            try:
                with self.gateway.events(STREAM, self.last_event_id) as answer:
                    if self.told:
                        click.echo("connected again", err=True)
                    wait, reached, self.told = 1.0, True, False
                    for event in events_in(lines_in(answer.iter_text())):
                        self.last_event_id = event.id or self.last_event_id
                        yield event
            except (httpx.HTTPError, AwayError) as error:
                if not reached:
                    raise AwayError(f"the gateway at {self.gateway.url} does not answer: {error}") from error
            if not self.told:
                click.echo("the connection was lost; trying again", err=True)
                self.told = True
            self.pause(wait)
            wait = min(_LONGEST_PAUSE, wait * 2)


def lines_in(texts: Iterable[str]) -> Iterator[str]:
    """Lines of a text that comes in pieces; only a line feed ends one, whatever else senders put into their words."""
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        yield from (line.removesuffix("\r") for line in lines)


def events_in(lines: Iterable[str]) -> Iterator[Event]:
    """The events of a stream, as the standard of server-sent events has them."""
    name, number = "message", ""
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield Event(name, "\n".join(data), number)
            name, data, number = "message", [], ""
            continue
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match key:
            case "event":
                name = value
            case "data":
                data.append(value)
            case "id":
                number = value


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=complete_ids)
@click.option(
    "--status", "-s", type=click.Choice(STATUSES), multiple=True, help="only these; may be given several times"
)
@click.option("--severity", type=click.Choice(SEVERITIES), multiple=True, help="likewise")
@click.option("--kind", "-k", multiple=True, help="likewise")
@click.option("--team", help="only this team's")
@as_json
@at_url
def tail(url: str, as_json: bool, ids: tuple[str, ...], **chosen: Any) -> None:  # noqa: ANN401, FBT001 - the options
    """Follow incidents as they change, one line a change, until Ctrl-C.

    With IDs, what is written into their timelines is followed too.
    """
    gateway = Gateway.found(url)
    wanted = {full_id(gateway, given) for given in ids}
    seen = {one: _newest(gateway, one) for one in wanted}
    told: OrderedDict[str, dict[str, Any]] = OrderedDict()
    try:
        for event in Follower(gateway).events():
            for item in _changed(event):
                if (seen and item["id"] not in seen) or not fits(item, chosen) or _again(told, item):
                    continue
                click.echo(json.dumps(item) if as_json else line_of(item))
                if seen and not as_json:
                    _tell_new(gateway, item["id"], seen)
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def _changed(event: Event) -> list[dict[str, Any]]:
    """What an event says of incidents; what else it says goes to stderr."""
    if event.name == "reset":
        click.echo("more changed meanwhile than is told one by one; `incidents list` has all", err=True)
    elif event.name == "away":
        click.echo(f"{printable(json.loads(event.data)['reason'])}; waiting", err=True)
    return list(json.loads(event.data)) if event.name == "changed" else []


def _again(told: "OrderedDict[str, dict[str, Any]]", item: dict[str, Any]) -> bool:
    """Whether exactly this was told last: a stream that is taken up again repeats its last seconds."""
    if told.get(item["id"]) == item:
        return True
    told[item["id"]] = item
    told.move_to_end(item["id"])
    if len(told) > _REMEMBERED:
        told.popitem(last=False)
    return False


def _tell_new(gateway: Gateway, incident: str, seen: dict[str, int]) -> None:
    for entry in gateway.get(f"{PATH}/{incident}/timeline", {"after": seen[incident]}):
        seen[incident] = entry["seq"]
        click.echo(f"  {entry_line(entry)}")


def _newest(gateway: Gateway, incident: str) -> int:
    found = gateway.get(f"{PATH}/{incident}/timeline", {"before": 2**53 - 1, "limit": 1})
    return int(found[-1]["seq"]) if found else 0


def fits(item: dict[str, Any], chosen: dict[str, Any]) -> bool:
    """Whether an incident is one that was asked for; an empty choice is everything."""
    named = all(not chosen[name] or item[name] in chosen[name] for name in ("status", "severity", "kind"))
    return named and chosen["team"] in {None, item["team"]}


def line_of(item: dict[str, Any]) -> str:
    """One change on one line."""
    at = datetime.fromisoformat(item["updated_at"]).astimezone().strftime("%H:%M:%S")
    firing = f"{item['firing']}/{item['alerts']}"
    width = terminal_width()
    title = printable(item["title"])
    taken = len(at) + SHORT + len(item["severity"]) + len(item["status"]) + len(firing) + 10
    shown = title if width is None else cut(title, max(16, width - taken))
    return f"{at}  {item['id'][:SHORT]}  {coloured(item['severity'])}  {coloured(item['status'])}  {firing}  {shown}"
