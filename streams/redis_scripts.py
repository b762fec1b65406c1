"""The atomic writes of the table store, as Lua for Redis 6.2 and later. Each touches one partition's keys only."""

from typing import Final

# What each script asks first: is the caller the owner, and are the tables what its owner left?
# Answers -1 where a newer owner is, -2 where Redis forgot (everything, or back to an older day).
_OWNED: Final = """
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'log_id', 'offset', 'entries')
local epoch, mine = tonumber(meta[1] or '0'), tonumber(ARGV[1])
if epoch > mine then return -1 end
if epoch < mine then return -2 end
local function entries()
  local found = 0
  for t = 2, #KEYS do found = found + redis.call('HLEN', KEYS[t]) end
  return found
end
"""

# KEYS: meta, one hash a table. ARGV: epoch, log_id and offset that must stand there, 1 for a piece (the mark
# stays) or 0, log_id, offset, config_version, watermark, saved_at, then for each table the number of set
# arguments, field and value in turn, the number of deletions, fields. Answers 1 written, 0 already there.
FLUSH: Final = (
    _OWNED
    + """
if ARGV[4] == '0' and meta[2] == ARGV[5] and meta[3] == ARGV[6] then return 0 end
if (meta[2] or '') ~= ARGV[2] or (meta[3] or '-1') ~= ARGV[3] then return -2 end
if meta[4] and tonumber(meta[4]) ~= entries() then return -2 end
local at = 10
for t = 2, #KEYS do
  local last = at + tonumber(ARGV[at])
  at = at + 1
  while at <= last do
    local upto = math.min(at + 3999, last)
    redis.call('HSET', KEYS[t], unpack(ARGV, at, upto))
    at = upto + 1
  end
  last = at + tonumber(ARGV[at])
  at = at + 1
  while at <= last do
    local upto = math.min(at + 3999, last)
    redis.call('HDEL', KEYS[t], unpack(ARGV, at, upto))
    at = upto + 1
  end
end
redis.call('HSET', KEYS[1], 'entries', entries())
if ARGV[4] == '0' then
  redis.call('HSET', KEYS[1], 'log_id', ARGV[5], 'offset', ARGV[6], 'config_version', ARGV[7], 'watermark', ARGV[8],
    'saved_at', ARGV[9])
end
return 1
"""
)

# Takes the partition over: the epoch only grows. Answers 1, or 0 when a newer owner was there first.
CLAIM: Final = """
if tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
return 1
"""

# Takes the partition over with an epoch that Redis allocates: above the last one, and above every one that a
# Redis knew that has forgotten since, as it starts at the time (ARGV: milliseconds). Answers the epoch.
TAKE: Final = """
local epoch = math.max(tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') + 1, tonumber(ARGV[1]))
redis.call('HSET', KEYS[1], 'epoch', string.format('%.0f', epoch))
return epoch
"""

# Drops a partition's tables and its position, keeping the epoch, before they are rebuilt.
CLEAR: Final = (
    _OWNED
    + """
redis.call('HDEL', KEYS[1], 'log_id', 'offset', 'config_version', 'watermark', 'saved_at', 'entries')
for t = 2, #KEYS do redis.call('UNLINK', KEYS[t]) end
return 1
"""
)

# Says one's own time, if any, and answers everybody else's who said theirs lately. KEYS: a hash. ARGV: own name,
# own time or nothing, milliseconds that a word counts. Answers name and time in turn.
SAY: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. string.format('%.0f', now))
end
local said, others = redis.call('HGETALL', KEYS[1]), {}
for at = 1, #said, 2 do
  local time, when = string.match(said[at + 1], '^(%S+) (%S+)$')
  if now - tonumber(when) > tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], said[at])
  elseif said[at] ~= ARGV[1] then
    others[#others + 1] = said[at]
    others[#others + 1] = time
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return others
"""
