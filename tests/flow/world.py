"""The outside of a running system: who sends alerts, who gets the webhooks, and what can be read."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aio_pika
import asyncpg
import httpx
import pytest
from aiohttp import web

from embedded.roles import ROLES
from embedded.stack import Stack
from streams.settings import PREFIX
from tests.listener import Listener
from tests.sinks.smtp_server import mail_server

T = TypeVar("T")

# Short waits, so that a story does not take minutes; the rules are the same.
RULES: Final = """\
route:
  receiver: desk
  group_by: [alertname, service]
  group_wait: 100ms
  group_interval: 1s
  repeat_interval: 4h
receivers:
  - name: desk
    webhook_configs:
      - url: {url}/desk
inhibit_rules:
  - source_matchers: [alertname="ServiceDown"]
    target_matchers: [alertname="RateLimited"]
    equal: [service]
"""
PAGED: Final = """\
incidents:
  people:
    ada:
      webhook_configs: [{{url: '{url}/desk'}}]
    bob:
      email_configs: [{{to: bob@example.org, from: a@example.org, smarthost: '{mail}', require_tls: false}}]
  policies:
    paged:
      steps:
        - targets: [{{person: ada}}]
        - {{delay: 2s, targets: [{{person: bob}}, {{receiver: desk}}]}}
        - {{delay: 2s, targets: [{{person: ada}}, {{person: bob}}]}}
      repeat: {{times: 1, after: 2s}}
  escalation:
    - {{policy: paged, matchers: [service=~"paged-.*"]}}
  correlation:
    - {{name: one rack, labels: [rack], within: 5m}}
"""


@dataclass(frozen=True, kw_only=True)
class Received:
    """One webhook request."""

    key: str
    raw: bytes
    trace: str = ""
    body: dict[str, Any] = field(repr=False)

    @property
    def service(self) -> str:
        return str(self.body["groupLabels"].get("service", ""))


class Desk(Listener):
    """A webhook receiver on a port of its own, and a mail server beside it; it keeps every request and every mail."""

    def __init__(self) -> None:
        super().__init__("/desk")
        self.received: list[Received] = []
        self.answers = 200
        self._mail = mail_server()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.mailbox = await self._mail.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._mail.__aexit__(kind, error, trace)
        await super().__aexit__(kind, error, trace)

    def about(self, service: str) -> list[Received]:
        """What was told of a service, in order."""
        return [one for one in self.received if one.service == service]

    async def take(self, request: web.Request) -> web.Response:
        raw = await request.read()
        self.received.append(_received(request.headers, raw))
        return web.Response(status=self.answers)


def _received(headers: Mapping[str, str], raw: bytes) -> Received:
    return Received(
        key=headers.get("Idempotency-Key", ""), raw=raw, trace=headers.get("traceparent", ""), body=json.loads(raw)
    )


@dataclass(frozen=True, kw_only=True)
class System:
    """A running system, as those around it see it."""

    stack: Stack
    desk: Desk
    http: httpx.AsyncClient
    said: list[str]

    @property
    def url(self) -> str:
        return str(self.stack.endpoints["http"])

    async def sql(self, statement: str, *arguments: object) -> list[dict[str, Any]]:
        connection = await asyncpg.connect(self.stack.endpoints["postgres"])
        try:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]
        finally:
            await connection.close()

    async def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        return await self.http.post(self.url + path, json=body, headers=headers)

    async def publish(self, body: bytes, message_id: str | None = None, **headers: str) -> None:
        """One message to the exchange, confirmed by RabbitMQ."""
        amqp = self.stack.endpoints["amqp"]
        connection = await aio_pika.connect(amqp["url"])
        async with connection:
            channel = await connection.channel(publisher_confirms=True)
            exchange = await channel.get_exchange(amqp["exchange"], ensure=False)
            message = aio_pika.Message(
                body,
                message_id=message_id,
                content_type="application/json",
                headers=dict(headers),
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await exchange.publish(message, "llm.alert", mandatory=True, timeout=10)

    async def incidents(self, service: str) -> list[dict[str, Any]]:
        """Incidents of a service as the API lists them."""
        answer = await self.http.get(f"{self.url}/api/v1/incidents", params={"q": service, "limit": 200})
        answer.raise_for_status()
        return [item for item in answer.json()["items"] if item["group_labels"].get("service") == service]

    async def one_incident(self, service: str, status: str, *, within: float = 30) -> dict[str, Any]:
        """Wait until a service has one incident, and that with this status."""

        async def found() -> dict[str, Any] | None:
            seen = await self.incidents(service)
            assert len(seen) <= 1, f"more than one incident of {service}"
            return seen[0] if seen and seen[0]["status"] == status else None

        return await until(found, f"an incident of {service} that is {status}", within=within)

    async def notices(self, service: str, count: int, *, within: float = 30) -> list[Received]:
        """Wait until a service was told of so many times."""

        async def told() -> list[Received] | None:
            found = self.desk.about(service)
            return found if len(found) >= count else None

        return await until(told, f"{count} notices about {service}", within=within)

    async def totals(self) -> dict[str, int]:
        return dict((await self.http.get(f"{self.url}/api/v1/totals")).json()["totals"])


async def until(ask: Callable[[], Awaitable[T | None]], what: str, *, within: float = 30) -> T:
    """Ask until there is an answer that counts as true."""
    __tracebackhide__ = True
    answer: T | None = None
    try:
        async with asyncio.timeout(within):
            while not answer:
                answer = await ask()
                if not answer:
                    await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"not within {within:g} s: {what}")
    assert answer is not None
    return answer


def alert(service: str, status: str = "firing", **more: object) -> dict[str, object]:
    """One alert in our own format."""
    labels = {"alertname": "RateLimited", "service": service, "model": "large"}
    return {"source": "flow", "status": status, "summary": f"{service} is refused", "labels": labels, **more}


def alertmanager_alert(service: str, **more: object) -> dict[str, object]:
    """One alert in Alertmanager's format."""
    return {
        "labels": {"alertname": "Slow", "service": service},
        "annotations": {"summary": f"{service} is slow"},
        **more,
    }


