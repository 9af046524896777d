"""config.toml is read strictly, or refused with file, line, key, value and what is allowed.

A misspelt key or a value of the wrong type must never leave a pool without its limit, so nothing in the file is
ignored. `schema` says what each key may hold.
"""

from __future__ import annotations

import os

from leasecap._config.merge import USAGE_URL_KEYS, merged
from leasecap._config.pool_name import PoolName, pool_name
from leasecap._config.presets import PRESETS
from leasecap._config.requests import Requests
from leasecap._config.schema import AGENT_KEYS, KILL_AFTER, NAME_ALLOWED, TABLES, parse_name
from leasecap._config.schema import UNLIMITED as UNLIMITED  # for those who read a PoolConfig's limit
from leasecap._config.store_choice import default_store, is_of_this_machine
from leasecap._config.toml_file import key_text, line_of, parse_toml, read_text, value_text
from leasecap._errors import ConfigError
from leasecap._feedback.rules import Rules
from leasecap._liveness.stamp import BEATS, HEARTBEAT, STALE_AFTER
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Literal, TypeAlias, TypeVar

    from leasecap._config.gate import Address, AgentSettings, GateSettings
    from leasecap._config.schema import Key
    from leasecap._config.store_address import StoreAddress

    Settings: TypeAlias = Mapping[str, object]
    T = TypeVar("T")

FILE_NAME = "config.toml"

_NO_VALUE = object()


class PoolConfig(NamedTuple):
    """What holds for one pool after presets and defaults. Durations are seconds.

    :ivar limit: the configured limit, `UNLIMITED` if a person wrote that word, None if nothing sets one.
    :ivar limit_source: where the limit came from, for people; "" if there is none.
    :ivar queue_timeout: how long to wait for a slot; None waits for ever.
    :ivar priority: from -99 to 99; higher goes first.
    :ivar order: what goes first among equal priorities: the earlier call, or the call of the earlier task.
    :ivar stale_after: how long a heartbeat may stand still before its holder counts as dead, at least three heartbeats.
    :ivar heartbeat: the time between two heartbeats.
    :ivar rules: what the provider's answers do.
    :ivar max_hold: how long a lease may be held; None: as long as it likes.
    :ivar kill_after: how long a holder has to end once its time is over.
    :ivar reclaim: whether the slot is given away after that, though its holder may still work.
    :ivar requests: what holds for requests that pass the gate.
    :ivar store: the server that keeps the pool; None: it is kept in the root's files.
    :ivar record: what a server is told of this machine's processes: all, or nothing of what they do.
    :ivar when_unsure: whether `leasecap run` ends a command whose slot may soon be another's, as the server is away.
    :ivar written: the keys that the file sets for it.
    """

    name: PoolName
    limit: int | None
    limit_source: str
    queue_timeout: float | None = None
    priority: int = 0
    order: Literal["arrival", "task"] = "arrival"
    stale_after: float = STALE_AFTER
    heartbeat: float = HEARTBEAT
    lock: Literal["auto", "os", "directory"] = "auto"
    rules: Rules = Rules()
    max_hold: float | None = None
    kill_after: float = KILL_AFTER
    reclaim: Literal["never", "force"] = "never"
    requests: Requests = Requests()
    store: StoreAddress | None = None
    record: Literal["full", "minimal"] = "full"
    when_unsure: Literal["run", "end"] = "run"
    written: frozenset[str] = frozenset()


class Config(NamedTuple):
    """One reading of config.toml.

    :ivar path: the file, whether it exists or not.
    :ivar commands: the pool for a command's base name.
    :ivar default_pool: the pool when nothing else names one, or None.
    :ivar pools: the names that have a table of their own, in the order of the file.
    :ivar defaults: what ``[defaults]`` sets for pools that don't set it themselves.
    :ivar gate: what ``[gate]`` says, or None if the file has no such table.
    """

    path: str
    commands: Mapping[str, str]
    default_pool: str | None
    pools: tuple[PoolName, ...]
    defaults: Settings
    tables: Mapping[str, tuple[PoolName, Settings]]  # by identity
    aliases: Mapping[str, str]  # from an alias's identity to that of its pool
    gate: GateSettings | None = None

    def pool(self, text: str) -> PoolConfig:
        """What holds for the pool that ``text`` names: by its name, an alias or an endpoint.

        :raises ConfigError: if ``text`` can't name a pool, or the environment names a store that can't be one.
        """
        name = pool_name(text)
        name, table = self.tables.get(self.aliases.get(name.identity, name.identity), (name, {}))
        settings = merged(self.defaults, table)
        settings["written"] = frozenset(settings)
        limit, source = settings.pop("limit", None), f"{FILE_NAME} [defaults]"
        # A provider that a person has given another name keeps its preset.
        identities = [other.identity for other in (name, *_alias_names(table))]
        settings.pop("aliases", None)
        known = map(PRESETS.get, identities)
        preset = min((one.limit for one in known if one is not None and one.limit is not None), default=None)
        if "store" not in table:  # each machine has its own local servers
            settings["store"] = None if any(map(is_of_this_machine, identities)) else default_store(self.defaults)
        if "limit" in table:
            source = f"{FILE_NAME} [{key_text(('pools', name.text))}]"
        elif preset is not None:
            limit, source = preset, "preset"
        rules = Rules(**{key: settings.pop(key) for key in Rules._fields if key in settings})  # type: ignore[arg-type]
        requests = Requests(**{key: settings.pop(key) for key in Requests._fields if key in settings})  # type: ignore[arg-type]
        # The parsers of `schema` have given every value its type.
        return PoolConfig(name, limit, source if limit is not None else "", rules=rules, requests=requests, **settings)  # type: ignore[arg-type]

    def stores(self) -> list[StoreAddress]:
        """The servers that are named for pools.

        :raises ConfigError: when what the environment names is none.
        """
        named = [table.get("store") for _, table in self.tables.values()]
        return list(dict.fromkeys(filter(None, (default_store(self.defaults), *named))))  # type: ignore[arg-type]

    def with_password(self, pool: PoolConfig) -> PoolConfig:
        """The pool; if it is on a server, with the password to that, as far as this knows it.

        :raises ConfigError: as `stores`.
        """
        if pool.store is None:
            return pool
        known = {store.name: store for store in self.stores()}
        return pool._replace(store=known.get(pool.store.name, pool.store))

    def names(self) -> dict[str, str]:
        """Every name that means a pool though nobody has used it, by identity: configured names, aliases, presets."""
        mentioned = map(pool_name, filter(None, (*self.commands.values(), self.default_pool)))
        configured = {name.identity: name.text for name in (*mentioned, *self.pools)}
        return {text: text for text in (*PRESETS, *self.aliases)} | configured


