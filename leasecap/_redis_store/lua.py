"""The scripts. A server runs each one whole, with nothing else in between: they are the pool's critical section.

Lua has no second copy of the decisions. It grants by itself only in a *plain* pool: nobody runs under another lease,
the provider's answers say nothing, no slot cools down. There the first of the queue gets a slot while fewer are held
than the limit allows, which a test holds to `_decisions.grants.decide` state by state. In any other pool a script
answers with the snapshot and its version, the caller decides in Python, and `COMMIT` carries the plan out if the
version still stands.

Each script can be sent twice: a token that has been used up does nothing more.
"""

from __future__ import annotations

from leasecap._decisions.grants import ACKNOWLEDGE_WITHIN
from leasecap._redis_store.script import Script

FORMAT = 1
"""The format of what is in the server. A later one that this version could misread has a higher number."""

TTL = 30.0
"""Seconds without a renewal after which an entry ends, unless the pool's policy says another number."""

BEATS = 6
"""Renewals in the time of one expiry."""

_COMMON = """
local POOL, QUEUE, PASSED, GRANTED, LEASES, EXPIRIES = unpack(KEYS, 1, 6)
local RECORDS, NAMES, DECLARED, NESTED, COOLING, ENDED = unpack(KEYS, 7, 12)
local call, FOREVER = redis.call, 9007199254740991
local TTL_MS, BEATS, LATE_MS, FORMAT = @TTL@, @BEATS@, @LATE@, @FORMAT@
local channel, run, age = ARGV[1], ARGV[2], tonumber(ARGV[3])
local FIELDS = {'format', 'limit', 'ttl', 'offset', 'clock', 'run', 'quiet', 'closed', 'version', 'decided', 'due',
                'feedback', 'order', 'first', 'cooldown', 'rules'}
local pool, changed, read_only = {}, {}, false
for i, value in ipairs(call('HMGET', POOL, unpack(FIELDS))) do pool[FIELDS[i]] = value end

local function number(field, default) return tonumber(pool[field] or default) end
local function set(field, value)
  if type(value) == 'number' then value = string.format('%.0f', value) end
  pool[field], changed[field] = value, value
end
local function touch() set('version', number('version', 0) + 1) end
local function save()
  local words = {}
  for field, value in pairs(changed) do words[#words + 1] = field; words[#words + 1] = value end
  if #words > 0 and not read_only then call('HSET', POOL, unpack(words)) end
end
local function token_of(name) return string.sub(name, 22, 37) end
local function process_of(name) return string.sub(name, 39, 50) end
local function limit_of(name) return tonumber(string.match(name, '^%x+', 52), 16) or 0 end
local function is_nested(name) return string.find(name, '-', 52, true) ~= nil end
local function wake(name, word)
  if not read_only then call('PUBLISH', channel .. process_of(name), word or token_of(name)) end
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

local function note(name)
  call('HSET', NAMES, token_of(name), name)
  if limit_of(name) > 0 then call('ZADD', DECLARED, string.format('%.0f', limit_of(name)), name) end
  if is_nested(name) then call('SADD', NESTED, name) end
end
local function entries()
  return call('ZCARD', QUEUE) + call('ZCARD', PASSED) + call('ZCARD', GRANTED) + call('ZCARD', LEASES)
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
  for _, place in ipairs({QUEUE, PASSED, GRANTED, LEASES}) do
    for _, name in ipairs(call('ZRANGE', place, 0, -1)) do
      call('ZADD', EXPIRIES, 'NX', now + ttl, name)
      note(name)
    end
  end
  touch()
end
local function open()
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

-- A token that has ended is remembered, for longer if its holder may not know; '+' before one that its holder ended.
local function remember(token, by_holder)
  call('ZADD', ENDED, now + (by_holder and 10000 or 10 * ttl), (by_holder and '+' or '') .. token)
end
local function has_ended(token) return call('ZSCORE', ENDED, token) or call('ZSCORE', ENDED, '+' .. token) end
local function remove(name, by_holder)
  local where = false
  for _, place in ipairs({LEASES, GRANTED, QUEUE, PASSED}) do
    if call('ZREM', place, name) == 1 then where = place end
  end
  local token = token_of(name)
  call('ZREM', EXPIRIES, name)
  call('ZREM', DECLARED, name)
  call('SREM', NESTED, name)
  call('HDEL', NAMES, token)
  local agent = call('HGET', RECORDS, '@' .. token)
  if agent then call('HDEL', RECORDS, '@' .. token, agent) end
  call('HDEL', RECORDS, token, '!' .. token)
  remember(token, by_holder)
  touch()
  return where
end
local function acknowledge(name)
  call('ZREM', GRANTED, name)
  call('ZADD', LEASES, now, name)
  call('ZADD', EXPIRIES, now + ttl, name)
  touch()
end
local function pass_over(name)
  call('ZREM', GRANTED, name)
  call('ZADD', PASSED, 0, name)
  touch()
  wake(name)
end
local function grant(name, own)
  call('ZREM', QUEUE, name)
  if name == own then
    acknowledge(name)
  else
    call('ZADD', GRANTED, now, name)
    touch()
    wake(name)
  end
end
local function full_limit()
  local lowest = tonumber(call('ZRANGE', DECLARED, 0, 0, 'WITHSCORES')[2])
  local limit = tonumber(pool.limit)
  if lowest and limit then return math.min(lowest, limit) end
  return lowest or limit
end
-- The first ticket of each of the first two processes: they look now and then, for all.
local function first_two()
  local found, known, at = {}, {}, 0
  while #found < 2 and at < 256 do
    local some = call('ZRANGE', QUEUE, at, at + 15)
    for _, name in ipairs(some) do
      local process = process_of(name)
      if not known[process] and #found < 2 then
        known[process] = true
        found[#found + 1] = name
      end
    end
    if #some < 16 then break end
    at = at + 16
  end
  return found
end
local function notify_first(own)
  local found, words = first_two(), {}
  for _, name in ipairs(found) do
    words[#words + 1] = process_of(name)
    if name ~= own and not string.find(pool.first or '', process_of(name), 1, true) then wake(name, '!') end
  end
  words = table.concat(words, ' ')
  if words ~= (pool.first or '') then set('first', words) end
end
local function is_plain()
  return not pool.feedback and call('SCARD', NESTED) == 0 and call('ZCARD', COOLING) == 0
end
-- Make the pool match what holds now. Returns whether somebody has to decide in Python.
local function settle(own)
  if now >= number('quiet', 0) then
    for _, name in ipairs(call('ZRANGE', EXPIRIES, '-inf', now, 'BYSCORE', 'LIMIT', 0, 256)) do remove(name, false) end
  end
  for _, name in ipairs(call('ZRANGE', GRANTED, '-inf', now - LATE_MS, 'BYSCORE')) do pass_over(name) end
  call('ZREMRANGEBYSCORE', ENDED, '-inf', now)
  if call('ZREMRANGEBYSCORE', COOLING, '-inf', now) > 0 then touch() end
  local undecided = false
  if now >= number('closed', 0) then
    if is_plain() then
      local limit = full_limit()
      local room = limit and limit - call('ZCARD', GRANTED) - call('ZCARD', LEASES) or 0
      if room > 0 then
        for _, name in ipairs(call('ZRANGE', QUEUE, 0, math.min(room, 1000) - 1)) do grant(name, own) end
      end
    elseif call('ZCARD', QUEUE) > 0 then
      undecided = pool.version ~= pool.decided or now >= number('due', 0)
    end
  end
  notify_first(own)
  return undecided
end

local function next_change()
  local soonest = FOREVER
  local function at(moment) if moment and moment < soonest then soonest = moment end end
  at(math.max(tonumber(call('ZRANGE', EXPIRIES, 0, 0, 'WITHSCORES')[2] or FOREVER), number('quiet', 0)))
  local oldest = tonumber(call('ZRANGE', GRANTED, 0, 0, 'WITHSCORES')[2])
  at(oldest and oldest + LATE_MS)
  at(tonumber(call('ZRANGE', COOLING, 0, 0, 'WITHSCORES')[2]))
  if now < number('closed', 0) then at(number('closed', 0)) end
  if not is_plain() then at(number('due', FOREVER)) end
  return math.max(soonest - now, 0)
end
local function snapshot()
  return {now, pool.version or '0', pool.limit or '', pool.feedback or '', pool.rules or '',
          call('ZRANGE', QUEUE, 0, -1), call('ZRANGE', PASSED, 0, -1), call('ZRANGE', GRANTED, 0, -1, 'WITHSCORES'),
          call('ZRANGE', LEASES, 0, -1, 'WITHSCORES'), call('ZRANGE', COOLING, 0, -1, 'WITHSCORES'),
          math.max(number('closed', 0) - now, 0)}
end
-- state, time, ttl, time of the grant, place in the queue, on duty, until something changes, until grants go on, name
local function standing(state, name, undecided)
  local since, rank, duty = 0, 0, 0
  if state == 'held' then since = tonumber(call('ZSCORE', LEASES, name)) end
  if state == 'queued' then
    rank = (call('ZRANK', QUEUE, name) or -1) + 1
    for _, first in ipairs(first_two()) do if first == name then duty = 1 end end
  end
  local changes = duty == 1 and next_change() or FOREVER
  local seen = undecided and snapshot() or false
  save()
  return {state, now, ttl, since, rank, duty, changes, math.max(number('closed', 0) - now, 0), name or '', seen}
end
-- What has become of a ticket, whose waiter runs.
local function stands(name)
  if call('ZSCORE', LEASES, name) then return 'held' end
  if call('ZSCORE', GRANTED, name) then
    acknowledge(name)
    return 'held'
  end
  return full_limit() and 'queued' or 'nolimit'
end

if tonumber(pool.format or 0) > FORMAT then
  return redis.error_reply('LEASECAPFORMAT ' .. pool.format)
end
"""
for _word, _number in (
    ("@TTL@", TTL * 1000),
    ("@BEATS@", BEATS),
    ("@LATE@", ACKNOWLEDGE_WITHIN * 1000),
    ("@FORMAT@", FORMAT),
):
    _COMMON = _COMMON.replace(_word, f"{_number:.0f}")


