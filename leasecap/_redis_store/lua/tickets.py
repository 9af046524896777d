"""The scripts of one call for a slot, from the asking to the end."""

from __future__ import annotations

from leasecap._redis_store.lua.changes import CHANGES
from leasecap._redis_store.lua.opening import OPENING
from leasecap._redis_store.lua.state import script

_PLACE = """
local rank, order, task, token, process, limit, may_queue, record, agent = unpack(ARGV, 4, 12)
local name = call('HGET', NAMES, token)
local is_new = not name
if is_new then
  if has_ended(token) then return line('gone') end
  if agent ~= '' then
    local others = call('HGET', RECORDS, agent)
    local its = others and call('HGET', NAMES, others)
    if its and now >= number('quiet', 0) and tonumber(call('ZSCORE', EXPIRIES, its) or 0) <= now then
      remove(its, false)
    elseif its then
      return line(call('ZSCORE', LEASES, its) and 'agent' or 'behind', its)
    end
  end
  limit = tonumber(limit, 16)
  if limit == 0 and not tonumber(pool.limit) then
    -- Where only declarations give the pool a limit, a newcomer takes on the one it finds: else waiters would be left
    -- without any once those who declared it are gone.
    limit = full_limit()
    if not limit then return line('nolimit') end
  end
  -- With each one's own ancestors: who was handed a part of the chain alone would, once its lender ends, move to a
  -- lender further out and raise the pool's load.
  local lenders, known = {}, {}
  local function add(one)
    local its = call('HGET', NAMES, one)
    if its and not known[one] and call('ZSCORE', LEASES, its) then
      known[one] = true
      lenders[#lenders + 1] = one
      for further in string.gmatch(string.match(string.sub(its, 52), '%x+(.*)'), '%x+') do add(further) end
    end
  end
  for i = 13, #ARGV do add(ARGV[i]) end
  if #lenders > 10 then return line('deep') end
  if order == '' then
    order = math.max(now * 1000, number('order', 0) + 1)
    set('order', order)
    -- The place of a call that was made when its task began.
    if pool.by_task then order = math.max(order - tonumber(task), 0) end
  end
  -- Lua's numbers are exact up to 2^53 alone, and "unlimited" is a higher one.
  local tail = limit >= FOREVER and '7fffffffffffffff' or string.format('%x', limit)
  for _, one in ipairs(lenders) do tail = tail .. '-' .. one end
  name = string.format('%s-%016x-%s-%s-%s', rank, tonumber(order), token, process, tail)
  call('HSET', RECORDS, token, record)
  if pool.by_task then call('HSET', RECORDS, '?' .. token, string.format('%.0f', now)) end
  if agent ~= '' then call('HSET', RECORDS, agent, token, '@' .. token, agent) end
  note(name)
  touch()
end
renew(name)
"""

_FREE = """
if is_new and calm and is_plain() and size[LEASES] < full_limit() then
  put(LEASES, name, now)
  return line('held', name, now)
end
"""
"""A short cut: what the rest comes to where nobody waits and a slot is free."""

_QUEUE = """
if is_new then put(QUEUE, name, 0) end
local undecided = settle(name)
local state, since = stands(name)
if state == 'queued' and may_queue == '0' and not undecided then
  remove(name, true)
  call('ZREM', ENDED, '+' .. token)
  notify_first(name)
  -- One whose time has run out has a while left to say so, since nobody has called for long.
  if now < number('quiet', 0) and call('ZCOUNT', EXPIRIES, '-inf', now) > 0 then grace = number('quiet', 0) - now end
  return standing('refused')
end
return standing(state, name, undecided, since)
"""

PLACE = script("place", OPENING, _PLACE, _FREE, CHANGES, _QUEUE)
"""Ask for a slot: held, queued, refused, gone, nolimit or deep; agent or behind if one is held or asked for already."""

LOOK = script(
    "look",
    OPENING,
    CHANGES,
    """
local name = call('HGET', NAMES, ARGV[4])
if not name then
  settle()
  return standing('gone')
end
renew(name)
if ARGV[5] == '1' then wake(name, PROOF) end
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
    OPENING,
    CHANGES,
    """
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
    OPENING,
    """
local token, by_holder = ARGV[4], ARGV[5] == '1'
local name = call('HGET', NAMES, token)
local where = false
if name then
  where = remove(name, by_holder)
  local cooldown = number('cooldown', 0)
  if by_holder and cooldown > 0 and where == LEASES then put(COOLING, name, now + cooldown) end
  if not by_holder then wake(name, '-' .. token) end
else
  -- A server that has forgotten a lease has given its slot to nobody for as long as it waits for holders.
  local given_back = call('ZSCORE', ENDED, '+' .. token) or (now < number('closed', 0) and not has_ended(token))
  where = by_holder and given_back and LEASES
  if not has_ended(token) then remember(token, by_holder) end
end
local state = (where == LEASES or where == GRANTED) and 'ended' or 'gone'
if calm then return line(state) end
""",
    CHANGES,
    """
if where and where ~= LEASES and not by_holder then  -- by who has seen that its process is gone, with all its tickets
  for _, each in ipairs(of_process(name, {GRANTED, QUEUE, PASSED})) do remove(each, false) end
end
return standing(state, false, settle())
""",
    flags="allow-oom",
)
"""End an entry, wherever it stands: ended if it was held, else gone."""
