"""Make or refresh the checkout's own virtual environment, and print its path.

Called by `_venv.sh` with the dependency groups that are wanted. The environment lives in `build/`, named after the
version of Python, so that it meets neither a `.venv` of the person nor the one made with another Python. It is built
again when the checkout was moved, and installed into again when pyproject.toml changed.

``--as NAME`` before the groups: an environment of its own, each process of which is another platform
(`tests/support/personality`).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import IO, Any

if sys.platform != "win32":
    import fcntl

ROOT = Path(__file__).resolve().parent.parent
PERSONALITY = "_personality.pth"
PYTHON = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"


def requirements(pyproject: str, groups: list[str]) -> list[str]:
    """What the groups ask for: `pip install --group` needs pip 25.1, which is newer than many Pythons bring.

    The package's own extras are groups as well.
    """
    found = tomllib.loads(pyproject)
    table = found["project"]["optional-dependencies"] | found["dependency-groups"]
    return [requirement for group in groups for requirement in table[group]]


def installed(environment: Path, pyproject: str) -> set[str] | None:
    """The groups that the environment has, or None when it isn't a working one made here for this pyproject.toml."""
    try:
        record: dict[str, Any] = json.loads((environment / "leasecap.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if record != {"path": str(environment), "pyproject": digest(pyproject), "groups": record.get("groups")}:
        return None
    try:
        # The Python that it was made with may have been removed since.
        subprocess.run([environment / PYTHON, "-I", "-c", ""], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return set(record["groups"])


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def install(environment: Path, what: list[str]) -> None:
    """Let the environment's pip install, with the person's pip settings but for those that would lead it elsewhere."""
    settings = {k: v for k, v in os.environ.items() if k not in {"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"}}
    done = subprocess.run(
        [environment / PYTHON, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what],
        env=settings | {"PIP_USER": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(
            f"{done.stdout}\n"
            f"pip could not install what leasecap needs into {environment} (its output is above).\n"
            "It needs a package index this once: check the network, a proxy (HTTPS_PROXY) or pip's own settings\n"
            "(pip config list), then run the same command again. Nothing else was changed."
        )


def take_turn(lock: IO[str]) -> None:
    """Wait for whoever else is installing; on Windows nobody is waited for."""
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another script that is installing ...", file=sys.stderr)
        fcntl.flock(lock, fcntl.LOCK_EX)


def prepare(groups: list[str], personality: str = "") -> Path:
    """The path of the environment, ready to use. Two callers at once take turns."""
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    name = f"venv-{sys.version_info.major}.{sys.version_info.minor}"
    environment = ROOT / "build" / (f"{name}-{personality}" if personality else name)
    environment.parent.mkdir(exist_ok=True)
    with environment.with_name(f"{environment.name}.lock").open("w") as lock:
        take_turn(lock)
        present = installed(environment, pyproject)
        if present is not None and present >= set(groups):
            return environment
        print(f"installing into {environment.relative_to(ROOT)} (once, a moment) ...", file=sys.stderr)
        if present is None:
            try:
                venv.create(environment, clear=True, symlinks=sys.platform != "win32", with_pip=True)
            except (OSError, subprocess.CalledProcessError) as error:
                sys.exit(
                    f"{sys.executable} could not make a virtual environment in {environment}:\n"
                    f"{error}\n"
                    "On Debian and Ubuntu that takes a package more: apt install python3-venv. Then run this again."
                )
        for old in environment.glob(f"lib/python*/site-packages/{PERSONALITY}"):
            old.unlink()  # pip is for the platform that this is
        wanted = sorted((present or set()) | set(groups))
        install(environment, ([] if present is not None else ["-e", str(ROOT)]) + requirements(pyproject, wanted))
        if personality:
            take_on(environment, ROOT / "tests" / "support" / "personality" / f"{personality}.py")
        record = {"path": str(environment), "pyproject": digest(pyproject), "groups": wanted}
        # Written last and whole: an install that was interrupted has no record and is made again.
        whole = environment / "leasecap.json.new"
        whole.write_text(json.dumps(record), encoding="utf-8")
        whole.replace(environment / "leasecap.json")
        return environment


def take_on(environment: Path, personality: Path) -> None:
    """Have each Python of the environment run this before anything else."""
    [packages] = environment.glob("lib/python*/site-packages")
    path = repr(str(personality))
    line = f"import io; f = io.open_code({path}); exec(compile(f.read(), {path}, 'exec'), {{}}); f.close()"
    (packages / PERSONALITY).write_text(f"{line}\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as"]:
        print(prepare(sys.argv[3:], sys.argv[2]))
    else:
        print(prepare(sys.argv[1:]))
