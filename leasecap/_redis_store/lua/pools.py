"""The scripts of a whole pool."""

from __future__ import annotations

from leasecap._redis_store.lua.changes import CHANGES, PICTURE
from leasecap._redis_store.lua.opening import OPENING
from leasecap._redis_store.lua.state import script

COMMIT = script(
    "commit",
    OPENING,
    CHANGES,
    """
local version, own, feedback, due, parked = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local closed = now < number('closed', 0)
if (pool.version or '0') ~= version or (closed and #ARGV > 8) then
  return standing('changed', false, not closed)
end
for i = 9, 8 + parked do if call('ZSCORE', GRANTED, ARGV[i]) then pass_over(ARGV[i]) end end
for i = 9 + parked, #ARGV do if call('ZSCORE', QUEUE, ARGV[i]) then grant(ARGV[i], own) end end
if feedback == 'none' then
  call('HDEL', POOL, 'feedback')
  pool.feedback = false
elseif feedback ~= 'same' then
  set('feedback', feedback)
end
touch()
if not closed then set('decided', pool.version) end
-- Who looks for all knows when the pool was to be decided anew; if that is sooner now, it has to be told.
local sooner = now + due < number('due', FOREVER)
set('due', now + due)
notify_first(own, sooner)
return standing('done', false, false)
""",
    flags="allow-oom",
)
"""Carry a plan out, if nothing has changed since its snapshot: done, else changed. While the pool is closed only a plan
without grants can be carried out, that is, a change of the feedback."""

SNAPSHOT = script(
    "snapshot",
    PICTURE,
    """
return {snapshot(), call('HGETALL', RECORDS), call('ZRANGE', EXPIRIES, 0, -1, 'WITHSCORES'), ttl,
        pool.format or '', call('HMGET', POOL, 'limit_by', 'limit_at', 'policy_by', 'policy_at', 'holding')}
""",
    flags="no-writes",
)
"""The pool as it stands, for people."""

CONFIGURE = script(
    "configure",
    OPENING,
    CHANGES,
    """
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    call('HDEL', POOL, ARGV[i])
    pool[ARGV[i]] = false
  else
    set(ARGV[i], ARGV[i + 1])
  end
end
local latest = now + number('cooldown', 0)
for _, name in ipairs(call('ZRANGE', COOLING, '(' .. latest, '+inf', 'BYSCORE')) do
  call('ZADD', COOLING, latest, name)
end
touch()
local undecided = settle()
return standing('done', false, undecided)
""",
)
"""Set what holds for everybody: the limit, the policy."""

WAKE_ALL = script(
    "wake-all",
    """
local seen = {}
for _, place in ipairs({QUEUE, PASSED}) do
  for _, name in ipairs(call('ZRANGE', place, 0, -1)) do
    if not seen[process_of(name)] then
      seen[process_of(name)] = true
      wake(name, '*')
    end
  end
end
return 1
""",
    flags="allow-oom",
)
"""Have all waiters look."""

FORGET = script(
    "forget",
    """
if not pool.format then return 'unknown' end
""",
    OPENING,
    CHANGES,
    """
settle()
if entries() > 0 then
  save()
  return 'used'
end
call('DEL', unpack(KEYS))
return 'forgotten'
""",
    flags="allow-oom",
)
"""Remove the pool, if nobody uses it: used, forgotten or unknown."""
