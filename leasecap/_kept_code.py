"""Keeping in memory, from a process's first call for a slot on, the code of modules that it loads only when needed.

A process may wait or hold for days, while leasecap is upgraded or uninstalled. A module that it imports then would be
gone, or of a version that doesn't fit the rest. To import all modules at once would bring asyncio and others to
processes that never need them. So their files are read at once, and run when they are imported.
"""

from __future__ import annotations

import sys
from _frozen_importlib_external import SourceFileLoader, cache_from_source, spec_from_file_location
from _io import FileIO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_PACKAGE = __name__.partition(".")[0]
_ANY = "*"  # in place of a module's name

LATER = (
    "_all_pictures",
    "_config.gate",
    "_config.nearest",
    "_config.store_address",
    "_config.time_outs",
    "_config.usage",
    "_control",
    "_extras",
    "_feedback.adaptive",
    "_feedback.histogram",
    "_feedback.latency",
    "_feedback.messages",
    "_feedback.state",
    "_file_store.agents",
    "_file_store.feedback_files",
    "_file_store.feedback_view",
    "_file_store.formats",
    "_file_store.gate_token",
    "_file_store.latency_files",
    "_file_store.leftovers",
    "_file_store.moved_aside",
    "_file_store.pictures",
    "_file_store.refusal",
    "_file_store.repair",
    "_file_store.silent_gates",
    "_file_store.staging",
    "_file_store.standing_gates",
    "_file_store.watched_file",
    "_host.file_changes",
    "_latency",
    "_status",
    "_status.feedback",
    "_status.latency",
    "_status.model",
    "_status.read",
    "_store.picture",
    "_usage",
    "_usage.asking",
    "_usage.command",
    "_usage.http",
    "_usage.no_count",
    "_wait.event_loop",
    "_wait.progress",
)
"""The modules that a wait, a hold, a report or a release may need, with those that these import."""


class _KeptModule(SourceFileLoader):
    """Loads a module from what its files were when this was made.

    Only their bytes are kept: to make code of them takes longer than to read them, and most processes end before they
    need any.
    """

    def __init__(self, name: str, path: str, compiled: str) -> None:
        """
        :param compiled: the path of its compiled file.
        :raises OSError: when there is no such module.
        """
        super().__init__(name, path)
        self._stats = super().path_stats(path)
        self._files: dict[str, bytes] = {}
        changed = int(self._stats["mtime"]) & 0xFFFFFFFF
        for file in (compiled, path):
            try:
                with FileIO(file) as opened:
                    data = self._files[file] = opened.readall()
            except FileNotFoundError:
                continue  # it was never compiled
            if data[4:12] == bytes(4) + changed.to_bytes(4, "little"):  # of this source (PEP 552)
                break

    def path_stats(self, path: str | bytes) -> Mapping[str, object]:
        return self._stats

    def get_data(self, path: str) -> bytes:
        return self._files[path] if path in self._files else super().get_data(path)

    def set_data(self, path: str, data: object, *, _mode: int = 0) -> None:
        """Write no compiled code: it may come to stand beside other source."""


class _Kept:
    """Finds the kept modules, as long as the imported package is the one that they belong to."""

    def __init__(self, package: ModuleType) -> None:
        self._package = package
        self._modules: dict[str, _KeptModule] = {}
        self._compiled: dict[str, tuple[str, str]] = {}

    def keep(self, name: str) -> None:
        full, path = f"{_PACKAGE}.{name}", "/".join([self._package.__path__[0], *name.split(".")])
        for source in (path, f"{path}/__init__"):
            try:
                self._modules[full] = _KeptModule(full, f"{source}.py", self._compiled_of(source))
            except (OSError, NotImplementedError):  # the latter from a Python that caches no compiled code
                continue  # if it can't be kept, and is ever imported, the import says why
            return

    def _compiled_of(self, source: str) -> str:
        """`cache_from_source`, which is asked once for each directory: it takes as long as reading the file."""
        directory, _, name = source.rpartition("/")
        if directory not in self._compiled:
            before, _, behind = cache_from_source(f"{directory}/{_ANY}.py").rpartition(_ANY)
            self._compiled[directory] = before, behind
        return name.join(self._compiled[directory])

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        module = self._modules.get(name) if sys.modules.get(_PACKAGE) is self._package else None
        return None if module is None else spec_from_file_location(name, loader=module)


_kept: list[_Kept] = []


def keep() -> None:
    """Keep the modules that aren't loaded yet; only the first call does anything."""
    if _kept:
        return
    kept = _Kept(sys.modules[_PACKAGE])
    _kept.append(kept)
    for name in LATER:
        if f"{_PACKAGE}.{name}" not in sys.modules:
            kept.keep(name)
    sys.meta_path.insert(0, kept)
