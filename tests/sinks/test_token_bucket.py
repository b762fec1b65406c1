"""Tokens of a receiver are shared by all processes, and come back with time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from sinks.token_bucket import AWAY, TokenBuckets
from streams.redis_link import connect

HOUR = timedelta(hours=1)


@pytest.fixture
async def buckets(redis_url: str, app_prefix: str) -> AsyncIterator[TokenBuckets]:
    redis = connect(redis_url)
    yield TokenBuckets(redis, app_prefix)
    await redis.aclose()


async def test_no_more_is_granted_than_there_is(buckets: TokenBuckets) -> None:
    taken = [await buckets.take("desk", capacity=5, per=HOUR, wanted=3) for _ in range(3)]
    assert [granted for granted, _ in taken] == [3, 2, 0]
    assert timedelta(minutes=11) < taken[2][1] <= timedelta(minutes=12)
    assert (await buckets.take("other", capacity=5, per=HOUR, wanted=3))[0] == 3


async def test_many_at_once_share_the_tokens(buckets: TokenBuckets) -> None:
    taken = await asyncio.gather(*(buckets.take("desk", capacity=7, per=HOUR, wanted=2) for _ in range(20)))
    assert sum(granted for granted, _ in taken) == 7


async def test_tokens_come_back_and_a_new_limit_counts_at_once(buckets: TokenBuckets) -> None:
    second = timedelta(seconds=1)
    assert (await buckets.take("desk", capacity=1000, per=second, wanted=1000))[0] == 1000
    granted, wait = await buckets.take("desk", capacity=1000, per=second, wanted=1000)
    assert granted < 1000
    assert wait <= timedelta(milliseconds=2)
    assert (await buckets.take("desk", capacity=3, per=HOUR, wanted=9))[0] == 3


async def test_a_redis_that_is_away_says_so() -> None:
    redis = connect("redis://127.0.0.1:1/0", socket_connect_timeout=0.5)
    with pytest.raises(AWAY):
        await TokenBuckets(redis, "p").take("desk", capacity=1, per=HOUR, wanted=1)
    await redis.aclose()
