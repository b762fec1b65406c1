"""From a claimed task to the channel that sends it: the integration is looked up in the rules that made the task."""

from collections.abc import Mapping
from typing import Final

import asyncpg
import msgspec
import structlog

from sinks import config_rows, webhook
from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.message import UnusableNoticeError, read_notice
from sinks.outcome import Failed, Outcome, Reason, RetryLater
from sinks.task_rows import Claimed
from streams.rules_config import BUILT_IN, ConfigError, Integration, RulesConfig, load

_KEPT: Final = 32

_memory = msgspec.json.Decoder(dict[str, str])

log = structlog.get_logger(__name__)


def all_channels(http: Http) -> dict[str, Channel]:
    """Every channel by the name it has in the rules."""
    return {
        "webhook": webhook.over(http),
    }


class Versions:
    """The rules files that tasks name, each read once."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._known: dict[int, RulesConfig | ConfigError] = {BUILT_IN.version: BUILT_IN}

    async def get(self, version: int) -> RulesConfig:
        """The rules of that version.

        Raises:
            ConfigError: there is no such version, or this program cannot read it.
        """
        if version not in self._known:
            async with self._pool.acquire(timeout=2) as conn:
                stored = await config_rows.by_version(conn, version)
            if stored is None:
                raise ConfigError(1, "version", f"{version} is not in the database", "restore it")
            self._known[version] = _read(stored)
            while len(self._known) > _KEPT:
                del self._known[min(self._known)]
        found = self._known[version]
        if isinstance(found, ConfigError):
            raise found
        return found


class Channels:
    """Sends a claimed task through the channel of its integration."""

    def __init__(self, versions: Versions, channels: Mapping[str, Channel]) -> None:
        self._versions = versions
        self._channels = channels

    async def send(self, task: Claimed) -> Outcome:
        """Tell one integration, and say how that ended."""
        try:
            integration = await self._integration(task)
        except ConfigError as error:
            # A newer program may have stored it, and read it.
            return RetryLater(Reason.INTERNAL, f"rules version {task.config_version}: {error}")
        if integration is None:
            return Failed(
                Reason.UNKNOWN_RECEIVER, f"{task.receiver}/{task.integration} of version {task.config_version}"
            )
        channel = self._channels.get(integration.channel)
        if channel is None:
            return Failed(Reason.UNKNOWN_CHANNEL, integration.channel)
        try:
            telling = telling_of(task, integration)
        except (UnusableNoticeError, msgspec.MsgspecError) as error:
            return Failed(Reason.BAD_NOTICE, str(error))
        return await channel(telling)

    async def _integration(self, task: Claimed) -> Integration | None:
        config = await self._versions.get(task.config_version)
        receiver = config.receivers.get(task.receiver)
        integrations = receiver.integrations if receiver is not None else ()
        return next((one for one in integrations if one.index == task.integration), None)


def telling_of(task: Claimed, integration: Integration) -> Telling:
    """What the channel is given.

    Raises:
        UnusableNoticeError: nothing can be said.
    """
    return Telling(
        id=task.id,
        target=integration.target,
        options=integration.options,
        notice=read_notice(task.body, send_resolved=integration.send_resolved),
        reason=task.reason,
        made_at=task.created_at,
        memory=_memory.decode(task.memory) if task.memory else {},
    )


def _read(stored: config_rows.StoredConfig) -> RulesConfig | ConfigError:
    try:
        return load(stored.text, stored.version, stored.files)
    except ConfigError as error:
        log.error("rules_unreadable", version=stored.version, reason=str(error))  # noqa: TRY400 - no traceback needed
        return error
