"""What `incidents dlq` does: shows refused events, has them judged again, or gives them up."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import asyncpg
import click
import msgspec

from agents.letter_text import body_text, line_of, table_of
from agents.replay import Replayer
from agents.terminal import printable
from sinks import dead_letter_rows as rows
from sinks.dead_letter_rows import Letter, LetterState
from sinks.postgres import Connection
from streams import logs
from streams.producer import EventProducer
from streams.settings import Settings

AT_ONCE: Final = 100
_CONNECT_S: Final = 10.0


class UnknownLetterError(click.ClickException):
    """Raised for event ids that cannot be meant."""

    exit_code = 2


async def list_letters(settings: Settings, *, source: str | None, state: str, limit: int, as_json: bool) -> int:
    """Print the newest letters."""
    async with _connected(settings) as conn:
        wanted = None if state == "all" else LetterState(state)
        letters = await rows.newest(conn, source=source, state=wanted, limit=limit)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([line_of(letter) for letter in letters])).decode())
    elif letters:
        click.echo("\n".join(table_of(letters, narrow=sys.stdout.isatty())))
    else:
        click.echo("no dead letters" if state == "all" else f"no dead letters are {state}")
    return 0


async def show_letter(settings: Settings, event_id: str, *, raw: bool) -> int:
    """Print one letter, or exactly its body."""
    async with _connected(settings) as conn:
        [letter] = await _named(conn, [event_id])
    if raw:
        click.get_binary_stream("stdout").write(letter.body)
        return 0
    for name, value in line_of(letter).items():
        click.echo(f"{name:12}  {printable(str(value))}")
    click.echo()
    click.echo(body_text(letter))
    return 0


async def replay_letters(
    settings: Settings, event_ids: Sequence[str], *, every: bool, source: str | None, body: bytes | None, wait: float
) -> int:
    """Replay the named letters, or all that wait; 1 when one of them was not taken."""
    logs.configure(settings, "dlq")
    counts: dict[str, int] = {}
    async with _connected(settings) as conn:
        total, chunks = await _chosen(conn, event_ids, every=every, source=source)
        async with producing(settings) as producer:
            replayer = Replayer(settings, conn, producer, wait)
            async for letters in chunks:
                for outcome in await replayer.replay(letters, body):
                    counts[outcome.word] = counts.get(outcome.word, 0) + 1
                    click.echo(f"{outcome.word:11}  {printable(outcome.event_id)}  {printable(outcome.why)}")
                if total > AT_ONCE:
                    click.echo(f"{sum(counts.values())} of {total}", err=True)
    click.echo(", ".join(f"{count} {word}" for word, count in counts.items()) or "nothing to replay")
    return 1 if counts.keys() & {"refused", "unconfirmed"} else 0


async def drop_letters(
    settings: Settings, event_ids: Sequence[str], *, every: bool, source: str | None, sure: bool
) -> int:
    """Give up the named letters, or all that wait."""
    until = datetime.now(UTC)
    async with _connected(settings) as conn:
        if every:
            count = await rows.count_waiting(conn, source=source, until=until)
        else:
            letters = await _named(conn, event_ids)
            _refuse_replayed(letters, "there is nothing to drop")
            count = sum(letter.state is LetterState.WAITING for letter in letters)
        if count and not sure:
            _confirm(f"Drop {count} dead letter{'s' * (count != 1)} for good?")
        if every:
            dropped = await rows.drop_all(conn, source=source, until=until)
        else:
            dropped = await rows.drop(conn, event_ids)
    click.echo(f"{dropped} dropped")
    return 0


def _confirm(question: str) -> None:
    try:
        sure = click.confirm(question)
    except click.Abort as error:
        raise click.ClickException("nobody answered, nothing was dropped: say --yes") from error
    if not sure:
        raise click.ClickException("nothing was dropped")


async def _chosen(
    conn: Connection, event_ids: Sequence[str], *, every: bool, source: str | None
) -> tuple[int, AsyncIterator[list[Letter]]]:
    """How many letters are meant, and the letters in chunks."""
    if every:
        until = datetime.now(UTC)
        return await rows.count_waiting(conn, source=source, until=until), _all_waiting(conn, source, until)
    letters = await _named(conn, event_ids)
    _refuse_replayed(letters, "a replay would change nothing")
    return len(letters), _in_chunks(letters)


async def _all_waiting(conn: Connection, source: str | None, until: datetime) -> AsyncIterator[list[Letter]]:
    last: Letter | None = None
    while letters := await rows.waiting(conn, source=source, until=until, after=last, limit=AT_ONCE):
        yield letters
        last = letters[-1]


async def _in_chunks(letters: list[Letter]) -> AsyncIterator[list[Letter]]:
    for start in range(0, len(letters), AT_ONCE):
        yield letters[start : start + AT_ONCE]


async def _named(conn: Connection, event_ids: Sequence[str]) -> list[Letter]:
    found = await rows.named(conn, list(dict.fromkeys(event_ids)))
    missing = [event_id for event_id in event_ids if event_id not in found]
    if missing:
        shown = ", ".join(map(printable, missing))
        raise UnknownLetterError(f"no dead letter has the event id {shown}; `incidents dlq list --state all` has them")
    return list(found.values())


def _refuse_replayed(letters: Sequence[Letter], why: str) -> None:
    replayed = [printable(letter.event_id) for letter in letters if letter.state is LetterState.REPLAYED]
    if replayed:
        raise UnknownLetterError(f"replayed already: {', '.join(replayed)}; {why}")


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[Connection]:
    conn = await asyncpg.connect(settings.database_url, timeout=5, command_timeout=30)
    try:
        yield conn
    finally:
        await conn.close()


@asynccontextmanager
async def producing(settings: Settings) -> AsyncIterator[EventProducer]:
    """A producer that is connected inside the block.

    Raises:
        click.ClickException: Kafka does not answer.
    """
    producer = EventProducer(settings)
    await producer.start()
    try:
        deadline = asyncio.get_running_loop().time() + _CONNECT_S
        while not producer.connected:
            if asyncio.get_running_loop().time() > deadline:
                raise click.ClickException(
                    f"Kafka at {settings.kafka_url} does not answer ({producer.detail}); nothing was replayed. "
                    f"Is INCIDENTS_KAFKA_URL right?"
                )
            await asyncio.sleep(0.05)
        yield producer
    finally:
        await producer.stop()
