"""What a pool's provider is asked for, and how its answers count."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._feedback.rules import Rules


class Terms:
    """What the configuration and the program say of feedback.

    :ivar rules: what the configuration says now.
    :ivar count: asks the provider how many requests it counts in flight, in place of what the
        configuration says.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.count: Callable[[], int] | None = None

    @property
    def gated(self) -> bool:
        """Whether the provider is asked before a grant that could be too much."""
        return self.count is not None or self.rules.ask
