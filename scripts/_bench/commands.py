"""Workload H: what it costs to wrap a command, beside other wrappers and a Python that does nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .fleet import clean_environment, scratch
from .measures import median
from .scale import LEASECAP


def wrappers(directory: str) -> dict[str, list[str]]:
    """Each wrapper's words before the command. One that isn't installed is missing."""
    found = {"leasecap run": [str(LEASECAP), "run", "-p", "bench", "--limit", "4", "--"]}
    if sem := shutil.which("sem"):
        found["sem --fg"] = [sem, "--fg", "--id", "bench", "-j", "4"]
    if flock := shutil.which("flock"):
        found["flock"] = [flock, os.path.join(directory, "flock")]
    return found


def measure(times: int, base: str) -> dict[str, dict[str, float]]:
    with scratch(base) as directory:
        environment = clean_environment(LEASECAP_HOME=os.path.join(directory, "root"), HOME=directory)
        found = {name: [*words, "true"] for name, words in wrappers(directory).items()}
        found["python -c pass"] = [sys.executable, "-c", "pass"]
        for command in found.values():
            _run(command, environment)
        warm: dict[str, list[float]] = {name: [] for name in found}
        cold: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(times):
            for name, command in found.items():
                warm[name].append(_run(command, environment))
        files = _files_read(found)
        for _ in range(times // 4):
            for name, command in found.items():
                _drop_from_cache(files)
                cold[name].append(_run(command, environment))
        figures = {name: {"warm ms": median(warm[name]) * 1e3, "cold ms": median(cold[name]) * 1e3} for name in found}
        for name, words in wrappers(directory).items():
            figures[name]["RSS MiB"] = _memory(words, environment)
        return figures


def _run(command: Sequence[str], environment: dict[str, str]) -> float:
    begin = time.perf_counter()
    subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - begin


def _memory(words: Sequence[str], environment: dict[str, str]) -> float:
    """MiB that the wrapper took at most, up to when its command runs. What wait4 says would include who started it."""
    with subprocess.Popen([*words, "sleep", "5"], env=environment, stdin=subprocess.DEVNULL) as process:
        time.sleep(0.7)
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except FileNotFoundError:  # no /proc here
            return float("nan")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def _files_read(found: dict[str, list[str]]) -> list[Path]:
    """Libraries and programs that the commands read: Python's, ours, Perl's."""
    places = [
        Path(os.__file__).parent,
        Path(sys.prefix),
        *Path("/usr").glob("share/perl*/"),
        *Path("/usr/lib").glob("*/perl*/"),
    ]
    checkout = Path(__file__).resolve().parents[2] / "leasecap"
    files = [path for place in [*places, checkout] for path in place.rglob("*") if path.is_file()]
    return files + [Path(command[0]).resolve() for command in found.values()]


def _drop_from_cache(files: Sequence[Path]) -> None:
    """Without a superuser's drop_caches: pages that a running process has mapped stay, so this is a lower bound."""
    for path in files:
        try:
            fd = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