def _script(name: str, body: str, *, flags: str = "") -> Script:
    return Script(name, f"#!lua{f' flags={flags}' if flags else ''}\n{_COMMON}{body}")


PLACE = _script(
    "place",
    """
local rank, order, token, process, limit, may_queue, record, agent = unpack(ARGV, 4, 11)
open()
local name = call('HGET', NAMES, token)
if name then
  local undecided = settle(name)
  return standing(stands(name), name, undecided)
end
if has_ended(token) then return standing('gone', false, false) end
if agent ~= '' then
  local others = call('HGET', RECORDS, agent)
  local its = others and call('HGET', NAMES, others)
  if its then
    settle()
    if call('ZSCORE', LEASES, its) then return standing('agent', its, false) end
    if call('HGET', NAMES, others) then return standing('behind', its, false) end
  end
end
limit = tonumber(limit, 16)
if limit == 0 and not tonumber(pool.limit) then
  -- Where only declarations give the pool a limit, a newcomer takes on the one it finds: else waiters would be left
  -- without any once those who declared it are gone.
  local lowest = call('ZRANGE', DECLARED, 0, 0, 'WITHSCORES')[2]
  if not lowest then return standing('nolimit', false, false) end
  limit = tonumber(lowest)
end
-- With each one's own ancestors: who was handed a part of the chain alone would, once its lender ends, move to a lender
-- further out and raise the pool's load.
local line, known = {}, {}
local function add(one)
  local its = call('HGET', NAMES, one)
  if its and not known[one] and call('ZSCORE', LEASES, its) then
    known[one] = true
    line[#line + 1] = one
    for further in string.gmatch(string.match(string.sub(its, 52), '%x+(.*)'), '%x+') do add(further) end
  end
end
for i = 12, #ARGV do add(ARGV[i]) end
if #line > 10 then return standing('deep', false, false) end
if order == '' then
  order = math.max(now * 1000, number('order', 0) + 1)
  set('order', order)
end
-- Lua's numbers are exact up to 2^53 alone, and "unlimited" is a higher one.
local tail = limit >= FOREVER and '7fffffffffffffff' or string.format('%x', limit)
for _, one in ipairs(line) do tail = tail .. '-' .. one end
name = string.format('%s-%016x-%s-%s-%s', rank, tonumber(order), token, process, tail)
call('ZADD', QUEUE, 0, name)
call('ZADD', EXPIRIES, now + ttl, name)
call('HSET', RECORDS, token, record)
if agent ~= '' then call('HSET', RECORDS, agent, token, '@' .. token, agent) end
note(name)
touch()
local undecided = settle(name)
local state = stands(name)
if state == 'queued' and may_queue == '0' and not undecided then
  remove(name, true)
  call('ZREM', ENDED, '+' .. token)
  notify_first(name)
  state = 'refused'
end
return standing(state, state ~= 'refused' and name or false, undecided)
""",
)
"""Ask for a slot: held, queued, refused, gone, nolimit or deep; agent or behind if one is held or asked for already."""

