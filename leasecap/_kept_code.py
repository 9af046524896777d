"""Keeping in memory, from a process's first call for a slot on, the code of modules that it loads only when needed.

A process may wait or hold for days, while leasecap is upgraded or uninstalled. A module that it imports then would be
gone, or of a version that doesn't fit the rest. To import all modules at once would bring asyncio and others to
processes that never need them. So their code is read at once, and run when they are imported.
"""

from __future__ import annotations

import sys
from _frozen_importlib_external import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

_PACKAGE = __name__.partition(".")[0]

LATER = (
    "_all_pictures",
    "_config.gate",
    "_config.nearest",
    "_config.store_address",
    "_config.time_outs",
    "_config.usage",
    "_control",
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


class _Kept:
    """Finds and loads the kept modules, as long as the imported package is the one that they belong to."""

    def __init__(self, package: ModuleType) -> None:
        self._package = package
        self._specs: dict[str, ModuleSpec] = {}
        self._code: dict[str, CodeType] = {}

    def keep(self, name: str) -> None:
        folder = "/".join([self._package.__path__[0], *name.split(".")[:-1]])
        full = f"{_PACKAGE}.{name}"
        try:
            spec = PathFinder.find_spec(full, [folder])
            code = spec.loader.get_code(full)  # type: ignore[union-attr]
        except (AttributeError, ImportError, OSError):
            return  # it can't be kept; if it is ever imported, the import says why
        if spec is not None and code is not None:
            spec.loader = self  # type: ignore[assignment]  # it has what the import system calls
            self._specs[full], self._code[full] = spec, code

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return self._specs.get(name) if sys.modules.get(_PACKAGE) is self._package else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code[module.__name__], module.__dict__)  # noqa: S102  # as any loader does


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
