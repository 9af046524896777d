"""One scene, played once: up to one point and on, judged by what really ran."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

from insides import file_store
from referee import Interval, peak

import leasecap
from crash.puppets import PATIENCE, Actor, puppet, victim
from leasecap._config.seal import seal
from leasecap._file_store import section
from leasecap._host.process import presence, start_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from crash.effects import Points
    from crash.scenes import Scene

_PLACES = ("queue", "parked", "granted", "leases")


class Stage:
    """The root, the log, and everybody who plays; leaving it ends them."""

    def __init__(self, scene: Scene, lock: str, directory: Path, points: Points) -> None:
        self.scene = scene
        self._lock = lock
        self._directory = directory
        self._points = points
        self._log = str(directory / "holds.log")
        self._killed: dict[str, int] = {}
        root = directory / "root"
        root.mkdir(mode=0o700)
        os.environ["LEASECAP_HOME"] = str(root)
        text = (
            f"[pools.p]\nlimit = {scene.first_limit or scene.limit}\n"
            f'lock = "{lock}"\nstale_after = 1.5\nheartbeat = 0.5\n'
        )
        (root / "config.toml").write_text(text)
        seal(str(root), text)  # else its effects would depend on whether a second has passed
        Path(self._log).touch()
        self.puppets: dict[str, Actor] = {}
        self._rivals: list[Actor] = []
        self._victim: Actor | None = None
        self._command: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        for name, label in (*((name, None) for name in self.scene.puppets), *self.scene.mortals):
            self.puppets[name] = puppet(name, self._points, self._log, label)
        # As many as there are slots: they want all that can be had.
        self._rivals = [puppet(f"rival {number}", self._points, self._log) for number in range(self.scene.limit)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end_command()
        for actor in (self._victim, *self.puppets.values(), *self._rivals):
            if actor is not None and actor.name not in self._killed:
                actor.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    # -- what scenes prepare ----------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        self._killed[name] = self.puppets[name].kill()

    def lose(self, name: str) -> None:
        """Let a mortal run into its death."""
        self.puppets[name].tell("begin")
        self.puppets[name].ended()
        self._killed[name] = time.monotonic_ns()

    # -- the play ---------------------------------------------------------------------------------------------------

    def play(self, fatal: int | None, signum: int) -> dict[str, Any]:
        """Play it; returns what came of it.

        :raises AssertionError: a promise was broken.
        """
        self.scene.prepare(self)
        self._victim = victim(self._points, self._log, self.puppets, self.scene.script, fatal, signum)
        self._victim.tell("begin")
        struck, fact = self._next_news()
        if struck == "SEEN":
            self._finale()
            return {"seen": json.loads(fact)}
        moment, _, fact = fact.partition(" ")
        result = json.loads(fact)
        if signum == signal.SIGKILL:
            self._victim.ended()
            self._killed["victim"] = int(moment)
            self._look_on()
            self._check_command_keeps_slot()
            self._end_command()
            self._invite_rivals()
            result["full_after"] = self._until_full(int(moment))
            self._nothing_more_to_be_had()
        else:
            self._victim.stopped()
            self._look_on()
            self._invite_rivals()
            if result["inside"]:
                self._the_way_in_is_barred()
            else:
                result["full_after"] = self._until_full(int(moment), result["process"])
                self._nothing_more_to_be_had()
            os.kill(self._victim.pid, signal.SIGCONT)
            # It goes on beside rivals that hold all they got: a slot given twice is worked under twice.
            if self._next_news()[0] == "RESUMED":
                self._let_go(self._rivals)
                assert self._next_news()[0] == "SEEN"
        self._finale()
        return result  # type: ignore[no-any-return]

    def _next_news(self) -> tuple[str, str]:
        assert self._victim is not None
        while True:
            word, _, fact = self._victim.answer().partition(" ")
            if word != "REPORT":
                return word, fact
            what, _, pid = fact.rpartition(" ")
            self._command = (int(pid), start_of(int(pid)) or 0) if what == "command" and pid.isdigit() else None

    def _look_on(self) -> None:
        """`status` copes with whatever it finds."""
        (found,) = leasecap.status("p").pools
        assert found.error is None and found.limit is not None, found
        assert leasecap.status().config_error is None

    def _invite_rivals(self) -> None:
        for actor in (*self._rivals, *self.puppets.values()):
            if actor.name not in self._killed:
                if actor in self._rivals:
                    actor.tell("begin")
                actor.tell("live")

    def _until_full(self, since: int, victim: str = "") -> float:
        """Every slot is in use, or held by the victim that stands still; seconds that took."""
        slots = self.scene.limit
        if any(self._left_by(victim)):
            slots = min(slots, self.scene.declared or slots)
        # Its lease and those that borrow it take one slot, whether it works or stands still.
        slots -= "leases" in self._left_by(victim)
        end = time.monotonic() + PATIENCE
        while (working := self._working()) < slots:
            assert time.monotonic() < end, f"{slots - working} slots were not granted in {PATIENCE} s"
            time.sleep(0.003)
        return (time.monotonic_ns() - since) / 1e9

    def _left_by(self, process: str) -> list[str]:
        """The places where it has an entry."""
        path = file_store("p").directory.path
        found = [(place, name.split("-")[3]) for place in _PLACES for name in os.listdir(os.path.join(path, place))]
        return [place for place, owner in found if owner == process]

    def _nothing_more_to_be_had(self) -> None:
        lease = leasecap.try_acquire("p")
        assert lease is None, "a slot was granted above the limit"
        self._look_on()

    def _the_way_in_is_barred(self) -> None:
        section.SECTION_GRACE = 0.1  # the patience of this process alone
        try:
            leasecap.acquire("p", timeout=0)
        except (leasecap.StoreError, leasecap.AcquireTimeout):
            pass
        else:
            raise AssertionError("entered a critical section that another process is in")

    def _check_command_keeps_slot(self) -> None:
        if self._command is not None:
            assert leasecap.try_acquire("p") is None, "the command runs, and its slot was granted"

    def _end_command(self) -> None:
        if self._command is not None:
            pid, start = self._command
            self._command = None
            if presence(pid, start) == "runs":
                os.kill(pid, signal.SIGKILL)
            while presence(pid, start) == "runs":
                time.sleep(0.001)
        if "keeper" in self.puppets and "keeper" not in self._killed:
            self.kill("keeper")

    def _let_go(self, actors: list[Actor]) -> None:
        for actor in actors:
            if actor.name not in self._killed:
                actor.tell("go")

    def _finale(self) -> None:
        """Everybody finishes, and every slot is there."""
        self._end_command()
        self._let_go([*self._rivals, *self.puppets.values()])
        for actor in (*self._rivals, *self.puppets.values()):
            if actor.name not in self._killed:
                self._until_done(actor)
        leases = [leasecap.try_acquire("p") for _ in range(self.scene.limit)]
        assert None not in leases, "a slot was lost"
        assert leasecap.try_acquire("p") is None
        for lease in leases:
            assert lease is not None
            lease.release()
        self._look_on()
        self._check_remains()
        assert peak(self._intervals()) <= self.scene.limit, self._intervals()

    def _until_done(self, actor: Actor) -> None:
        while (word := actor.answer()) != "done":
            assert word in ("waiting", "held"), word

    def _check_remains(self) -> None:
        path = file_store("p").directory.path
        left = {place: os.listdir(os.path.join(path, place)) for place in _PLACES}
        assert not any(left.values()), left
        if self._lock == "directory":
            assert not os.path.exists(os.path.join(path, "lock.d")) or not os.listdir(os.path.join(path, "lock.d"))

    # -- what really ran --------------------------------------------------------------------------------------------

    def _intervals(self) -> list[Interval]:
        now = time.monotonic_ns()
        running: dict[str, int] = {}
        found = []
        for line in Path(self._log).read_text().splitlines():
            event, moment, holder = line.split(" ", 2)
            if event == "start":
                running[holder] = int(moment)
            else:
                found.append(Interval(holder, running.pop(holder), int(moment)))
        for holder, start in running.items():
            end = self._killed.get(holder.partition(".")[0], now)
            found.append(Interval(holder, start, end))
        return found

    def _working(self) -> int:
        """How many work, but for the victim."""
        events = [line.split(" ", 2) for line in Path(self._log).read_text().splitlines()]
        ended = {holder for event, _, holder in events if event == "end"} | set(self._killed)
        started = {holder for event, _, holder in events if event == "start"}
        return sum(not holder.startswith("victim") for holder in started - ended)


def play(scene: Scene, lock: str, fatal: int | None, signum: int, directory: Path, points: Points) -> dict[str, Any]:
    """Play it in this process, which is used up by it."""
    with Stage(scene, lock, directory, points) as stage:
        return stage.play(fatal, signum)
