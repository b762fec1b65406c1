"""The commands. Each role is one; `incidents run` starts all of them on one machine."""

import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import click

from agents.here import found_here
from agents.lazy_group import LazyGroup
from agents.terminal import colour_wanted
from streams.settings import Settings, SettingsError

T = TypeVar("T")
_SOME: Final = click.FloatRange(min=0, min_open=True)
_ONE_OR_MORE: Final = click.IntRange(min=1)

# Where each command is, and what it does in a line; what is not here is below.
COMMANDS: Final = {
    "list": ("agents.incident_commands:list_incidents", "Incidents, by default those that are open or acknowledged"),
    "show": ("agents.incident_commands:show", "One incident or several, with alerts, notices and timeline"),
    "open": ("agents.action_commands:open_incident", "Open an incident by hand"),
    "ack": ("agents.action_commands:ack", "Acknowledge: somebody looks at them, so escalation stops"),
    "unack": ("agents.action_commands:unack", "Take acknowledging back: escalation begins again"),
    "resolve": ("agents.action_commands:resolve", "Resolve, whatever still fires"),
    "reopen": ("agents.action_commands:reopen", "Open again what was resolved"),
    "snooze": ("agents.action_commands:snooze", "Have nobody told for a while"),
    "unsnooze": ("agents.action_commands:unsnooze", "End a snooze now"),
    "assign": ("agents.action_commands:assign", "Say who works on them"),
    "comment": ("agents.action_commands:comment_on", "Write into their timeline"),
    "edit": ("agents.action_commands:edit", "Change title, description, severity, kind, assignee or labels"),
    "link": ("agents.action_commands:link", "Add a link: a dashboard, a ticket, a call"),
    "merge": ("agents.action_commands:merge", "Put incidents under another one, which speaks for them"),
    "split": ("agents.action_commands:split", "Let what was merged stand for itself again"),
    "uncorrelate": ("agents.action_commands:uncorrelate", "Undo that a rule put incidents under another one"),
    "redact": ("agents.action_commands:redact", "Black out what should not have been written"),
    "tail": ("agents.tail_command:tail", "Follow what changes, until Ctrl-C"),
    "completion": ("agents.completion_command:completion", "Completion of commands and incidents for a shell"),
    "silence": ("agents.silence_commands:silence", "Mute alerts for a while"),
    "jobs": ("agents.job_commands:jobs", "What is done by the clock or in the background, and how it went"),
    "heartbeat": ("agents.job_commands:heartbeat", "Things that are to be heard of, and that are missed when silent"),
    "dlq": ("agents.dlq_commands:dlq", "Events that were refused: look, replay, drop"),
    "user": ("agents.access_commands:user", "Who may sign in: add, list, passwd, disable"),
    "token": ("agents.access_commands:token", "What programs show to the gateway: create, list, revoke"),
    "explain": ("agents.silence_commands:explain", "One alert's story: what came, was decided, and happens next"),
}
SECTIONS: Final = {
    "Incidents": ("list", "show", "tail", "open", "edit", "comment", "link"),
    "Working on incidents": (
        *("ack", "unack", "resolve", "reopen", "snooze", "unsnooze", "assign"),
        *("merge", "split", "uncorrelate", "redact"),
    ),
    "Jobs": ("jobs", "heartbeat"),
    "Alerts and receivers": ("silence", "explain", "dlq", "receiver", "check-config"),
    "Who may": ("user", "token"),
    "Running": ("run", "gateway", "bridge", "worker", "delivery"),
    "Looking after it": ("doctor", "migrate", "topics", "backup", "restore", "accept-new-log"),
    "Trying and measuring": ("demo", "load", "bench"),
}


