"""Probes wait for nothing: whatever a part does, and whoever else asks, they are answered from what is known."""

from collections.abc import MutableMapping
from typing import Any

import pytest

from streams.observe import App, Health, Phase, probes
from streams.settings import Settings
from web.foreign import known_host
from web.gateway import PROBES, composed
from web.guard import Guard

PATHS = ("/healthz", "/readyz", *PROBES)


def answered_at_once(app: App, path: str) -> int:
    """The status of a probe whose answer is run as a plain function: whatever it would wait for is an error."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("a probe reads no body")

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1")]
    answering = app({"type": "http", "method": "GET", "path": path, "headers": headers}, receive, send)
    with pytest.raises(StopIteration):
        answering.__await__().send(None)
    return int(sent[0]["status"])


def hurt(role: str) -> Health:
    health = Health(role)
    health.phase(Phase.RUNNING)
    health.set("redis", ok=False, detail="no answer", required=False)
    health.any_of("kafka", "rabbitmq")
    return health


def test_a_gateways_probes_are_answered_without_asking_anybody() -> None:
    nothing: Any = None
    app = composed(hurt("gateway"), nothing, nothing)
    for door in (Guard(Settings(auth="on"), nothing, nothing, app), known_host(Settings(), app)):
        statuses = {path: answered_at_once(door, path) for path in PATHS}
        assert statuses == {path: 503 if "read" in path else 200 for path in PATHS}


def test_other_roles_probes_are_answered_without_asking_anybody() -> None:
    app = probes(hurt("worker"))
    assert [answered_at_once(app, path) for path in ("/healthz", "/readyz")] == [200, 503]


def test_what_would_wait_is_found() -> None:
    async def waits(*_: Any) -> None:
        class Never:
            def __await__(self) -> Any:
                yield

        await Never()

    with pytest.raises(pytest.fail.Exception):
        answered_at_once(waits, "/readyz")
