"""A hash of what an actor is and remembers while it pauses, so that states with different pasts and one future merge.

It covers all mutable state that the actor can reach: the suspended generators with their local variables, and the
objects that hang on them. An object of an unknown kind is an error, not a guess.
"""

from __future__ import annotations

import functools
import re
import threading
import types
import weakref
from collections.abc import Hashable, Mapping
from typing import Any

from explore.memory_fs import MemoryDirectory, MemoryEffects, MemoryFs
from explore.scheduler import Actor, Process, World

_PLAIN = (int, float, str, bytes, bool, type(None))
_ELSEWHERE = (MemoryDirectory, MemoryEffects, MemoryFs, World, Process)  # in the state by themselves
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, type)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))


def fingerprint(*roots: Any) -> int:
    """The hash of everything that can be reached from ``roots``."""
    return hash(_canon(roots, {}))


def _canon(thing: Any, met: dict[int, int]) -> Hashable:
    if type(thing) in _PLAIN:
        return thing  # type: ignore[no-any-return]
    if isinstance(thing, _ELSEWHERE):
        return type(thing).__name__
    if isinstance(thing, Actor):
        return thing.name
    if isinstance(thing, _FUNCTIONS):
        return thing.__qualname__
    if isinstance(thing, tuple):
        return tuple(_canon(each, met) for each in thing)
    if id(thing) in met:
        return ("met before", met[id(thing)])
    met[id(thing)] = len(met)
    if isinstance(thing, list):
        return tuple(_canon(each, met) for each in thing)
    if isinstance(thing, dict):
        return tuple((_canon(key, met), _canon(thing[key], met)) for key in sorted(thing, key=_by))
    if isinstance(thing, (set, frozenset)):
        return ("set", *(_canon(each, met) for each in sorted(thing, key=_by)))
    return _canon_object(thing, met)


def _canon_named(things: Mapping[str, Any], met: dict[int, int]) -> Hashable:
    """Of a mapping that is made for this look: the next one may be at the same address."""
    return tuple((name, _canon(things[name], met)) for name in sorted(things))


def _by(key: Any) -> str:
    return str(getattr(key, "name", key))


def _canon_object(thing: Any, met: dict[int, int]) -> Hashable:
    if isinstance(thing, types.GeneratorType):
        frame = thing.gi_frame
        if frame is None:
            return "ended"
        inner = thing.gi_yieldfrom
        return (
            thing.__qualname__,
            frame.f_lasti,
            _canon_named(frame.f_locals, met),
            _canon(inner, met) if isinstance(inner, types.GeneratorType) else None,
        )
    if isinstance(thing, weakref.ref):
        return ("weakly", _canon(thing(), met))
    if isinstance(thing, functools.partial):
        return (_canon(thing.func, met), _canon(thing.args, met))
    if isinstance(thing, str):
        return (str(thing), _canon_named(thing.__dict__, met))
    if isinstance(thing, types.MethodType):
        return (thing.__qualname__, _canon(thing.__self__, met))
    if isinstance(thing, threading.Condition):
        return "condition"
    if isinstance(thing, threading.Event):
        return thing.is_set()
    if isinstance(thing, _LOCKS):
        return re.search(r"\b(un)?locked\b", repr(thing)).group()  # type: ignore[union-attr]
    if isinstance(thing, BaseException):
        return repr(thing)
    if isinstance(thing, types.SimpleNamespace) or type(thing).__module__.partition(".")[0] in ("leasecap", "explore"):
        slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
        inside = {name: getattr(thing, name) for name in slots if hasattr(thing, name)}
        inside.update(getattr(thing, "__dict__", {}))
        inside = {name: each for name, each in inside.items() if type(each) is not types.FunctionType}
        return (type(thing).__qualname__, _canon_named(inside, met))
    raise TypeError(f"the state of a {type(thing)} is not known")
