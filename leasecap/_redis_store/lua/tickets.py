"""The scripts of one call for a slot, from the asking to the end."""

from __future__ import annotations

from leasecap._redis_store.lua.changes import CHANGES
from leasecap._redis_store.lua.state import script

PLACE = script(
    "place",
    CHANGES,
    """
local rank, order, token, process, limit, may_queue, record, agent = unpack(ARGV, 4, 11)
open()
local name = call('HGET', NAMES, token)
if name then
  renew(name)
  local undecided = settle(name)
  local state, since = stands(name)
  return standing(state, name, undecided, since)
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
put(QUEUE, name, 0)
renew(name)
call('HSET', RECORDS, token, record)
if agent ~= '' then call('HSET', RECORDS, agent, token, '@' .. token, agent) end
note(name)
touch()
local undecided = settle(name)
local state, since = stands(name)
if state == 'queued' and may_queue == '0' and not undecided then
  remove(name, true)
  call('ZREM', ENDED, '+' .. token)
  notify_first(name)
  state = 'refused'
end
return standing(state, state ~= 'refused' and name or false, undecided, since)
""",
)
"""Ask for a slot: held, queued, refused, gone, nolimit or deep; agent or behind if one is held or asked for already."""

LOOK = script(
    "look",
    CHANGES,
    """
open()
local name = call('HGET', NAMES, ARGV[4])
if not name then
  settle()
  return standing('gone', false, false)
end
renew(name)
if take(PASSED, name) then
  put(QUEUE, name, 0)
  touch()
end
local undecided = settle(name)
local state, since = stands(name)
return standing(state, name, undecided, since)
""",
    flags="allow-oom",
)
"""See what became of a ticket, and take up a grant: held, queued or gone."""

WITHDRAW = script(
    "withdraw",
    CHANGES,
    """
open()
local name = call('HGET', NAMES, ARGV[4])
local undecided = false
if not name then
  remember(ARGV[4], true)
else
  renew(name)
  local state, since = stands(name)
  if state == 'held' then return standing(state, name, settle(name), since) end
  remove(name, true)
  undecided = settle()
end
return standing('gone', false, undecided)
""",
    flags="allow-oom",
)
"""Leave the queue: held if it was granted meanwhile, else gone."""

END = script(
    "end",
    CHANGES,
    """
open()
local token, by_holder = ARGV[4], ARGV[5] == '1'
local name = call('HGET', NAMES, token)
local where = false
if name then
  where = remove(name, by_holder)
  local cooldown = number('cooldown', 0)
  if by_holder and cooldown > 0 and where == LEASES then put(COOLING, name, now + cooldown) end
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
