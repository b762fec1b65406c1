"""Creates the topics on the broker, and names the life of its log.

Topics are made before anything reads them: one that the broker makes by itself
has the broker's partition count, and keys would fall on the wrong partitions.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from streams.settings import PREFIX, Settings
from streams.tables import TABLES_OF
from streams.topics import TOPICS, Topic, topic_name

PIPELINE: Final = "pipeline"
_CHANGELOG_BYTES: Final = 1 << 20
_PATIENCE_S: Final = 60.0
_PAUSE_S: Final = 0.1


class TopicError(Exception):
    """Drawn for topics that cannot be used; the message names the topic and the remedy."""


class TopicMismatchError(TopicError):
    """Raised when a topic exists with another number of partitions."""


class BrokerError(TopicError):
    """Raised when the broker does not answer, refuses, or never shows a topic."""


def wanted_topics(settings: Settings) -> dict[str, NewTopic]:
    """Every topic of this installation, by its name on the broker.

    The changelogs are declared and stay empty: Faust needs them to route table
    keys and to keep partitions where they are.
    """
    tables = chain.from_iterable(TABLES_OF.values())
    changelogs = (Topic(f"{PIPELINE}-{table}-changelog", retention_bytes=_CHANGELOG_BYTES) for table in tables)
    names = {topic_name(settings.app_prefix, topic.name): topic for topic in (*TOPICS, *changelogs)}
    copies = settings.kafka_replication
    return {
        name: NewTopic(name, settings.partitions, copies, topic_configs=_configs(topic, copies))
        for name, topic in names.items()
    }


def mismatches(names: Iterable[str], partitions: int, present: Mapping[str, int]) -> list[str]:
    """One sentence for each topic of `names` that the broker has with another number of partitions."""
    return [
        f"topic {name} has {present[name]} partitions, not {partitions}"
        for name in sorted(names)
        if present.get(name, partitions) != partitions
    ]


async def ensure_topics(settings: Settings, progress: Callable[[str], None]) -> list[str]:
    """Create what is missing, wait until the broker shows all of it, return what was created.

    Raises:
        TopicMismatchError: a topic exists with another number of partitions.
        BrokerError: the broker cannot be reached or refuses.
    """
    wanted = wanted_topics(settings)
    async with admin_of(settings, progress) as admin:
        present = _totals(await _partitions(admin))
        _refuse_mismatches(settings, wanted, present)
        missing = [topic for name, topic in wanted.items() if name not in present]
        if missing:
            progress(f"creating {len(missing)} topics with {settings.partitions} partitions each")
            await _create(admin, missing)
        await _settled(admin, settings, wanted)
        return [str(topic.name) for topic in missing]


async def flaws(settings: Settings) -> str:
    """What keeps the topics from being used, with the remedy; empty where nothing does.

    Raises:
        BrokerError: the broker cannot be reached or refuses.
    """
    wanted = wanted_topics(settings)
    async with admin_of(settings) as admin:
        present = _totals(await _partitions(admin))
    if found := mismatches(wanted, settings.partitions, present):
        return f"{'; '.join(found)}: set {PREFIX}PARTITIONS to what is there"
    if missing := sorted(wanted.keys() - present.keys()):
        return f"not there: {', '.join(missing)}; incidents topics creates what is missing"
    return ""


async def log_id(settings: Settings) -> str:
    """The name of this life of the log: the cluster's id, and the generation where one is set.

    Raises:
        BrokerError: the broker cannot be reached or does not name its cluster.
    """
    async with admin_of(settings) as admin:
        cluster = (await admin.describe_cluster()).get("cluster_id")
    if not cluster:
        raise BrokerError(f"the broker at {settings.kafka_url} does not name its cluster")
    return f"{cluster}/{settings.log_generation}" if settings.log_generation else str(cluster)


async def log_bounds(settings: Settings, topics: Iterable[str]) -> dict[tuple[str, int], tuple[int, int]]:
    """(first, next) offset of each partition that the broker has of these topics."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_url, enable_auto_commit=False)
    await consumer.start()
    try:
        found: dict[tuple[str, int], tuple[int, int]] = {}
        cluster = await consumer._client.fetch_all_metadata()  # noqa: SLF001 - a consumer asks only for its own topics
        for topic in topics:
            name = topic_name(settings.app_prefix, topic)
            places = [TopicPartition(name, number) for number in cluster.partitions_for_topic(name) or ()]
            first, end = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
            found.update({(topic, place.partition): (first[place], end[place]) for place in places})
        return found
    finally:
        await consumer.stop()


