"""The supervisor with small programs in the place of the roles, and no service embedded."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from embedded.supervisor import EmbeddedError, Stack
from tests.embedded.conftest import GIVEN, Heard, living_in, wait_for_ends

RUN = "import sys\nfrom types import SimpleNamespace\nfrom embedded.supervisor import run\n"
RUN += "sys.exit(run(SimpleNamespace(data_dir=sys.argv[1])))"


def journal(data: Path) -> list[str]:
    return (data / "journal").read_text().split("\n")[:-1]


async def test_given_services_are_used_and_none_is_started(tmp_path: Path, given: dict[str, str]) -> None:
    async with Stack(tmp_path / "data", given, roles=()) as stack:
        assert stack.endpoints == {
            "http": None,
            "amqp": {"url": "amqp://somewhere", "exchange": "alerts", "queue": "alerts.in"},
            "postgres": "postgresql://somewhere/incidents",
            "redis": "redis://somewhere",
            "kafka": "somewhere:9092",
            "partitions": None,
            "log_generation": "",
            "processes": [],
        }


async def test_a_folder_serves_one_run_at_a_time(tmp_path: Path, given: dict[str, str]) -> None:
    async with Stack(tmp_path, given, roles=()):
        with pytest.raises(EmbeddedError, match="another run uses"):
            await Stack(tmp_path, given, roles=()).start()
    async with Stack(tmp_path, given, roles=()):
        pass


async def test_roles_get_their_settings_and_endpoints_say_where_they_are(
    stand_in_roles: Path, given: dict[str, str]
) -> None:
    async with Stack(stand_in_roles, given | {"reopen_window": "7"}, workers=2) as stack:
        file = stand_in_roles / "endpoints.json"
        assert json.loads(file.read_text()) == stack.endpoints
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert [process["role"] for process in stack.processes] == ["gateway", "bridge", "worker", "worker", "delivery"]
        async with httpx.AsyncClient(trust_env=False) as client:
            gateway = (await client.get(stack.endpoints["http"])).json()
            workers = [(await client.get(unit.address)).json() for unit in stack.units if unit.role == "worker"]
        assert gateway["INCIDENTS_REOPEN_WINDOW"] == "7"
        assert gateway["INCIDENTS_DATABASE_URL"] == given["database_url"]
        assert [worker["INCIDENTS_WORKER_NAME"] for worker in workers] == ["w1", "w2"]
        assert len({worker["INCIDENTS_OBSERVE_PORT"] for worker in workers}) == 2
    assert journal(stand_in_roles)[:2] in (["started migrate", "started topics"], ["started topics", "started migrate"])
    assert not file.exists()


async def test_everything_stops_in_order_and_only_when_the_workers_are_done(
    stand_in_roles: Path, given: dict[str, str]
) -> None:
    async with Stack(stand_in_roles, given):
        (stand_in_roles / "draining").touch()
    said = [line for line in journal(stand_in_roles) if not line.startswith("started")]
    assert said == [
        "stopped bridge",
        "stopped gateway",
        *(f"lag-{lag} worker" for lag in (3, 0, 1, 0, 0)),
        "stopped worker",
        "stopped delivery",
    ]


async def test_a_role_that_dies_comes_back_on_its_port(
    stand_in_roles: Path, given: dict[str, str], heard: Heard
) -> None:
    async with Stack(stand_in_roles, given, workers=2, say=heard) as stack:
        before = {process["pid"] for process in stack.processes}
        address = [unit.address for unit in stack.units if unit.role == "worker"][1]
        killed = stack.kill("worker", signal.SIGKILL, 1)
        await heard.until("worker-2 runs again")
        after = {process["pid"] for process in stack.processes}
        assert before - after == {killed}
        assert len(after - before) == 1
        assert json.loads((stand_in_roles / "endpoints.json").read_text()) == stack.endpoints
        assert [unit.address for unit in stack.units if unit.role == "worker"][1] == address


async def test_a_role_that_cannot_start_is_named_with_its_log(stand_in_roles: Path, given: dict[str, str]) -> None:
    program = stand_in_roles.parent / "code" / "agents" / "__main__.py"
    program.write_text("import sys\nprint('no such thing')\nsys.exit(4)\n")
    with pytest.raises(EmbeddedError, match="exit code 4") as failure:
        async with Stack(stand_in_roles, given):
            pass
    assert "no such thing" in str(failure.value)
    assert str(stand_in_roles / "logs") in str(failure.value)


async def test_a_role_that_stops_itself_while_starting_is_tried_again(
    stand_in_roles: Path, given: dict[str, str]
) -> None:
    program = stand_in_roles.parent / "code" / "agents" / "__main__.py"
    unsure = "if role == 'worker' and journal.read_text().count('started worker') == 1:\n    sys.exit(1)\nport ="
    program.write_text(program.read_text().replace("port =", unsure))
    async with Stack(stand_in_roles, given) as stack:
        assert "worker" in [process["role"] for process in stack.processes]
    assert journal(stand_in_roles).count("started worker") == 2


def start_run(data: Path, **more: str) -> subprocess.Popen[str]:
    given = {f"INCIDENTS_{name.upper()}": value for name, value in GIVEN.items()}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(data)], env=os.environ | given | more, stdout=subprocess.PIPE, text=True
    )


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout
    text = ""
    while words not in text:
        line = process.stdout.readline()
        assert line, f"it ended before it said {words!r}:\n{text}"
        text += line
    return text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_serves_until_it_is_asked_to_stop_and_leaves_no_process(
    stand_in_roles: Path, number: signal.Signals
) -> None:
    process = start_run(stand_in_roles, WORKERS="2")
    text = read_until(process, "INCIDENTS_AUTH=off")
    endpoints = json.loads((stand_in_roles / "endpoints.json").read_text())
    assert f"{endpoints['http']}/" in text
    assert "Kafka is the one at somewhere:9092; embedded: nothing" in text
    assert "\x1b" not in text
    began = time.monotonic()
    process.send_signal(number)
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "stopped after" in rest
    assert time.monotonic() - began < 15
    assert not wait_for_ends([each["pid"] for each in endpoints["processes"]], within=0)


def test_when_the_supervisor_is_killed_its_roles_end_too(stand_in_roles: Path) -> None:
    process = start_run(stand_in_roles)
    read_until(process, "INCIDENTS_AUTH=off")
    endpoints = json.loads((stand_in_roles / "endpoints.json").read_text())
    process.kill()
    process.communicate(timeout=20)
    assert not wait_for_ends([each["pid"] for each in endpoints["processes"]], within=5)


def test_run_refuses_a_number_of_workers_that_is_none(stand_in_roles: Path) -> None:
    process = start_run(stand_in_roles, WORKERS="none")
    text, _ = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "WORKERS" in text
    assert not living_in(stand_in_roles)
