"""Where a pool is kept: its own key, then the environment, then [defaults]; local servers stay in files."""

from __future__ import annotations

import pytest

from leasecap._config.command_environment import environment_of_commands
from leasecap._config.config import Config, parse_config
from leasecap._config.presets import PRESETS
from leasecap._errors import ConfigError


def read(text: str) -> Config:
    return parse_config("/root/config.toml", text)


def store(config: Config, pool: str) -> str | None:
    found = config.pool(pool).store
    return None if found is None else found.name


DEFAULT = '[defaults]\nstore = "redis://default"\n'


def test_a_pools_own_store_goes_before_the_environment_and_that_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = read(DEFAULT + '[pools.a]\nstore = "redis://own"\n[pools.b]\n[pools.c]\nstore = "files"\n')
    assert [store(config, pool) for pool in "abcd"] == [
        "redis://own:6379/0", "redis://default:6379/0", None, "redis://default:6379/0",
    ]  # fmt: skip
    monkeypatch.setenv("LEASECAP_STORE", "redis://variable")
    assert [store(config, pool) for pool in "abcd"] == [
        "redis://own:6379/0", "redis://variable:6379/0", None, "redis://variable:6379/0",
    ]  # fmt: skip
    monkeypatch.setenv("LEASECAP_STORE", "files")
    assert [store(config, pool) for pool in "abcd"] == ["redis://own:6379/0", None, None, None]
    monkeypatch.setenv("LEASECAP_STORE", "")
    assert store(config, "b") == "redis://default:6379/0"


@pytest.mark.parametrize("by", ["defaults", "environment"])
@pytest.mark.parametrize(
    "pool",
    [
        "localhost", "localhost:8000", "http://localhost/v1", "http://127.0.0.1:1234", "http://127.3.2.1:1234/v1",
        "http://[::1]:8000", "http://[::ffff:127.0.0.1]:1", "0.0.0.0:80", "http://app.localhost:3000",
        "ollama", "Ollama", "http://localhost:11434", "llamacpp", "with-alias", "with-preset",
    ],
)  # fmt: skip
def test_a_pool_of_this_machines_own_server_is_kept_in_files_unless_it_names_a_store(
    pool: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    aliases = '[pools.with-alias]\naliases = ["localhost:9000"]\n[pools.with-preset]\naliases = ["ollama"]\n'
    if by == "environment":
        monkeypatch.setenv("LEASECAP_STORE", "redis://default")
    config = read((DEFAULT if by == "defaults" else "") + aliases)
    assert store(config, pool) is None
    name = config.pool(pool).name.text
    table = f'[pools."{name}"]\nstore = "redis://own"\n'
    own = aliases.replace(f"[pools.{name}]\n", table) if f"[pools.{name}]" in aliases else aliases + table
    assert store(read(DEFAULT + own), pool) == "redis://own:6379/0"


@pytest.mark.parametrize(
    "pool", ["anthropic", "zai", "10.0.0.1:8000", "localhosts", "127.example.com", "a.localhost.com:1"]
)
def test_any_other_pool_is_kept_by_the_default_store(pool: str) -> None:
    assert store(read(DEFAULT), pool) == "redis://default:6379/0"


def test_presets_of_local_servers_are_those_with_loopback_hosts_and_llamacpp() -> None:
    loopback = {name for name, preset in PRESETS.items() if any("localhost" in host for host in preset.hosts)}
    assert {name for name, preset in PRESETS.items() if preset.local} == {*loopback, "llamacpp"}


def test_a_store_of_the_environment_that_is_none_is_refused_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASECAP_STORE", "redis://me:hidden@host/x")
    config = read("[pools.a]\nlimit = 1\n")
    with pytest.raises(ConfigError, match="LEASECAP_STORE = redis://me:\\*\\*\\*@host/x") as caught:
        config.pool("a")
    assert caught.value.file == "environment"
    assert "hidden" not in str(caught.value)
    with pytest.raises(ConfigError):
        environment_of_commands(config)


def test_commands_get_no_password_of_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASECAP_STORE", "redis://me:hidden@host/2?prefix=x")
    for name in ("OF_DEFAULT", "OF_POOL", "OF_SENTINELS", "KEPT"):
        monkeypatch.setenv(name, "hidden")
    config = read(
        '[defaults]\nstore = "redis://a?password_env=OF_DEFAULT"\n'
        '[pools.b]\nstore = "redis+sentinel://b/s?password_env=OF_POOL&sentinel_password_env=OF_SENTINELS"\n'
        '[pools.c]\nstore = "files"\n[pools.d]\n'
    )
    found = environment_of_commands(config)
    assert found["LEASECAP_STORE"] == "redis://me@host:6379/2?prefix=x"
    assert {name for name, value in found.items() if value == "hidden"} == {"KEPT"}
    monkeypatch.setenv("LEASECAP_STORE", "unix:///run/redis.sock?password_env=KEPT&password_file=/x".partition("&")[0])
    found = environment_of_commands(config)
    assert found["LEASECAP_STORE"] == "unix:///run/redis.sock"
    assert "KEPT" not in found


@pytest.mark.parametrize("text", [None, "files", "redis://a/1", "redis://a?password_file=/run/pw&prefix=p"])
def test_commands_get_a_store_without_a_password_as_it_is(text: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if text is not None:
        monkeypatch.setenv("LEASECAP_STORE", text)
    found = environment_of_commands(read(""))
    if text in (None, "files"):
        assert found.get("LEASECAP_STORE") == text
    else:
        monkeypatch.setenv("LEASECAP_STORE", found["LEASECAP_STORE"])
        assert text is not None
        assert store(read(""), "a") is not None
        assert ("/run/pw" in found["LEASECAP_STORE"]) == ("/run/pw" in text)
