"""What each script begins with: the pool as it stands, its clock, and what is done when a server has lost something."""

from __future__ import annotations

from leasecap._decisions.grants import ACKNOWLEDGE_WITHIN
from leasecap._redis_store.script import Script

FORMAT = 1
"""The format of what is in the server. A later one that this version could misread has a higher number."""

TTL = 30.0
"""Seconds without a renewal after which an entry ends, unless the pool's policy says another number."""

BEATS = 6
"""Renewals in the time of one expiry."""

_STATE = """
local POOL, QUEUE, PASSED, GRANTED, LEASES, EXPIRIES = unpack(KEYS, 1, 6)
local RECORDS, NAMES, DECLARED, NESTED, COOLING, ENDED = unpack(KEYS, 7, 12)
local call, FOREVER = redis.call, 9007199254740991
local TTL_MS, BEATS, LATE_MS, FORMAT = @TTL@, @BEATS@, @LATE@, @FORMAT@
local channel, run, age = ARGV[1], ARGV[2], tonumber(ARGV[3])
local read = call('HMGET', POOL, @FIELDS@)
local pool, changed, touched = {@POOL@}, {}, false
if tonumber(pool.format or 0) > FORMAT then
  return redis.error_reply('LEASECAPFORMAT ' .. pool.format)
end

local function number(field, default) return tonumber(pool[field] or default) end
local function set(field, value)
  if type(value) == 'number' then value = string.format('%.0f', value) end
  pool[field], changed[#changed + 1], changed[#changed + 2] = value, field, value
end
local function touch()
  if not touched then
    touched = true
    set('version', number('version', 0) + 1)
  end
end
local function save() if #changed > 0 then call('HSET', POOL, unpack(changed)) end end
local function token_of(name) return string.sub(name, 22, 37) end
local function process_of(name) return string.sub(name, 39, 50) end
local function limit_of(name) return tonumber(string.match(name, '^%x+', 52), 16) or 0 end
local function is_nested(name) return string.find(name, '-', 52, true) ~= nil end
local function wake(name, word)
  call('PUBLISH', channel .. process_of(name), word or token_of(name))
end

-- The clock: the server's, and never backwards.
local seconds, micros = unpack(call('TIME'))
local now = seconds * 1000 + math.floor(micros / 1000) + number('offset', 0)
if now < number('clock', 0) then
  set('offset', number('offset', 0) + number('clock', 0) - now)
  now = number('clock', 0)
end
local ttl = number('ttl', TTL_MS)
local settling = math.floor(ttl / BEATS) + 1000

-- How many stand in each place, after `open`. An entry moves by `put` and `take` alone.
local PLACES, size = {QUEUE, PASSED, GRANTED, LEASES}, {}
local function put(place, name, score) size[place] = size[place] + call('ZADD', place, score, name) end
local function take(place, name)
  if size[place] == 0 or call('ZREM', place, name) == 0 then return false end
  size[place] = size[place] - 1
  return true
end
local function entries() return size[QUEUE] + size[PASSED] + size[GRANTED] + size[LEASES] end
local function renew(name) call('ZADD', EXPIRIES, now + ttl, name) end
local function note(name)
  call('HSET', NAMES, token_of(name), name)
  if limit_of(name) > 0 then call('ZADD', DECLARED, string.format('%.0f', limit_of(name)), name) end
  if is_nested(name) then size[NESTED] = size[NESTED] + call('SADD', NESTED, name) end
end
-- The server has lost something. Whoever holds a slot renews it within a beat, and is counted again: until then nobody
-- is granted anything, and nobody's time runs out.
local function forgotten()
  set('closed', now + settling)
  set('quiet', now + settling)
  for _, name in ipairs(call('ZRANGE', EXPIRIES, 0, -1)) do
    if not (call('ZSCORE', QUEUE, name) or call('ZSCORE', PASSED, name) or call('ZSCORE', GRANTED, name)
            or call('ZSCORE', LEASES, name)) then call('ZREM', EXPIRIES, name) end
  end
  for _, place in ipairs(PLACES) do
    for _, name in ipairs(call('ZRANGE', place, 0, -1)) do
      call('ZADD', EXPIRIES, 'NX', now + ttl, name)
      note(name)
    end
  end
  touch()
end
local function open()
  for _, place in ipairs(PLACES) do size[place] = call('ZCARD', place) end
  size[NESTED], size[COOLING] = call('SCARD', NESTED), call('ZCARD', COOLING)
  local had = entries()
  if not pool.format then
    set('format', FORMAT)
    set('run', run)
    if had > 0 or call('ZCARD', EXPIRIES) > 0 or age < ttl then forgotten() end
  elseif pool.run ~= run then
    set('run', run)
    forgotten()
  elseif had ~= call('ZCARD', EXPIRIES) or had ~= call('HLEN', NAMES) then
    forgotten()
  elseif now - number('clock', 0) > settling then
    set('quiet', now + settling)
  end
  set('clock', now)
end
"""
_FIELDS = (
    "format", "limit", "ttl", "offset", "clock", "run", "quiet", "closed", "version", "decided", "due", "feedback",
    "order", "first", "cooldown", "rules",
)  # fmt: skip
for _word, _value in (
    ("@TTL@", f"{TTL * 1000:.0f}"),
    ("@BEATS@", f"{BEATS}"),
    ("@LATE@", f"{ACKNOWLEDGE_WITHIN * 1000:.0f}"),
    ("@FORMAT@", f"{FORMAT}"),
    ("@FIELDS@", ", ".join(f"'{field}'" for field in _FIELDS)),
    ("@POOL@", ", ".join(f"{field} = read[{place}]" for place, field in enumerate(_FIELDS, 1))),
):
    _STATE = _STATE.replace(_word, _value)


def script(name: str, *parts: str, flags: str = "") -> Script:
    """The script of these parts; what `state` has stands before them."""
    return Script(name, f"#!lua{f' flags={flags}' if flags else ''}\n{_STATE}{''.join(parts)}")
