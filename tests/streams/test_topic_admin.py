"""Topics are created once with what was asked for, and a wrong partition count is refused."""

import asyncio
import dataclasses

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams import topic_admin
from streams.settings import Settings
from streams.topic_admin import (
    BrokerError,
    TopicMismatchError,
    ensure_topics,
    flaws,
    log_id,
    mismatches,
    wanted_topics,
)
from tests.conftest import Broker


@pytest.fixture
def at_broker(settings: Settings, kafka: Broker) -> Settings:
    return dataclasses.replace(settings, kafka_url=kafka.url, log_generation=kafka.generation)


def silent(_: str) -> None:
    pass


@pytest.mark.parametrize(
    ("present", "found"),
    [
        ({}, []),
        ({"a": 4, "b": 4}, []),
        ({"a": 4, "other": 9}, []),
        ({"a": 5, "b": 1}, ["topic a has 5 partitions, not 4", "topic b has 1 partitions, not 4"]),
    ],
)
def test_mismatches_are_named(present: dict[str, int], found: list[str]) -> None:
    assert mismatches(["b", "a"], 4, present) == found


def test_every_name_has_the_prefix_of_the_installation() -> None:
    plain = set(wanted_topics(Settings()))
    assert {"alerts", "incident-inputs", "pipeline-alerts-changelog", "pipeline-rules-changelog"} <= plain
    assert set(wanted_topics(Settings(app_prefix="p"))) == {f"p-{name}" for name in plain}


@pytest.mark.parametrize(("copies", "in_sync"), [(1, None), (2, "1"), (3, "2")])
def test_with_copies_a_write_needs_all_but_one_of_them(copies: int, in_sync: str | None) -> None:
    topic = wanted_topics(Settings(kafka_replication=copies))["alerts"]
    assert topic.topic_configs.get("min.insync.replicas") == in_sync


async def test_topics_are_created_once_and_can_be_written_at_once(at_broker: Settings) -> None:
    wanted = set(wanted_topics(at_broker))
    assert set(await ensure_topics(at_broker, silent)) == wanted
    assert await ensure_topics(at_broker, silent) == []
    producer = AIOKafkaProducer(bootstrap_servers=at_broker.kafka_url, max_request_size=2 << 20)
    await producer.start()
    try:
        for partition in range(at_broker.partitions):
            name = f"{at_broker.app_prefix}-alerts"
            sent = await producer.send_and_wait(name, b"x" * (1 << 20), partition=partition)
            assert (sent.partition, sent.offset) == (partition, 0)
    finally:
        await producer.stop()


async def test_many_at_once_agree(at_broker: Settings) -> None:
    created = await asyncio.gather(*(ensure_topics(at_broker, silent) for _ in range(3)))
    assert set().union(*created) == set(wanted_topics(at_broker))


async def test_another_partition_count_is_refused_with_the_remedy(at_broker: Settings) -> None:
    await ensure_topics(at_broker, silent)
    other = dataclasses.replace(at_broker, partitions=at_broker.partitions + 2)
    with pytest.raises(
        TopicMismatchError, match=r"has 4 partitions, not 6.*INCIDENTS_PARTITIONS.*INCIDENTS_APP_PREFIX"
    ):
        await ensure_topics(other, silent)


async def test_what_keeps_topics_from_being_used_is_told_with_the_remedy(at_broker: Settings) -> None:
    said = await flaws(at_broker)
    assert said.startswith("not there: ")
    assert f"{at_broker.app_prefix}-alerts" in said
    assert "incidents topics creates" in said
    await ensure_topics(at_broker, silent)
    assert await flaws(at_broker) == ""
    said = await flaws(dataclasses.replace(at_broker, partitions=at_broker.partitions + 2))
    assert "has 4 partitions, not 6" in said
    assert "INCIDENTS_PARTITIONS" in said


async def test_the_broker_keeps_the_limits_that_were_asked_for(settings: Settings, apache_kafka: Broker) -> None:
    at_apache = dataclasses.replace(settings, kafka_url=apache_kafka.url)
    await ensure_topics(at_apache, silent)
    admin = AIOKafkaAdminClient(bootstrap_servers=at_apache.kafka_url)
    await admin.start()
    try:
        name = f"{at_apache.app_prefix}-alerts"
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    finally:
        await admin.close()
    configs = {entry[0]: entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}
    assert configs["max.message.bytes"] == str(2 << 20)
    assert configs["retention.ms"] == str(24 * 3_600_000)


async def test_the_log_is_named_by_cluster_and_generation(at_broker: Settings) -> None:
    plain = await log_id(dataclasses.replace(at_broker, log_generation=""))
    assert plain
    assert await log_id(dataclasses.replace(at_broker, log_generation="7")) == f"{plain}/7"


async def test_without_a_broker_the_remedy_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_admin, "_PATIENCE_S", 0.0)
    nowhere = dataclasses.replace(settings, kafka_url="127.0.0.1:1")
    with pytest.raises(BrokerError, match=r"no broker answers at 127\.0\.0\.1:1.*INCIDENTS_KAFKA_URL"):
        await ensure_topics(nowhere, silent)