LOOK = _script(
    "look",
    """
open()
local name = call('HGET', NAMES, ARGV[4])
if not name then
  settle()
  return standing('gone', false, false)
end
call('ZADD', EXPIRIES, now + ttl, name)
if call('ZREM', PASSED, name) == 1 then
  call('ZADD', QUEUE, 0, name)
  touch()
end
local undecided = settle(name)
return standing(stands(name), name, undecided)
""",
    flags="allow-oom",
)
"""See what became of a ticket, and take up a grant: held, queued or gone."""

WITHDRAW = _script(
    "withdraw",
    """
open()
local name = call('HGET', NAMES, ARGV[4])
local undecided = false
if not name then
  remember(ARGV[4], true)
else
  local state = stands(name)
  if state == 'held' then return standing(state, name, settle(name)) end
  remove(name, true)
  undecided = settle()
end
return standing('gone', false, undecided)
""",
    flags="allow-oom",
)
"""Leave the queue: held if it was granted meanwhile, else gone."""

END = _script(
    "end",
    """
open()
local token, by_holder = ARGV[4], ARGV[5] == '1'
local name = call('HGET', NAMES, token)
local where = false
if name then
  where = remove(name, by_holder)
  local cooldown = number('cooldown', 0)
  if by_holder and cooldown > 0 and where == LEASES then call('ZADD', COOLING, now + cooldown, name) end
  if not by_holder then wake(name, '-' .. token) end
else
  where = by_holder and call('ZSCORE', ENDED, '+' .. token) and LEASES
  if not has_ended(token) then remember(token, by_holder) end
end
local undecided = settle()
return standing((where == LEASES or where == GRANTED) and 'ended' or 'gone', false, undecided)
""",
    flags="allow-oom",
)
"""End an entry, wherever it stands: ended if it was held, else gone."""

