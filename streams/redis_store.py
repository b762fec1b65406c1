"""The Faust table store `redis://`, by its mode.

`changelog`, for any app (`streams.redis_changelog`): Faust's changelog stays
the truth, and Redis saves replaying it. `step`, for an app whose agents commit
state and source offset themselves: a read-only view over the tables that a step
loads and flushes (`streams.redis_tables`). The address chooses: `?mode=step`.
"""

from collections.abc import Awaitable, Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from collections.abc import Set as AbstractSet
from typing import Any, Protocol, cast

import faust
from faust.exceptions import ImproperlyConfigured
from faust.stores.base import Store as FaustStore
from faust.types import TP
from yarl import URL

from streams.redis_changelog import ChangelogStore
from streams.redis_tables import TableSet


class StepApp(Protocol):
    """What the store needs of its app."""

    table_sets: Mapping[str, TableSet]
    load_partitions: Callable[[str, AbstractSet[int]], Awaitable[None]]


def open_store(url: str | URL, app: Any, table: Any, **options: Any) -> FaustStore[Any, Any]:  # noqa: ANN401 - Faust's signature
    """What Faust calls for an address of ours.

    Raises:
        ImproperlyConfigured: the address names no mode of this store.
    """
    mode = URL(url).query.get("mode", "changelog")
    if mode == "changelog":
        return ChangelogStore(url, app, table, **options)
    if mode == "step":
        return StepStore(url, app, table, **options)
    raise ImproperlyConfigured(f"store {URL(url).with_password(None)}: mode must be changelog or step, not {mode}")


class StepStore(FaustStore[str, bytes]):
    """One Faust table's window on its partitions' views."""

    @property
    def tables(self) -> TableSet:
        """The set that this table moves with."""
        return cast("StepApp", self.app).table_sets[self._name]

    @property
    def _name(self) -> str:
        return str(self.table_name)

    def persisted_offset(self, tp: TP) -> int | None:
        """None: there is nothing in the changelog to recover from."""
        return None

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """Positions are written by the step, with the state that they led to."""

    async def need_active_standby_for(self, tp: TP) -> bool:
        """Redis is the standby."""
        return False

    async def backup_partition(self, tp: Any, flush: bool = True, purge: bool = False, keep: int = 1) -> None:  # noqa: ANN401, FBT001, FBT002 - Faust's signature
        """Nothing to do: the rows in Postgres are the backup."""

    def restore_backup(self, tp: Any, latest: bool = True, backup_id: int = 0) -> None:  # noqa: ANN401, FBT001, FBT002 - Faust's signature
        """Nothing to do: an assignment loads from Redis, or rebuilds from Postgres."""

    def apply_changelog_batch(self, batch: Any, to_key: Any, to_value: Any) -> None:  # noqa: ANN401 - Faust's signature
        """A record in the changelog means that somebody else writes this topic.

        Raises:
            RuntimeError: the batch is not empty.
        """
        if list(batch):
            raise RuntimeError(f"{self._name}: the changelog topic must stay empty, the state lives in Redis")

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Drop the views of partitions that went away; no heartbeat runs here, so no loading."""
        kept = {tp.partition for tp in assigned}
        for partition in [p for p in self.tables.views if p not in kept]:
            self.tables.views.pop(partition, None)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Load what was assigned, once for all tables of the set, before the flow starts."""
        await cast("StepApp", self.app).load_partitions(self.tables.topic, {tp.partition for tp in active_tps})

    def __getitem__(self, key: str) -> bytes:
        for view in self.tables.views.values():
            value = view.tables[self._name].get(key)
            if value is not None:
                return value
        raise KeyError(key)

    def __setitem__(self, key: str, value: bytes) -> None:
        raise TypeError(f"{self._name} is written by its step only")

    def __delitem__(self, key: str) -> None:
        raise TypeError(f"{self._name} is written by its step only")

    def __iter__(self) -> Iterator[str]:
        for view in self.tables.views.values():
            yield from view.tables[self._name]

    def __len__(self) -> int:
        return sum(len(view.tables[self._name]) for view in self.tables.views.values())

    def __contains__(self, key: object) -> bool:
        return any(key in view.tables[self._name] for view in self.tables.views.values())

    # Faust's dictionary type asks an inner dictionary for these, and there is none.

    def keys(self) -> KeysView[str]:
        """Every key of the partitions owned here."""
        return KeysView(self)

    def values(self) -> ValuesView[bytes]:
        """Every value of the partitions owned here."""
        return ValuesView(self)

    def items(self) -> ItemsView[str, bytes]:
        """Every key with its value."""
        return ItemsView(self)

    def clear(self) -> None:
        """Forget the views; they are loaded again on the next assignment."""
        self.tables.views.clear()

    def reset_state(self) -> None:
        """Faust's `reset` command: the views go, Redis and Postgres stay."""
        self.clear()


class RedisTable(faust.Table[str, bytes]):
    """A table without changelog records and without Faust's write path."""

    def on_key_get(self, key: str) -> None:
        """No per-key sensor."""

    def on_key_set(self, key: str, value: bytes) -> None:
        """No changelog: the step wrote it."""

    def on_key_del(self, key: str) -> None:
        """No changelog: the step wrote it."""

    def partition_for_key(self, key: str) -> int | None:
        """Not known from the key alone."""
        return None
