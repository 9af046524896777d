"""How scripts make a pool match what holds now, and what they answer. It goes on from `opening`.

Lua has no second copy of the decisions. It grants by itself only in a *plain* pool: nobody runs under another lease,
the provider's answers say nothing, nobody asks it for its count, no slot cools down, and the policy has no key that
Python alone decides by. There the first of the queue gets a slot while fewer are held than the limit allows, which a
test holds to `_decisions.grants.decide` state by state. In any other pool a script answers with the snapshot and its
version, the caller decides in Python, and `pools.COMMIT` carries the plan out if the version still stands.
"""

from __future__ import annotations

PICTURE = """
local function snapshot()
  return {now, pool.version or '0', pool.limit or '', pool.feedback or '', pool.rules or '',
          call('ZRANGE', QUEUE, 0, -1), call('ZRANGE', PASSED, 0, -1), call('ZRANGE', GRANTED, 0, -1, 'WITHSCORES'),
          call('ZRANGE', LEASES, 0, -1, 'WITHSCORES'), call('ZRANGE', COOLING, 0, -1, 'WITHSCORES'),
          math.max(number('closed', 0) - now, 0), now - number('idle', 0)}
end
"""

CHANGES = (
    PICTURE
    + """
local function of_process(name, places)
  local found = {}
  for _, place in ipairs(places) do
    for _, other in ipairs(call('ZRANGE', place, 0, -1)) do
      if process_of(other) == process_of(name) then found[#found + 1] = other end
    end
  end
  return found
end
-- Whose grant isn't taken up doesn't run: none of its tickets is granted anything until that one looks. What else it
-- was granted stands for its own time, since another thread of it may have begun on the message of that.
local function pass_over(name)
  local its = of_process(name, {QUEUE})
  for _, each in ipairs(of_process(name, {GRANTED})) do
    if tonumber(call('ZSCORE', GRANTED, each)) <= now - LATE_MS then its[#its + 1] = each end
  end
  for _, each in ipairs(its) do
    if not take(GRANTED, each) then take(QUEUE, each) end
    put(PASSED, each, 0)
  end
  touch()
  wake(name, #its > 1 and '*')
end
local function grant(name, own)
  take(QUEUE, name)
  put(name == own and LEASES or GRANTED, name, now)
  touch()
  if name ~= own then wake(name, '+' .. token_of(name) .. ' ' .. now) end
end
-- The first ticket of another process, behind very many of one. To find it takes long, so it is kept for as long as it
-- waits; and for a second after there was none, it is the one that comes.
local function behind_all_of(process, at, own)
  local function waits_behind(name)
    return name and process_of(name) ~= process and call('ZSCORE', QUEUE, name)
  end
  local second = pool.second or ''
  if waits_behind(second) then return second end
  local function keep(name)
    if name ~= second then set('second', name or '') end
    return name
  end
  if second == '' and now < number('alone', 0) then return waits_behind(own) and keep(own) or nil end
  while at < size[QUEUE] do
    for _, name in ipairs(call('ZRANGE', QUEUE, at, at + 255)) do
      if process_of(name) ~= process then return keep(name) end
    end
    at = at + 256
  end
  set('alone', now + DUTY_MS)
  return keep(nil)
end
-- The first ticket of each of the first two processes: they look now and then, for all.
local function first_two(own)
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
    if #some < 16 then return found end
    at = at + 16
  end
  if #found == 1 then found[2] = behind_all_of(process_of(found[1]), at, own) end
  return found
end
local first
local function notify_first(own, at_once)
  first = size[QUEUE] > 0 and first_two(own) or {}
  local words = {}
  for _, name in ipairs(first) do
    words[#words + 1] = process_of(name)
    local is_new = not string.find(pool.first or '', process_of(name), 1, true)
    if name ~= own and (at_once or is_new) then wake(name, not at_once and '!') end
  end
  words = table.concat(words, ' ')
  if words ~= (pool.first or '') then set('first', words) end
end
-- Take what was held for too long from its holders, though they may still work.
local function give_away()
  for _, name in ipairs(call('ZRANGE', OVER, '-inf', now, 'BYSCORE', 'LIMIT', 0, 256)) do
    if call('ZSCORE', LEASES, name) then
      wake(name, '-' .. token_of(name))
      remove(name, false)
    else
      call('ZREM', OVER, name)
    end
  end
end
-- Make the pool match what holds now. Returns whether somebody has to decide in Python.
local function settle(own)
  for _, name in ipairs(expired) do
    -- The caller's own may have been renewed since.
    if tonumber(call('ZSCORE', EXPIRIES, name) or FOREVER) <= now then remove(name, false) end
  end
  if now >= number('quiet', 0) and gives_away() then give_away() end
  if size[GRANTED] > 0 then
    for _, name in ipairs(call('ZRANGE', GRANTED, '-inf', now - LATE_MS, 'BYSCORE')) do
      if call('ZSCORE', GRANTED, name) then pass_over(name) end
    end
  end
  if size[COOLING] > 0 then
    local over = call('ZREMRANGEBYSCORE', COOLING, '-inf', now)
    if over > 0 then touch() end
    size[COOLING] = size[COOLING] - over
  end
  local undecided = false
  if size[QUEUE] > 0 and now >= number('closed', 0) then
    if is_plain() then
      local limit = full_limit()
      local room = limit and limit - size[GRANTED] - size[LEASES] or 0
      if room > 0 then
        for _, name in ipairs(call('ZRANGE', QUEUE, 0, math.min(room, 1000) - 1)) do grant(name, own) end
      end
    else
      undecided = pool.version ~= pool.decided or now >= number('due', 0)
    end
  end
  notify_first(own)
  return undecided
end

local function next_change()
  local soonest = math.huge
  local function at(moment) if moment and moment < soonest then soonest = moment end end
  at(math.max(tonumber(call('ZRANGE', EXPIRIES, 0, 0, 'WITHSCORES')[2] or math.huge), number('quiet', 0)))
  local oldest = tonumber(call('ZRANGE', GRANTED, 0, 0, 'WITHSCORES')[2])
  at(oldest and oldest + LATE_MS)
  at(tonumber(call('ZRANGE', COOLING, 0, 0, 'WITHSCORES')[2]))
  if now < number('closed', 0) then at(number('closed', 0)) end
  if not is_plain() then at(math.max(number('due', math.huge), number('closed', 0))) end
  local over = gives_away() and tonumber(call('ZRANGE', OVER, 0, 0, 'WITHSCORES')[2])
  at(over and math.max(over, number('quiet', 0)))
  return math.max(soonest - now, 0)
end
-- What it is for who waits to do: 1, to look now and then, for all; 2, to see whether those live whose turn that is,
-- since one of them hasn't looked for a while; 0, neither.
local function duty_of(name)
  local duty = 0
  for _, one in ipairs(first) do
    if one == name then return 1 end
    if tonumber(call('ZSCORE', EXPIRIES, one) or 0) < now + ttl - QUIET_MS then duty = 2 end
  end
  return duty
end
-- The line; where there is more to say: the line, the snapshot if somebody has to decide, what `each` one has become.
local function standing(state, name, undecided, since, each)
  local rank, duty = 0, 0
  if state == 'queued' then
    rank = (call('ZRANK', QUEUE, name) or -1) + 1
    duty = duty_of(name)
  end
  local changes = duty == 1 and next_change() or math.huge
  local seen = undecided and snapshot() or false
  local said = line(state, name, since, rank, duty, changes)
  return (seen or each) and {said, seen, each or {}} or said
end
-- What has become of a ticket, whose waiter runs, and when it was granted.
local function stands(name)
  if take(GRANTED, name) then
    put(LEASES, name, now)
    touch()
  end
  local since = call('ZSCORE', LEASES, name)
  if since then return 'held', since end
  return full_limit() and 'queued' or 'nolimit'
end
"""
)
