"""config.toml as this process follows it: read again when it changes, the last good one in force meanwhile."""

from __future__ import annotations

from leasecap._config.config import config_path, parse_config, signature
from leasecap._config.seal import STANDS_STILL, is_sealed
from leasecap._config.toml_file import read_text
from leasecap._errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class ConfigFile:
    """The one of a root.

    :ivar config: the last good configuration.
    """

    def __init__(self, clock: Callable[[], float], root: str) -> None:
        """
        :param clock: the monotonic one.
        :raises ConfigError, StoreError: when it can't be used.
        """
        self._clock = clock
        self.spell(root)
        self._broken: tuple[tuple[int, ...], ConfigError] | None = None
        self._load()

    def spell(self, root: str) -> None:
        """Find it in the root by this path from now on."""
        self._root, self._path = root, config_path(root)

    @property
    def is_there(self) -> bool:
        """Whether there is one."""
        return self._text is not None

    def _load(self) -> None:
        # The signature first: an edit in between is then seen as a change at the next look.
        path = self._path
        found = signature(path)
        if self._broken is not None and self._broken[0] == found:
            raise self._broken[1].with_traceback(None)  # to parse it at each look would hold up whoever waits
        text = read_text(path)
        try:
            self.config = parse_config(path, text)
        except ConfigError as error:
            self._broken = found, error
            raise
        self._broken, self._signature, self._text = None, found, text
        self._stands_still = False
        self._stands_still_at = self._clock() + STANDS_STILL

    def stands_still_in(self) -> float:
        """Seconds until it has been the same for long enough; 0 if it has, or need not."""
        if not self._stands_still and is_sealed(self._root, self._text or ""):
            self._stands_still = True
        if self._stands_still:
            return 0.0
        left = self._stands_still_at - self._clock()
        return left if left > 0 else STANDS_STILL  # it is broken now, or not looked at yet: nobody is to spin for it

    def is_due(self) -> bool:
        """Whether it has changed, or has still to be seen to have stood still."""
        if signature(self._path) != self._signature:
            return True
        return not self._stands_still and self._clock() >= self._stands_still_at

    def refresh(self) -> bool:
        """Read it again if it has changed; False: it has stood still.

        :raises ConfigError, StoreError: when it can't be used; the last good one stays.
        """
        # By its contents as well: two edits within one tick of the file system's clock have one signature.
        path = self._path
        if signature(path) == self._signature and self._text == read_text(path):
            self._stands_still = True
            return False
        self._load()
        return True
