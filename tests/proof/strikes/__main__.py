"""Strike every position of every scene, or a sample of them. Run it by scripts/interrupts."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import logging
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import leasecap
from leasecap import _ancestry
from leasecap._runtime import runtime
from strikes.scenes import PATIENCE, SCENES, Stage, lock_is_free, until
from strikes.tracer import Striker


def findings(stage: Stage, striker: Striker, asynchronous: bool) -> list[str]:
    """What is wrong after the call has ended and its traceback is gone."""
    found = []
    gc.collect()
    if not stage.rejoin():
        found.append("another thread hangs")
    if not until(lambda: not stage.names("leases", "granted", "queue", "parked")):
        found.append(f"left behind: {stage.names('leases', 'granted', 'queue', 'parked')}")
    if not lock_is_free():
        found.append("the process's lock is held")
    with (stage.directory / "lock").open("r+b") as file:

        def free() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            return True

        if not until(free):
            found.append("the pool's lock is held")
    if _ancestry.current():
        found.append(f"the context keeps {_ancestry.current()}")
    if not striker.handler_stands():
        found.append("the handler was not put back")
    if runtime.own.waiters:
        found.append("a waiter is still known")
    if not found:
        try:
            leasecap.acquire(stage.pool, timeout=PATIENCE).release()
            if asynchronous:
                stage.loop.run_until_complete(asyncio.wait_for(again(stage), PATIENCE))
        except Exception as error:
            found.append(f"the next call: {error!r}")
    return found


async def again(stage: Stage) -> None:
    async with leasecap.slot(stage.pool):
        pass


def play(stage: Stage, name: str, at: int | None) -> tuple[Striker, list[str]]:
    prepare, act = SCENES[name]
    prepare(stage)
    striker = Striker(at)
    said: list[str] = []
    try:
        striker.run(lambda: act(stage))
    except striker.kind:
        pass
    except BaseException as error:
        said.append(f"raised {error!r}")
    return striker, said + findings(stage, striker, name.startswith("async"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/interrupts", description=__doc__)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=f"of {', '.join(SCENES)}; else all")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="strike only each Nth position")
    parser.add_argument("--first", type=int, default=1, metavar="N", help="begin at this one")
    parser.add_argument("--directory", action="store_true", help="pools with the lock directory")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ResourceWarning)
    logging.disable()
    sys.unraisablehook = lambda _: None  # what strikes a finalizer is said there
    bad = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:  # a finding may go on there
        root = Path(directory, "root")
        root.mkdir(mode=0o700)
        lock = "directory" if options.directory else "os"
        (root / "config.toml").write_text(f'[defaults]\nlimit = 1\nlock = "{lock}"\n')
        os.environ["LEASECAP_HOME"] = str(root)
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)
        stage = Stage(root, loop)
        gc.freeze()
        for name in options.scenes or SCENES:
            passed = []
            for _ in range(4):
                quiet, said = play(stage, name, None)
                assert not said, (name, said)
                passed.append(quiet.passed)
            # What is done the first time isn't later, and who waits may look once more or less.
            end = min(passed[2:])
            began, struck, positions = time.monotonic(), 0, range(options.first, end + 1, options.every)
            for at in positions:
                striker, said = play(stage, name, at)
                struck += striker.where is not None
                if said:
                    bad += 1
                    print(f"{name} {at} {striker.kind.__name__} at {striker.where}: {'; '.join(said)}", flush=True)
                    stage.renew()
            seconds = time.monotonic() - began
            print(f"{name}: struck {struck} of {len(positions)} positions, {seconds:.0f} s", flush=True)
            assert struck >= len(positions) * 0.6, "too few positions were reached"
    print(f"Python {sys.version.split()[0]}: {bad} findings", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # a finding may have left anything behind
