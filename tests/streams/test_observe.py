import asyncio
import io
import json
import logging
import time
from collections.abc import Iterator

import httpx
import pytest
import structlog

from streams import logs, metrics, trace_context
from streams.observe import Health, Phase, Question, probe, serve
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


async def test_a_question_that_hangs_holds_nobody_up_and_is_asked_anew_once_it_was_answered() -> None:
    released, asked = asyncio.Event(), 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            try:
                await released.wait()
            except asyncio.CancelledError:
                await released.wait()  # a client that cleans up with whom it cannot reach
        if asked == 3:
            raise ConnectionError("gone")

    question = Question(ask, 0.01)
    assert "no answer" in await question.flaw(OSError)
    assert "no answer" in await question.flaw(OSError)
    assert asked == 1
    released.set()
    while flaw := await question.flaw(OSError):
        assert "no answer" in flaw
    assert await question.flaw(OSError) == ""
    assert "gone" in await question.flaw(OSError)
    assert await question.flaw() == ""


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
def test_what_senders_wrote_begins_no_line_and_steers_no_terminal(out: io.StringIO, log_format: str) -> None:
    logs.configure(Settings(log_format=log_format), "gateway", out)
    hostile = "a\r\n2026 [error] b\x1b[2J\u2028\x85\x9b\u202e\U000e0001\ud800"
    structlog.get_logger("x").warning("refused", reason=hostile, many=[hostile])
    logging.getLogger("uvicorn").warning("refused %s", hostile)
    structlog.get_logger("x").info("é ok")
    assert [line.isprintable() for line in out.getvalue().removesuffix("\n").split("\n")] == [True] * 3
    assert "\\u001b[2J" in out.getvalue()
    assert "é ok" in out.getvalue()
    try:
        raise ConnectionError(hostile)  # noqa: TRY301 - it is what is told
    except ConnectionError:
        structlog.get_logger("x").exception("channel_failed")
    assert not set(out.getvalue()) & set(hostile) - set("\n") - {char for char in hostile if char.isprintable()}


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


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.RUNNING])
def test_a_role_that_starts_rebuilds_rebalances_or_drains_is_alive_and_not_ready_and_says_which(phase: Phase) -> None:
    health = running()
    health.set("kafka", ok=True)
    health.phase(phase)
    assert status(health, "/healthz") == 200
    assert status(health, "/readyz") == 503
    assert health.readiness().phase == phase


@pytest.mark.parametrize(
    ("part", "required", "ready"),
    [
        ("postgres", True, 503),
        ("redis", False, 200),
        ("targets", False, 200),
        ("backlog of alerts", False, 200),
        ("outbox", False, 200),
        ("dead letters", False, 200),
    ],
)
def test_a_part_that_is_away_is_named_with_its_time_and_never_ends_the_process(
    part: str, required: bool, ready: int
) -> None:
    health = running()
    health.set(part, ok=False, detail="12 wait", required=required)
    said = health.readiness()
    assert (status(health, "/healthz"), status(health, "/readyz"), said.degraded) == (200, ready, True)
    assert (said.parts[part].detail, said.parts[part].ok) == ("12 wait", False)
    assert abs(said.parts[part].since - time.time()) < 60
    health.set(part, ok=True, required=required)
    assert (status(health, "/readyz"), health.readiness().degraded) == (200, False)


def test_a_loop_that_is_blocked_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    health = running()
    assert status(health, "/healthz") == 200
    later = time.monotonic() + 11
    monkeypatch.setattr("streams.observe.time.monotonic", lambda: later)
    assert status(health, "/healthz") == 503


def test_whoever_accepts_openmetrics_gets_it_with_exemplars() -> None:
    health = running()
    token = trace_context.current.set("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    metrics.observe(metrics.notice_seconds, 0.003)
    trace_context.current.reset(token)
    answer = probe(health, "/metrics", "application/openmetrics-text; version=1.0.0")
    assert answer is not None
    assert answer[1].startswith("application/openmetrics-text")
    assert b'# {trace_id="0af7651916cd43dd8448eb211c80319c"} 0.003' in answer[2]
    plain = probe(health, "/metrics")
    assert plain is not None
    assert b"0af7651916cd43dd8448eb211c80319c" not in plain[2]


def status(health: Health, path: str) -> int:
    answer = probe(health, path)
    assert answer is not None
    return answer[0]
