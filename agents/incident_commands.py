"""`incidents list` and `incidents show`: incidents as the API has them, for people and for pipes."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from agents.api_client import Gateway, GatewayError, Query, UnknownError
from agents.terminal import Column, age, coloured, local, printable, table, terminal_width

PATH: Final = "/api/v1/incidents"
SESSION: Final = "/api/v1/session"
SEVERITIES: Final = ("critical", "error", "warning", "info", "unknown")
STATUSES: Final = ("open", "acknowledged", "resolved", "merged")
SHORT: Final = 8
_LONGEST_ID: Final = 36
_UNSAID: Final = frozenset({"action", "run"})
_IDENTITY: Final = re.compile(r"[0-9a-f]{32}")
_PAGE: Final = 200
F = TypeVar("F", bound=Callable[..., Any])

at_url: Final = click.option("--url", envvar="GATEWAY_URL", default="", help="address of the gateway")
as_json: Final = click.option("--json", "as_json", is_flag=True, help="as the API has it, one JSON object a line")


def complete_ids(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of incidents that are not over, with their titles; nothing when nobody answers."""
    try:
        query: Query = {"status": ["open", "acknowledged"], "id": incomplete, "sort": "severity", "limit": 50}
        page = Gateway.found(ctx.params.get("url") or "").get(PATH, query)
    except click.ClickException:
        return []
    return [CompletionItem(one["id"][:SHORT], help=printable(one["title"])) for one in page["items"]]


incident_ids: Final = click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=complete_ids)


def full_id(gateway: Gateway, given: str) -> str:
    """The id that begins so.

    Raises:
        GatewayError: none does, or more than one.
    """
    if len(given) == _LONGEST_ID:
        return given
    if not given.replace("-", "") or not set(given.lower()) <= set("0123456789abcdef-"):
        raise UnknownError(f"{printable(given)} is no incident's id: `incidents list` has them")
    found = gateway.get(PATH, {"id": given, "limit": 3})["items"]
    if not found:
        raise UnknownError(f"no incident's id begins with {given}")
    if len(found) > 1:
        those = ", ".join(one["id"][: len(given) + 6] for one in found)
        raise GatewayError(f"{given} begins more than one incident's id: {those}")
    return str(found[0]["id"])


def each(ids: Sequence[str], act: Callable[[str], None]) -> None:
    """Do something to every one of the ids, whatever becomes of the others; ends with the first one's error code."""
    code = 0
    for given in dict.fromkeys(ids):
        try:
            act(given)
        except GatewayError as error:
            click.echo(
                f"{printable(given)}: {error.format_message()}" if len(ids) > 1 else error.format_message(), err=True
            )
            code = code or error.exit_code
    if code:
        raise SystemExit(code)


@click.command("list")
@click.option("--status", "-s", type=click.Choice(STATUSES), multiple=True, help="may be given several times")
@click.option("--all", "every", is_flag=True, help="whatever their status")
@click.option("--severity", type=click.Choice(SEVERITIES), multiple=True, help="likewise")
@click.option("--kind", "-k", multiple=True, help="likewise, as cost or provider_outage")
@click.option("--team", help="only this team's")
@click.option("--assignee", "-a", help='only what this person works on; "" for what nobody does')
@click.option("--mine", is_flag=True, help="only what you work on")
@click.option("--search", "-q", "text", default="", help="words that titles, texts or labels must have")
@click.option("--sort", type=click.Choice(["severity", "updated", "created"]), default="severity", show_default=True)
@click.option("--limit", "-n", type=click.IntRange(1, 100_000), default=50, show_default=True)
@as_json
@at_url
def list_incidents(url: str, as_json: bool, limit: int, every: bool, mine: bool, **chosen: Any) -> None:  # noqa: ANN401, FBT001 - the options
    """List incidents: by default those that are open or acknowledged, the worst first."""
    status = list(chosen["status"]) or ([] if every else ["open", "acknowledged"])
    query = {
        "status": status,
        "severity": list(chosen["severity"]),
        "kind": list(chosen["kind"]),
        "q": chosen["text"],
        "sort": chosen["sort"],
        **{name: chosen[name] for name in ("team", "assignee") if chosen[name] is not None},
    }
    gateway = Gateway.found(url)
    if mine:
        query["assignee"] = gateway.get(SESSION)["name"]
    found, more = _pages(gateway, query, limit)
    if as_json:
        for one in found:
            click.echo(json.dumps(one))
    elif found:
        click.echo("\n".join(table(_COLUMNS, [_line(one) for one in found], terminal_width())))
        if more:
            click.echo(f"there are more: --limit {limit * 2} shows them", err=True)
    else:
        click.echo("no incident is like this" if every or mine or any(chosen.values()) else "all quiet", err=True)


@click.command()
@incident_ids
@click.option(
    "--timeline", "entries", type=click.IntRange(0, 10_000), default=20, show_default=True, help="last entries"
)
@as_json
@at_url
def show(url: str, as_json: bool, ids: tuple[str, ...], entries: int) -> None:  # noqa: FBT001 - click passes options so
    """Show incidents with their alerts, notices and timeline."""
    gateway = Gateway.found(url)

    def act(given: str) -> None:
        path = f"{PATH}/{full_id(gateway, given)}"
        detail = gateway.get(path)
        timeline = _last(gateway, path, entries)
        if as_json:
            click.echo(json.dumps({**detail, "timeline": timeline}))
        else:
            _tell(detail, timeline)

    each(ids, act)


_COLUMNS: Final = (
    Column("id"),
    Column("severity"),
    Column("status"),
    Column("title", yields=True),
    Column("kind"),
    Column("assignee"),
    Column("firing", right=True),
    Column("age", right=True),
)


