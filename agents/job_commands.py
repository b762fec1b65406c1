"""`incidents jobs ...` and `incidents heartbeat ...`: what is done by the clock, and what is to be heard of."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click
from click.shell_completion import CompletionItem

from agents.api_client import Gateway, GatewayError
from agents.incident_commands import as_json, at_url
from agents.terminal import Column, coloured, local, printable, say, table, terminal_width

JOBS: Final = "/api/v1/jobs"
RUNS: Final = "/api/v1/job-runs"
HEARTBEATS: Final = "/api/v1/heartbeats"
_LOOK: Final = 0.3
_OVER: Final = frozenset({"succeeded", "failed", "cancelled", "skipped"})


def complete_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of jobs; nothing when nobody answers."""
    try:
        found = Gateway.found(ctx.params.get("url") or "").get(JOBS)
    except click.ClickException:
        return []
    return [CompletionItem(one["name"], help=one["action"]) for one in found if one["name"].startswith(incomplete)]


_name: Final = click.argument("name", shell_complete=complete_names)
_wait: Final = click.option("--wait/--no-wait", default=True, show_default=True, help="until it is over")


def _at(path: str, name: str) -> str:
    return f"{path}/{quote(name, safe='')}"


@click.group()
def jobs() -> None:
    """What is done by the clock or in the background, and how it went.

    Exit codes: 0 done, 1 refused or the run failed, 3 no such job or run, 4 the gateway does not answer.
    """


@jobs.command("list")
@as_json
@at_url
def list_jobs(url: str, as_json: bool) -> None:  # noqa: FBT001 - click passes options so
    """List jobs, those that come next first."""
    found = Gateway.found(url).get(JOBS)
    if as_json:
        _lines(found)
        return
    columns = [Column("job"), Column("action"), Column("when", yields=True), Column("next"), Column("last"), Column("")]
    rows = [
        [one["name"], one["action"], _when(one), "paused" if one["paused"] else local(one["next_at"]),
         *_how(one["last"])]
        for one in found
    ]  # fmt: skip
    _show(columns, rows)


@jobs.command("show")
@_name
@as_json
@at_url
def show_job(url: str, name: str, as_json: bool) -> None:  # noqa: FBT001 - likewise
    """Show one job and its latest runs."""
    found = Gateway.found(url).get(_at(JOBS, name))
    if as_json:
        click.echo(json.dumps(found))
        return
    job = found["job"]
    say(f"{job['name']}  {job['action']}  {_when(job)}  ({job['origin']}, by {job['created_by']})")
    say(f"  next {local(job['next_at'])}; missed slots: {job['missed']}; at most {job['max_attempts']} attempts")
    if job["paused"]:
        say(f"  paused by {job['paused_by']}")
    if job["arguments"]:
        say(f"  {json.dumps(job['arguments'])}")
    _show_runs(found["runs"])


@jobs.command("runs")
@click.argument("name", required=False, shell_complete=complete_names)
@click.option("--state", multiple=True, type=click.Choice([*sorted(_OVER), "due", "running"]), help="only these")
@click.option("--limit", "-n", type=click.IntRange(1, 200), default=20, show_default=True)
@as_json
@at_url
def list_runs(url: str, name: str | None, state: tuple[str, ...], limit: int, as_json: bool) -> None:  # noqa: FBT001 - likewise
    """List runs of a job, or of all of them and of background work, the newest first."""
    query: dict[str, Any] = {"state": list(state), "limit": limit, **({"job": name} if name else {})}
    found = Gateway.found(url).get(RUNS, query)["items"]
    if as_json:
        _lines(found)
    else:
        _show_runs(found)


@jobs.command("log")
@click.argument("run_id")
@as_json
@at_url
def show_run(url: str, run_id: str, as_json: bool) -> None:  # noqa: FBT001 - likewise
    """Show one run: how it ended, what came of it, and its log."""
    found = Gateway.found(url).get(_at(RUNS, run_id))
    if as_json:
        click.echo(json.dumps(found))
    else:
        _tell(found)


@jobs.command("run")
@_name
@_wait
@as_json
@at_url
def run_job(url: str, name: str, as_json: bool, wait: bool) -> None:  # noqa: FBT001 - likewise
    """Run a job now, beside its slots."""
    gateway = Gateway.found(url)
    _follow(gateway, gateway.ask("POST", f"{_at(JOBS, name)}/run").body, wait=wait, as_json=as_json)


