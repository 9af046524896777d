from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from leasecap._config.presets import PRESETS
from leasecap._errors import ConfigError
from leasecap._runtime import Runtime
from leasecap.cli.limit import command


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Root and pool of every request to grant what a new limit allows."""
    seen: list[tuple[str, str]] = []
    monkeypatch.setattr(Runtime, "restore", lambda runtime, root, name: seen.append((root.path, name.text)))
    return seen


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "root"
    monkeypatch.setenv("LEASECAP_HOME", str(root))
    return root


def limit(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def shown(*arguments: str) -> str:
    result = limit(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_without_arguments_it_shows_presets_with_their_reasons_and_makes_nothing(root: Path) -> None:
    output = shown()
    for preset in PRESETS.values():
        assert preset.pool in output
        assert preset.reason in output
    assert "limit  none" in output
    assert str(root / "config.toml") in output
    assert not root.exists()


def test_without_arguments_it_shows_configured_pools_with_their_source_and_defaults(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text(
        '[defaults]\nlimit = 9\nheartbeat = 1\n[pools.a]\n[pools.b]\nlimit = "unlimited"\n'
    )
    output = shown()
    assert "a          9  config.toml [defaults]\n" in output
    assert "b  unlimited  config.toml [pools.b]\n" in output
    assert "limit = 9\n  heartbeat = 1.0\n" in output


@pytest.mark.parametrize(
    "secret",
    ['usage_url = "https://a.test/v1?key=SECRET"', 'usage_command = ["curl", "-H", "Authorization: Bearer SECRET"]'],
)
def test_what_may_be_a_key_is_not_shown(root: Path, secret: str) -> None:
    root.mkdir(mode=0o700)
    field = 'usage_field = "usage.now"\n' if "usage_url" in secret else ""
    (root / "config.toml").write_text(f"[defaults]\n{secret}\n{field}")
    output = shown()
    assert secret.partition(" ")[0] in output and "SECRET" not in output


def test_with_a_pool_it_shows_limit_source_and_the_command_that_changes_it(root: Path) -> None:
    assert shown("anthropic").startswith("anthropic: none\n")
    assert "Set it: leasecap limit anthropic N" in shown("anthropic")
    output = shown("https://u:hidden@api.z.ai/v1")
    assert output.startswith("zai: 3 (preset)\n")
    assert PRESETS["zai"].reason in output
    assert "Change it: leasecap limit 'my pool' N" not in output
    assert "leasecap limit 'my pool' N" in shown("my pool")


def test_setting_prints_old_and_new_and_has_it_granted_at_once(root: Path, settled: list[tuple[str, str]]) -> None:
    assert shown("anthropic", "4") == "anthropic: none -> 4 (config.toml [pools.anthropic])\n"
    assert shown("Anthropic", "6").startswith("anthropic: 4 (config.toml [pools.anthropic]) -> 6 (")
    assert shown("zai", "unlimited").startswith("zai: 3 (preset) -> unlimited (config.toml")
    assert shown("zai", "--unset").endswith("-> 3 (preset)\n")
    assert "--limit N" in shown("anthropic", "--unset")
    assert settled == [(str(root), name) for name in ("anthropic", "anthropic", "zai", "zai", "anthropic")]


@pytest.mark.parametrize(
    "value", ["0", "-1", "-2.5", "2.5", "two", "", " 2", "+2", "1_0", "1e3", "٣", "Unlimited", "1000001", "9" * 5000]
)
def test_a_bad_number_is_a_usage_error_that_says_what_is_allowed(root: Path, value: str) -> None:
    result = limit("anthropic", value)
    assert result.exit_code == 2
    assert "is no limit; allowed: a whole number from 1 to 1000000, or unlimited" in result.output
    assert len(result.output) < 400
    assert not root.exists()


@pytest.mark.parametrize(
    "arguments", [("--unste",), ("a", "-x"), ("a", "--unste"), ("--unset",), ("a", "3", "--unset"), ("a", "3", "4")]
)
def test_wrong_usage_changes_nothing(root: Path, arguments: tuple[str, ...]) -> None:
    assert limit(*arguments).exit_code == 2
    assert not root.exists()


def test_errors_of_the_configuration_reach_the_group(root: Path, settled: list[tuple[str, str]]) -> None:
    for words in ("..", ".. 3", "https://u:SECRET@h:0"):
        error = limit(*words.split()).exception
        assert isinstance(error, ConfigError)
        assert "SECRET" not in str(error)
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text("[pools.a]\nlimt = 3\n")
    for words in ("", "a", "a 3"):
        assert isinstance(limit(*words.split()).exception, ConfigError)
    assert settled == []
