"""The agent of `incident-inputs`: what the step needs of it. What it decides is in `incidents_work`."""

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from agents import refusals
from agents.incidents_work import IncidentsWork
from agents.unhandled import Unhandled
from agents.work import Batches, Partition, Poisoned
from sinks import action_rows, dead_letter_rows, incident_rows, rule_rows, task_rows
from sinks.incident_rows import TimelineRow
from sinks.postgres import Connection
from streams import codec, keys
from streams.records import ConfigChanged, InputBatch, InputsRecord
from streams.rules_config import Route, RulesConfig, UnreadableRulesError
from streams.settings import Settings
from streams.topics import INPUTS


class IncidentsLogic:
    """What the step needs of this agent."""

    topic = INPUTS

    def __init__(self, settings: Settings, log_id: str, configs: dict[int, RulesConfig], fetch: Any) -> None:  # noqa: ANN401 - an async callable
        self.settings = settings
        self.log_id = log_id
        self.configs = configs
        self.decode = codec.decode_inputs
        self.flap_window = settings.flaps_within
        self.unread: dict[int, UnreadableRulesError] = {}
        self._fetch = fetch

    async def prepare(self, records: Sequence[InputsRecord]) -> None:
        """Fetch the configuration versions that the records name; of what cannot be read the handling will fail."""
        named = {record.version for record in records if type(record) is ConfigChanged}
        for record in records:
            if type(record) is InputBatch:
                named.update(item.config_version for item in record.items)
        for version in sorted(named - self.configs.keys()):
            try:
                await self._fetch(version)
            except UnreadableRulesError as error:
                self.unread[version] = error

    def size(self, record: InputsRecord) -> int:
        """Items in a record."""
        return len(record.items) if type(record) is InputBatch else 0

    def undecodable(self, data: bytes, offset: int, partition: int, reason: str) -> Unhandled:
        """Bytes that are no record go to the dead letters."""
        name = str(keys.derived_id("undecodable", INPUTS, self.log_id, partition, offset))
        return Unhandled(name, "record", reason.replace("\x00", "\ufffd"), data[:65536])

    def begin(self, partition: Partition, *, poisoned: Poisoned, replaying: bool) -> "IncidentsWork":
        """Start one partition's part of a step."""
        return IncidentsWork(self, partition, poisoned, replaying=replaying)  # type: ignore[arg-type]

    def at_once(self, works: Sequence["IncidentsWork"]) -> tuple[str, list[list[object]]] | None:
        """The statement and rows of a step that sends nothing and ends no group; None for any other."""
        incidents = [row for work in works for row in work.held.incident_rows()]
        if len({row.group_key for row in incidents}) < len(incidents):
            return None
        if any(work.notices or work.heard or work.held.gone or work.refused or work.rule_rows() for work in works):
            return None
        if any(work.actions.rows for work in works):
            return None
        return incident_rows.AT_ONCE, incident_rows.arguments(
            incidents,
            [row for work in works for row in work.held.group_rows()],
            [row for work in works for row in work.story.timeline],
            [row for work in works for row in work.story.decisions],
            [row for work in works for row in work.held.links()],
        )

    async def refused(self, conn: Connection, batches: Batches, since: datetime) -> Mapping[int, Poisoned]:
        """The parts of replayed records that the first run could not handle."""
        return await refusals.of_records(conn, INPUTS, self.log_id, batches, since)

    async def write(self, conn: Connection, works: Sequence["IncidentsWork"]) -> None:
        """Write incidents, groups, tasks and their story; links last."""
        incidents = [row for work in works for row in work.held.incident_rows()]
        notices = [notice for work in works for notice in work.notices]
        if notices or len({row.group_key for row in incidents}) < len(incidents):
            # Tasks refer to their incident, and of two incidents of a group the first must end first.
            await incident_rows.upsert(conn, incidents)
            incidents = []
        if notices:
            await task_rows.insert(conn, notices, [task for work in works for task in work.tasks])
        heard = [uuid.UUID(task) for work in works for task in work.heard]
        if heard:
            await task_rows.mark_told(conn, heard)
        await dead_letter_rows.keep(conn, [row for work in works for row in work.dead_rows()])
        await rule_rows.write(conn, [row for work in works for row in work.rule_rows()])
        new = await action_rows.write(conn, [row for work in works for row in work.actions.rows])
        late = await action_rows.at_the_end(conn, list(_of_new(works, new)))
        await incident_rows.forget_groups(conn, [key for work in works for key in work.held.gone])
        await incident_rows.write(
            conn,
            incidents,
            [row for work in works for row in work.held.group_rows()],
            [*(row for work in works for row in work.story.timeline), *late],
            [row for work in works for row in work.story.decisions],
            [row for work in works for row in work.held.links()],
        )
        await action_rows.redact(conn, [one for work in works for one in work.actions.redactions])

    def route_of(self, route_id: str, version: int, found_in: int) -> Route:
        """The route of a group by the rules in force; where they have it no more, or not yet, by those that had it."""
        route = self.configs[version].route_by_id(route_id) or self.rules(found_in).route_by_id(route_id)
        return route if route is not None else self.configs[version].route

    def rules(self, version: int) -> RulesConfig:
        """One version of the rules.

        Raises:
            UnreadableRulesError: it could not be had.
        """
        if version not in self.configs:
            raise self.unread.get(version, UnreadableRulesError(version))
        return self.configs[version]


def _of_new(works: Sequence["IncidentsWork"], new: Collection[str]) -> Iterator[TimelineRow]:
    """Comments on incidents whose group holds nothing of them any more: only the row of the action knows a repeat."""
    for work in works:
        yield from (row for action_id, row in work.actions.late if action_id in new)