def config_path(root: str) -> str:
    """Where the configuration of ``root`` stands."""
    return os.path.join(root, FILE_NAME)


def load_config(root: str) -> Config:
    """Reads ``<root>/config.toml``; without it, or without a root, everything has its default.

    :raises ConfigError: if a setting is unknown, wrong or incoherent, or the file is no TOML.
    :raises StoreError: if the file is there and can't be read, or is no regular file.
    """
    path = config_path(root)
    return parse_config(path, read_text(path))


def parse_config(path: str, text: str | None) -> Config:
    """The configuration in ``text``, the contents of ``path`` (None: there is no such file).

    :raises ConfigError: as `load_config` does.
    """
    if text is None:
        return Config(path, {}, None, (), {}, {}, {})
    return _Reader(path, text).config(parse_toml(path, text))


class _Reader:
    """Turns one parsed document into a Config. It needs path and text only for its errors."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._text = text
        self._spelling: dict[str, str] = {}  # how each pool's table is spelled, by identity

    def config(self, document: Settings) -> Config:
        self._refuse_unknown((), document, TABLES)
        defaults = self._settings(("defaults",), document.get("defaults", {}))
        default_pool = defaults.pop("pool", None)
        self._check(("defaults",), defaults, defaults)
        tables = self._pools(document.get("pools", {}), defaults)
        return Config(
            self._path,
            self._commands(document.get("commands", {})),
            default_pool.text if isinstance(default_pool, PoolName) else None,
            tuple(name for name, _ in tables.values()),
            defaults,
            tables,
            self._alias_map(tables),
            self._gate(document["gate"]) if "gate" in document else None,
        )

    def _pools(self, value: object, defaults: Settings) -> dict[str, tuple[PoolName, Settings]]:
        tables: dict[str, tuple[PoolName, Settings]] = {}
        for key, table in self._table(("pools",), value).items():
            name = self._parsed(("pools", key), parse_name, key, NAME_ALLOWED)
            if name.identity in tables:
                first = key_text(("pools", tables[name.identity][0].text))
                raise self._error(("pools", key), f"this is the same pool as [{first}]", allowed="Make them one table.")
            settings = self._settings(("pools", key), table)
            self._check(("pools", key), settings, merged(defaults, settings))
            tables[name.identity] = name, settings
            self._spelling[name.identity] = key
        return tables

    def _alias_map(self, tables: Mapping[str, tuple[PoolName, Settings]]) -> dict[str, str]:
        owners: dict[str, str] = {}
        for identity, (_, settings) in tables.items():
            for alias in _alias_names(settings):
                owner = alias.identity if alias.identity in tables else owners.setdefault(alias.identity, identity)
                if owner != identity:
                    taken = key_text(("pools", tables[owner][0].text))
                    raise self._error(
                        ("pools", self._spelling[identity], "aliases"),
                        f"{key_text((alias.text,))} already means the pool [{taken}]",
                        allowed="A name or endpoint belongs to one pool: remove it from one of them.",
                    )
        return owners

    def _commands(self, value: object) -> dict[str, str]:
        commands: dict[str, str] = {}
        for command, pool in self._table(("commands",), value).items():
            self._check_command(("commands", command))
            commands[command] = self._parsed(("commands", command), parse_name, pool, NAME_ALLOWED).text
        return commands

    def _gate(self, value: object) -> GateSettings:
        from leasecap._config.gate import AgentSettings, GateSettings  # most files have no such table

        tables = self._settings(("gate",), value)
        upstreams: dict[str, Address] = {}
        for name, url in self._table(("gate", "upstreams"), tables.get("upstreams", {})).items():
            upstreams[name] = self._upstream(name, url)
        agents: dict[str, AgentSettings] = {}
        for name, table in self._table(("gate", "agents"), tables.get("agents", {})).items():
            self._check_command(("gate", "agents", name))
            settings = self._settings(("gate", "agents", name), table, AGENT_KEYS)
            agents[name] = AgentSettings(**settings)  # type: ignore[arg-type]  # the parsers have given it its type
        return GateSettings(upstreams, agents)

    def _upstream(self, name: str, url: object) -> Address:
        from leasecap._config.gate import ADDRESS_ALLOWED, UPSTREAM_NAME_ALLOWED, is_upstream_name, parse_address

        keys = ("gate", "upstreams", name)
        if not is_upstream_name(name):
            raise self._error(keys, "this can't name an upstream", allowed=UPSTREAM_NAME_ALLOWED)
        return self._parsed(keys, parse_address, url, ADDRESS_ALLOWED)

    def _check_command(self, keys: Sequence[str]) -> None:
        if not keys[-1] or "/" in keys[-1]:
            raise self._error(keys, "this is no command's name", allowed="Give the name without its directory.")

    def _settings(
        self, keys: Sequence[str], value: object, known: Mapping[str, Key] | None = None
    ) -> dict[str, object]:
        table = self._table(keys, value)
        known = TABLES[keys[0]] if known is None else known
        self._refuse_unknown(keys, table, known)
        return {key: self._parsed((*keys, key), known[key][0], item, known[key][1]) for key, item in table.items()}

    def _check(self, keys: Sequence[str], own: Settings, effective: Settings) -> None:
        self._check_beats(keys, own, effective)
        if not any(key in effective for key in USAGE_URL_KEYS):
            return
        from leasecap._config.usage import find_misfit

        if (misfit := find_misfit(own, effective)) is not None:
            raise self._error((*keys, misfit.key), misfit.message, allowed=misfit.allowed)

    def _check_beats(self, keys: Sequence[str], own: Settings, effective: Settings) -> None:
        stale_after, heartbeat = effective.get("stale_after", STALE_AFTER), effective.get("heartbeat", HEARTBEAT)
        assert isinstance(stale_after, float) and isinstance(heartbeat, float)
        if stale_after >= heartbeat * BEATS - 1e-9:  # 3 x 0.1 is a little over 0.3
            return
        key = "stale_after" if "stale_after" in own else "heartbeat"
        raise self._error(
            (*keys, key),
            f"a stale_after of {stale_after:g} s is less than {BEATS} heartbeats of {heartbeat:g} s",
            value=effective[key],
            allowed=f"allowed: a stale_after of {heartbeat * BEATS:g} or more, or a shorter heartbeat",
        )

    def _table(self, keys: Sequence[str], value: object) -> Settings:
        if isinstance(value, dict):
            return value
        raise self._error(keys, "this must be a table", value=value, allowed=f"Write [{key_text(_public(keys))}].")

    def _refuse_unknown(self, keys: Sequence[str], table: Settings, known: Iterable[str]) -> None:
        for key, value in table.items():
            if key in known:
                continue
            from leasecap._config.nearest import nearest

            message = "unknown table" if isinstance(value, dict) else "unknown key"
            if meant := nearest(key, known):
                message += f"; did you mean {meant}?"
            allowed = "allowed: " + ", ".join(known)
            if not keys and key in TABLES["defaults"]:
                allowed += f"; {key} stands in [defaults] or in [pools.NAME]"
            elif isinstance(value, dict) and not meant and keys[:1] != ("gate",):
                allowed += f"; a pool's table is [{key_text(('pools', '.'.join((*keys[1:], key))))}]"
            raise self._error((*keys, key), message, allowed=allowed)

    def _parsed(self, keys: Sequence[str], parse: Callable[[object], T], value: object, allowed: str) -> T:
        try:
            return parse(value)
        except ConfigError as error:  # its value is masked, or isn't told since it may have a password in it
            value = _NO_VALUE if error.value is None else error.value
            raise self._error(keys, error.message, value, error.allowed) from None
        except ValueError:
            raise self._error(keys, "this value can't be used", value, f"allowed: {allowed}") from None

    def _error(
        self, keys: Sequence[str], message: str, value: object = _NO_VALUE, allowed: str | None = None
    ) -> ConfigError:
        return ConfigError(
            message,
            file=self._path,
            key=key_text(_public(keys)),
            value=None if value is _NO_VALUE else value_text(value),
            allowed=allowed,
            line=line_of(self._text, keys),
        )


def _public(keys: Sequence[str]) -> Sequence[str]:
    """``keys`` without what the name of a pool may hide: user, password and query of a URL."""
    if len(keys) < 2 or keys[0] != "pools":
        return keys
    try:
        return "pools", pool_name(keys[1]).text, *keys[2:]
    except ConfigError:
        return ("pools",)


def _alias_names(settings: Settings) -> tuple[PoolName, ...]:
    aliases = settings.get("aliases", ())
    assert isinstance(aliases, tuple)
    return aliases
