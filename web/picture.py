"""What mutes now, as the gateway sees it: the newest rules file, the silences that are stored, the sources that fire.

The same rules decide here and in the workers. What is immutable until something
changes is kept between requests.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from agents.rules import inhibition, routing
from agents.rules.inhibition import Held, Inhibitors
from agents.rules.silence import Silences
from agents.rules.times import closed_by
from sinks import config_rows, rule_rows, silence_rows
from streams.rules_config import BUILT_IN, RulesConfig, load
from streams.rules_routes import Route

if TYPE_CHECKING:
    from web.database import Conn

SOURCE: Final = "source:"
_held = msgspec.msgpack.Decoder(Held)


class Standing(msgspec.Struct, frozen=True):
    """How an alert stands: what mutes it, and the routes that it takes."""

    silenced_by: tuple[str, ...]
    inhibited_by: tuple[str, ...]
    muted_by: tuple[str, ...]
    routes: tuple[Route, ...]
    everywhere: bool
    """Whether every one of its routes is closed by a time interval."""

    @property
    def suppressed(self) -> bool:
        """Whether nobody is told of it now."""
        return bool(self.silenced_by or self.inhibited_by or self.everywhere)


class Picture:
    """One moment's answer to what mutes whom."""

    def __init__(self, config: RulesConfig, silences: Silences, sources: Inhibitors, now: datetime) -> None:
        self.config = config
        self.now = now
        self.silences = silences
        self._sources = sources
        self._closed = {route.id: closed_by(config.time_intervals, route, now) for route in config.route.walk()}

    def of(self, labels: Mapping[str, str], team: str, key: str = "") -> Standing:
        """How an alert of a team with these labels stands; `key` names the label set, to be remembered by."""
        rules = self.config.inhibit_rules
        source = self._sources.muting(inhibition.targets_of(rules, labels)) if rules else ""
        routes = tuple(routing.routes_for(self.config.tree_for(labels), labels))
        closed = [self._closed[route.id] for route in routes]
        return Standing(
            self.silences.muting(labels, self.now, key, team),
            (source,) if source else (),
            tuple(sorted({name for names in closed for name in names})),
            routes,
            bool(closed) and all(closed),
        )

    def muted_by(self, route: Route) -> tuple[str, ...]:
        """The time intervals that close a route now."""
        return self._closed[route.id]


class Painter:
    """Makes pictures; one for the whole gateway."""

    def __init__(self) -> None:
        self._config = BUILT_IN
        self._sequence = -1
        self._silences = Silences()

    async def config(self, conn: "Conn") -> RulesConfig:
        """The newest rules file."""
        version = await config_rows.newest_version(conn)
        if version != self._config.version:
            stored = await config_rows.by_version(conn, version)
            self._config = load(stored.text, stored.version, stored.files) if stored is not None else BUILT_IN
        return self._config

    async def picture(self, conn: "Conn", now: datetime) -> Picture:
        """How it all stands now."""
        config = await self.config(conn)
        sequence = await silence_rows.last(conn)
        if sequence != self._sequence:
            self._silences = Silences(await silence_rows.live(conn, now))
            self._sequence = sequence
        sources = Inhibitors()
        if config.inhibit_rules:
            rows = await rule_rows.of_any_partition(conn, SOURCE)
            sources = Inhibitors(_held.decode(row["value"]) for row in rows)
        return Picture(config, self._silences, sources, now)
