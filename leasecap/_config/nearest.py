"""The known word that was probably meant by an unknown one."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST = 40  # characters; the search takes time by their square, and no known word is so long
_ALIKE = 0.7  # "foo" and "pool" are not


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that is most like ``word``; None if none is like it."""
    if len(word) > _LONGEST:
        return None
    from difflib import get_close_matches

    spelled = {each.lower(): each for each in known}
    found = get_close_matches(word.lower(), spelled, 1, _ALIKE)
    return spelled[found[0]] if found else None
