import json
import stat
import tempfile
from pathlib import Path

import pytest
import redis.asyncio

from embedded.account import Account, can_enter, hand_over, in_reach, server_account
from embedded.console import without_password
from embedded.errors import EmbeddedError, StartError
from embedded.keeper import restart_wait
from embedded.partitions import fitting, settled
from embedded.ports import free_port
from embedded.process import Child, Command, describe_exit, run_once
from embedded.redis import Redis
from embedded.roles import role_environ
from embedded.services import _passwords
from tests.embedded.conftest import wait_for_ends


def test_ports_are_never_given_out_twice_and_lie_outside_the_source_port_range() -> None:
    ports = [free_port() for _ in range(50)]
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert len(set(ports)) == 50
    assert low < 20_000 or not any(low <= port <= high for port in ports)


def test_waits_between_restarts_double_up_to_a_bound() -> None:
    waits = [restart_wait(deaths) for deaths in range(12)]
    assert waits[:4] == [0.25, 0.5, 1.0, 2.0]
    assert max(waits) == restart_wait(10_000) == 30.0


@pytest.mark.parametrize(
    ("processors", "workers", "found"), [(1, 1, 2), (2, 1, 2), (8, 1, 8), (64, 1, 12), (2, 3, 3), (64, 20, 20)]
)
def test_partitions_fit_the_processors_and_the_workers(processors: int, workers: int, found: int) -> None:
    assert fitting(processors, workers) == found


def test_a_folder_keeps_the_partitions_that_it_began_with(tmp_path: Path) -> None:
    first = settled(tmp_path, {}, 1)
    assert settled(tmp_path, {}, 40) == first
    assert settled(tmp_path, {"INCIDENTS_PARTITIONS": "7"}, 1) == "7"
    assert settled(tmp_path, {}, 1) == first


def test_partitions_that_were_given_once_need_not_be_given_again(tmp_path: Path) -> None:
    assert settled(tmp_path, {"INCIDENTS_PARTITIONS": "7"}, 1) == settled(tmp_path, {}, 1) == "7"


def test_a_folder_from_before_has_the_default_number_of_partitions(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    assert settled(tmp_path, {}, 1) == "4"


def test_a_broken_note_of_the_partitions_is_named(tmp_path: Path) -> None:
    (tmp_path / "partitions").write_text("two\n")
    with pytest.raises(EmbeddedError, match=r"partitions must hold the number of partitions, not 'two'"):
        settled(tmp_path, {}, 1)


def test_an_exit_is_told_by_its_code_or_its_signal() -> None:
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(-9) == "SIGKILL"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@127.0.0.1:6379/0", "redis://:***@127.0.0.1:6379/0"),
        ("amqp://incidents:secret@127.0.0.1:5672/", "amqp://incidents:***@127.0.0.1:5672/"),
        ("127.0.0.1:9092", "127.0.0.1:9092"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_settings_are_named_shortly_or_in_full() -> None:
    environ = role_environ({"http_port": 1, "INCIDENTS_CONFIG": "x"})
    assert environ["INCIDENTS_HTTP_PORT"] == "1"
    assert environ["INCIDENTS_CONFIG"] == "x"


def test_passwords_are_made_once_and_only_we_can_read_them(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    made = _passwords(path)
    assert _passwords(path) == made == json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_start_error_ends_with_the_last_lines_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("\n".join(f"line {number}" for number in range(100)))
    text = str(StartError("it ended", log))
    assert str(log) in text
    assert text.endswith("line 99")
    assert "line 50\n" not in text


async def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    command = Command(argv=["sleep", "60"], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, log=tmp_path / "log")
    with pytest.raises(TimeoutError):
        await run_once(command, within=0.05)


async def test_what_a_process_leaves_in_its_group_is_ended_with_it(tmp_path: Path) -> None:
    argv = ["sh", "-c", "sleep 60 & echo $!"]
    child = Child(Command(argv=argv, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, log=tmp_path / "log"))
    assert await child.wait() == 0
    assert not wait_for_ends([int((tmp_path / "log").read_text())], within=2)


def test_a_folder_of_root_alone_cannot_be_entered_by_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    stranger = Account(65_533, 65_533)
    assert not can_enter(tmp_path, stranger)
    assert can_enter(Path("/usr/bin"), stranger)


def test_programs_out_of_reach_are_copied_and_their_folder_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, cache = tmp_path / "programs", tmp_path / "cache"
    (programs / "bin").mkdir(parents=True)
    (programs / "bin" / "tool").write_text("#!/bin/sh\n")
    programs.chmod(0o700)
    monkeypatch.setattr("embedded.account.cache_folder", lambda: cache)
    cache.mkdir()
    copy = in_reach(programs, ["bin"], "tool-1", Account(65_533, 65_533))
    assert copy == cache / "tool-1"
    assert (copy / "bin" / "tool").read_text() == "#!/bin/sh\n"
    assert in_reach(programs, ["bin"], "tool-1", Account(65_533, 65_533)) == copy
    assert in_reach(programs, ["bin"], "tool-1", None) == programs
    assert stat.S_IMODE(programs.stat().st_mode) == 0o700


def test_a_folder_is_handed_over_without_following_links(tmp_path: Path) -> None:
    account = server_account()
    if account is None:
        pytest.skip("only root hands folders over")
    outside, home = tmp_path / "outside", tmp_path / "home"
    outside.touch()
    (home / "deep").mkdir(parents=True)
    (home / "deep" / "link").symlink_to(outside)
    hand_over(home, account)
    assert (home / "deep").stat().st_uid == account.uid
    assert outside.stat().st_uid == 0


@pytest.mark.asyncio
async def test_a_redis_whose_file_cannot_be_read_starts_with_nothing(services: Path) -> None:
    with tempfile.TemporaryDirectory(dir=services) as name:
        folder = Path(name)
        unit = Redis(folder / "redis", folder / "logs", server_account(), "word")
        unit.log.parent.mkdir()
        await unit.start()
        try:
            async with redis.asyncio.Redis.from_url(unit.url) as client:
                await client.set("kept", "before")
            await unit.stop(5)
            await unit.start_again()
            async with redis.asyncio.Redis.from_url(unit.url) as client:
                assert await client.get("kept") == b"before"
            await unit.stop(5)
            [written] = (folder / "redis" / "appendonlydir").glob("*.incr.aof")
            data = written.read_bytes()
            written.write_bytes(data[:20] + bytes(500) + data)  # a hole, as a file on a disk that was full may have
            await unit.start_again()
            async with redis.asyncio.Redis.from_url(unit.url) as client:
                assert await client.get("kept") is None
        finally:
            await unit.kill()
