"""`incidents dlq ...`: refused events by the gateway's API, or where none answers by Postgres and Kafka themselves."""

import base64
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, BinaryIO, Final

import click
import msgspec

from agents import dlq as own
from agents.api_client import AwayError, Gateway
from agents.incident_commands import at_url
from agents.terminal import printable
from sinks.dead_letter_rows import Letter, LetterState
from streams.settings import Settings

PATH: Final = "/api/v1/dead-letters"
_PAGE: Final = 1000
_ROUND: Final = 10.0
Direct = Callable[[Settings], Coroutine[Any, Any, int]]

_direct: Final = click.option(
    "--direct", is_flag=True, help="ask Postgres and Kafka, by the settings here; done too where no gateway answers"
)
_source: Final = click.option("--source", help="with --all: only events of this source")
_every: Final = click.option("--all", "every", is_flag=True, help="every dead letter that waits")


@click.group()
def dlq() -> None:
    """Look at events that were refused; replay them once the cause is mended, or drop them.

    Exit codes: 0 done, 1 refused again or failed, 2 not understood, 3 no such dead letter, 4 nobody answers,
    5 not allowed.
    """


@dlq.command("list")
@click.option("--source", help="only events of this source")
@click.option("--state", type=click.Choice(["waiting", "replayed", "dropped", "all"]), default="waiting")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="everything but the bodies, as JSON")
@_direct
@at_url
def list_letters(url: str, direct: bool, as_json: bool, source: str | None, state: str, limit: int) -> None:  # noqa: FBT001 - click passes options so
    """List dead letters, the newest first."""

    def over_api() -> int:
        letters = list(_pages(Gateway.found(url), source=source, state=state, limit=limit))
        own.say_list(letters, state=state, as_json=as_json)
        return 0

    def directly(settings: Settings) -> Coroutine[Any, Any, int]:
        return own.list_letters(settings, source=source, state=state, limit=limit, as_json=as_json)

    sys.exit(_either(over_api, directly, direct=direct))


@dlq.command("show")
@click.argument("event_id")
@click.option("--raw", is_flag=True, help="only the body, as it came: mend it and replay it with --body")
@_direct
@at_url
def show_letter(url: str, direct: bool, event_id: str, raw: bool) -> None:  # noqa: FBT001 - click passes options so
    """Show why an event was refused, and what it said."""

    def over_api() -> int:
        [letter] = _named(Gateway.found(url), [event_id], body=True)
        own.say_letter(letter, raw=raw)
        return 0

    sys.exit(_either(over_api, lambda settings: own.show_letter(settings, event_id, raw=raw), direct=direct))


@dlq.command("replay")
@click.argument("event_ids", nargs=-1)
@_every
@_source
@click.option("--body", type=click.File("rb"), help="judge this body instead of the kept one")
@click.option("--wait", type=click.FloatRange(0), default=30.0, show_default=True, help="seconds, for the verdicts")
@_direct
@at_url
def replay_letters(
    url: str,
    direct: bool,  # noqa: FBT001 - click passes options so
    event_ids: tuple[str, ...],
    every: bool,  # noqa: FBT001 - likewise
    source: str | None,
    body: BinaryIO | None,
    wait: float,
) -> None:
    """Judge events again and let them take their way; each keeps its event id and counts once.

    The limits are those of the gateway; with --direct those of the settings here.
    """
    _meant(event_ids, every=every, source=source)
    if body is not None and len(event_ids) != 1:
        raise click.UsageError("--body belongs to exactly one EVENT_ID")
    mended = body.read() if body is not None else None

    def over_api() -> int:
        gateway = Gateway.found(url)
        ids = _waiting(gateway, source) if every else _unreplayed(gateway, event_ids)
        return own.say_outcomes(_replayed(gateway, ids, mended, wait), len(ids))

    def directly(settings: Settings) -> Coroutine[Any, Any, int]:
        return own.replay_letters(settings, event_ids, every=every, source=source, body=mended, wait=wait)

    sys.exit(_either(over_api, directly, direct=direct))


