"""Tables on a cluster of three nodes, over TLS, and behind a user's password."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from streams.redis_link import EvictingRedisError, connect, refuse_eviction
from streams.redis_tables import UNWRITTEN, Mark, Overlay, TableSet
from tests.streams.faust_worker import PARTITIONS, workers
from tests.streams.redis_servers import answering, cluster, pair_of_ports, server


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://127.0.0.1:1/0", Redis),
        ("rediss://127.0.0.1:1/0?mode=step&flush=1", Redis),
        ("redis://127.0.0.1:1/0?cluster=0", Redis),
        ("redis://127.0.0.1:1?cluster=1", RedisCluster),
        ("redis+cluster://127.0.0.1:1", RedisCluster),
        ("rediss+cluster://127.0.0.1:1?mode=changelog", RedisCluster),
    ],
)
def test_an_address_says_whether_it_is_a_cluster(url: str, kind: type) -> None:
    assert type(connect(url)) is kind


def test_a_connection_that_is_cut_is_a_connection_error_on_uvloop_too(redis_url: str) -> None:
    async def cut() -> None:
        redis = connect(redis_url)
        pool: Any = redis.connection_pool
        connection = await pool.get_connection()
        connection._writer.transport.abort()
        await asyncio.sleep(0)
        with pytest.raises(RedisConnectionError):
            await connection.send_packed_command(b"PING", check_health=False)
        assert await redis.ping()
        await redis.aclose()

    uvloop.run(cut())


async def test_a_cluster_keeps_tables_with_their_marks(tmp_path: Path) -> None:
    async with cluster(tmp_path / "nodes") as ports:
        redis = connect(f"redis+cluster://127.0.0.1:{ports[0]}")
        tables = TableSet(redis, "app", "alerts", ("alerts", "pulses"))
        await refuse_eviction(redis)
        overlays = []
        for number in range(12):
            await tables.claim(number, 1)
            overlay = Overlay(await tables.load(number, 1))
            for n in range(300):
                overlay.put("alerts", f"{number}-{n}", b"x" * n)
            overlays.append(overlay)
        there = Mark(1, "log", 4, 0, UNWRITTEN.watermark)
        await tables.flush([(overlay, there) for overlay in overlays])
        for overlay in overlays:
            overlay.commit(there)
        assert [await tables.load(number, 1) for number in range(12)] == [overlay.view for overlay in overlays]
        assert await tables.look_up(7, "alerts", "7-2") == b"xx"
        assert all([await _keys(port) for port in ports])
        await redis.delete(*tables.keys_of(3))
        last = Overlay(overlays[3].view)
        last.put("pulses", "p", b"1")
        await tables.flush([(last, Mark(1, "log", 5, 0, UNWRITTEN.watermark))])
        assert len((await tables.load(3, 1)).tables["alerts"]) == 300
        await _one_node_evicts(ports[1])
        with pytest.raises(EvictingRedisError):
            await refuse_eviction(redis)
        await redis.aclose()


async def test_a_table_with_a_changelog_moves_between_workers_of_a_cluster(tmp_path: Path) -> None:
    async with (
        cluster(tmp_path / "nodes") as ports,
        workers(f"redis://127.0.0.1:{ports[1]}?cluster=1", str(tmp_path), 2) as [first, second],
    ):
        await first.assigned(set(range(PARTITIONS)))
        for partition in range(PARTITIONS):
            with first.at(partition) as table:
                for n in range(50):
                    table[f"{partition}-{n}"] = n
        first.confirm()
        await first.flush()
        await second.assigned(set(range(PARTITIONS)))
        assert (second.replayed, second.table.copy()) == (0, first.table.copy())


async def _keys(port: int) -> int:
    node = Redis(port=port)
    try:
        return int(await node.dbsize())
    finally:
        await node.aclose()


async def _one_node_evicts(port: int) -> None:
    node = Redis(port=port)
    await node.config_set("maxmemory-policy", "volatile-lru")
    await node.config_set("maxmemory", "1gb")
    await node.aclose()


async def test_tables_are_reached_over_tls_by_a_user_with_a_password(tmp_path: Path) -> None:
    key, certificate = await _certificate(tmp_path)
    port = pair_of_ports()
    options = ("--port", "0", "--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
               "--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no", "--requirepass", "s3cret",
               "--user", "tables", "on", ">w0rd", "~app:*", "~{app:*", "+@all", "-@admin")  # fmt: skip
    trusting = f"ssl_ca_certs={certificate}"
    async with server(tmp_path / "tls", *options) as process:
        admin = connect(f"rediss://:s3cret@127.0.0.1:{port}/0?{trusting}")
        if not await answering(admin, process):
            pytest.skip("this redis-server was built without TLS")
        redis = connect(f"rediss://tables:w0rd@127.0.0.1:{port}/0?{trusting}")
        tables = TableSet(redis, "app", "alerts", ("alerts",))
        await tables.claim(0, 1)
        overlay = Overlay(await tables.load(0, 1))
        overlay.put("alerts", "a", b"1")
        await tables.flush([(overlay, Mark(1, "log", 0, 0, UNWRITTEN.watermark))])
        assert await tables.look_up(0, "alerts", "a") == b"1"
        refused: list[tuple[str, type[Exception]]] = [
            (f"rediss://tables:other@127.0.0.1:{port}/0?{trusting}", AuthenticationError),
            (f"rediss://tables:w0rd@127.0.0.1:{port}/0", RedisConnectionError),  # a certificate that nobody vouches for
            (f"redis://tables:w0rd@127.0.0.1:{port}/0", RedisConnectionError),
        ]
        for url, error in refused:
            client = connect(url, retry=None, socket_timeout=2)
            with pytest.raises(error):
                await client.ping()
            await client.aclose()
        await redis.aclose()
        await admin.aclose()


async def _certificate(folder: Path) -> tuple[Path, Path]:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command: list[Any] = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                          "-nodes", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                          "-keyout", key, "-out", certificate]  # fmt: skip
    process = await asyncio.create_subprocess_exec(*map(str, command), stderr=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0
    return key, certificate
