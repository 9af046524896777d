"""config.toml as this process follows it: it is read again when it changes, and a broken one leaves the last good
one."""

from __future__ import annotations

from leasecap._config.config import config_path, parse_config
from leasecap._config.seal import STANDS_STILL, is_sealed
from leasecap._config.toml_file import read_text, signature
from leasecap._errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class ConfigFile:
    """The config.toml of a root.

    :ivar config: the last good configuration.
    """

    def __init__(self, clock: Callable[[], float], root: str) -> None:
        """
        :param clock: the monotonic clock.
        :raises ConfigError, StoreError: when the file can't be used.
        """
        self._clock = clock
        self.spell(root)
        self._broken: tuple[tuple[int, ...], ConfigError] | None = None
        self._load()

    def spell(self, root: str) -> None:
        """Look for the file below this path of the root from now on."""
        self._root, self._path = root, config_path(root)

    @property
    def is_there(self) -> bool:
        """Whether there is such a file."""
        return self._text is not None

    def _load(self) -> None:
        # The signature is taken first, so that an edit in between counts as a change at the next look.
        path = self._path
        found = signature(path)
        if self._broken is not None and self._broken[0] == found:
            raise self._broken[1].with_traceback(None)  # to parse it again at each look would hold up all waiters
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
        """Seconds until the file has been the same for long enough; 0 if it has been, or need not be."""
        if not self._stands_still and is_sealed(self._root, self._text or ""):
            self._stands_still = True
        if self._stands_still:
            return 0.0
        left = self._stands_still_at - self._clock()
        return left if left > 0 else STANDS_STILL  # it is broken, or not read yet; 0 would have waiters spin

    def is_due(self) -> bool:
        """Whether `refresh` has something to do: the file has changed, or may have stood still for long enough."""
        if signature(self._path) != self._signature:
            return True
        return not self._stands_still and self._clock() >= self._stands_still_at

    def refresh(self) -> bool:
        """Read the file again if it has changed; False: it has stood still.

        :raises ConfigError, StoreError: when it can't be used; the last good configuration stays.
        """
        # The contents are compared too: two edits within one tick of the file system's clock have one signature.
        path = self._path
        if signature(path) == self._signature and self._text == read_text(path):
            self._stands_still = True
            return False
        self._load()
        return True
