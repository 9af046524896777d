"""What the holder of a stolen lock has granted.

Only a lock directory can be stolen. What is granted under one is signed with the token of that stay. So the grants that
a robbed holder makes later, not knowing of the theft, can be told from those that count.
"""

from __future__ import annotations

from leasecap._decisions.places import GRANTED, LEASES, STOLEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._decisions.snapshot import Snapshot
    from leasecap._host.directory import Directory

HELD = (GRANTED, LEASES)


class Thefts:
    """The thefts of one pool's lock directory. Where the lock can't be stolen all tokens are empty."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def sign(self, path: str, token: str) -> None:
        """Sign the entry with the token of the stay in which it was granted."""
        if token:
            self._directory.replace(f"{path}/by", token.encode())

    def suspects(self, snapshot: Snapshot) -> frozenset[str]:
        """Names of what is held by a grant that a robbed holder has signed."""
        stolen = {name.partition(".")[0] for name in self._directory.list(STOLEN)}
        if not stolen:
            return frozenset()
        held = {GRANTED: snapshot.granted.names, LEASES: snapshot.leases.names}
        return frozenset(name for where in held for name in held[where] if self._signed_by(where, name) in stolen)

    def _signed_by(self, where: str, name: str) -> str:
        try:
            return self._directory.read(f"{where}/{name}/by", 64).decode("ascii", "replace")
        except OSError:
            return ""

    def adopt(self, token: str) -> None:
        """Inside, after a theft: vouch for what the robbed holder has granted until now, by signing it anew."""
        for where in HELD:
            for name in self._directory.list(where):
                if self._signed_by(where, name):
                    try:
                        self.sign(f"{where}/{name}", token)
                    except FileNotFoundError:
                        continue  # it was acknowledged or released meanwhile

    def granted_beside(self, counted: set[str]) -> bool:
        """Whether, after a theft, something is held that isn't in ``counted``: the robbed holder has granted it
        meanwhile.

        That holder finds out, but it can't enter while this process is inside.
        """
        if not self._directory.list(STOLEN):
            return False
        return not {name for where in HELD for name in self._directory.list(where)} <= counted