def _rules_for(folder: Path, desk: Desk) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rules = folder / "rules.yml"
    rules.write_text((RULES + PAGED).format(url=desk.url, mail=f"127.0.0.1:{desk.mailbox.port}"), encoding="utf-8")
    return rules


@asynccontextmanager
async def running(
    folder: Path, desk: Desk, *, kafka: str, workers: int = 1, partitions: int = 12, **settings: object
) -> AsyncIterator[System]:
    """A whole system in a folder, with rules that tell `desk`; inside every partition knows the rules."""
    rules = _rules_for(folder, desk)
    said: list[str] = []
    overrides = {"config": rules, "partitions": partitions, **settings}
    stack = Stack(
        folder / "data", overrides, workers=workers, kafka=kafka, roles=ROLES, say=lambda text, *_: said.append(text)
    )
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http, stack:
        if stack.endpoints["amqp"] is None:
            pytest.skip("rabbitmq-server is not installed (apt-get install rabbitmq-server)")
        system = System(stack=stack, desk=desk, http=http, said=said)
        log = stack.settings.get(f"{PREFIX}LOG_GENERATION", "")

        async def informed() -> bool:
            rows = await system.sql(
                "SELECT min(p.config_version) AS least, count(*) AS known, max(c.version) AS newest"
                " FROM stream_progress p, (SELECT max(version) AS version FROM config_versions) c"
                " WHERE p.topic IN ('alerts', 'incident-inputs') AND strpos(p.log_id, $1) > 0",
                log,
            )
            least, known, newest = rows[0]["least"], rows[0]["known"], rows[0]["newest"]
            return known == 2 * partitions and newest is not None and least == newest

        await until(informed, "every partition has the rules", within=40)
        yield system
