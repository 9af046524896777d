"""``typing.NamedTuple`` without importing typing, and reading one from JSON that anybody may have written.

The data that an acquire needs is made of named tuples. A frozen dataclass takes many times as long to define, and
dataclasses and typing are slow to import: all of that would be most of what importing leasecap costs. What loads later
uses dataclasses.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NamedTuple as NamedTuple
    from typing import TypeVar

    T = TypeVar("T")
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

_NO_FIELDS: Mapping[str, object] = {}
_NO_PARTS: Mapping[str, type] = {}
_TYPES = {"str": (str,), "int": (int,), "bool": (bool,), "float": (float, int)}


def from_json(
    kind: type[T],
    raw: object,
    *,
    defaults: Mapping[str, object] = _NO_FIELDS,
    parts: Mapping[str, type] = _NO_PARTS,
    in_bounds: Callable[[object], bool] | None = None,
) -> T:
    """The tuple that ``raw``, a parsed object, describes. A field that ``kind`` doesn't have is ignored.

    :param defaults: the values of fields that are not there; left out: the defaults of ``kind``.
    :param parts: the kind of each field that is a tuple itself.
    :param in_bounds: whether a value of the right type can be meant.
    :raises ValueError: when a field without a default is missing, or one isn't of its type; it says which.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"holds {_shown(raw)} in place of a {kind.__name__.lower()}")
    defaults = defaults or kind._field_defaults  # type: ignore[attr-defined]
    values = []
    for name, annotation in kind.__annotations__.items():
        if name not in raw:
            if name not in defaults:
                raise ValueError(f"holds a {kind.__name__.lower()} without {name}")
            values.append(defaults[name])
            continue
        value = raw[name]
        needed = annotation.removesuffix(" | None")
        if value is None and needed is not annotation:
            pass
        elif name in parts:
            value = from_json(parts[name], value, in_bounds=in_bounds)
        elif type(value) not in _TYPES[needed] or not (in_bounds is None or in_bounds(value)):
            raise ValueError(f"holds a {name} that can't be: {_shown(value)}")
        values.append(value)
    return kind(*values)


def _shown(value: object) -> str:
    # A text of what is nested could go deeper than Python does.
    return f"{value!r:.40}" if isinstance(value, (str, int, float)) else type(value).__name__
