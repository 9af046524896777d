"""What the provider's answers allow, as the decision about grants sees it."""

from __future__ import annotations

import math

from leasecap._named_tuple import NamedTuple


class Admission(NamedTuple):
    """What the state means for the next grants; read by `grants`.

    :ivar closed: nobody is granted anything.
    :ivar limit: the reduced limit, or None.
    :ivar high: up to this load a grant is a hand-off; None: grants aren't spaced.
    :ivar raises: how many grants may raise the load above ``high`` now.
    :ivar answers: how many grants may be given on the provider's last answer; None: it isn't asked, or says nothing.
    :ivar counted: how many the provider counted in flight; below the limit there is room for one more.
    :ivar changes_in: seconds until this changes by itself, as far as that is known.
    """

    closed: bool = False
    limit: int | None = None
    high: int | None = None
    raises: int = 0
    answers: int | None = None
    counted: int = 0
    changes_in: float = math.inf


OPEN = Admission()
