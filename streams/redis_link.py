"""Redis as an address names it: alone or a cluster, with or without TLS; and whether it may hold tables.

    redis://[user:password@]host:port/db        one server; rediss:// with TLS
    redis+cluster://host:port                   a cluster, by any of its nodes; rediss+cluster:// with TLS
    ...?cluster=1                               likewise

Other query parameters are redis-py's: ssl_ca_certs, ssl_cert_reqs, socket_timeout ...
"""

from typing import Any, Final, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis.asyncio import Connection, Redis, RedisCluster, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError

CLUSTER: Final = "+cluster"
_OURS: Final = frozenset({"cluster", "mode", "flush", "prefix"})


class _PlainConnection(Connection):
    """One that says in redis-py's words that it was cut: uvloop raises a RuntimeError where asyncio says nothing."""

    async def send_packed_command(self, *command: Any, **more: Any) -> None:  # noqa: ANN401 - passed on
        try:
            await super().send_packed_command(*command, **more)
        except RuntimeError as error:
            raise RedisConnectionError(str(error)) from error


class _TlsConnection(_PlainConnection, SSLConnection):
    """The same over TLS."""


class EvictingRedisError(RuntimeError):
    """Raised at start when Redis may evict keys; set `maxmemory-policy noeviction`."""


def connect(url: str, **options: Any) -> Redis:  # noqa: ANN401 - passed on to redis-py as they are
    """A client for the address; a cluster's has the same commands. Options are those of redis-py."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    clustered = parts.scheme.endswith(CLUSTER) or query.get("cluster", "0") not in {"0", "false", "no"}
    others = urlencode({name: value for name, value in query.items() if name not in _OURS})
    plain = urlunsplit(parts._replace(scheme=parts.scheme.removesuffix(CLUSTER), query=others))
    kind = _TlsConnection if parts.scheme.startswith("rediss") else _PlainConnection
    if clustered:
        cluster: Any = RedisCluster.from_url(plain, **options)
        cluster.connection_kwargs["connection_class"] = kind
        for node in cluster.nodes_manager.startup_nodes.values():
            node.connection_class = kind
        return cast("Redis", cluster)
    client = Redis.from_url(plain, **options)
    client.connection_pool.connection_class = kind
    return client


async def refuse_eviction(redis: Redis) -> None:
    """Check that Redis, or no primary of a cluster, ever drops keys by itself.

    Raises:
        EvictingRedisError: a maxmemory-policy is not noeviction while maxmemory is set.
    """
    client: Any = redis  # a cluster's client has the same commands, and no common type
    if isinstance(client, RedisCluster):
        await client.initialize()
        found = [await client.info("memory", target_nodes=node) for node in client.get_primaries()]
    else:
        found = [await client.info("memory")]
    for info in found:
        policy = str(info.get("maxmemory_policy", "noeviction"))
        if int(info.get("maxmemory", 0)) and policy != "noeviction":
            raise EvictingRedisError(f"Redis evicts keys (maxmemory-policy {policy}): set it to noeviction")
