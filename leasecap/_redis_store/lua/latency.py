"""The scripts about how long requests took. They have a key of their own, and nothing that is held depends on it.

It is a hash: for each hour and kind of request a row, under ``HOUR FORMAT KIND``, so that rows of another format are
left alone; and under ``@PROCESS HOUR`` the number of the last table that a process has added to one of its hours, and
the hour of that. Hours go by the server's clock: a table says how many hours ago its own was.
"""

from __future__ import annotations

from leasecap._feedback.latency import KEPT, MOST_ROWS, VERSION
from leasecap._redis_store.script import Script

_BEGIN = """
local POOL, LATENCY, call = KEYS[1], KEYS[2], redis.call
local FORMAT, KEPT, MOST = @FORMAT@, @KEPT@, @MOST@
local this_hour = math.floor(tonumber(call('TIME')[1]) / 3600)
local function hour_of(field) return tonumber(string.match(field, '^(%d+) ')) end
"""
for _word, _number in (("@FORMAT@", VERSION), ("@KEPT@", KEPT), ("@MOST@", MOST_ROWS - 2)):
    _BEGIN = _BEGIN.replace(_word, str(_number))

ADD = Script(
    "add-latency",
    "#!lua\n"
    + _BEGIN
    + """
local from, number, age = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if not call('HGET', POOL, 'format') or age > KEPT then return {} end
local last = call('HGET', LATENCY, from)
local is_known = last and tonumber(string.match(last, '^%d+')) >= number
local prefix = string.format('%.0f %d ', this_hour - age, FORMAT)
-- Remove what is too old, and count the rows of the hour.
local function clear()
  local rows = 0
  for _, field in ipairs(call('HKEYS', LATENCY)) do
    local hour = hour_of(field)
    local is_old = hour and (hour < this_hour - KEPT or hour > this_hour + KEPT)
    if not hour then is_old = tonumber(string.match(call('HGET', LATENCY, field), ' (%d+)$') or 0) < this_hour - 1 end
    if is_old then
      call('HDEL', LATENCY, field)
    elseif string.sub(field, 1, #prefix) == prefix then
      rows = rows + 1
    end
  end
  return rows
end
local function merged(one, other)
  if not (one and other) then return one or other end
  for bucket, count in pairs(other.counts) do one.counts[bucket] = (one.counts[bucket] or 0) + count end
  one.over, one.max = one.over + other.over, math.max(one.max, other.max)
  return one
end
local function sum(one, other)
  one.first, one.whole = merged(one.first, other.first), merged(one.whole, other.whole)
  one['local'] = one['local'] and other['local']
  return one
end
local found, rows = {}, nil
for i = 4, #ARGV, 3 do
  local field, others, text = prefix .. ARGV[i], prefix .. ARGV[i + 1], ARGV[i + 2]
  local old = call('HGET', LATENCY, field)
  if not old and not is_known then
    rows = rows or clear()
    if rows >= MOST then
      field = others
      old = call('HGET', LATENCY, field)
    end
    if not old then rows = rows + 1 end
  end
  if not is_known then
    -- What can't be read is begun anew.
    local ok, both = pcall(function() return cjson.encode(sum(cjson.decode(old), cjson.decode(text))) end)
    old = old and ok and both or text
    call('HSET', LATENCY, field, old)
  end
  if old then
    found[#found + 1] = field
    found[#found + 1] = old
  end
end
call('HSET', LATENCY, from, string.format('%.0f %.0f', number, this_hour))
return found
""",
)
"""Add a table to what is counted of its hour, unless it was added already; returns the rows of its kinds."""

READ = Script(
    "read-latency",
    "#!lua flags=no-writes\n"
    + _BEGIN
    + """
local names = {}
for _, field in ipairs(call('HKEYS', LATENCY)) do
  local hour = hour_of(field)
  if hour and hour > this_hour - tonumber(ARGV[1]) then names[#names + 1] = field end
end
return {names, #names > 0 and call('HMGET', LATENCY, unpack(names)) or {}}
""",
)
"""The names and values of the rows of the last hours."""
