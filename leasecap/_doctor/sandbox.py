"""Whether this process is in a sandbox, whether it may write the root all the same, and what to allow if not."""

from __future__ import annotations

import errno
import os
import shlex
import sys

from leasecap._doctor import place
from leasecap._doctor.check import Check
from leasecap._doctor.machine import INITIAL_PID_NAMESPACE
from leasecap._errors import StoreError
from leasecap._host.process import this_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._doctor.check import Site

_DENIALS = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EXDEV)
_WHOLE_MACHINE = ["0", "0", "4294967295"]  # uid_map of the initial user namespace
_INSIDE = "A sandbox shows only from inside: have each kind of agent run `leasecap doctor` itself."


def sandbox(site: Site) -> Check:
    """The sandbox that this process is in, and what to do if it keeps the process from writing the root."""
    signs = ", ".join(restrictions(site.ground))
    if not _forbidden(site):
        if signs:
            return Check("sandbox", "ok", f"this process is restricted ({signs}), but may write there")
        return Check("sandbox", "ok", f"none round this process. {_INSIDE}")
    if signs:
        return Check("sandbox", "bad", f"this process is restricted: {signs}", recipe(site.root))
    return Check("sandbox", "note", "no sign of one round this process, but not all leave signs", recipe(site.root))


def _forbidden(site: Site) -> bool:
    """Whether writing fails as it does in a sandbox, and not for another reason such as a full disk."""
    try:
        place.writing(site)
    except StoreError as error:
        return isinstance(error.__cause__, OSError) and error.__cause__.errno in _DENIALS
    return False


def recipe(root: str) -> str:
    """How to let sandboxed agents write the root."""
    return "\n".join(
        (
            "if it is an agent's sandbox, let it write the root. Outside of it, make the root and allow it:",
            f"  mkdir -p -m 700 {shlex.quote(root)}",
            codex_recipe(root),
            claude_code_recipe(root),
            "Or set LEASECAP_HOME, the same for every agent, to a directory that all of them may write.",
        )
    )


def codex_recipe(root: str) -> str:
    return f'Codex, in ~/.codex/config.toml:\n  [sandbox_workspace_write]\n  writable_roots = ["{root}"]'


def claude_code_recipe(root: str) -> str:
    return f'Claude Code, in ~/.claude/settings.json:\n  {{"sandbox": {{"filesystem": {{"allowWrite": ["{root}"]}}}}}}'


def restrictions(path: str) -> list[str]:
    """What can be seen of a sandbox or container round this process."""
    found: list[str] = []
    if sys.platform != "win32" and os.statvfs(path).f_flag & os.ST_RDONLY:
        found.append("read-only mount")
    if sys.platform != "linux":
        return found
    status = _status()
    if status.get("Seccomp", "0") != "0":
        found.append("seccomp filter")
    if status.get("NoNewPrivs", "0") != "0":
        found.append("no_new_privs" + (", perhaps Landlock" if _has_landlock() else ""))
    if _own_user_namespace():
        found.append("user namespace")
    if this_process().pid_ns not in (INITIAL_PID_NAMESPACE, None):
        found.append("pid namespace")
    if _own_mount_namespace():
        found.append("mount namespace")
    return found


def _status() -> dict[str, str]:
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
            return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    except OSError:
        return {}


def _has_landlock() -> bool:
    # A process can't ask whether Landlock restricts it, and /sys/kernel/security is often not mounted. So the kernel is
    # asked for its version of Landlock. The number of that system call is the same on all architectures.
    import ctypes

    create_ruleset, version_flag = 444, 1
    try:
        return int(ctypes.CDLL(None).syscall(create_ruleset, None, 0, version_flag)) > 0
    except (OSError, AttributeError):
        return False


def _own_user_namespace() -> bool:
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() != _WHOLE_MACHINE
    except OSError:
        return False


def _own_mount_namespace() -> bool:
    try:
        return os.readlink("/proc/self/ns/mnt") != os.readlink("/proc/1/ns/mnt")
    except OSError:
        return False  # pid 1 is another user's, so it can't be told
