"""What a check finds, and what it looks at."""

from __future__ import annotations

import os
from dataclasses import dataclass

from leasecap._errors import LeasecapError
from leasecap._faults import store_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal, ParamSpec

    Verdict = Literal["ok", "note", "bad"]
    P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    :ivar verdict: "bad": agents are refused a slot, or the cap breaks; "note": a person may want to know it.
    :ivar remedy: what to do, "" for nothing. Lines that begin with two blanks are to be typed or copied as they are.
    """

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Site:
    """The place that is examined.

    :ivar root: the root's path; it need not exist.
    :ivar source: where that path comes from.
    :ivar given: the directory that the caller wants tried in place of the root, or None.
    """

    root: str
    source: str
    given: str | None

    @property
    def ground(self) -> str:
        """The existing directory in which things are tried out."""
        path = self.given or self.root
        while not os.path.isdir(path) and path != os.path.dirname(path):
            path = os.path.dirname(path)
        return path


def guarded(name: str, check: Callable[P, Check], *args: P.args, **kwargs: P.kwargs) -> Check:
    """The check's finding; an exception that it raises is a finding too."""
    try:
        return check(*args, **kwargs)
    except LeasecapError as error:
        return refused(name, str(error))
    except OSError as error:
        return refused(name, str(store_error(error, str(error.filename or "the system"))))
    except Exception as error:
        return Check(name, "bad", f"the check itself failed: {type(error).__name__}: {error}", "please report this")


def refused(name: str, error: str) -> Check:
    """A finding made of the text of an error: its first line says what happened, the others what to do."""
    found, _, remedy = error.partition("\n")
    return Check(name, "bad", found, remedy)
