"""What the provider's answers allow, as input to the decision about grants."""

from __future__ import annotations

import math

from leasecap._named_tuple import NamedTuple


class Admission(NamedTuple):
    """What the feedback's state means for the next grants.

    :ivar closed: nobody is granted anything.
    :ivar limit: the reduced limit, or None.
    :ivar high: a grant that keeps the load up to this is a hand-off, and isn't spaced; None: no grant is.
    :ivar raises: how many grants may raise the load above ``high`` now.
    :ivar answers: how many grants may be given on the provider's last answer; None: it isn't asked, or says nothing.
    :ivar counted: how many requests the provider counted in flight; below the limit there is room for one more.
    :ivar own_limit: the provider's own limit, or None.
    :ivar asks_first: the provider's own limit isn't known yet, so that it is asked before anybody is granted a slot.
    :ivar changes_in: seconds until this changes by itself, as far as that is known.
    """

    closed: bool = False
    limit: int | None = None
    high: int | None = None
    raises: int = 0
    answers: int | None = None
    counted: int = 0
    own_limit: int | None = None
    asks_first: bool = False
    changes_in: float = math.inf


OPEN = Admission()
