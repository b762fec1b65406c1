import asyncio
import io
import json
import logging
from collections.abc import Iterator

import httpx
import pytest
import structlog

from streams import logs
from streams.observe import Health, Phase, serve
from streams.settings import Settings


def running() -> Health:
    health = Health("worker")
    health.phase(Phase.RUNNING)
    return health


def test_only_a_running_role_whose_required_parts_are_well_is_ready() -> None:
    health = Health("worker")
    health.set("kafka", ok=True)
    assert not health.readiness().ready
    health.phase(Phase.RUNNING)
    assert health.readiness().ready
    health.set("postgres", ok=False, detail="refused")
    readiness = health.readiness()
    assert not readiness.ready
    assert readiness.parts["postgres"].detail == "refused"
    health.set("postgres", ok=True)
    health.phase(Phase.DRAINING)
    assert not health.readiness().ready


def test_an_optional_part_only_degrades() -> None:
    health = running()
    health.set("redis", ok=False, required=False)
    readiness = health.readiness()
    assert readiness.ready
    assert readiness.degraded


def test_one_of_several_parts_is_enough_and_none_is_not() -> None:
    health = running()
    health.any_of("kafka", "rabbitmq")
    assert not health.readiness().ready
    health.set("kafka", ok=False, required=False)
    health.set("rabbitmq", ok=True, required=False)
    assert health.readiness().ready
    health.set("rabbitmq", ok=False, required=False)
    assert not health.readiness().ready


def test_since_moves_only_when_a_part_changes() -> None:
    health = running()
    health.set("kafka", ok=False, detail="first")
    since = health.readiness().parts["kafka"].since
    health.set("kafka", ok=False, detail="second")
    assert health.readiness().parts["kafka"].since == since
    assert health.readiness().parts["kafka"].detail == "second"


async def test_probes_answer_on_a_free_port_and_the_socket_is_given_back() -> None:
    health = Health("bridge")
    health.set("rabbitmq", ok=False, detail="refused")
    health.lag(7)
    async with serve(Settings(), health) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["lag"] == 7
        assert "rabbitmq" in ready.json()["parts"]
        assert 'incidents_events_total{verdict="duplicate"}' in (await client.get("/metrics")).text
        assert (await client.get("/else")).status_code == 404
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    kept = (list(root.handlers), root.level)
    yield io.StringIO()
    root.handlers[:], root.level = kept
    structlog.reset_defaults()


def test_logs_are_json_lines_with_role_and_worker_and_without_passwords(out: io.StringIO) -> None:
    logs.configure(Settings(log_format="json", worker_name="w7"), "bridge", out)
    structlog.get_logger("x").info("started", url="amqp://user:hunter2@host/")
    logging.getLogger("aiokafka.consumer").warning("lost %s", "postgresql://a:hunter2@host/x")
    logging.getLogger("aiokafka.consumer").info("chatter")
    structlog.get_logger("x").debug("detail")
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["event"], first["role"], first["worker"], first["level"]) == ("started", "bridge", "w7", "info")
    assert (second["event"], second["logger"]) == ("lost postgresql://a:***@host/x", "aiokafka.consumer")
    assert "hunter2" not in out.getvalue()


def test_text_is_readable(out: io.StringIO) -> None:
    logs.configure(Settings(log_format="text"), "gateway", out)
    structlog.get_logger("x").info("started", port=1)
    assert "started" in out.getvalue()
    assert not out.getvalue().startswith("{")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_exception_is_told_without_the_values_of_variables_and_without_passwords(
    out: io.StringIO, log_format: str
) -> None:
    logs.configure(Settings(log_format=log_format), "delivery", out)
    hidden = "".join(reversed("2retnuh"))

    def fail(options: dict[str, str]) -> None:
        raise ConnectionError(f"postgresql://incidents:{options['password']}@127.0.0.1/x")

    try:
        fail({"password": hidden})
    except ConnectionError:
        structlog.get_logger("x").exception("channel_failed")
    shown = out.getvalue()
    assert "channel_failed" in shown
    assert "ConnectionError: postgresql://incidents:***@127.0.0.1/x" in shown
    assert hidden not in shown
