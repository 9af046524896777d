"""The scripts of leases that are held."""

from __future__ import annotations

from leasecap._redis_store.lua.changes import CHANGES
from leasecap._redis_store.lua.opening import OPENING
from leasecap._redis_store.lua.state import script

RENEW = script(
    "renew",
    OPENING,
    CHANGES,
    """
local answers, leases = {}, tonumber(ARGV[4])
for i = 5, #ARGV do
  local name, answer = ARGV[i], 'kept'
  local is_known = call('HGET', NAMES, token_of(name)) == name
  if i > 4 + leases then
    if not is_known then answer = 'lost' end
  elseif is_known and call('ZSCORE', LEASES, name) then
    -- Its holder may not know that it was adopted: the answer was lost, or what its holder told then.
    if call('HEXISTS', RECORDS, token_of(name)) == 0 then answer = 'adopted' end
  elseif is_known or (now < number('closed', 0) and not has_ended(token_of(name))) then
    -- The server has forgotten that it is held, or never knew.
    for _, place in ipairs({GRANTED, QUEUE, PASSED}) do take(place, name) end
    put(LEASES, name, now)
    note(name)
    touch()
    answer = 'adopted'
  else
    answer = 'lost'
  end
  if answer ~= 'lost' then renew(name) end
  answers[#answers + 1] = answer
end
local undecided = settle()
return standing('renewed', false, undecided, 0, answers)
""",
    flags="allow-oom",
)
"""Renew leases, and then tickets: each is kept or lost; or a lease is adopted by a server that had forgotten it, until
its holder has told whom it is for."""

TO_WATCH = script(
    "to-watch",
    """
local holders, most = ARGV[4] == '1', tonumber(ARGV[5])
local known, processes, found, records = {}, {}, {}, {}
for i = 6, #ARGV do known[ARGV[i]] = true end
local function add(name)
  local token = token_of(name)
  found[#found + 1] = token
  if not known[token] then
    records[#records + 1] = token
    records[#records + 1] = call('HGET', RECORDS, token) or ''
  end
end
if holders then
  for _, place in ipairs({GRANTED, LEASES, PASSED}) do
    for _, name in ipairs(call('ZRANGE', place, 0, -1)) do add(name) end
  end
end
for _, name in ipairs(call('ZRANGE', QUEUE, 0, 255)) do
  local process = process_of(name)
  if most > 0 and not processes[process] then
    processes[process], most = true, most - 1
    add(name)
  end
end
return {found, records}
""",
    flags="no-writes",
)
"""The tokens of all that is held or passed over, if they are asked for, and of the first ticket of so many processes
that wait first; and the records of those that the caller doesn't know."""

DESCRIBE = script(
    "describe",
    """
local token, record, over, agent = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local name = call('HGET', NAMES, token)
if not name then return 0 end
call('HSET', RECORDS, token, record)
if agent ~= '' then
  -- Another hook may have asked while nobody knew that the agent has this one.
  local other = call('HGET', NAMES, call('HGET', RECORDS, agent) or '')
  if not (other and other ~= name and call('ZSCORE', LEASES, other)) then
    call('HSET', RECORDS, agent, token, '@' .. token, agent)
  end
end
local since = call('ZSCORE', LEASES, name)
if since and over ~= '' then
  call('HSET', POOL, 'timed', '1')
  call('ZADD', OVER, string.format('%.0f', since + over), name)
elseif pool.timed then
  call('ZREM', OVER, name)
end
return 1
""",
    flags="allow-oom",
)
"""Change what an entry says of its process, for which agent it is, and when it is given away; 0 if it is gone."""

BEGIN_ANEW = script(
    "begin-anew",
    """
local name = call('HGET', NAMES, ARGV[4])
if not (name and call('ZSCORE', LEASES, name)) then return false end
call('ZADD', LEASES, now, name)
if pool.timed then call('ZREM', OVER, name) end
return call('HGET', RECORDS, ARGV[4]) or ''
""",
    flags="allow-oom",
)
"""Let the time of a lease begin anew; returns its record, or nothing if it is gone."""

ANSWERED = script(
    "answered",
    """
local token = ARGV[4]
if call('HEXISTS', NAMES, token) == 1 and call('HEXISTS', RECORDS, '!' .. token) == 0 then
  call('HSET', RECORDS, '!' .. token, string.format('%.0f', now))
end
return 1
""",
    flags="allow-oom",
)
"""Note when the answer began of the request that a lease is for."""