def _settings() -> Settings:
    try:
        return Settings.from_environ(os.environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from error


def _run(job: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever the job gives
    import asyncio  # noqa: PLC0415 - commands that only print need no event loop

    import uvloop  # noqa: PLC0415 - likewise

    # Faust reads Kafka in a thread with a loop of its own, made by the policy.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    return uvloop.run(job)


def _role(name: str, run: Callable[[Settings], Awaitable[None]]) -> None:
    from streams.garbage import collect_seldom  # noqa: PLC0415 - commands that ask the gateway end before it matters
    from streams.tracing import tracing  # noqa: PLC0415 - likewise

    async def job(settings: Settings) -> None:
        collect_seldom()
        with tracing(settings, name):
            await run(settings)

    try:
        _run(job(_settings()))
    except Exception as error:  # noqa: BLE001 - the last line before the process ends
        import structlog  # noqa: PLC0415 - only on the way out

        structlog.get_logger().critical("ended", reason=f"{type(error).__name__}: {error}", exc_info=True)
        sys.stdout.flush()
        os._exit(1)  # a thread of the Kafka client may be stuck in what went wrong


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="llm-incident-manager")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Alerts in over RabbitMQ and HTTP, incidents out in Postgres, on a page, and at whoever must know.

    Settings are environment variables INCIDENTS_*; .env.example lists them. Commands about incidents ask
    the gateway, and may be given the beginning of an id. Exit codes: 0 done, 1 refused or failed,
    2 not understood, 3 no such thing, 4 the gateway does not answer, 5 not allowed.
    """
    ctx.color = colour_wanted()


@main.command()
def run() -> None:
    """Start everything on this machine: services that have no URL, and all roles."""
    from embedded.supervisor import run as supervise  # noqa: PLC0415 - an extra that production does not install

    sys.exit(supervise(_settings()))


@main.command()
def gateway() -> None:
    """Serve HTTP ingest, the API and the page."""
    from web.gateway import run as serve  # noqa: PLC0415 - each role loads only what it needs

    _role("gateway", serve)


@main.command()
def bridge() -> None:
    """Bring alerts from RabbitMQ to Kafka."""
    from streams.bridge import run as serve  # noqa: PLC0415 - each role loads only what it needs

    _role("bridge", serve)


@main.command()
def worker() -> None:
    """Run the agents that turn alerts into incidents."""
    from agents.worker import run as serve  # noqa: PLC0415 - each role loads only what it needs

    _role("worker", serve)


@main.command()
def delivery() -> None:
    """Send notices to receivers until they have them."""
    from agents.deliver import run as serve  # noqa: PLC0415 - each role loads only what it needs

    _role("delivery", serve)


@main.command()
@click.option("--once", envvar="ONCE", is_flag=True, help="stop afterwards; exit code 0 only if the sums agree")
@click.option(
    "--messages",
    envvar="MESSAGES",
    type=_ONE_OR_MORE,
    default=6000,
    show_default=True,
    help="alert messages of the storm",
)
@click.option("--endpoints", envvar="ENDPOINTS", default="", help="endpoints.json of a running system")
def demo(once: bool, messages: int, endpoints: str) -> None:  # noqa: FBT001 - click passes options so
    """Start the system, feed it a sample storm, and add up what became of it."""
    from loadtests.demo import demo_somewhere  # noqa: PLC0415 - an extra that production does not install

    sys.exit(_interruptible(demo_somewhere(_settings(), named=endpoints or None, messages=messages, once=once)))


@main.command()
@click.option("--rate", envvar="RATE", type=_SOME, default=1000.0, show_default=True, help="alerts a second")
@click.option("--seconds", envvar="SECONDS", type=_SOME, default=60.0, show_default=True, help="length of the run")
@click.option(
    "--warmup",
    envvar="WARMUP",
    type=click.FloatRange(min=0),
    default=None,
    help="first seconds whose latencies do not count (5)",
)
@click.option("--via", envvar="VIA", type=click.Choice(["amqp", "http", "both"]), default="amqp", show_default=True)
@click.option(
    "--batch", envvar="BATCH", type=_ONE_OR_MORE, default=1, show_default=True, help="alerts a message or request"
)
@click.option(
    "--shape",
    envvar="SHAPE",
    type=click.Choice(["steady", "poisson", "storm"]),
    default=None,
    help="spread of arrivals",
)
@click.option(
    "--receivers",
    envvar="RECEIVERS",
    type=click.Choice(["none", "healthy", "hanging"]),
    default=None,
    help="measure how soon somebody is told, on a system of its own; hanging: beside a target that never answers",
)
@click.option("--rolling", envvar="ROLLING", is_flag=True, help="restart every role meanwhile, on a system of its own")
@click.option("--seed", envvar="SEED", type=int, default=None, help="seed of mix and arrivals")
@click.option("--endpoints", envvar="ENDPOINTS", default="", help="endpoints.json of a running system")
@click.option("--report", envvar="REPORT", default="", help="write the figures to this file as JSON")
def load(endpoints: str, report: str, **chosen: Any) -> None:  # noqa: ANN401 - the fields of a plan
    """Send alerts at a steady rate and account for every one of them, with latencies."""
    from loadtests.load import load_somewhere, plan_of  # noqa: PLC0415 - an extra that production does not install

    try:
        plan = plan_of({name: value for name, value in chosen.items() if value is not None})
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    sys.exit(_interruptible(load_somewhere(plan, _settings(), named=endpoints or None, report=report)))


@main.command()
@click.option(
    "--messages", envvar="MESSAGES", type=_ONE_OR_MORE, default=100_000, show_default=True, help="alerts of each drain"
)
@click.option(
    "--seconds", envvar="SECONDS", type=_SOME, default=10.0, show_default=True, help="how long HTTP is posted to"
)
@click.option("--batch", envvar="BATCH", type=_ONE_OR_MORE, default=64, show_default=True, help="alerts a request")
@click.option(
    "--workers", envvar="WORKERS", type=_ONE_OR_MORE, default=1, show_default=True, help="workers of the whole and HTTP"
)
@click.option("--report", envvar="REPORT", default="", help="write the figures to this file as JSON")
def bench(report: str, **chosen: Any) -> None:  # noqa: ANN401 - the fields of a plan
    """Measure each stage alone and the whole, on a system of its own; Alertmanager too, where it is installed."""
    from loadtests.bench import bench as measure  # noqa: PLC0415 - an extra that production does not install
    from loadtests.bench_flow import BenchPlan  # noqa: PLC0415 - likewise

    sys.exit(_interruptible(measure(BenchPlan(**chosen), report=report)))


def _interruptible(job: Coroutine[Any, Any, int]) -> int:
    import asyncio  # noqa: PLC0415 - commands that only print need no event loop

    try:
        return asyncio.run(job)
    except KeyboardInterrupt:
        return 130


@main.command()
@click.option(
    "--roles",
    is_flag=False,
    flag_value="incidents",
    metavar="[PREFIX]",
    help="also make the roles PREFIX_migrate, PREFIX_app and PREFIX_read, and grant each what it needs",
)
def migrate(roles: str | None) -> None:
    """Bring the database to this version's schema; safe to run at any time, by several at once."""
    from sinks import migrate as migrations  # noqa: PLC0415 - each command loads only what it needs

    async def job(settings: Settings) -> None:
        applied = await migrations.migrate(settings.database_url, click.echo, roles=roles)
        click.echo(f"{len(applied)} migrations applied" if applied else "the schema is current")
        if roles is not None:
            click.echo(f"granted: make logins members of {roles}_migrate, {roles}_app or {roles}_read")

    told(job)


@main.command()
def topics() -> None:
    """Create the Kafka topics that are missing, and check those that are there."""
    from streams.topic_admin import ensure_topics  # noqa: PLC0415 - each command loads only what it needs

    async def job(settings: Settings) -> None:
        made = await ensure_topics(settings, click.echo)
        click.echo(f"{len(made)} topics created" if made else "all topics are there")

    told(job)


@main.command("accept-new-log")
def accept_new_log() -> None:
    """Follow Kafka's present log although another one was followed before: what the old one still held is lost."""
    from agents.new_log import accept  # noqa: PLC0415 - each command loads only what it needs

    async def job(settings: Settings) -> None:
        click.echo(await accept(settings))

    told(job)


@main.command()
@click.option("--role", "roles", multiple=True, metavar="URL", help="where a role answers probes; for each of them")
@click.option("--prometheus", default="", metavar="URL", help="a Prometheus that should have our series")
@click.option("--canary/--no-canary", default=True, help="send one alert through the whole path (default)")
@click.option("--strict", is_flag=True, help="a warning counts as a failure")
@click.option("--json", "as_json", is_flag=True, help="the same as JSON")
def doctor(roles: tuple[str, ...], prometheus: str, canary: bool, strict: bool, as_json: bool) -> None:  # noqa: FBT001 - click passes options so
    """Look at everything an installation needs, and say what is not well with its remedy.

    Without addresses in the settings it looks at the system that runs in INCIDENTS_DATA_DIR. Nobody is told of the
    canary. Exit codes: 0 nothing fails, 1 something does, 2 the command was not understood.
    """
    from agents.doctor import visit  # noqa: PLC0415 - each command loads only what it needs
    from agents.doctor.findings import Finding, Level  # noqa: PLC0415 - likewise

    settings, here = found_here(_settings(), os.environ)
    place = visit.where(settings, here, roles, prometheus, canary=canary)
    every: list[Finding] = []

    def tell(finding: Finding) -> None:
        every.append(finding)
        if not as_json:
            visit.show(finding)

    ok = told(lambda _: visit.visit(settings, place, tell))
    ok = ok and not (strict and any(finding.level is not Level.PASS for finding in every))
    if as_json:
        click.echo(visit.as_json(every, ok=ok))
    sys.exit(0 if ok else 1)


@main.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(file: Path) -> None:
    """Write Postgres to one file while everything goes on; it holds the secrets of the rules files."""
    from agents.backup import backup as write  # noqa: PLC0415 - each command loads only what it needs

    told(lambda settings: write(settings, file, click.echo))


@main.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def restore(file: Path) -> None:
    """Fill the empty database of INCIDENTS_DATABASE_URL from a backup, and say how Kafka's log fits it.

    Redis needs nothing: the workers rebuild it from Postgres, and decide again what came since.
    """
    from agents.backup import restore as fill  # noqa: PLC0415 - each command loads only what it needs

    told(lambda settings: fill(settings, file, click.echo), named=True)


@main.command("check-config")
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--labels", "-l", multiple=True, metavar="NAME=VALUE", help="show the routes an alert with these labels takes"
)
@click.option("--json", "as_json", is_flag=True, help="the same as JSON")
def check_config(path: Path, labels: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001 - click passes options so
    """Read a rules file and say everything that is wrong with it: line, field, reason, remedy.

    Exit codes: 0 it can be used, 1 it cannot, 2 the command was not understood.
    """
    from agents import check_config as checking  # noqa: PLC0415 - each command loads only what it needs
    from streams import codec  # noqa: PLC0415 - likewise

    report = checking.report_on(path, checking.labels_of(labels), datetime.now(UTC))
    if as_json:
        click.echo(codec.to_json(report))
    else:
        checking.show(report)
    sys.exit(0 if report.ok else 1)


@main.group()
def receiver() -> None:
    """Look after receivers: how their targets answer, and whether a notice reaches them."""


@receiver.command("list")
@click.option("--json", "as_json", is_flag=True, help="as the API has it, one JSON object a line")
@click.option("--url", envvar="GATEWAY_URL", default="", help="address of the gateway")
def receiver_list(url: str, as_json: bool) -> None:  # noqa: FBT001 - click passes options so
    """List receivers and people of the present rules, and how the target of each channel answers."""
    from agents.receiver_list import show_receivers  # noqa: PLC0415 - each command loads only what it needs

    show_receivers(url, as_json=as_json)


@receiver.command("test")
@click.argument("name")
@click.option("--config", "path", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="the rules file")
def receiver_test(name: str, path: Path | None) -> None:
    """Send a marked test notice through every channel of a receiver, and say how each send ended.

    The rules file is INCIDENTS_CONFIG unless --config names another. Exit codes: 0 all sent, 1 some not,
    2 there is no such receiver or the file cannot be used.
    """
    from agents.receiver_test import try_receiver  # noqa: PLC0415 - each command loads only what it needs

    settings = _settings()
    if path is None and not settings.config:
        raise click.UsageError("name a rules file with --config, or set INCIDENTS_CONFIG")
    sys.exit(_run(try_receiver(settings, name, path or Path(settings.config), click.echo)))


def told(job: Callable[[Settings], Coroutine[Any, Any, T]], *, named: bool = False) -> T:
    """Do it to the services of the settings, or those that run here; `named`: only to those of the settings."""
    import asyncpg  # noqa: PLC0415 - each command loads only what it needs

    settings = _settings() if named else found_here(_settings(), os.environ)[0]
    try:
        return cast("T", _run(job(settings)))
    except ConnectionRefusedError as error:
        remedy = "does `make run` run here? INCIDENTS_DATABASE_URL and INCIDENTS_KAFKA_URL name others"
        raise click.ClickException(f"a service does not answer ({error}): {remedy}") from error
    except (TimeoutError, OSError, RuntimeError, asyncpg.PostgresError) as error:
        raise click.ClickException(f"{type(error).__name__}: {error}") from error
    except Exception as error:
        if type(error).__module__.split(".")[0] in {"sinks", "streams", "aiokafka"}:
            raise click.ClickException(str(error)) from error
        raise


if __name__ == "__main__":
    main()
