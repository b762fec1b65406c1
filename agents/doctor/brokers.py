"""Kafka and RabbitMQ as the doctor sees them: topics, policies and positions; exchanges and queues."""

from collections.abc import Mapping
from typing import Any, Final

import aio_pika
import msgspec
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from agents.backup import Standing, advice, standing
from agents.doctor.findings import Finding, Level, fail, judged, warn, well
from streams.amqp import QUORUM, Topology
from streams.settings import PREFIX, Settings
from streams.topic_admin import admin_of, wanted_topics

KAFKA: Final = "Kafka"
RABBITMQ: Final = "RabbitMQ"
_ENOUGH_COPIES: Final = 3
_TOPICS: Final = "run `incidents topics`"


class TopicFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One topic on the broker. `leaderless` and `thin` count partitions without a leader, or with a copy missing."""

    partitions: int
    copies: int
    leaderless: int = 0
    thin: int = 0
    configs: Mapping[str, str] = {}


async def look_at_kafka(settings: Settings) -> list[Finding]:
    """Topics and their policies; then whether the log still has what Postgres does not."""
    wanted = wanted_topics(settings)
    async with admin_of(settings) as admin:
        described: list[dict[str, Any]] = await admin.describe_topics()
        present = {one["topic"]: one for one in described if one["topic"] in wanted}
        try:
            configs = _configs(await admin.describe_configs([
                ConfigResource(ConfigResourceType.TOPIC, name) for name in sorted(present)
            ]))  # fmt: skip
        except (KafkaError, IndexError, TypeError, ValueError):
            configs = {}  # some brokers do not tell
    facts = {name: _facts(one, configs.get(name, {})) for name, one in present.items()}
    limits = {name: dict(topic.topic_configs or {}) for name, topic in wanted.items()}
    return [*judge_topics(facts, limits, settings), *judge_log(await standing(settings))]


def _facts(one: Mapping[str, Any], configs: Mapping[str, str]) -> TopicFacts:
    parts = one["partitions"]
    return TopicFacts(
        partitions=len(parts),
        copies=min((len(part["replicas"]) for part in parts), default=0),
        leaderless=sum(part["leader"] < 0 for part in parts),
        thin=sum(len(part["isr"]) < len(part["replicas"]) for part in parts),
        configs=configs,
    )


def _configs(responses: list[Any]) -> dict[str, dict[str, str]]:
    resources = [resource for response in responses for resource in response.resources]
    return {
        resource[3]: {entry[0]: str(entry[1]) for entry in resource[4]} for resource in resources if resource[0] == 0
    }


def judge_topics(
    facts: Mapping[str, TopicFacts], limits: Mapping[str, Mapping[str, str]], settings: Settings
) -> list[Finding]:
    """Whether every topic is there and keeps what it must; `limits` are the configs that we make topics with."""
    if missing := sorted(limits.keys() - facts.keys()):
        return [fail(KAFKA, f"topics are missing: {', '.join(missing)}", _TOPICS)]
    found = [well(KAFKA, f"all {len(facts)} topics are there")]
    for name, topic in sorted(facts.items()):
        found += _of_topic(name, topic, limits[name], settings)
    copies = min(topic.copies for topic in facts.values())
    found.append(
        judged(KAFKA, f"{copies} {'copy' if copies == 1 else 'copies'} of each partition",
               f"with {_ENOUGH_COPIES} brokers, set {PREFIX}KAFKA_REPLICATION={_ENOUGH_COPIES} before the first start",
               ok=copies >= _ENOUGH_COPIES, otherwise=Level.WARN)
    )  # fmt: skip
    if not all(topic.configs for topic in facts.values()):
        found.append(warn(KAFKA, "the broker does not tell its topics' policies", "look at them with its own tools"))
    return found


def _of_topic(name: str, topic: TopicFacts, limits: Mapping[str, str], settings: Settings) -> list[Finding]:
    found = []
    if topic.partitions != settings.partitions:
        said = f"{name} has {topic.partitions} partitions, not {settings.partitions}"
        found.append(fail(KAFKA, said, f"set {PREFIX}PARTITIONS={topic.partitions}: they are never changed in place"))
    if topic.leaderless:
        found.append(fail(KAFKA, f"{name}: {topic.leaderless} partitions have no leader", "start the missing brokers"))
    elif topic.thin:
        found.append(warn(KAFKA, f"{name}: {topic.thin} partitions lack a copy", "start the missing brokers"))
    configs = topic.configs
    found += [
        fail(KAFKA, f"{name}: {key} is {configs[key]}", f"set it to {limits[key]} or more")
        for key in ("retention.ms", "retention.bytes", "max.message.bytes")
        if key in configs and not _at_least(configs[key], limits.get(key, "0"))
    ]
    if "delete" not in configs.get("cleanup.policy", "delete"):
        found.append(fail(KAFKA, f"{name} is compacted", "set cleanup.policy=delete: every record counts"))
    if configs.get("unclean.leader.election.enable") == "true":
        found.append(fail(KAFKA, f"{name} may lose confirmed records", "set unclean.leader.election.enable=false"))
    if topic.copies > 1 and int(configs.get("min.insync.replicas", "2")) < 2:  # noqa: PLR2004 - a second copy
        found.append(fail(KAFKA, f"{name} confirms with one copy", "set min.insync.replicas=2"))
    return found


def _at_least(value: str, limit: str) -> bool:
    return int(value) < 0 or int(value) >= int(limit)  # -1 is without a bound


def judge_log(standings: list[Standing]) -> list[Finding]:
    """Whether Kafka has what comes after the positions in Postgres."""
    lines = list(advice(standings))
    if not standings:
        return [warn(KAFKA, "nothing of this log has been decided yet", "a first start has none; else " + lines[-1])]
    if any(one.lost for one in standings):
        return [fail(KAFKA, "; ".join(lines[:-1]), lines[-1])]
    behind = sum(one.behind for one in standings)
    return [well(KAFKA, f"the log has what comes next; {behind:,} records wait")]


async def look_at_rabbitmq(settings: Settings) -> list[Finding]:
    """Connect and look at the queues without changing any; one that is missing is made by the bridge."""
    if not settings.amqp_url:
        said = "no RabbitMQ: alerts come over HTTP only, and nothing stands in for Kafka"
        return [warn(RABBITMQ, said, f"set {PREFIX}AMQP_URL")]
    names = Topology.of(settings)
    connection = await aio_pika.connect(settings.amqp_url, timeout=5)
    try:
        found = [await _of_exchange(connection, name) for name in (names.exchange, names.dead)]
        found += await _of_queue(connection, names.queue, reader="the bridge", settings=settings)
        found += await _of_queue(connection, names.dead, reader="", settings=settings)
    finally:
        await connection.close()
    return found


async def _of_exchange(connection: Any, name: str) -> Finding:  # noqa: ANN401 - aio-pika's connections share no type
    channel = await connection.channel()
    try:
        await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True, passive=True)
    except ChannelNotFoundEntity:
        return fail(RABBITMQ, f"the exchange {name} is missing", "start the bridge, which makes it")
    await channel.close()
    return well(RABBITMQ, f"the exchange {name} is there")


async def _of_queue(connection: Any, name: str, *, reader: str, settings: Settings) -> list[Finding]:  # noqa: ANN401 - likewise
    channel = await connection.channel()
    try:
        declared = (await channel.declare_queue(name, durable=True, passive=True)).declaration_result
    except ChannelNotFoundEntity:
        return [fail(RABBITMQ, f"the queue {name} is missing", "start the bridge, which makes it")]
    waiting, readers = declared.message_count or 0, declared.consumer_count or 0
    try:
        await channel.declare_queue(name, durable=True, arguments=QUORUM)
        found = [well(RABBITMQ, f"{name} is a durable quorum queue")]
        await channel.close()
    except ChannelPreconditionFailed as error:
        remedy = f"drain and delete it, or name another in {PREFIX}AMQP_QUEUE; the bridge makes it"
        found = [fail(RABBITMQ, f"{name} was declared otherwise: {error}", remedy)]
    if reader:
        said = f"{waiting:,} messages wait in {name}, read by {readers}"
        found.append(judged(RABBITMQ, said, f"start {reader}", ok=readers > 0))
        bound = max(10_000, 10 * settings.amqp_prefetch)
        if waiting > bound:
            found.append(warn(RABBITMQ, f"over {bound:,} messages wait", f"start more of {reader}"))
    elif waiting:
        remedy = "`incidents dlq list` says why; a copy of each is there, so purge the queue once it is read"
        found.append(warn(RABBITMQ, f"{waiting:,} refused messages wait in {name}", remedy))
    return found
