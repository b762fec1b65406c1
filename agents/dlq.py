"""`incidents dlq` without a gateway: refused events as Postgres has them, judged again over Kafka, or given up."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import asyncpg
import click
import msgspec

from agents.letter_text import body_text, line_of, table_of
from agents.replay import Replayer
from agents.terminal import plain_json, printable
from sinks import dead_letter_rows as rows
from sinks.dead_letter_rows import Letter, LetterState
from sinks.postgres import Connection
from streams import logs
from streams.producer import EventProducer
from streams.settings import Settings

AT_ONCE: Final = 100
_CONNECT_S: Final = 10.0


class UnknownLetterError(click.ClickException):
    """Raised for event ids that no dead letter has."""

    exit_code = 3


async def list_letters(settings: Settings, *, source: str | None, state: str, limit: int, as_json: bool) -> int:
    """Print the newest letters."""
    async with _connected(settings) as conn:
        wanted = None if state == "all" else LetterState(state)
        letters = await rows.newest(conn, source=source, state=wanted, limit=limit)
    say_list(letters, state=state, as_json=as_json)
    return 0


def say_list(letters: Sequence[Letter], *, state: str, as_json: bool) -> None:
    """Print letters, a line each."""
    if as_json:
        click.echo(plain_json(msgspec.json.encode([line_of(letter) for letter in letters])))
    elif letters:
        click.echo("\n".join(table_of(letters, narrow=sys.stdout.isatty())))
    else:
        click.echo("no dead letters" if state == "all" else f"no dead letters are {state}")


async def show_letter(settings: Settings, event_id: str, *, raw: bool) -> int:
    """Print one letter, or exactly its body."""
    async with _connected(settings) as conn:
        [letter] = await _named(conn, [event_id])
    say_letter(letter, raw=raw)
    return 0


def say_letter(letter: Letter, *, raw: bool) -> None:
    """Print one letter, or exactly its body."""
    if raw:
        click.get_binary_stream("stdout").write(letter.body)
        return
    for name, value in line_of(letter).items():
        click.echo(f"{name:12}  {printable(str(value))}")
    click.echo()
    click.echo(body_text(letter))


async def replay_letters(
    settings: Settings, event_ids: Sequence[str], *, every: bool, source: str | None, body: bytes | None, wait: float
) -> int:
    """Replay the named letters, or all that wait; 1 when one of them was not taken."""
    logs.configure(settings, "dlq")
    said = Told()
    async with _connected(settings) as conn:
        said.total, chunks = await _chosen(conn, event_ids, every=every, source=source)
        async with producing(settings) as producer:
            replayer = Replayer(settings, conn, producer, wait)
            async for letters in chunks:
                for outcome in await replayer.replay(letters, body):
                    said.add(outcome.word, outcome.event_id, outcome.why)
    return said.end()


class Told:
    """Prints what replays came to, one by one, and the sum of it."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self._counts: dict[str, int] = {}

    def add(self, word: str, event_id: str, why: str) -> None:
        """Print one."""
        self._counts[word] = self._counts.get(word, 0) + 1
        click.echo(f"{word:11}  {printable(event_id)}  {printable(why)}")
        done = sum(self._counts.values())
        if self.total > AT_ONCE and done % AT_ONCE == 0:
            click.echo(f"{done} of {self.total}", err=True)

    def end(self) -> int:
        """Print the sum; 1 when one of them was not taken."""
        click.echo(", ".join(f"{count} {word}" for word, count in self._counts.items()) or "nothing to replay")
        return 1 if self._counts.keys() & {"refused", "unconfirmed"} else 0


def say_outcomes(outcomes: Iterable[tuple[str, str, str]], total: int) -> int:
    """Print (word, event id, why) of each replay; 1 when one of them was not taken."""
    said = Told(total)
    for outcome in outcomes:
        said.add(*outcome)
    return said.end()


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
            refuse_replayed({letter.event_id: letter.state for letter in letters}, "there is nothing to drop")
            count = sum(letter.state is LetterState.WAITING for letter in letters)
        if count and not sure:
            confirm_drop(count)
        if every:
            dropped = await rows.drop_all(conn, source=source, until=until)
        else:
            dropped = await rows.drop(conn, event_ids)
    click.echo(f"{dropped} dropped")
    return 0


def confirm_drop(count: int) -> None:
    """Ask whether so many shall be given up.

    Raises:
        click.ClickException: they shall not, or nobody answered.
    """
    try:
        sure = click.confirm(f"Drop {count} dead letter{'s' * (count != 1)} for good?")
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
    refuse_replayed({letter.event_id: letter.state for letter in letters}, "a replay would change nothing")
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
    refuse_unknown([event_id for event_id in event_ids if event_id not in found])
    return list(found.values())


def refuse_unknown(missing: Sequence[str]) -> None:
    """Refuse ids that no letter has.

    Raises:
        UnknownLetterError: there are any.
    """
    if missing:
        shown = ", ".join(map(printable, missing))
        raise UnknownLetterError(f"no dead letter has the event id {shown}; `incidents dlq list --state all` has them")


def refuse_replayed(states: Mapping[str, LetterState], why: str) -> None:
    """Refuse letters that were replayed.

    Raises:
        click.ClickException: there are any.
    """
    replayed = [printable(event_id) for event_id, state in states.items() if state is LetterState.REPLAYED]
    if replayed:
        raise click.ClickException(f"replayed already: {', '.join(replayed)}; {why}")


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
