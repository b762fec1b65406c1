"""Builds the Faust app of a role; the settings that matter are here with their reasons."""

from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from streams.redis_store import RedisTable
from streams.redis_tables import TableSet
from streams.settings import Settings
from streams.tables import TABLES_OF
from streams.topics import topic_name
from streams.transport import PositionedApp


class PipelineApp(PositionedApp):
    """The worker's app: its tables live in table sets that a loader fills on assignment."""

    table_sets: dict[str, TableSet]
    load_partitions: Callable[[str, AbstractSet[int]], Awaitable[None]]


def options(settings: Settings) -> dict[str, Any]:
    """What every Faust app of this system sets."""
    return {
        "broker": f"kafka://{settings.kafka_url}",
        "fetch_wait_ms": settings.kafka_fetch_wait,
        "datadir": f"{settings.data_dir}/faust-{settings.worker_name}",
        "broker_commit_interval": 0.5,
        "broker_commit_every": 1_000_000_000,  # 0 would commit for every message
        "broker_session_timeout": settings.session_timeout,
        "broker_heartbeat_interval": settings.session_timeout / 4,
        "broker_rebalance_timeout": settings.session_timeout + 2,
        "broker_request_timeout": 90,  # a recovery step longer than this ends Faust's recovery for good
        "broker_max_poll_records": 100,  # a fetch must fit between 80 % of the buffer, where fetching stops, and all
        "consumer_auto_offset_reset": "earliest",
        "stream_buffer_maxsize": 512,  # records of up to 512 KiB each
        "stream_wait_empty": True,
        "cython_optimizations": True,
        "agent_supervisor": "mode.CrashingSupervisor",
        "table_standby_replicas": 0,
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "web_enabled": False,
        "worker_redirect_stdouts": False,
        "producer_acks": -1,
        "producer_request_timeout": 30,
        "reply_create_topic": False,
    }


def build_pipeline(settings: Settings, table_sets: Mapping[str, TableSet]) -> PipelineApp:
    """The worker's app with every table declared; `table_sets` is by input topic."""
    app = PipelineApp(
        app_id(settings, "pipeline"),
        **options(settings),
        store="redis://?mode=step",
        Table=RedisTable,
        TableManager="streams.transport:PositionedTables",
        recovery_consistency_check=False,
    )
    app.table_sets = {table: table_sets[topic] for topic, tables in TABLES_OF.items() for table in tables}
    for topic, tables in TABLES_OF.items():
        for table in tables:
            app.Table(
                table,
                partitions=settings.partitions,
                key_type=str,
                value_type=bytes,
                changelog_topic=app.topic(
                    f"{app_id(settings, 'pipeline')}-{table}-changelog", partitions=settings.partitions, internal=True
                ),
                help=f"owned by the agent that reads {topic_name(settings.app_prefix, topic)}",
            )
    return app


def app_id(settings: Settings, role: str) -> str:
    """The consumer group of a role, kept apart by the installation's prefix."""
    return topic_name(settings.app_prefix, role)