@jobs.command("pause")
@_name
@as_json
@at_url
def pause(url: str, name: str, as_json: bool) -> None:  # noqa: FBT001 - likewise
    """Leave out a job's slots until it is resumed."""
    _told(Gateway.found(url).ask("POST", f"{_at(JOBS, name)}/pause").body, as_json=as_json)


@jobs.command("resume")
@_name
@as_json
@at_url
def resume(url: str, name: str, as_json: bool) -> None:  # noqa: FBT001 - likewise
    """Take up a job's slots again, from the next one on."""
    _told(Gateway.found(url).ask("POST", f"{_at(JOBS, name)}/resume").body, as_json=as_json)


@jobs.command("add")
@click.argument("name")
@click.argument("action", type=click.Choice(["alert", "webhook", "digest", "export", "replay", "stale"]))
@click.option("--schedule", help="cron expression, as '30 2 * * MON'; without one it runs only when asked")
@click.option("--zone", default="UTC", show_default=True)
@click.option("--missed", type=click.Choice(["skip", "run_once"]), default="skip", show_default=True)
@click.option("--with", "told", multiple=True, metavar="NAME=VALUE", help="what it is told; VALUE may be JSON")
@as_json
@at_url
def add(url: str, told: tuple[str, ...], as_json: bool, **chosen: Any) -> None:  # noqa: ANN401, FBT001 - the options
    """Make a job."""
    made = Gateway.found(url).ask("POST", JOBS, body={**chosen, "arguments": _arguments(told)}).body
    _told(made, as_json=as_json)


@jobs.command("delete")
@_name
@at_url
def delete(url: str, name: str) -> None:
    """Drop a job that was made with `add`."""
    Gateway.found(url).ask("DELETE", _at(JOBS, name))
    say(f"{name} is gone")


@jobs.command("cancel")
@click.argument("run_id")
@at_url
def cancel(url: str, run_id: str) -> None:
    """End a run that is not over."""
    found = Gateway.found(url).ask("POST", f"{_at(RUNS, run_id)}/cancel").body
    say(f"{found['id']} is {'being cancelled' if found['state'] == 'running' else found['state']}")


@jobs.command("start")
@click.argument("action", type=click.Choice(["export", "replay", "rebuild"]))
@click.option("--with", "told", multiple=True, metavar="NAME=VALUE", help="as what=alerts, format=csv, since=...")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="where an export is put")
@_wait
@as_json
@at_url
def start(url: str, action: str, told: tuple[str, ...], output: Path | None, wait: bool, as_json: bool) -> None:  # noqa: FBT001 - likewise
    """Start background work: an export, a replay of dead letters, a rebuild of tables."""
    gateway = Gateway.found(url)
    if output is not None and action != "export":
        raise click.UsageError("--output belongs to an export")
    run = gateway.ask("POST", RUNS, body={"action": action, "arguments": _arguments(told)}).body
    _follow(gateway, run, wait=wait or output is not None, as_json=as_json)
    if output is not None:
        size = gateway.save(f"{_at(RUNS, run['id'])}/file", output)
        click.echo(printable(f"{size} bytes in {output}"), err=as_json)


@click.group()
def heartbeat() -> None:
    """Things that are to be heard of: one that falls silent becomes an incident, its return resolves it."""


@heartbeat.command("send")
@click.argument("name")
@click.option("--interval", "-i", default="", help="when the next beat comes, as 90s or 5m; needed the first time")
@click.option("--grace", default="", help="how much later it may come")
@click.option("--severity", default="", help="of the incident")
@click.option("--label", "-l", "labels", multiple=True, metavar="NAME=VALUE")
@at_url
def send(url: str, name: str, labels: tuple[str, ...], **chosen: str) -> None:
    """Say that NAME is there."""
    body: dict[str, Any] = {key: value for key, value in chosen.items() if value}
    if labels:
        body["labels"] = dict(map(_label, labels))
    found = Gateway.found(url).ask("POST", _at(HEARTBEATS, name), body=body).body
    say(f"{found['name']} is to be heard of again until {local(found['due_at'])}")


@heartbeat.command("list")
@as_json
@at_url
def list_heartbeats(url: str, as_json: bool) -> None:  # noqa: FBT001 - likewise
    """List what is watched, the missing first."""
    found = Gateway.found(url).get(HEARTBEATS)
    if as_json:
        _lines(found)
        return
    columns = [Column("name", yields=True), Column("state"), Column("every", right=True), Column("last heard of")]
    _show(
        columns,
        [[one["name"], one["state"], _span(one["interval_seconds"]), local(one["last_beat_at"])] for one in found],
    )


