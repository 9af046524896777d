"""What a command is started with: the environment, without the passwords of stores."""

from __future__ import annotations

import os

from leasecap._config.store_choice import ENVIRONMENT, named_by_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.config import Config


def environment_of_commands(config: Config) -> dict[str, str]:
    """This process's environment, without the password in `ENVIRONMENT` and the variables that have one.

    :raises ConfigError: when the variable names no store.
    """
    environment = dict(os.environ)
    tables = (config.defaults, *(table for _, table in config.tables.values()))
    stores = [table.get("store") for table in tables]
    text = environment.get(ENVIRONMENT)
    if text:
        named = named_by_environment(text)
        stores.append(named)
        if named is not None:
            environment[ENVIRONMENT] = named.without_password
    for store in stores:
        for variable in store.variables if store is not None else ():  # type: ignore[attr-defined]  # parsed by `schema`
            environment.pop(variable, None)
    return environment
