"""The protocol that leasecap replaces, written from its description: a lock directory, lease directories, a poll.

A lock directory (``mkdir``) with a token and a pid in it guards a count of lease directories, each with token, pid and
heartbeat. Whoever finds no room waits for a change of the one ``.wakeup`` that all waiters watch, 250 ms at most, and
tries again with all the others. What a process left that is gone, or whose heartbeat is old, is removed by path, after
a look at its token.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import threading
import time
import uuid

from watchdog.events import FileModifiedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from . import Limiter

logging.getLogger("watchdog").addHandler(logging.NullHandler())  # it logs an error when it is stopped early

POLL = 0.25
STALE_AFTER = 30.0
HEARTBEAT = 10.0
LOCK_RETRY = 0.02


class Chosen(Limiter):
    def __init__(self, directory: str, limit: int) -> None:
        super().__init__(directory, limit)
        self._lock = os.path.join(directory, "lock")
        self._leases = os.path.join(directory, "leases")
        self._watched = os.path.join(directory, "watched")
        self._mine = ""
        self._changed = threading.Event()
        threading.Thread(target=self._heartbeat, daemon=True).start()

    @classmethod
    def prepare(cls, directory: str, limit: int) -> None:
        for part in ("leases", "watched"):
            os.mkdir(os.path.join(directory, part))
        with open(os.path.join(directory, "watched", ".wakeup"), "wb"):
            pass

    def acquire(self) -> None:
        if self._try():
            return
        changed = self._changed

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                changed.set()

        observer = None
        with contextlib.suppress(OSError, RuntimeError):  # no inotify instance left: the poll serves
            observer = Observer()
            observer.schedule(Handler(), self._watched, event_filter=[FileModifiedEvent])
            observer.start()
        while not self._try():
            self._changed.wait(POLL)
            self._changed.clear()
        if observer is not None and observer.is_alive():
            observer.stop()

    def release(self) -> None:
        mine, self._mine = self._mine, ""
        with contextlib.suppress(FileNotFoundError):
            self._remove(mine, self._read(mine)["token"])
        with open(os.path.join(self._watched, ".wakeup"), "wb") as file:
            file.write(b".")

    def _try(self) -> bool:
        token = self._enter()
        try:
            held = 0
            for name in os.listdir(self._leases):
                path = os.path.join(self._leases, name)
                held += not self._reaped(path)
            if held >= self.limit:
                return False
            self._mine = self._make(os.path.join(self._leases, token), token)
            return True
        finally:
            self._remove(self._lock, token)

    def _enter(self) -> str:
        token = uuid.uuid4().hex
        while True:
            try:
                self._make(self._lock, token)
            except FileExistsError:
                if not self._reaped(self._lock):
                    time.sleep(LOCK_RETRY)
            else:
                return token

    def _make(self, path: str, token: str) -> str:
        os.mkdir(path)
        with open(os.path.join(path, "owner.json"), "w") as file:
            json.dump({"token": token, "pid": os.getpid()}, file)
        return path

    def _read(self, path: str) -> dict[str, object]:
        try:
            with open(os.path.join(path, "owner.json")) as file:
                owner: dict[str, object] = json.load(file)
        except ValueError:  # half written
            return {"token": "", "pid": os.getpid()}
        return owner

    def _remove(self, path: str, token: object) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._read(path)["token"] == token:
                shutil.rmtree(path, ignore_errors=True)

    def _reaped(self, path: str) -> bool:
        try:
            owner = self._read(path)
            age = time.time() - os.stat(os.path.join(path, "owner.json")).st_mtime
            os.kill(int(str(owner["pid"])), 0)
        except FileNotFoundError:
            return False  # being made, or going
        except ProcessLookupError:
            age = STALE_AFTER
        if age < STALE_AFTER:
            return False
        self._remove(path, owner["token"])
        return True

    def _heartbeat(self) -> None:
        while True:
            time.sleep(HEARTBEAT)
            with contextlib.suppress(OSError):
                os.utime(os.path.join(self._mine, "owner.json"))
