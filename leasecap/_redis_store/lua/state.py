"""What each script begins with: what the pool's hash says, and the clock."""

from __future__ import annotations

from leasecap._decisions.grants import ACKNOWLEDGE_WITHIN
from leasecap._redis_store.script import Script

FORMAT = 1
"""The format of what is in the server. A later one that this version could misread has a higher number."""

TTL = 30.0
"""Seconds without a renewal after which an entry ends, unless the pool's policy says another number."""

BEATS = 6
"""Renewals in the time of one expiry. Where the policy says a longer time, they come as often as without it: a server
that has forgotten the policy waits no longer for holders."""

DUTY = 1.0
"""Seconds between looks, at most, of the tickets on which all rely: they see what runs out by itself."""

_QUIET = 1.5 * DUTY
"""Seconds without a look after which one of these may be dead."""

PROOF = "?"
"""The message by which a process proves that messages reach it."""

_STATE = """
local POOL, QUEUE, PASSED, GRANTED, LEASES, EXPIRIES = unpack(KEYS, 1, 6)
local RECORDS, NAMES, DECLARED, NESTED, COOLING, ENDED, OVER = unpack(KEYS, 7, 13)
local call, FOREVER = redis.call, 9007199254740991
local TTL_MS, BEATS, LATE_MS, DUTY_MS, QUIET_MS = @TTL@, @BEATS@, @LATE@, @DUTY@, @QUIET@
local FORMAT, PROOF = @FORMAT@, '@PROOF@'
local channel, run, age = ARGV[1], ARGV[2], tonumber(ARGV[3])
local asks = table.remove(ARGV) == '1'  -- whether the caller itself asks the provider for its count
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
"""
_FIELDS = (
    "format", "limit", "ttl", "offset", "clock", "run", "quiet", "closed", "version", "decided", "due", "feedback",
    "order", "first", "cooldown", "rules", "holding", "timed", "by_task", "decider", "idle", "second",
    "alone",
)  # fmt: skip
for _word, _value in (
    ("@TTL@", f"{TTL * 1000:.0f}"),
    ("@BEATS@", f"{BEATS}"),
    ("@LATE@", f"{ACKNOWLEDGE_WITHIN * 1000:.0f}"),
    ("@DUTY@", f"{DUTY * 1000:.0f}"),
    ("@QUIET@", f"{_QUIET * 1000:.0f}"),
    ("@FORMAT@", f"{FORMAT}"),
    ("@PROOF@", PROOF),
    ("@FIELDS@", ", ".join(f"'{field}'" for field in _FIELDS)),
    ("@POOL@", ", ".join(f"{field} = read[{place}]" for place, field in enumerate(_FIELDS, 1))),
):
    _STATE = _STATE.replace(_word, _value)


def script(name: str, *parts: str, flags: str = "") -> Script:
    """The script of these parts; what `state` has stands before them."""
    return Script(name, f"#!lua{f' flags={flags}' if flags else ''}\n{_STATE}{''.join(parts)}")
