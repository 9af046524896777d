"""A record as a process writes it of itself."""

from __future__ import annotations

from leasecap._liveness.record import Record

RECORD = Record(
    pool="p",
    pid=4711,
    start=123456,
    uid=1000,
    boot="b",
    machine="m",
    pid_ns="pid:[1]",
    time_ns="time:[1]",
    host="h",
    local=True,
    proof="lock",
    label=None,
    command="claude -p ü",
    cwd="/tmp",
    child=None,
)
