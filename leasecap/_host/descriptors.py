"""How many descriptors this process may have open."""

from __future__ import annotations

import sys

_ENOUGH = 65536
_OPEN_MAX = 10240
"""macOS calls its hard limit infinite, and refuses more than this, or than kern.maxfilesperproc."""


if sys.platform == "win32":

    def raise_descriptor_limit() -> int | None:
        """Windows has no such limit."""
        return None

else:
    import resource

    def raise_descriptor_limit() -> int | None:
        """Raise the soft limit to the hard one, as far as that makes sense, for this process and what it starts.

        :return: the soft limit as it was, for a command that must get it back: `select` fails on high descriptors.
            None where there is no such limit.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return soft
        for most in (_ENOUGH, _OPEN_MAX):
            wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
            if wanted <= soft:
                break
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                break
            except (OSError, ValueError):
                pass  # beyond what this system allows
        return soft
