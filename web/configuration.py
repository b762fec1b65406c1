"""The rules file on its way to the workers: checked, kept in Postgres, announced until applied."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import asyncpg
import msgspec
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from sinks import config_rows
from streams import codec
from streams.records import ConfigChanged
from streams.rules_config import ConfigError, load
from streams.rules_files import Disk, Files
from streams.settings import Settings, SettingsError
from streams.topics import topic_name

SWEEP_SECONDS: Final = 2.0
_AWAY: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, KafkaError)

log = structlog.get_logger(__name__)


class Rules(msgspec.Struct, frozen=True):
    """A rules file that was checked whole, and what is in the files that it names."""

    text: str
    files: Files


def read_rules(settings: Settings) -> Rules | None:
    """The rules file, checked whole; None when there is none.

    Raises:
        SettingsError: the file cannot be read or used; the message names line, field and remedy.
    """
    if not settings.config:
        return None
    path = Path(settings.config)
    disk = Disk(path.parent)
    try:
        text = path.read_text(encoding="utf-8")
        load(text, files=disk)
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise SettingsError(f"INCIDENTS_CONFIG={settings.config}: {error}") from error
    return Rules(text, disk.files)


class Announcer:
    """Stores the rules file once, then tells partitions that have not applied the newest version."""

    def __init__(self, settings: Settings, rules: Rules | None) -> None:
        self._settings = settings
        self._rules = rules

    async def run(self) -> None:
        """Sweep for ever; a dependency that is away is asked again later."""
        while True:
            try:
                await self.sweep()
            except _AWAY as error:
                log.debug("configuration_waits", reason=repr(error))
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> int:
        """Announce to every partition that is behind; how many there were."""
        conn = await asyncpg.connect(self._settings.database_url, timeout=2, command_timeout=5)
        try:
            if self._rules is not None:
                version = await config_rows.store(conn, self._rules.text, "file", self._rules.files)
                log.info("configuration_stored", version=version)
                self._rules = None
            newest = await config_rows.newest(conn)
            if newest is None:
                return 0
            behind = await config_rows.partitions_behind(conn, newest.version)
        finally:
            await conn.close()
        if behind:
            await self._announce(newest.version, behind)
        return len(behind)

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
