"""Alertmanager's /api/v2/status and /api/v2/receivers, and its probes."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

import msgspec
from litestar import get
from litestar.datastructures import State

from web.alertmanager import Receiver
from web.database import Database
from web.picture import Painter

SPEAKS: Final = "0.28.1"
"""The version of Alertmanager whose API this is: dashboards choose by it how they ask."""
_STARTED: Final = datetime.now(UTC)
_OURS: Final = version("llm-incident-manager")


class Peer(msgspec.Struct, frozen=True):
    """Another member of a cluster."""

    name: str
    address: str


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Gossip does not exist here: Kafka's partitions are the cluster."""

    status: str = "disabled"
    peers: list[Peer] = []


class VersionInfo(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """`version` is Alertmanager's whose API this is; `revision` is ours."""

    version: str = SPEAKS
    revision: str = _OURS
    branch: str = "llm-incident-manager"
    build_user: str = ""
    build_date: str = ""
    go_version: str = ""


class ShownConfig(msgspec.Struct, frozen=True):
    """The rules file without our own part, its secrets masked."""

    original: str


class AlertmanagerStatus(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What amtool asks for before each of its commands."""

    cluster: ClusterStatus
    version_info: VersionInfo
    config: ShownConfig
    uptime: datetime


@get("/api/v2/status", summary="Version, rules file, start", tags=["alertmanager"])
async def status(state: State) -> AlertmanagerStatus:
    """`uptime` is when the gateway started."""
    painter: Painter = state.painter
    database: Database = state.database
    async with database.reading() as conn:
        config = await painter.config(conn)
    return AlertmanagerStatus(
        cluster=ClusterStatus(), version_info=VersionInfo(), config=ShownConfig(config.original), uptime=_STARTED
    )  # fmt: skip


@get("/api/v2/receivers", summary="Names of the receivers", tags=["alertmanager"])
async def receivers(state: State) -> list[Receiver]:
    """In the order of the rules file."""
    painter: Painter = state.painter
    database: Database = state.database
    async with database.reading() as conn:
        config = await painter.config(conn)
    return [Receiver(name) for name in config.receivers]


ROUTES = (status, receivers)
