"""Decides which services run embedded, and makes them: those whose URL the operator did not give."""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embedded.account import server_account
from embedded.console import Say, Tone
from embedded.debian import HOW_TO_GET, can_install, install_rabbitmq
from embedded.errors import EmbeddedError
from embedded.jars import kafka_jars
from embedded.kafka import Kafka
from embedded.postgres import Postgres
from embedded.rabbitmq import RabbitMQ, find_server
from embedded.redis import Redis
from embedded.roles import PREFIX
from embedded.tansu import Tansu
from embedded.together import together
from embedded.unit import Server


@dataclass
class Services:
    """What runs embedded; None stands for a service that was given, or that cannot be had (RabbitMQ)."""

    environ: Mapping[str, str]  # with the URLs that were given
    postgres: Postgres | None = None
    redis: Redis | None = None
    kafka: Kafka | Tansu | None = None
    rabbitmq: RabbitMQ | None = None
    notes: list[str] = field(default_factory=list)

    def running(self) -> list[Server]:
        """All that were started."""
        found = (self.postgres, self.redis, self.kafka, self.rabbitmq)
        return [service for service in found if service is not None and service.child is not None]

    @property
    def forgetful(self) -> bool:
        """Whether the log is lost when its broker stops."""
        return isinstance(self.kafka, Tansu)

    def urls(self) -> dict[str, str]:
        """The settings that lead the roles to their services."""
        urls = {
            name: self.environ.get(PREFIX + name, "") for name in ("DATABASE_URL", "REDIS_URL", "KAFKA_URL", "AMQP_URL")
        }
        if self.postgres:
            urls["DATABASE_URL"] = self.postgres.url
        if self.redis:
            urls["REDIS_URL"] = self.redis.url
        if self.rabbitmq:
            urls["AMQP_URL"] = self.rabbitmq.url
        if self.kafka:
            urls["KAFKA_URL"] = self.kafka.address
        if isinstance(self.kafka, Tansu):
            urls["LOG_GENERATION"] = self.kafka.generation
            # A fetch on tansu waits for up to half of this even when there is data.
            urls["KAFKA_FETCH_WAIT"] = self.environ.get(f"{PREFIX}KAFKA_FETCH_WAIT") or "10"
        return {PREFIX + name: value for name, value in urls.items()}


class ServiceStarter:
    """Makes and starts the services of one data folder, all at the same time."""

    def __init__(self, data: Path, logs: Path, environ: Mapping[str, str], say: Say) -> None:
        self._data = data
        self._logs = logs
        self._say = say
        self._account = server_account()
        self._passwords = _passwords(data / "secrets.json")
        self.services = Services(environ)

    async def start(self, kafka: str | None, *, rabbitmq: bool) -> Services:
        """Start what was not given; when one fails the others are left for the caller to stop."""
        services, given = self.services, self._given
        wanted = [self._kafka_and_redis(kafka, redis=not given("REDIS_URL"), embedded=not given("KAFKA_URL"))]
        if not given("DATABASE_URL"):
            services.postgres = Postgres(
                self._data / "postgres", self._logs, self._account, self._passwords["postgres"]
            )
            wanted.append(self._begin(services.postgres))
        if rabbitmq and not given("AMQP_URL"):
            wanted.append(self._rabbitmq())
        await together(wanted)
        return services

    def _given(self, name: str) -> bool:
        return bool(self.services.environ.get(PREFIX + name))

    async def _begin(self, service: Server) -> None:
        seconds = await service.start()
        self._say(
            f"{getattr(service, 'title', service.name)} answers on {service.address} after {seconds:.1f} s", Tone.GOOD
        )

    async def _kafka_and_redis(self, choice: str | None, *, redis: bool, embedded: bool) -> None:
        """Redis waits for the choice of broker: beside one that forgets it must start empty."""
        services = self.services
        if embedded:
            services.kafka = await self._choose_kafka(choice)
        starting: list[Server] = [services.kafka] if services.kafka else []
        if redis:
            folder = "redis-for-tansu" if services.forgetful else "redis"
            services.redis = Redis(self._data / folder, self._logs, self._account, self._passwords["redis"])
            if services.forgetful:
                services.redis.forget()
            starting.append(services.redis)
        await together(self._begin(service) for service in starting)

    async def _choose_kafka(self, choice: str | None) -> Kafka | Tansu:
        if choice not in {None, "", "apache", "tansu"}:
            raise EmbeddedError(f"KAFKA must be apache or tansu, not {choice!r}")
        if choice != "tansu":
            try:
                jars = await kafka_jars(self._logs)
            except EmbeddedError as error:
                if choice == "apache":
                    raise EmbeddedError(f"KAFKA=apache cannot be had: {error}") from error
                self.services.notes.append(f"Apache Kafka cannot be had here: {error}")
            else:
                return Kafka(self._data / "kafka", self._logs, self._account, jars)
        return Tansu(self._data / "tansu", self._logs, self._account)

    async def _rabbitmq(self) -> None:
        script = find_server()
        problem = "it is not installed"
        if script is None and can_install():
            self._say("installing RabbitMQ from Debian's package")
            try:
                await install_rabbitmq(self._logs / "apt.log")
            except EmbeddedError as error:
                problem = str(error)
            script = find_server()
        if script is None:
            self.services.notes.append(f"only HTTP ingest is on, no RabbitMQ: {problem}. To have it, {HOW_TO_GET}")
            return
        self.services.rabbitmq = RabbitMQ(
            self._data / "rabbitmq", self._logs, self._account, self._passwords["rabbitmq"], script
        )
        await self._begin(self.services.rabbitmq)


def _passwords(path: Path) -> dict[str, str]:
    """The passwords of this data folder's services, made at the first start."""
    try:
        kept: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        kept = {}
    missing = {"postgres", "redis", "rabbitmq"} - kept.keys()
    if missing:
        kept |= {name: secrets.token_urlsafe(18) for name in missing}
        fresh = path.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(kept, file)
        fresh.replace(path)
    return kept