@heartbeat.command("delete")
@click.argument("name")
@at_url
def delete_heartbeat(url: str, name: str) -> None:
    """Watch NAME no more; if it is missing, its alert ends."""
    Gateway.found(url).ask("DELETE", _at(HEARTBEATS, name))
    say(f"{name} is watched no more")


def _label(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise click.UsageError(f"{printable(text)} is not a label: write it like service=chat")
    return name, value


def _span(seconds: float) -> str:
    minutes, hours = divmod(seconds, 60), divmod(seconds, 3600)
    return f"{hours[0]:g} h" if hours[1] == 0 else f"{minutes[0]:g} min" if minutes[1] == 0 else f"{seconds:g} s"


def _told(job: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(job))
    elif job["paused"]:
        say(f"{job['name']} is paused")
    else:
        say(f"{job['name']} " + (f"comes next at {local(job['next_at'])}" if job["next_at"] else "runs when asked"))


def _arguments(told: tuple[str, ...]) -> dict[str, Any]:
    found = {}
    for one in told:
        name, equals, value = one.partition("=")
        if not equals:
            raise click.UsageError(f"{one} is not NAME=VALUE")
        try:
            found[name] = json.loads(value) if value[:1] in {"{", "["} else value
        except ValueError as error:
            raise click.UsageError(f"{name}: {error}") from error
    return found


def _when(job: dict[str, Any]) -> str:
    return f"{job['schedule']} ({job['zone']})" if job["schedule"] else "when asked"


def _how(run: dict[str, Any] | None) -> Iterator[str]:
    if run is None:
        yield from ("never", "")
        return
    yield local(run["finished_at"] or run["started_at"] or run["due_at"])
    yield run["state"]


def _show(columns: list[Column], rows: list[list[str]]) -> None:
    for line in table(columns, rows, terminal_width()):
        click.echo(line)


def _show_runs(runs: list[dict[str, Any]]) -> None:
    columns = [
        Column("run"), Column("what"), Column("slot"), Column("state"), Column("attempt", right=True),
        Column("seconds", right=True), Column("", yields=True),
    ]  # fmt: skip
    _show(columns, [_run_row(run) for run in runs])


def _run_row(run: dict[str, Any]) -> list[str]:
    slot = local(run["slot_at"]) if run["slot_at"] else f"asked by {run['asked_by']}"
    seconds = "" if run["seconds"] is None else f"{run['seconds']:.1f}"
    died = f"its worker died {run['deaths']} times; " if run["deaths"] else ""
    missed = f"{run['missed']} slots missed; " if run["missed"] else ""
    attempt = f"{run['attempt']}/{run['max_attempts']}"
    said = f"{died}{missed}{run['error']}".removesuffix("; ")
    return [run["id"], run["job"] or run["action"], slot, run["state"], attempt, seconds, said]


def _tell(found: dict[str, Any]) -> None:
    run = found["run"]
    click.echo(f"{printable(run['id'])}  {printable(run['job'] or run['action'])}  {coloured(run['state'])}")
    if run["total"] or run["done"]:
        say(f"  {run['done']} of {run['total'] or '?'}")
    for line in found["log"]:
        say(f"  {local(line['at'])}  {line['line']}")
    if run["error"]:
        say(f"  {run['error']}")
    if run["result"]:
        say(f"  {json.dumps(run['result'])}")


def _follow(gateway: Gateway, run: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    """Wait until it is over; ends with code 1 where it did not succeed."""
    shown = -1
    found: dict[str, Any] = {"run": run, "log": []}
    while wait and found["run"]["state"] not in _OVER:
        time.sleep(_LOOK)
        found = gateway.get(_at(RUNS, run["id"]))
        done, total = found["run"]["done"], found["run"]["total"]
        if done != shown and total and sys.stderr.isatty():
            click.echo(f"\r{done} of {total}", nl=False, err=True)
            shown = done
    if shown >= 0:
        click.echo("", err=True)
    if as_json:
        click.echo(json.dumps(found))
    else:
        _tell(found)
    if wait and found["run"]["state"] != "succeeded":
        raise GatewayError(f"it has {found['run']['state']}: {found['run']['error']}")


def _lines(found: list[dict[str, Any]]) -> None:
    for one in found:
        click.echo(json.dumps(one))