@dlq.command("drop")
@click.argument("event_ids", nargs=-1)
@_every
@_source
@click.option("--yes", "sure", is_flag=True, help="do not ask")
@_direct
@at_url
def drop_letters(
    url: str,
    direct: bool,  # noqa: FBT001 - click passes options so
    event_ids: tuple[str, ...],
    every: bool,  # noqa: FBT001 - likewise
    source: str | None,
    sure: bool,  # noqa: FBT001 - likewise
) -> None:
    """Give dead letters up: they stay refused, and are no longer waiting."""
    _meant(event_ids, every=every, source=source)

    def over_api() -> int:
        gateway = Gateway.found(url)
        if every:
            ids = _waiting(gateway, source)
        else:
            states = {letter.event_id: letter.state for letter in _named(gateway, event_ids)}
            own.refuse_replayed(states, "there is nothing to drop")
            ids = [event_id for event_id, state in states.items() if state is LetterState.WAITING]
        if ids and not sure:
            own.confirm_drop(len(ids))
        chunks = (ids[start : start + own.AT_ONCE] for start in range(0, len(ids), own.AT_ONCE))
        dropped = sum(gateway.ask("POST", f"{PATH}/drop", body={"event_ids": few}).body["dropped"] for few in chunks)
        click.echo(f"{dropped} dropped")
        return 0

    def directly(settings: Settings) -> Coroutine[Any, Any, int]:
        return own.drop_letters(settings, event_ids, every=every, source=source, sure=sure)

    sys.exit(_either(over_api, directly, direct=direct))


def _meant(event_ids: tuple[str, ...], *, every: bool, source: str | None) -> None:
    if every == bool(event_ids):
        raise click.UsageError("name EVENT_IDs, or say --all; `incidents dlq list` lists them")
    if source is not None and not every:
        raise click.UsageError("--source belongs to --all")


def _either(over_api: Callable[[], int], directly: Direct, *, direct: bool) -> int:
    """Do it by the gateway, or by Postgres and Kafka where that is asked for or nobody answers."""
    if not direct:
        try:
            return over_api()
        except AwayError as error:
            if error.status:
                raise
            click.echo(f"{error.message} Asking Postgres and Kafka themselves.", err=True)
    from agents.__main__ import told  # noqa: PLC0415 - it imports this module's commands

    return told(directly)


def _pages(gateway: Gateway, *, source: str | None, state: str, limit: int) -> Iterator[Letter]:
    query: dict[str, str | int | list[str]] = {"limit": min(limit, _PAGE)}
    query |= {"source": source} if source is not None else {}
    query |= {"state": state} if state != "all" else {}
    while True:
        page = gateway.get(PATH, query)
        for item in page["items"][:limit]:
            yield _letter(item)
        limit -= len(page["items"])
        if not page.get("next") or limit <= 0:
            return
        query["cursor"] = page["next"]


def _named(gateway: Gateway, event_ids: Sequence[str], *, body: bool = False) -> list[Letter]:
    """All of these letters, in this order."""
    ids = list(dict.fromkeys(event_ids))
    found: dict[str, Letter] = {}
    for start in range(0, len(ids), own.AT_ONCE):
        few: dict[str, str | int | list[str]] = {
            "event_id": ids[start : start + own.AT_ONCE], "limit": own.AT_ONCE, "bodies": str(body).lower(),
        }  # fmt: skip
        found |= {item["event_id"]: _letter(item) for item in gateway.get(PATH, few)["items"]}
    own.refuse_unknown([event_id for event_id in ids if event_id not in found])
    return [found[event_id] for event_id in ids]


def _letter(item: dict[str, Any]) -> Letter:
    body = item.pop("body", None)
    return msgspec.convert({**item, "body": base64.b64decode(body or "")}, Letter, strict=False)


def _waiting(gateway: Gateway, source: str | None) -> list[str]:
    """Ids of all that wait, the oldest first."""
    return [one.event_id for one in _pages(gateway, source=source, state="waiting", limit=sys.maxsize)][::-1]


def _unreplayed(gateway: Gateway, event_ids: Sequence[str]) -> list[str]:
    states = {letter.event_id: letter.state for letter in _named(gateway, event_ids)}
    own.refuse_replayed(states, "a replay would change nothing")
    return list(states)


def _replayed(gateway: Gateway, ids: Sequence[str], body: bytes | None, wait: float) -> Iterator[tuple[str, str, str]]:
    """(word, event id, why) of each; what nobody has decided is asked again while there is time: that is harmless."""
    for start in range(0, len(ids), own.AT_ONCE):
        left, until = list(ids[start : start + own.AT_ONCE]), time.monotonic() + wait
        while left:
            patience = max(0.0, min(_ROUND, until - time.monotonic()))
            said: dict[str, Any] = {"event_ids": left, "wait": patience}
            said |= {"body": base64.b64encode(body).decode()} if body is not None else {}
            outcomes = gateway.ask("POST", f"{PATH}/replay", body=said).body
            again = [one["event_id"] for one in outcomes if one["outcome"] == "unconfirmed"]
            is_over = time.monotonic() >= until
            for one in outcomes:
                if is_over or one["event_id"] not in again:
                    yield one["outcome"], one["event_id"], printable(one["why"])
            left = [] if is_over else again
