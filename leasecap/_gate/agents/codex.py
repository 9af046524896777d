"""Codex: it reads no variable for its address, so it gets a provider of ours with ``-c``.

Other users of the machine can read arguments, so the token is in none of them: the provider sends it in a header whose
value Codex takes from the environment.
"""

from __future__ import annotations

import os
import tomllib

from leasecap._errors import ConfigError
from leasecap._gate.agents.world import Arranged, Examined, Found, at
from leasecap._gate.clients import PROVIDERS, TOKEN_HEADER, TOKEN_VARIABLE
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from leasecap._gate.agents.world import Links, World

_OURS = "leasecap"
_BUILT_IN = "openai"
_LOCAL = ("ollama", "lmstudio", "ollama-chat")
_LOCAL_VARIABLE = "CODEX_OSS_BASE_URL"


class _Chosen(NamedTuple):
    """The provider that Codex would use.

    :ivar provider: its id.
    :ivar address: what its configuration says of where that is; None: the public one.
    """

    provider: str
    address: Found | None


def examine(world: World) -> Examined:
    """The address of the provider that is chosen by arguments, profile and config.toml."""
    address = _chosen(world).address
    return Examined("codex", {} if address is None else {"codex": address})


def arrange(world: World, links: Links) -> Arranged:
    """Codex with a provider of ours in place of its own, or with the address of a person's provider replaced."""
    chosen = _chosen(world)
    if chosen.provider in _LOCAL:
        return Arranged(world.argv, {_LOCAL_VARIABLE: links.urls["codex"]})
    url = _quoted(links.bare["codex"])
    if chosen.provider == _BUILT_IN:
        # The name makes Codex treat it as it does its own: what it sends with a ChatGPT login hangs on it.
        headers = (
            f"requires_openai_auth=true,env_http_headers={{{_quoted(TOKEN_HEADER)}={_quoted(TOKEN_VARIABLE)},"
            '"OpenAI-Organization"="OPENAI_ORGANIZATION","OpenAI-Project"="OPENAI_PROJECT"}'
        )
        settings = [
            f"model_provider={_quoted(_OURS)}",
            f'model_providers.{_OURS}={{name="OpenAI",base_url={url},wire_api="responses",{headers}}}',
        ]
    else:
        table = f"model_providers.{chosen.provider}"
        settings = [
            f"base_url={url}",
            f"env_http_headers.{TOKEN_HEADER}={_quoted(TOKEN_VARIABLE)}",
        ]
        settings = [f"{table}.{setting}" for setting in settings]
    inserted = [word for setting in settings for word in ("-c", setting)]
    argv = _without_provider(world.argv) if chosen.provider == _BUILT_IN else world.argv
    return Arranged((argv[0], *inserted, *argv[1:]))


def _chosen(world: World) -> _Chosen:
    home = world.environ.get("CODEX_HOME") or os.path.join(world.home, ".codex")
    path = os.path.join(home, "config.toml")
    settings = _toml(world, path)
    given = dict(_given(world.argv))
    where = {}
    profile = _profile(world.argv) or given.get("profile") or settings.get("profile")
    for above, file in (
        (at(settings, "profiles", str(profile)), path),
        (_toml(world, os.path.join(home, f"{profile}.config.toml")), os.path.join(home, f"{profile}.config.toml")),
        (given, "-c"),
    ):
        if profile is None and file != "-c":
            continue
        for key, value in above.items() if isinstance(above, dict) else ():
            settings = {**settings, key: value}
            where[key] = file
    if "--oss" in world.argv:
        return _local(world, "ollama")
    provider = settings.get("model_provider", _BUILT_IN)
    if not isinstance(provider, str):
        raise _unclear(where.get("model_provider", path), "model_provider")
    if provider in _LOCAL:
        return _local(world, provider)
    key = "openai_base_url" if provider == _BUILT_IN else f"model_providers.{provider}.base_url"
    if any(name.startswith(f"model_providers.{provider}") for name in given):
        raise ConfigError(
            "the gate sets this itself", file="-c", key=key, allowed=f"Write the provider into {path} instead."
        )
    file = where.get(key.partition(".")[0], path)
    url = (
        at(settings, *key.split("."))
        if provider == _BUILT_IN
        else at(settings, "model_providers", provider, "base_url")
    )
    if provider == _BUILT_IN and url in (None, ""):
        return _Chosen(provider, None)
    if not isinstance(url, str) or not provider.replace("-", "").replace("_", "").isalnum():
        raise _unclear(file, key)
    return _Chosen(provider, Found(url, file, key))


def _local(world: World, provider: str) -> _Chosen:
    url = world.environ.get(_LOCAL_VARIABLE)
    if not url:
        raise ConfigError(
            "where Codex finds the local models can't be told",
            file=_LOCAL_VARIABLE,
            allowed=f"Set it, as {_LOCAL_VARIABLE}={PROVIDERS['ollama'].origin}{PROVIDERS['ollama'].path}",
        )
    return _Chosen(provider, Found(url, _LOCAL_VARIABLE))


def _unclear(file: str, key: str) -> ConfigError:
    return ConfigError(
        "where Codex sends its requests can't be told",
        file=file,
        key=key,
        allowed="Give the provider a base_url, or use leasecap run without --per-request.",
    )


def _toml(world: World, path: str) -> Mapping[str, object]:
    text = world.read(path)
    if text is None:
        return {}
    try:
        return tomllib.loads(text)
    except ValueError:
        raise ConfigError("this is not valid TOML", file=path) from None


def _options(argv: tuple[str, ...], *names: str) -> Iterator[tuple[int, int, str]]:
    """Where each option of these names begins and ends, and its value; nothing that stands after ``--``."""
    words = argv[: argv.index("--")] if "--" in argv else argv
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if word in names and place + 1 < len(words):
            yield place, place + 2, words[place + 1]
        elif equals and name in names:
            yield place, place + 1, value


def _given(argv: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    """What ``-c KEY=VALUE`` sets; a value that is no TOML is text, as Codex takes it."""
    for _, _, setting in _options(argv, "-c", "--config"):
        key, _, text = setting.partition("=")
        try:
            yield key.strip(), tomllib.loads(f"value={text}")["value"]
        except ValueError:
            yield key.strip(), text.strip().strip("\"'")


def _profile(argv: tuple[str, ...]) -> str | None:
    return next((value for _, _, value in _options(argv, "-p", "--profile")), None)


def _without_provider(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command without ``-c model_provider=...``, which would go above ours."""
    dropped = {
        place
        for first, end, setting in _options(argv, "-c", "--config")
        if setting.partition("=")[0].strip() == "model_provider"
        for place in range(first, end)
    }
    return tuple(word for place, word in enumerate(argv) if place not in dropped)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