def _line(one: dict[str, Any]) -> list[str]:
    return [
        one["id"][:SHORT],
        one["severity"],
        one["status"],
        one["title"],
        one["kind"],
        one["assignee"],
        f"{one['firing']}/{one['alerts']}",
        age(one["created_at"], one["resolved_at"]),
    ]


def _pages(gateway: Gateway, query: dict[str, Any], limit: int) -> tuple[list[dict[str, Any]], bool]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while len(found) < limit:
        asked = {**query, "limit": min(_PAGE, limit - len(found)), **({"cursor": cursor} if cursor else {})}
        page = gateway.get(PATH, asked)
        found += page["items"]
        cursor = page.get("next") or ""
        if not cursor:
            break
    return found, bool(cursor)


def _last(gateway: Gateway, path: str, count: int) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    before = 2**53 - 1
    while len(entries) < count:
        asked = min(_PAGE, count - len(entries))
        found = gateway.get(f"{path}/timeline", {"before": before, "limit": asked})
        entries = [*found, *entries]
        if len(found) < asked:
            break
        before = found[0]["seq"]
    return entries


def _tell(detail: dict[str, Any], timeline: list[dict[str, Any]]) -> None:
    for line in story(detail, timeline):
        click.echo(line)


def story(detail: dict[str, Any], timeline: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One incident for reading."""
    incident = detail["incident"]
    title = click.style(printable(incident["title"]), bold=True)
    yield f"{coloured(incident['severity'])}  {coloured(incident['status'])}  {title}"
    for name, value in facts(detail):
        yield f"  {name:12}  {printable(value)}"
    if detail["alerts"]:
        yield f"Alerts ({incident['firing']} of {incident['alerts']} fire)"
        for one in detail["alerts"]:
            words = one["summary"] or one["labels"].get("alertname") or ""
            yield f"  {coloured(one['status'])}  {one['fingerprint']}  {printable(words)}  {_labels(one['labels'])}"
    if detail["notices"]:
        yield f"Notices ({len(detail['notices'])})"
        for one in detail["notices"]:
            to = printable(f"{one['receiver']} by {one['channel']}: {one['reason']}")
            failed = f" ({printable(one['last_reason'])})" if one["state"] != "sent" and one["last_reason"] else ""
            yield f"  {coloured(one['state'])}  {local(one['finished_at'] or one['created_at'])}  {to}{failed}"
    if timeline:
        yield "Timeline"
        for entry in timeline:
            yield f"  {entry_line(entry)}"


def facts(detail: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What an incident is, without what is empty."""
    incident = detail["incident"]
    opened, over = incident["created_at"], incident["resolved_at"]
    described = incident["description"] if incident["description"] != incident["title"] else ""
    noted = incident["acknowledged_at"] if incident["status"] == "acknowledged" else None
    known = {
        "id": incident["id"],
        "description": described,
        "kind": incident["kind"],
        "team": incident["team"],
        "group": _labels(incident["group_labels"]),
        "receiver": incident["receiver"] or "none",
        "opened": f"{local(opened)} ({age(opened)} ago)",
        "acknowledged": noted and f"{local(noted)} by {detail['acknowledged_by']}",
        "resolved": over and f"{local(over)} after {age(opened, over)}",
        "snoozed": detail["snoozed_until"] and f"until {local(detail['snoozed_until'])}",
        "assignee": incident["assignee"],
        "flapping": incident["flapping"] and f"x{incident['flapping']}",
        "reopened": incident["reopened"] and f"{incident['reopened']} times",
        "labels": _labels(detail["labels"]),
        "escalation": detail["escalation"] and _escalation(detail["escalation"]),
        "before it": incident["predecessor_id"],
        "under": detail["parent"] and _relative({**detail["parent"], "rule": detail["rule"]}),
    }
    yield from ((name, value) for name, value in known.items() if value)
    yield from (("link", f"{one['title']} {one['url']}".strip()) for one in detail["links"])
    yield from (("speaks for", _relative(one)) for one in detail["children"])


def entry_line(entry: dict[str, Any]) -> str:
    """One entry of a timeline."""
    detail = "  ".join(
        f"{name}: {_why(value) if name == 'evidence' else _plainly(value)}"
        for name, value in entry["detail"].items()
        if value not in (None, "") and name not in _UNSAID and not _IDENTITY.fullmatch(str(value))
    )
    by = "" if entry["actor"] in {"", "system", "stream"} else f" by {entry['actor']}"
    return (
        f"{local(entry['at'])}  {printable(entry['event'] + by)}  {click.style(printable(detail), dim=True)}".rstrip()
    )


def _plainly(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _why(evidence: str) -> str:
    """Why a rule put an incident under another one: what they share, and how soon after each other."""
    try:
        seen = json.loads(evidence)
        shared = _labels(seen["labels"])
        more = len(seen["with"]) - 1
        others = f" and {more} more" if more > 0 else ""
        return f"{shared or 'they met'}, with {seen['title']}{others}, within {seen['within']}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return evidence


def _escalation(state: dict[str, Any]) -> str:
    if not state["next_at"]:
        return f"{state['policy']}: {state['state']}"
    targets = ", ".join(state["next_targets"]) or "nobody"
    return f"{state['policy']}: step {state['step']} tells {targets} at {local(state['next_at'])}"


def _relative(one: dict[str, Any]) -> str:
    by = f", by rule {one['rule']}" if one["rule"] else ""
    return f"{one['id'][:SHORT]}  {one['status']}  {one['title']}{by}"


def _labels(labels: dict[str, str]) -> str:
    return printable(" ".join(f"{name}={value}" for name, value in sorted(labels.items())))
