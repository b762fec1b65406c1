"""Asks a Kafka broker whether it serves clients."""

import asyncio

from aiokafka.client import AIOKafkaClient


async def brokers(address: str) -> int:
    """How many brokers the cluster counts as alive; raises when there is none or nobody answers."""
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))  # a closed port is seen here, without noise in the log
    writer.close()
    client = AIOKafkaClient(bootstrap_servers=address, request_timeout_ms=2000)
    try:
        await client.bootstrap()
        count = len(client.cluster.brokers())
    finally:
        await client.close()
    if count == 0:
        raise ConnectionError("the cluster counts no broker as alive yet")
    return count
