"""The Faust store `redis://`: found by its name, a read-only view of what a step loaded."""

from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from importlib.metadata import entry_points
from typing import Any

import faust
import pytest
from faust.stores import by_url
from faust.types import TP
from redis.asyncio import Redis

from streams.app import PipelineApp, build_pipeline
from streams.redis_changelog import ChangelogStore
from streams.redis_store import RedisTable, StepStore, open_store
from streams.redis_tables import Mark, TableSet, View
from streams.settings import Settings
from streams.tables import TABLES_OF
from streams.topics import ALERTS

NAMES = TABLES_OF[ALERTS]
START = datetime.fromtimestamp(0, UTC)


def view(number: int, alerts: dict[str, bytes]) -> View:
    return View(number, Mark(1, "log", 5, 0, START), {**{name: {} for name in NAMES}, "alerts": alerts})


@pytest.fixture
def app(settings: Settings) -> PipelineApp:
    redis = Redis()
    made = build_pipeline(settings, {topic: TableSet(redis, "app", topic, names) for topic, names in TABLES_OF.items()})
    views = made.table_sets["alerts"].views
    views[0] = view(0, {"a": b"1", "b": b"2"})
    views[3] = view(3, {"c": b"3"})
    return made


@pytest.fixture
def table(app: PipelineApp) -> RedisTable:
    made: Any = app.tables["alerts"]
    return made  # type: ignore[no-any-return]


@pytest.fixture
def store(table: RedisTable) -> StepStore:
    made: Any = table.data
    return made  # type: ignore[no-any-return]


def test_faust_finds_the_store_by_its_url() -> None:
    [found] = [point for point in entry_points(group="faust.stores") if point.name == "redis"]
    assert found.load() is open_store
    assert by_url("redis://127.0.0.1:6379/0") is open_store


def test_every_table_of_the_pipeline_has_the_store(app: PipelineApp) -> None:
    assert {name: type(table.data) for name, table in app.tables.items()} == {
        name: StepStore for names in TABLES_OF.values() for name in names
    }


def test_a_table_reads_over_the_views_of_all_partitions(table: RedisTable) -> None:
    assert dict(table.items()) == {"a": b"1", "b": b"2", "c": b"3"}
    assert (len(table), table["c"], table.get("missing")) == (3, b"3", None)
    assert ("b" in table, "missing" in table) == (True, False)
    with pytest.raises(KeyError):
        table["missing"]


def test_tables_of_one_set_do_not_mix(app: PipelineApp) -> None:
    others: list[Any] = [app.tables["pulses"], app.tables["groups"]]
    assert [len(other) for other in others] == [0, 0]


def test_nothing_is_written_past_the_step(store: StepStore) -> None:
    with pytest.raises(TypeError, match="alerts"):
        store["a"] = b"other"
    with pytest.raises(TypeError, match="alerts"):
        del store["a"]
    assert store["a"] == b"1"


def test_a_record_in_the_changelog_is_refused(store: StepStore) -> None:
    store.apply_changelog_batch([], None, None)
    with pytest.raises(RuntimeError, match="must stay empty"):
        store.apply_changelog_batch([object()], None, None)


async def test_nothing_is_recovered_from_the_changelog(store: StepStore) -> None:
    tp = TP("alerts-changelog", 0)
    store.set_persisted_offset(tp, 5)
    assert store.persisted_offset(tp) is None
    assert not await store.need_active_standby_for(tp)


async def test_a_rebalance_drops_the_views_that_went_away(app: PipelineApp, store: StepStore) -> None:
    gone, kept = TP("changelog", 0), TP("changelog", 3)
    await store.on_rebalance({kept}, {gone}, set())
    assert list(app.table_sets["alerts"].views) == [3]
    assert dict(store.items()) == {"c": b"3"}


async def test_what_was_assigned_is_loaded_once_recovery_is_over(app: PipelineApp, store: StepStore) -> None:
    asked: list[tuple[str, AbstractSet[int]]] = []

    async def load(topic: str, partitions: AbstractSet[int]) -> None:
        asked.append((topic, partitions))

    app.load_partitions = load
    await store.on_recovery_completed({TP("changelog", 1), TP("changelog", 2)}, set())
    assert asked == [(ALERTS, {1, 2})]


def test_a_reset_forgets_the_views_only(app: PipelineApp, store: StepStore) -> None:
    store.reset_state()
    assert app.table_sets["alerts"].views == {}
    assert len(store) == 0


def test_anothers_app_may_name_the_store(settings: Settings) -> None:
    other: Any = faust.App("other", store="redis://", broker="kafka://127.0.0.1:1", datadir=settings.data_dir)
    assert isinstance(other.Table("t", partitions=1).data, ChangelogStore)
