"""`leasecap limit`: what the limits are, why, and setting one."""

from __future__ import annotations

import os
import shlex

import click

from leasecap._config.config import Config, PoolConfig, load_config
from leasecap._config.presets import ON_ACCOUNT, PRESETS
from leasecap._config.root import check_root, root_path
from leasecap._config.schema import UNLIMITED
from leasecap._config.store_address import FILES, StoreAddress
from leasecap._config.usage import parse_url
from leasecap._errors import LeasecapError
from leasecap._redact import mask, printable, redact_argv
from leasecap._runtime import runtime
from leasecap.cli._pools import complete_pool, is_known, nearest_pool, suggestion, unknown
from leasecap.cli._say import Limit, Verb

_HELD_TO = "while this machine holds or waits, its own limit counts too"


def _as_limit(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    if text.startswith("-") and not text[1:2].isdigit():
        raise click.NoSuchOption(printable(text, 40))
    return Limit(unlimited=True).convert(text, parameter, context)


# "-1" must not be taken for an option: _as_limit says what is wrong with it.
@click.command("limit", cls=Verb, context_settings={"ignore_unknown_options": True})
@click.argument("pool", required=False, shell_complete=complete_pool)
@click.argument("limit", metavar="[N|unlimited]", required=False, callback=_as_limit)
@click.option("--unset", is_flag=True, help="Take the pool's limit out of config.toml, or from its server.")
def command(pool: str | None, limit: int | None, unset: bool) -> None:
    """Show the limits, or set the one of POOL.

    Without arguments: the configured pools, the shipped presets with their reasons, and the defaults. With POOL: its
    limit, where it comes from, and what is in force beside it: a declared limit, a reduction, a pause. With N (1 or
    more) or the word unlimited: writes it into config.toml, whose comments stay; it holds at once, also for those who
    wait, and a reduction that the provider's answers led to is forgotten. Lowering never stops what runs.

    The limit of a pool that a server keeps (`store`) is set there, for all machines; one in a config.toml holds while
    its machine holds or waits, and can only tighten it.
    """
    if pool is not None and pool.startswith("-"):
        raise click.NoSuchOption(printable(pool, 40))
    if pool is None and unset:
        raise click.UsageError("--unset needs a POOL")
    if limit is not None and unset:
        raise click.UsageError("give a limit or --unset, not both")
    root = root_path()
    if os.path.lexists(root):
        check_root(root)
    if pool is None:
        _show_all(load_config(root))
    elif limit is None and not unset:
        _show_one(root, load_config(root), pool)
    else:
        _change(root, pool, limit)


def _change(root: str, pool: str, limit: int | None) -> None:
    from leasecap._config.edit import set_limit

    config = load_config(root)
    settings = config.pool(pool)
    meant = None
    if not is_known(settings.name, config, root):
        if limit is None:
            raise unknown(settings.name, config, root)
        meant = nearest_pool(settings.name, config, root)
    if settings.store is not None:
        _change_for_all(root, settings, limit)
        _ask_whether(meant, settings)
        return
    change = set_limit(root, pool, limit)
    click.echo(f"{_name(change.after)}: {_limit_and_source(change.before)} -> {_limit_and_source(change.after)}")
    _ask_whether(meant, settings)
    if change.after.limit is None:
        click.echo(f"Now only who declares a limit (--limit N) gets a slot. Set one for all: {_command(change.after)}")
    # Without it a raised limit would be granted only at the waiters' next look.

    runtime.restore(runtime.root(root), change.after.name)


def _ask_whether(meant: str | None, pool: PoolConfig) -> None:
    """Ask whether a name that was new is a mistyped one."""
    if meant is not None:
        undo = f"leasecap limit {shlex.quote(_name(pool))} --unset"
        click.echo(f"There was no such pool; did you mean {printable(meant, 200)}? Take its limit out: {undo}")


def _change_for_all(root: str, pool: PoolConfig, limit: int | None) -> None:
    """Set the limit on the server that keeps the pool."""
    assert pool.store is not None
    on_server = runtime.on_server(pool)
    before, _ = on_server.limit_for_all()
    on_server.set_limit(limit)
    runtime.restore(runtime.root(root), pool.name)
    where = f"for all machines, on {printable(pool.store.shown, 200)}"
    click.echo(f"{_name(pool)}: {_limit(before)} -> {_limit(limit)} ({where})")
    if pool.limit is not None and pool.limit < (limit or UNLIMITED):
        click.echo(f"{_HELD_TO}: {_limit_and_source(pool)}")
    elif limit is None and pool.limit is None:
        click.echo(f"Now only who declares a limit (--limit N) gets a slot. Set one for all: {_command(pool)}")


def _show_one(root: str, config: Config, given: str) -> None:
    pool = config.pool(given)
    limit = pool.limit
    if pool.store is None:
        click.echo(f"{_name(pool)}: {_limit_and_source(pool)}")
    else:
        known, by, trouble = "not known", "", None
        try:
            limit, by = runtime.on_server(pool).limit_for_all()
            known, by = _limit(limit), f", {printable(by, 200)}" if by else ""
        except LeasecapError as error:  # what this machine knows is shown all the same
            trouble = error
        click.echo(f"{_name(pool)}: {known} (for all machines, on {printable(pool.store.shown, 200)}{by})")
        if pool.limit is not None:
            click.echo(f"{_HELD_TO}: {_limit_and_source(pool)}")
        if trouble is not None:
            raise trouble
    for line in _in_force(pool, limit):
        click.echo(line)
    preset = PRESETS.get(pool.name.identity)
    if preset is not None:
        click.echo(f"{f'preset {preset.limit}' if preset.limit else 'no preset'}: {preset.reason}")
    elif not is_known(pool.name, config, root):
        click.echo(f"There is no such pool yet{suggestion(pool.name, config, root)}")
    click.echo(f"{'Set' if limit is None else 'Change'} it: {_command(pool)}")


def _in_force(pool: PoolConfig, limit: int | None) -> list[str]:
    """What holds at this moment beside ``limit``: declared limits, a reduction, a pause."""
    from leasecap._status.feedback import word
    from leasecap._status.read import status

    [now] = status(pool.name.text).pools
    lines = []
    if now.limit != word(limit):
        lines.append(f"in force now: {now.limit} ({printable(now.limit_source, 200)})")
    if now.feedback is not None:
        lines += [f"in force now: {printable(line, 300)}" for line in now.feedback.lines]
    return lines + [printable(line, 500) for line in (now.error or "").splitlines()]


def _show_all(config: Config) -> None:
    click.echo(f"file: {printable(config.path, 1000)}")
    configured = [config.pool(name.text) for name in config.pools]
    if configured:
        click.echo("\nconfigured pools:")
        _table([_configured(pool) for pool in configured])
    click.echo("\npresets, which hold unless the file sets the pool's limit:")
    _table([(preset.pool, _limit(preset.limit), preset.reason) for preset in PRESETS.values() if preset.limit])
    click.echo(f"\nwithout a preset, for {ON_ACCOUNT}:")
    click.echo("  " + ", ".join(preset.pool for preset in PRESETS.values() if not preset.limit))
    click.echo("\ndefaults for what a pool doesn't set:")
    if "limit" not in config.defaults:
        _table([("limit", "none", "a pool without any limit gives out no slots")])
    for key, value in config.defaults.items():
        click.echo(f"  {key} = {_default(key, value)}")
    click.echo("\nChange one: leasecap limit POOL N")


def _configured(pool: PoolConfig) -> tuple[str, str, str]:
    if pool.store is None:
        return _name(pool), _limit(pool.limit), pool.limit_source
    # It isn't asked: one that is silent would keep all the others from being shown.
    shows = f"leasecap limit {shlex.quote(_name(pool))}"
    where = f"{printable(pool.store.shown, 200)} has the one for all machines: {shows}"
    if pool.limit is None:
        return _name(pool), "-", where
    return _name(pool), _limit(pool.limit), f"{pool.limit_source}, for this machine; {where}"


def _default(key: str, value: object) -> str:
    """A default as it may be shown: a URL's query and a command's words can be keys."""
    if value is None:
        return FILES
    if isinstance(value, int):
        return _limit(value)
    if key == "usage_url":
        return parse_url(value).shown
    if isinstance(value, StoreAddress):
        return printable(value.shown, 200)
    if isinstance(value, tuple):
        return redact_argv(value)
    return printable(mask(str(value)), 200)


def _table(rows: list[tuple[str, str, str]]) -> None:
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, limit, why in rows:
        click.echo(f"  {name:<{first}}  {limit:>{second}}  {why}".rstrip())


def _name(pool: PoolConfig) -> str:
    return printable(pool.name.text, 200)


def _limit(limit: int | None) -> str:
    return "none" if limit is None else "unlimited" if limit == UNLIMITED else str(limit)


def _limit_and_source(pool: PoolConfig) -> str:
    return _limit(pool.limit) + (f" ({pool.limit_source})" if pool.limit_source else "")


def _command(pool: PoolConfig) -> str:
    return f"leasecap limit {shlex.quote(_name(pool))} N"
