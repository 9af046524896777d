"""What a section that was stolen has granted.

Only a lock directory can be stolen. What is granted inside one carries the section's token, so that grants which the
robbed holder makes later, not knowing, are told from those that count.
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
        """Write into the entry which section granted it."""
        if token:
            self._directory.replace(f"{path}/by", token.encode())

    def suspects(self, snapshot: Snapshot, stuck: set[str]) -> frozenset[str]:
        """Names of what is held by a grant of a robbed section, but for ``stuck``."""
        stolen = {name.partition(".")[0] for name in self._directory.list(STOLEN)}
        if not stolen:
            return frozenset()
        held = [(GRANTED, entry) for entry in snapshot.granted if entry.name not in stuck] + [
            (LEASES, entry) for entry in snapshot.leases
        ]
        return frozenset(entry.name for where, entry in held if self._signed_by(where, entry.name) in stolen)

    def _signed_by(self, where: str, name: str) -> str:
        try:
            return self._directory.read(f"{where}/{name}/by", 64).decode("ascii", "replace")
        except OSError:
            return ""

    def adopt(self, token: str) -> None:
        """Inside a section entered after a theft: vouch for what the robbed section has granted until now."""
        for where in HELD:
            for name in self._directory.list(where):
                if self._signed_by(where, name):
                    try:
                        self.sign(f"{where}/{name}", token)
                    except FileNotFoundError:
                        continue  # acknowledged or released meanwhile

    def granted_beside(self, counted: set[str]) -> bool:
        """Whether, after a theft, something is held that we didn't count: the robbed holder granted it beside us.

        It finds out, but its attempt to enter failed while we were inside.
        """
        if not self._directory.list(STOLEN):
            return False
        return not {name for where in HELD for name in self._directory.list(where)} <= counted
