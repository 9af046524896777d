"""A command prepared for the gate in a world of files that are not there."""

from __future__ import annotations

from leasecap._config.config import parse_config
from leasecap._gate.environment import Prepared, prepare

HOME = "/home/me"
WORK = "/home/me/src/project"
PRIVATE = "/home/me/.private"


def prepared(
    *argv: str,
    environ: dict[str, str] | None = None,
    files: dict[str, str] | None = None,
    config: str | None = None,
    superuser: bool = False,
) -> Prepared:
    """``argv`` as it would start in `WORK`, with the gate on port 4000 and the token TOK."""
    return prepare(
        argv,
        {"HOME": HOME, **(environ or {})},
        address="127.0.0.1:4000",
        token="TOK",
        config=parse_config("/root/config.toml", config),
        private=PRIVATE,
        directory=WORK,
        superuser=superuser,
        read=(files or {}).get,
    )
