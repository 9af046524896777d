"""``typing.NamedTuple`` without importing typing.

The data that an acquire needs is made of named tuples: defining one costs 0.1 ms, a frozen dataclass 1.3 ms, and there
are twenty; dataclasses itself costs 20 ms to import and typing 5, of the 30 that importing leasecap may cost (measured
on Python 3.11; the rest of what they import comes with json anyway). What loads later uses dataclasses.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from collections import namedtuple

    class _Meta(type):
        def __new__(cls, name, bases, space):
            if not bases:
                return super().__new__(cls, name, bases, space)
            annotations = space.pop("__annotations__")
            fields = list(annotations)
            defaults = [space.pop(field) for field in fields if field in space]
            made = namedtuple(name, fields, defaults=defaults, module=space["__module__"])  # noqa: PYI024
            made.__annotations__ = annotations
            for key in space.keys() - {"__module__", "__qualname__"}:
                setattr(made, key, space[key])
            return made

    NamedTuple = _Meta("NamedTuple", (), {})
