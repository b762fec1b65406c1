"""Token buckets in Redis, one for each receiver, shared by all delivery processes."""

from datetime import timedelta
from typing import Any, Final

from redis.exceptions import RedisError

# Refills by Redis's own clock, takes what is there, and says when the next token is.
_TAKE: Final = """
local capacity, per, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local known = redis.call('HMGET', KEYS[1], 'tokens', 'at', 'capacity')
local tokens, at = tonumber(known[1]), tonumber(known[2])
if not tokens or tonumber(known[3]) ~= capacity then tokens, at = capacity, now end
tokens = math.min(capacity, tokens + math.max(0, now - at) * capacity / per)
local granted = math.min(wanted, math.floor(tokens))
tokens = tokens - granted
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', tostring(now), 'capacity', capacity)
redis.call('PEXPIRE', KEYS[1], math.ceil(2 * per))
return {granted, math.ceil((1 - tokens) * per / capacity)}
"""


class TokenBuckets:
    """Takes tokens. Where Redis does not answer nobody is held back: telling comes before the limit."""

    def __init__(self, redis: Any, prefix: str) -> None:  # noqa: ANN401 - a client of one server or of a cluster
        self._redis = redis
        self._prefix = prefix

    async def take(self, receiver: str, *, capacity: int, per: timedelta, wanted: int) -> tuple[int, timedelta]:
        """How many of `wanted` are granted, and how long until the next token.

        Raises:
            RedisError, OSError, TimeoutError: Redis does not answer.
        """
        key = f"{self._prefix}limit:{{{receiver}}}"
        milliseconds = per / timedelta(milliseconds=1)
        granted, wait = await self._redis.eval(_TAKE, 1, key, capacity, milliseconds, wanted)
        return int(granted), timedelta(milliseconds=max(1, int(wait)))


AWAY: Final = (RedisError, OSError, TimeoutError)
