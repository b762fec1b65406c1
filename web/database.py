"""The gateway's connections to Postgres: for reading unless said, opened when needed, back after an outage."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import asyncpg
import msgspec

from streams.settings import Settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import Pool, PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]

_CONNECT_TIMEOUT: Final = 2.0
_AWAY: Final = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)
_UNREADY: Final = (
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
)
_UNKEPT: Final = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)
_encode = msgspec.json.Encoder().encode


class DatabaseAwayError(Exception):
    """Raised when Postgres cannot be asked now; asking again later is right."""


class UnkeptTextError(Exception):
    """Raised for a text that holds what Postgres cannot keep, such as NUL."""


class Database:
    """A small pool of connections that only read, outside of `writing`; `size` of them, or as many as is set."""

    def __init__(self, settings: Settings, size: int | None = None) -> None:
        self._settings = settings
        self._size = size or settings.database_pool
        self._pool: Pool[Record] | None = None

    async def open(self) -> None:
        """Make the pool; it connects with the first question, so Postgres may be away."""
        timeout = self._settings.statement_timeout
        self._pool = await asyncpg.create_pool(
            self._settings.database_url,
            min_size=0,
            max_size=self._size,
            timeout=_CONNECT_TIMEOUT,
            command_timeout=timeout / 1000 + 1,
            init=_with_json,
            server_settings={
                "application_name": f"incidents gateway {self._settings.worker_name}",
                "default_transaction_read_only": "on",
                "statement_timeout": str(timeout),
                "timezone": "UTC",
            },
        )

    async def close(self) -> None:
        """Give the connections back, by force if a question hangs."""
        if self._pool is None:
            return
        try:
            await asyncio.wait_for(self._pool.close(), 2)
        except TimeoutError:
            self._pool.terminate()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator["Conn"]:
        """A connection for a few questions.

        Raises:
            DatabaseAwayError: Postgres is away, full, or took too long.
            UnkeptTextError: a value given by the caller cannot stand in Postgres.
        """
        if self._pool is None:
            raise DatabaseAwayError("Postgres is not connected")
        try:
            async with self._pool.acquire(timeout=_CONNECT_TIMEOUT) as conn:
                yield conn
        except (TimeoutError, asyncpg.QueryCanceledError) as error:
            raise DatabaseAwayError("Postgres took too long to answer") from error
        except _AWAY as error:
            raise DatabaseAwayError(f"Postgres cannot be reached ({type(error).__name__})") from error
        except _UNKEPT as error:
            raise UnkeptTextError("a text holds a character that cannot be kept, such as NUL") from error
        except _UNREADY as error:
            raise DatabaseAwayError(f"Postgres is not set up for this version: {error}") from error

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator["Conn"]:
        """A connection inside a transaction that may write; what was written counts when the block ends well.

        Raises:
            DatabaseAwayError: Postgres is away, full, or took too long.
        """
        async with self.reading() as conn, conn.transaction():
            await conn.execute("SET TRANSACTION READ WRITE")
            yield conn


async def _with_json(conn: "Conn") -> None:
    await conn.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=lambda value: _encode(value).decode(), decoder=msgspec.json.decode
    )
