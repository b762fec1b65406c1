"""From a claimed task to the channel that sends it: the integration is looked up in the rules that made the task."""

from collections.abc import Mapping
from typing import Final

import asyncpg
import msgspec
import structlog

from sinks import (
    config_rows,
    discord,
    incidentio,
    mattermost,
    opsgenie,
    pagerduty,
    pushover,
    rocketchat,
    slack,
    teams,
    telegram,
    victorops,
    webex,
    webhook,
)
from sinks.amqp import Amqp
from sinks.channel import Channel, NoTexts, Telling
from sinks.email import Email
from sinks.gotemplate.errors import TemplateError
from sinks.gotemplate.templates import Templates
from sinks.http import Http
from sinks.message import UnusableNoticeError, read_notice
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from sinks.task_rows import Claimed
from sinks.texts import NoticeTexts
from streams import rules_canary
from streams.rules_config import ConfigError, Integration, RulesConfig, load

_KEPT: Final = 32

_memory = msgspec.json.Decoder(dict[str, str])

log = structlog.get_logger(__name__)


def all_channels(http: Http, email: Email, amqp: Amqp) -> dict[str, Channel]:
    """Every channel by the name it has in the rules."""
    return {
        "webhook": webhook.over(http),
        "email": email.tell,
        "amqp": amqp.tell,
        "slack": slack.over(http),
        "pagerduty": pagerduty.over(http),
        "opsgenie": opsgenie.over(http),
        "victorops": victorops.over(http),
        "msteams": teams.connector_over(http),
        "msteamsv2": teams.workflow_over(http),
        "telegram": telegram.over(http),
        "pushover": pushover.over(http),
        "discord": discord.over(http),
        "webex": webex.over(http),
        "mattermost": mattermost.over(http),
        "rocketchat": rocketchat.over(http),
        "incidentio": incidentio.over(http),
    }


class Versions:
    """The rules files that tasks name, each read once."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._known: dict[int, Rules | ConfigError] = {}

    async def get(self, version: int) -> "Rules":
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
                del self._known[next(iter(self._known))]
        found = self._known[version] = self._known.pop(version)  # the one that was not asked for longest goes first
        if isinstance(found, ConfigError):
            raise found
        return found


class Rules(msgspec.Struct, frozen=True):
    """One rules file with its templates read."""

    config: RulesConfig
    templates: Templates

    def integration(self, receiver: str, index: int) -> Integration | None:
        """The integration of that index of a receiver or person, None where there is none."""
        found = self.config.told_as(receiver)
        return next((one for one in found.integrations if one.index == index), None) if found else None


class Channels:
    """Sends a claimed task through the channel of its integration."""

    def __init__(self, versions: Versions, channels: Mapping[str, Channel]) -> None:
        self._versions = versions
        self._channels = channels

    async def send(self, task: Claimed) -> Outcome:
        """Tell one integration, and say how that ended."""
        if task.channel == rules_canary.CHANNEL:
            return Sent("it is back")
        try:
            rules = await self._versions.get(task.config_version)
        except ConfigError as error:
            # A newer program may have stored it, and read it.
            return RetryLater(Reason.INTERNAL, f"rules version {task.config_version}: {error}")
        integration = rules.integration(task.receiver, task.integration)
        if integration is None:
            return Failed(
                Reason.UNKNOWN_RECEIVER, f"{task.receiver}/{task.integration} of version {task.config_version}"
            )
        channel = self._channels.get(integration.channel)
        if channel is None:
            return Failed(Reason.UNKNOWN_CHANNEL, integration.channel)
        try:
            telling = telling_of(task, integration, rules.templates)
        except (UnusableNoticeError, msgspec.MsgspecError) as error:
            return Failed(Reason.BAD_NOTICE, str(error))
        return await channel(telling)


def telling_of(task: Claimed, integration: Integration, templates: Templates) -> Telling:
    """What the channel is given.

    Raises:
        UnusableNoticeError: nothing can be said.
    """
    notice = read_notice(task.body, send_resolved=integration.send_resolved)
    return Telling(
        id=task.id,
        target=integration.target,
        options=integration.options,
        notice=notice,
        reason=task.reason,
        made_at=task.created_at,
        texts=NoticeTexts(templates, notice) if notice.digest is None else NoTexts(),
        memory=_memory.decode(task.memory) if task.memory else {},
    )


def _read(stored: config_rows.StoredConfig) -> Rules | ConfigError:
    try:
        return rules_of(load(stored.text, stored.version, stored.files))
    except ConfigError as error:
        log.error("rules_unreadable", version=stored.version, reason=str(error))  # noqa: TRY400 - no traceback needed
        return error


def rules_of(config: RulesConfig) -> Rules:
    """The rules with their templates; only Alertmanager's own where the files cannot be used by this program."""
    try:
        return Rules(config, Templates(config.templates))
    except TemplateError as error:
        log.error("templates_unusable", version=config.version, reason=str(error))  # noqa: TRY400 - no traceback needed
        return Rules(config, Templates({}))