RENEW = _script(
    "renew",
    """
open()
local answers, leases = {}, tonumber(ARGV[4])
for i = 5, #ARGV do
  local name, answer = ARGV[i], 'kept'
  local is_known = call('HGET', NAMES, token_of(name)) == name
  if i > 4 + leases then
    if not is_known then answer = 'lost' end
  elseif is_known and call('ZSCORE', LEASES, name) then
    answer = 'kept'
  elseif is_known or (now < number('closed', 0) and not has_ended(token_of(name))) then
    -- The server has forgotten that it is held, or never knew.
    for _, place in ipairs({GRANTED, QUEUE, PASSED}) do call('ZREM', place, name) end
    call('ZADD', LEASES, now, name)
    note(name)
    touch()
    answer = 'adopted'
  else
    answer = 'lost'
  end
  if answer ~= 'lost' then call('ZADD', EXPIRIES, now + ttl, name) end
  answers[#answers + 1] = answer
end
local undecided = settle()
local found = standing('renewed', false, undecided)
found[#found + 1] = answers
return found
""",
    flags="allow-oom",
)
"""Renew leases, and then tickets: each is kept or lost; or a lease is adopted by a server that had forgotten it."""

HOLDERS = _script(
    "holders",
    """
local known, found, records = {}, {}, {}
for i = 4, #ARGV do known[ARGV[i]] = true end
for _, place in ipairs({GRANTED, LEASES}) do
  for _, name in ipairs(call('ZRANGE', place, 0, -1)) do
    local token = token_of(name)
    found[#found + 1] = token
    if not known[token] then
      records[#records + 1] = token
      records[#records + 1] = call('HGET', RECORDS, token) or ''
    end
  end
end
return {found, records}
""",
    flags="no-writes",
)
"""The tokens of all that is held, and the records of those that the caller doesn't know."""

DESCRIBE = _script(
    "describe",
    """
local token, record = ARGV[4], ARGV[5]
if call('HEXISTS', NAMES, token) == 0 then return 0 end
call('HSET', RECORDS, token, record)
return 1
""",
    flags="allow-oom",
)
"""Change what an entry says of its process; 0 if it is gone."""

ANSWERED = _script(
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

COMMIT = _script(
    "commit",
    """
local version, own, feedback, due, parked = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
open()
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
set('due', now + due)
notify_first(own)
return standing('done', false, false)
""",
    flags="allow-oom",
)
"""Carry a plan out, if nothing has changed since its snapshot: done, else changed. While the pool is closed only a plan
without grants can be carried out, that is, a change of the feedback."""

SNAPSHOT = _script(
    "snapshot",
    """
return {snapshot(), call('HGETALL', RECORDS), call('ZRANGE', EXPIRIES, 0, -1, 'WITHSCORES'), ttl,
        pool.format or '', call('HMGET', POOL, 'limit_by', 'limit_at', 'policy_by', 'policy_at')}
""",
    flags="no-writes",
)
"""The pool as it stands, for people."""

CONFIGURE = _script(
    "configure",
    """
open()
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    call('HDEL', POOL, ARGV[i])
    pool[ARGV[i]] = false
  else
    set(ARGV[i], ARGV[i + 1])
  end
end
touch()
local undecided = settle()
return standing('done', false, undecided)
""",
)
"""Set what holds for everybody: the limit, the policy."""

WAKE_ALL = _script(
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

FORGET = _script(
    "forget",
    """
if not pool.format then return 'unknown' end
open()
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
