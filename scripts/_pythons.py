"""Print the Pythons that run on this machine, one a line, oldest first: version and path. Which lack is told on stderr.

From 3.11 on, final releases alone, one of each minor version: those on PATH, pyenv's and uv's. ``LEASECAP_PYTHONS``
(as in ``3.11 3.13``) says which there must be; the exit status is 1 if one of them isn't.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)

ASK = "import sys; print(*sys.version_info[:4], sys._base_executable)"


def candidates(env: dict[str, str]) -> list[Path]:
    """Whatever is called python3 or python3.N in one of the places."""
    home = Path(env.get("HOME") or "/")
    pyenv = Path(env.get("PYENV_ROOT") or home / ".pyenv")
    uv = Path(env.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
    folders = [Path(folder) for folder in env.get("PATH", os.defpath).split(os.pathsep) if folder]
    folders += sorted([*pyenv.glob("versions/*/bin"), *uv.glob("*/bin")])
    found = (path for folder in folders for path in sorted(folder.glob("python3*")))
    return [
        path
        for path in found
        if path.name.removeprefix("python3").removeprefix(".").isdigit() or path.name == "python3"
    ]


def ask(path: Path) -> tuple[tuple[int, int, int], str] | None:
    """Its version and what it really is; None if it doesn't run (a manager's shim), is too old, or is no release."""
    try:
        done = subprocess.run([path, "-I", "-c", ASK], capture_output=True, text=True, timeout=60, check=True)
        major, minor, micro, level, executable = done.stdout.split(maxsplit=4)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    version = int(major), int(minor), int(micro)
    return (version, executable.strip()) if version[:2] >= OLDEST and level == "final" else None


def search(paths: list[Path]) -> dict[tuple[int, int], tuple[tuple[int, int, int], str]]:
    """For each minor version the newest one."""
    found: dict[tuple[int, int], tuple[tuple[int, int, int], str]] = {}
    asked: set[Path] = set()
    for path in paths:
        real = path if "shims" in path.parts else path.resolve()
        if real in asked:
            continue
        asked.add(real)
        answer = ask(path)
        if answer is not None and answer[0] > found.get(answer[0][:2], ((0, 0, 0), ""))[0]:
            found[answer[0][:2]] = answer
    return dict(sorted(found.items()))


def main() -> int:
    paths = candidates(dict(os.environ))
    found = search(paths)
    for version, path in found.values():
        print(".".join(map(str, version)), path)
    names = {f"{major}.{minor}" for major, minor in found}
    wanted = set(os.environ.get("LEASECAP_PYTHONS", "").replace(",", " ").split())
    named = {path.name.removeprefix("python") for path in paths if "." in path.name}
    not_run = {name for name in named - names if tuple(map(int, name.split("."))) >= OLDEST}
    between = {f"3.{minor}" for minor in range(OLDEST[1], max((minor for _, minor in found), default=OLDEST[1]))}
    lacking = sorted((wanted | between | not_run) - names)
    if lacking:
        print(f"not to be had here: {', '.join(lacking)}", file=sys.stderr)
    if wanted - names:
        print(f"LEASECAP_PYTHONS asks for {', '.join(sorted(wanted - names))}", file=sys.stderr)
    return int(bool(wanted - names))


if __name__ == "__main__":
    sys.exit(main())
