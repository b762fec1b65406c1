"""One alert through the whole path: in at the gateway and at RabbitMQ, to its incident, and out where nobody is woken.

Where the rules lead it to webhooks on this machine's loopback only, the doctor answers there itself and waits for the
notice. Where they lead it to anybody else, it is silenced before it is sent.
"""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import aio_pika
import asyncpg
import httpx
from aiohttp import web

from agents.doctor.findings import Finding, fail, warn, well
from agents.rules import routing
from streams.rules_config import Integration, Route, RulesConfig
from streams.settings import Settings

CANARY: Final = "canary"
ALERTNAME: Final = "IncidentsDoctor"
_VERDICT_S: Final = 30.0
_NOTICE_S: Final = 30.0
_LONGEST_WAIT_S: Final = 60.0
_SILENCE: Final = timedelta(minutes=5)
_KNOWN_S: Final = 2.0  # a silence is in every worker's view within a second
_POLL_S: Final = 0.1
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

_DECIDED: Final = """
SELECT identity, occurrence FROM verdicts WHERE decided_at > $2 AND $1 = ANY (event_ids) AND identity IS NOT NULL
"""
_INCIDENT: Final = """
SELECT incident_id::text FROM incident_alerts WHERE identity = $1 AND occurrence = $2
"""


class Canary:
    """One canary: its labels are its own, so that it is found again."""

    def __init__(self, settings: Settings, url: str, config: RulesConfig) -> None:
        self._settings = settings
        self._url = url
        self._config = config
        self._name = f"doctor-{secrets.token_hex(4)}"
        self._labels = {"alertname": ALERTNAME, "service": "llm-incident-manager", "instance": self._name}
        self._since = datetime.now(UTC) - timedelta(minutes=1)
        self._heard: dict[str, float] = {}
        self._notice = asyncio.Event()

    @property
    def places(self) -> set[tuple[str, int]]:
        """Host and port of the webhooks that the doctor answers itself."""
        _, integrations = self._led_to()
        return {_place(one) for one in integrations} if all(map(_is_loopback, integrations)) else set()

    def _led_to(self) -> tuple[list[Route], list[Integration]]:
        routes = routing.routes_for(self._config.route, self._labels)
        return routes, [one for route in routes for one in self._config.receivers[route.receiver].integrations]

    async def fly(self) -> list[Finding]:
        """Send it, wait for its incident and perhaps its notice, and end it."""
        token = self._settings.token
        headers = {"authorization": f"Bearer {token}"} if token else {}
        routes, integrations = self._led_to()
        wait = max((route.group_wait.total_seconds() for route in routes), default=0.0)
        async with httpx.AsyncClient(base_url=self._url, headers=headers, trust_env=False, timeout=10) as client:
            if all(_is_loopback(one) for one in integrations) and wait <= _LONGEST_WAIT_S:
                async with self._receiver(integrations) as listening:
                    return await self._flown(client, wait=wait if listening else None)
            return await self._silenced(client)

    async def _silenced(self, client: httpx.AsyncClient) -> list[Finding]:
        body = {
            "matchers": [[{"name": name, "value": value} for name, value in self._labels.items()]],
            "created_by": "doctor",
            "ends_at": (datetime.now(UTC) + _SILENCE).isoformat(),
            "comment": "The doctor's canary: it is no alert",
        }
        made = await client.post("/api/v1/silences", json=body)
        if made.is_error:
            return [
                fail(
                    CANARY, f"the gateway refuses to silence it: {_reason(made)}", "give INCIDENTS_TOKEN a responder's"
                )
            ]
        await asyncio.sleep(_KNOWN_S)
        try:
            found = await self._flown(client, wait=None)
        finally:
            await client.post(f"/api/v1/silences/{made.json()['id']}/expire")
        remedy = (
            f'route alertname="{ALERTNAME}" to a webhook on http://127.0.0.1:PORT: the doctor answers there, '
            "and sees the notice too"
        )
        return [*found, warn(CANARY, "its notice was silenced: it would have gone to people", remedy)]

    async def _flown(self, client: httpx.AsyncClient, *, wait: float | None) -> list[Finding]:
        began = time.monotonic()
        sent = await client.post("/api/v1/alerts", json=self._alert(firing=True))
        if sent.is_error:
            return [
                fail(
                    CANARY, f"the gateway refuses it: {_reason(sent)}", "see the gateway's /readyz, or INCIDENTS_TOKEN"
                )
            ]
        [event_id] = sent.json()["event_ids"]
        try:
            found = [await self._committed(event_id, began)]
            if wait is not None:
                found.append(await self._told(began, wait))
            if self._settings.amqp_url:
                found.append(await self._ended_over_rabbitmq())
        finally:
            await client.post("/api/v1/alerts", json=self._alert(firing=False))
        return found

    async def _committed(self, event_id: str, began: float) -> Finding:
        incident = await self._wait_for(event_id)
        if incident is None:
            return fail(CANARY, f"no incident within {_VERDICT_S:.0f} s of its 202", "see the workers' /readyz and log")
        return well(CANARY, f"from HTTP to its incident in {time.monotonic() - began:.2f} s ({incident})")

    async def _told(self, began: float, wait: float) -> Finding:
        try:
            async with asyncio.timeout(wait + _NOTICE_S):
                await self._notice.wait()
        except TimeoutError:
            return fail(CANARY, "no notice came out", "see the delivery role's /readyz and GET /api/v1/receivers")
        took = self._heard[self._name] - began
        return well(CANARY, f"its notice came out after {took:.2f} s, of which group_wait is {wait:g} s")

    async def _ended_over_rabbitmq(self) -> Finding:
        began, event_id = time.monotonic(), f"{self._name}-end"
        connection = await aio_pika.connect(self._settings.amqp_url, timeout=5)
        try:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            exchange = await channel.get_exchange(self._settings.amqp_exchange, ensure=False)
            body = json.dumps(self._alert(firing=False)).encode()
            message = aio_pika.Message(body, message_id=event_id, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(message, "llm.doctor")
        finally:
            await connection.close()
        if await self._wait_for(event_id) is None:
            return fail(
                CANARY, f"RabbitMQ took its end, nothing came of it in {_VERDICT_S:.0f} s", "see the bridge's log"
            )
        return well(CANARY, f"from RabbitMQ to its verdict in {time.monotonic() - began:.2f} s")

    async def _wait_for(self, event_id: str) -> str | None:
        """The incident of the alert that an event is about, once its verdict and its link are committed."""
        conn = await asyncpg.connect(self._settings.database_url, timeout=5)
        deadline = time.monotonic() + _VERDICT_S
        try:
            while time.monotonic() < deadline:
                decided = await conn.fetchrow(_DECIDED, event_id, self._since)
                incident = await conn.fetchval(_INCIDENT, *decided) if decided is not None else None
                if incident is not None:
                    return str(incident)
                await asyncio.sleep(_POLL_S)
        finally:
            await conn.close()
        return None

    def _alert(self, *, firing: bool) -> Mapping[str, Any]:
        return {
            "source": "doctor", "status": "firing" if firing else "resolved", "severity": "info", "kind": "other",
            "summary": "The doctor looks whether alerts come through: nothing is wrong", "labels": self._labels,
        }  # fmt: skip

    @asynccontextmanager
    async def _receiver(self, integrations: list[Integration]) -> AsyncIterator[bool]:
        """Answer at the places of these webhooks; False where nobody is told, or something answers there already."""
        app = web.Application(client_max_size=16 << 20)
        app.router.add_post("/{any:.*}", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            places = sorted({_place(one) for one in integrations})
            with contextlib.suppress(OSError):
                for host, port in places:
                    await web.TCPSite(runner, host, port).start()
            yield bool(places) and len(runner.addresses) == len(places)
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        if self._name in await request.text():
            self._heard.setdefault(self._name, time.monotonic())
            self._notice.set()
        return web.Response()


def _is_loopback(integration: Integration) -> bool:
    return integration.channel == "webhook" and urlsplit(integration.target).hostname in _LOOPBACK


def _place(integration: Integration) -> tuple[str, int]:
    parts = urlsplit(integration.target)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _reason(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.text[:200]}"