def _configs(topic: Topic, replication: int) -> dict[str, str]:
    configs = {
        "cleanup.policy": "delete",
        "retention.ms": str(topic.retention_ms),
        "retention.bytes": str(topic.retention_bytes),
        "max.message.bytes": str(topic.max_message_bytes),
        "message.timestamp.type": "LogAppendTime",  # the broker's clock, which bounds what records say of time
    }
    if replication > 1:
        configs["min.insync.replicas"] = str(replication - 1)
    return configs


def _refuse_mismatches(settings: Settings, names: Iterable[str], present: Mapping[str, int]) -> None:
    found = mismatches(names, settings.partitions, present)
    if found:
        raise TopicMismatchError(
            f"{'; '.join(found)}. Keys would move, so partitions are never changed in place: "
            f"set {PREFIX}PARTITIONS to what is there, or begin anew under another {PREFIX}APP_PREFIX"
        )


@asynccontextmanager
async def admin_of(
    settings: Settings, progress: Callable[[str], None] = lambda _: None
) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client of the broker.

    Raises:
        BrokerError: the broker cannot be reached, or fails meanwhile.
    """
    admin = await _started(settings, progress)
    try:
        yield admin
    except KafkaError as error:
        raise BrokerError(f"the broker at {settings.kafka_url} failed: {error}") from error
    finally:
        await admin.close()


async def _started(settings: Settings, progress: Callable[[str], None]) -> AIOKafkaAdminClient:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE_S
    told = False
    while True:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_url)
        try:
            await admin.start()
        except KafkaConnectionError as error:
            await admin.close()
            if loop.time() > deadline:
                raise BrokerError(
                    f"no broker answers at {settings.kafka_url}: start it or set {PREFIX}KAFKA_URL"
                ) from error
            if not told:
                progress(f"waiting for Kafka at {settings.kafka_url}")
                told = True
            await asyncio.sleep(_PAUSE_S * 5)
        else:
            return admin


async def _partitions(admin: AIOKafkaAdminClient) -> dict[str, tuple[int, int]]:
    """How many partitions each topic has, and how many of them have a leader."""
    # All topics, not ours by name: some brokers create what is asked for.
    topics: list[dict[str, Any]] = await admin.describe_topics()
    return {
        topic["topic"]: (len(topic["partitions"]), sum(part["leader"] >= 0 for part in topic["partitions"]))
        for topic in topics
    }


def _totals(present: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    return {name: total for name, (total, _) in present.items() if total}


async def _create(admin: AIOKafkaAdminClient, missing: list[NewTopic]) -> None:
    response = await admin.create_topics(missing)
    for name, code, *rest in response.topic_errors:
        kind = for_code(code)
        if code != 0 and kind is not TopicAlreadyExistsError:
            detail = next(iter(rest), None) or kind.__name__
            raise BrokerError(f"the broker did not create topic {name}: {detail}")


async def _settled(admin: AIOKafkaAdminClient, settings: Settings, names: Iterable[str]) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE_S
    while True:
        present = await _partitions(admin)
        # Another process may have created a topic meanwhile, with its own count.
        _refuse_mismatches(settings, names, _totals(present))
        waiting = sorted(name for name in names if present.get(name, (0, 0))[1] != settings.partitions)
        if not waiting:
            return
        if loop.time() > deadline:
            raise BrokerError(
                f"the broker at {settings.kafka_url} does not show all partitions of {', '.join(waiting)}"
            )
        await asyncio.sleep(_PAUSE_S)
