"""What each script that changes a pool begins with, after `state`: how many stand where, what is done when the server
has lost something, and how an entry comes and goes.

A script that finds the pool calm can end here. To define what `changes` has takes longer than that.
"""

from __future__ import annotations

OPENING = """
-- How many stand in each place. An entry moves by `put` and `take` alone.
local PLACES = {QUEUE, PASSED, GRANTED, LEASES}
local size = {
  [QUEUE] = call('ZCARD', QUEUE), [PASSED] = call('ZCARD', PASSED), [GRANTED] = call('ZCARD', GRANTED),
  [LEASES] = call('ZCARD', LEASES), [NESTED] = call('SCARD', NESTED), [COOLING] = call('ZCARD', COOLING),
}
local function entries() return size[QUEUE] + size[PASSED] + size[GRANTED] + size[LEASES] end
local function put(place, name, score) size[place] = size[place] + call('ZADD', place, score, name) end
local function take(place, name)
  if size[place] == 0 or call('ZREM', place, name) == 0 then return false end
  size[place] = size[place] - 1
  return true
end
local function renew(name) call('ZADD', EXPIRIES, now + ttl, name) end
local function note(name)
  call('HSET', NAMES, token_of(name), name)
  if limit_of(name) > 0 then call('ZADD', DECLARED, string.format('%.0f', limit_of(name)), name) end
  if is_nested(name) then size[NESTED] = size[NESTED] + call('SADD', NESTED, name) end
end
-- A token that has ended is remembered, for longer if its holder may not know; '+' before one that its holder ended.
local function remember(token, by_holder)
  call('ZREMRANGEBYSCORE', ENDED, '-inf', now)
  call('ZADD', ENDED, now + (by_holder and 10000 or 10 * ttl), (by_holder and '+' or '') .. token)
end
local function has_ended(token)
  local taken, given_back = unpack(call('ZMSCORE', ENDED, token, '+' .. token))
  return taken or given_back
end
-- All that is known of an entry, but where it stands.
local function forget(name)
  local token = token_of(name)
  call('ZREM', EXPIRIES, name)
  if limit_of(name) > 0 then call('ZREM', DECLARED, name) end
  if is_nested(name) then size[NESTED] = size[NESTED] - call('SREM', NESTED, name) end
  if pool.timed then call('ZREM', OVER, name) end
  call('HDEL', NAMES, token)
  local agent = call('HGET', RECORDS, '@' .. token)
  if agent and call('HGET', RECORDS, agent) == token then call('HDEL', RECORDS, agent) end
  call('HDEL', RECORDS, token, '!' .. token, '?' .. token, '@' .. token)
end
local function remove(name, by_holder)
  local where = false
  for _, place in ipairs(PLACES) do
    if take(place, name) then where = place end
  end
  forget(name)
  remember(token_of(name), by_holder)
  if where == LEASES then set('idle', now) end
  touch()
  return where
end
local function full_limit()
  local lowest = tonumber(call('ZRANGE', DECLARED, 0, 0, 'WITHSCORES')[2])
  local limit = tonumber(pool.limit)
  if lowest and limit then return math.min(lowest, limit) end
  return lowest or limit
end
local function is_plain()
  return not (pool.feedback or pool.decider or asks) and size[NESTED] == 0 and size[COOLING] == 0
end
-- state, time, ttl, by task, time of the grant, place in the queue, duty, until something changes, until grants go
-- on, name, what the policy says of holders
local grace = 0
local function line(state, name, since, rank, duty, changes)
  save()
  local closed = math.max(number('closed', 0) - now, grace, 0)
  local times = table.concat({state, now, ttl, pool.by_task or 0, since or 0}, ' ')
  local words = {times, rank or 0, duty or 0, changes or math.huge, closed, name or '', pool.holding or ''}
  return table.concat(words, ' ')
end

local settling, lost = math.floor(math.min(ttl, TTL_MS) / BEATS) + 1000, true
local over_by  -- whose time is over by then, of those who are to go
if not pool.format then
  set('format', FORMAT)
  set('idle', now)
  lost = entries() > 0 or call('ZCARD', EXPIRIES) > 0 or age < ttl
elseif pool.run == run then
  lost = entries() ~= call('ZCARD', EXPIRIES) or entries() ~= call('HLEN', NAMES)
end
if pool.run ~= run then set('run', run) end
if lost then
  -- Whoever holds a slot renews it within a beat, and is counted again: until then nobody is granted anything, and
  -- nobody's time runs out.
  set('closed', now + settling)
  set('quiet', now + settling)
  local function forget_unless_placed(name)
    for _, place in ipairs(PLACES) do if call('ZSCORE', place, name) then return end end
    forget(name)
  end
  local known = call('HGETALL', NAMES)
  for i = 2, #known, 2 do forget_unless_placed(known[i]) end
  for _, name in ipairs(call('ZRANGE', EXPIRIES, 0, -1)) do forget_unless_placed(name) end
  for _, place in ipairs(PLACES) do
    for _, name in ipairs(call('ZRANGE', place, 0, -1)) do
      call('ZADD', EXPIRIES, 'NX', now + ttl, name)
      note(name)
    end
  end
  touch()
elseif pool.clock and now - pool.clock > settling then
  -- Whose time was over before the last such wait, which is over as well: nobody has called at its end. Of a server
  -- that had lost something it can't be told who could renew in it.
  if now >= number('quiet', 0) and pool.quiet ~= pool.closed then over_by = number('quiet', 0) - settling end
  set('quiet', now + settling)
end
set('clock', now)

-- Whose time is over.
if now >= number('quiet', 0) then over_by = now end
local expired = over_by and call('ZRANGE', EXPIRIES, '-inf', over_by, 'BYSCORE', 'LIMIT', 0, 256) or {}
local function gives_away() return pool.timed and string.find(pool.holding or '', '"force"', 1, true) end
-- Whether there is nothing to reconcile: nobody waits, nothing has run out.
local calm = now >= number('closed', 0) and size[QUEUE] + size[GRANTED] + size[COOLING] == 0 and #expired == 0
             and not (gives_away() and call('ZCOUNT', OVER, '-inf', now) > 0)
"""
