"""The rules file on its way to the workers: checked, kept in Postgres, announced until applied."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import msgspec
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from sinks import config_rows, job_rows, template_check
from streams import codec
from streams.records import ConfigChanged
from streams.rules_config import ConfigError, load
from streams.rules_files import Disk, Files
from streams.settings import Settings, SettingsError
from streams.topics import topic_name

SWEEP_SECONDS: Final = 2.0
_AWAY: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, KafkaError)
_TAKEN: Final = "is the name of a job that was made over the API"
_REMEDY: Final = "rename one of them, or drop that one: incidents jobs delete {}"

if TYPE_CHECKING:
    Conn = asyncpg.Connection[asyncpg.Record]

log = structlog.get_logger(__name__)


class Rules(msgspec.Struct, frozen=True):
    """A rules file that was checked whole, and what is in the files that it names."""

    text: str
    files: Files


class RulesError(SettingsError):
    """Raised for a rules file that cannot be used; `found` has each complaint."""

    def __init__(self, message: str, found: tuple[ConfigError, ...] = ()) -> None:
        super().__init__(message)
        self.found = found


def read_rules(settings: Settings) -> Rules | None:
    """The rules file, checked whole with its templates; None when there is none.

    Raises:
        RulesError: the file cannot be read or used; the message names line, field and remedy.
    """
    if not settings.config:
        return None
    path = Path(settings.config)
    disk = Disk(path.parent)
    try:
        text = path.read_text(encoding="utf-8")
        template_check.check(load(text, files=disk))
    except ConfigError as error:
        more = f" (and {len(error.others)} more)" if error.others else ""
        raise RulesError(f"INCIDENTS_CONFIG={settings.config}: {error}{more}", error.all) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RulesError(f"INCIDENTS_CONFIG={settings.config}: {error}") from error
    return Rules(text, disk.files)


class RulesAwayError(Exception):
    """Raised when rules are good and Postgres is away."""


class Announcer:
    """Stores the rules file once, then tells partitions that have not applied the newest version."""

    def __init__(self, settings: Settings, rules: Rules | None) -> None:
        self._settings = settings
        self._rules = rules
        self._changed = asyncio.Event()
        self._storing = asyncio.Lock()  # what was read first must not be stored last

    async def adopt(self, rules: Rules) -> int:
        """Store these rules now; their version, which the next sweep announces.

        Raises:
            RulesAwayError: Postgres is away; nothing has changed.
            RulesError: they name a job that was made over the API.
        """
        try:
            conn = await self._connected()
            try:
                await self._refuse_names(conn, rules)
                version = await self._store(conn, rules, "reload")
            finally:
                await conn.close()
        except _AWAY as error:
            raise RulesAwayError(f"they cannot be stored now: {type(error).__name__}") from error
        self._changed.set()
        return version

    async def _refuse_names(self, conn: "Conn", rules: Rules) -> None:
        jobs = (await asyncio.to_thread(load, rules.text, files=rules.files)).ours.jobs
        taken = await job_rows.made_by_people(conn, [one.name for one in jobs])
        if taken:
            found = tuple(ConfigError(0, f"incidents.jobs.{name}", _TAKEN, _REMEDY.format(name)) for name in taken)
            raise RulesError(f"INCIDENTS_CONFIG={self._settings.config}: {found[0]}", found)

    async def run(self) -> None:
        """Sweep for ever; a dependency that is away is asked again later."""
        while True:
            try:
                await self.sweep()
            except _AWAY as error:
                log.debug("configuration_waits", reason=repr(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._changed.wait()
            self._changed.clear()

    async def sweep(self) -> int:
        """Announce to every partition that is behind; how many there were."""
        conn = await self._connected()
        try:
            await self._store(conn, None, "file")
            newest = await config_rows.newest_version(conn)
            behind = await config_rows.partitions_behind(conn, newest)
        finally:
            await conn.close()
        if behind:
            await self._announce(newest, behind)
        return len(behind)

    async def _store(self, conn: "Conn", rules: Rules | None, by: str) -> int:
        """Keep these rules, or else those of the start if they are not kept yet; their version, else 0."""
        async with self._storing:
            wanted = rules or self._rules
            if wanted is None:
                return 0
            version = await config_rows.store(conn, wanted.text, by, wanted.files)
            self._rules = None
            log.info("configuration_stored", version=version, by=by)
            return version

    async def _connected(self) -> "Conn":
        return await asyncpg.connect(self._settings.database_url, timeout=2, command_timeout=5)

    async def _announce(self, version: int, behind: Sequence[asyncpg.Record]) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._settings.kafka_url, acks="all", request_timeout_ms=5000)
        try:
            await producer.start()
            value = codec.encode(ConfigChanged(version=version, announced_at=datetime.now(UTC)))
            for row in behind:
                topic = topic_name(self._settings.app_prefix, row["topic"])
                await producer.send_and_wait(topic, value, key=b"config", partition=row["partition"])
        finally:
            await producer.stop()
        log.info("configuration_announced", version=version, partitions=len(behind))
