"""The keys of a pool whose provider is asked for its count over HTTP."""

from __future__ import annotations

import pytest

from leasecap._config.config import parse_config
from leasecap._config.usage import parse_url
from leasecap._errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._feedback.rules import Rules

URL = 'usage_url = "https://api.example.com/v1/usage"\n'
FIELD = 'usage_field = "usage.concurrent_sessions"\n'
KEY = 'usage_key_env = "EXAMPLE_KEY"\n'
COMMAND = 'usage_command = ["count"]\n'
LOCAL = 'usage_url = "http://127.0.0.1:8000/usage"\n'
SECRET = "sk-" + "aB3dE6gH9" * 4


def rules(pool: str, defaults: str = "") -> Rules:
    return parse_config("/root/config.toml", f"[defaults]\n{defaults}[pools.p]\n{pool}").pool("p").rules


def refused(pool: str, defaults: str = "") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        rules(pool, defaults)
    assert caught.value.allowed and caught.value.line
    return caught.value


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com",
        "https://api.example.com:8443/v1/usage?days=1&of=me",
        "http://127.0.0.1:8000/usage",
        "http://[::1]:8000/usage",
        "http://localhost:8000/usage",
    ],
)
def test_url_that_can_be_asked_with_a_key_is_taken(url: str) -> None:
    found = rules(f'usage_url = "{url}"\n{FIELD}{KEY}')
    assert (found.usage_url, found.usage_key_env, found.ask) == (url, "EXAMPLE_KEY", True)


def test_http_elsewhere_is_taken_without_a_key_alone() -> None:
    url = 'usage_url = "http://gpu-box:8000/usage"\n'
    assert rules(url + FIELD).usage_url == "http://gpu-box:8000/usage"
    assert "the key would cross the network" in refused(url + FIELD + KEY).message


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{SECRET}@api.example.com/usage",
        f"https://api.example.com/usage#{SECRET}",
        f"ftp://api.example.com/{SECRET}",
        f"api.example.com/{SECRET}",
        f"https:///{SECRET}",
        f"https://api.example.com:99999/{SECRET}",
        f"https://api.example.com/ {SECRET}",
        f"https://api.example.com/?a={SECRET} b",
        f"https://exämple.com/{SECRET}",
        "",
    ],
)
def test_url_that_cannot_be_asked_is_refused_unseen(url: str) -> None:
    error = refused(f'usage_url = "{url}"\n{FIELD}')
    assert error.key == "pools.p.usage_url" and "this is no URL that can be asked" in error.message
    assert SECRET not in str(error)


@pytest.mark.parametrize("key", ["usage_key_env", "usage_key_header"])
@pytest.mark.parametrize("value", [SECRET, "two words", "", "a\\nb", 'ü"', "a:b"])
def test_key_in_the_place_of_its_name_is_refused_unseen(key: str, value: str) -> None:
    value = value.replace('"', "")
    error = refused(f'{URL}{FIELD}{KEY if key == "usage_key_header" else ""}{key} = "{value}"\n')
    assert error.key == f"pools.p.{key}" and SECRET not in str(error)


@pytest.mark.parametrize("header", ["Host", "content-length", "Transfer-Encoding", "connection"])
def test_header_of_the_connection_holds_no_key(header: str) -> None:
    assert refused(f'{URL}{FIELD}{KEY}usage_key_header = "{header}"\n').key == "pools.p.usage_key_header"


@pytest.mark.parametrize("field", ['""', '"."', '"a..b"', '"a."', "3", '["a"]', '"a\\u0007"', f'"{"a" * 201}"'])
@pytest.mark.parametrize("key", ["usage_field", "usage_limit_field"])
def test_what_is_no_path_is_refused(key: str, field: str) -> None:
    others = URL + (FIELD if key != "usage_field" else "")
    assert refused(f"{others}{key} = {field}\n").key == f"pools.p.{key}"


MISFITS = {
    "command too": (URL + FIELD + COMMAND, "usage_url", "asked by usage_command already"),
    "no field": (URL, "usage_url", "no usage_field says"),
    "field alone": (FIELD, "usage_field", "no usage_url says"),
    "limit alone": ('usage_limit_field = "n"\n', "usage_limit_field", "no usage_url says"),
    "key alone": (KEY, "usage_key_env", "no usage_url says"),
    "header alone": ('usage_key_header = "x"\n', "usage_key_header", "no usage_url says"),
    "field and command": (FIELD + COMMAND, "usage_field", "no usage_url says"),
    "header, no key": (URL + FIELD + 'usage_key_header = "x"\n', "usage_key_header", "no usage_key_env says"),
    "one field": (URL + FIELD + FIELD.replace("field", "limit_field"), "usage_limit_field", "its own limit"),
    "unlimited": (URL + FIELD + 'limit = "unlimited"\n', "limit", "a limit that is a number"),
}


@pytest.mark.parametrize("name", MISFITS)
@pytest.mark.parametrize("table", ["pools.p", "defaults"])
def test_keys_that_do_not_go_together_are_refused(table: str, name: str) -> None:
    text, key, message = MISFITS[name]
    error = refused(text) if table == "pools.p" else refused("", text)
    assert error.key == f"{table}.{key}" and message in error.message


def test_pool_that_says_whom_to_ask_takes_nothing_of_that_from_the_defaults() -> None:
    found = rules(LOCAL + FIELD, URL + FIELD + KEY + 'usage_limit_field = "limit"\n')
    assert (found.usage_key_env, found.usage_limit_field) == ("", ""), "the key is for another host"
    assert rules(COMMAND, URL + FIELD + KEY) == rules(COMMAND)
    assert rules(URL + FIELD, COMMAND).usage_command == ()


def test_pool_may_change_one_part_of_the_defaults() -> None:
    found = rules('usage_field = "n"\n', URL + FIELD + KEY)
    assert (found.usage_field, found.usage_key_env) == ("n", "EXAMPLE_KEY")


def test_misfit_with_the_defaults_is_told_of_the_key_of_the_pool() -> None:
    error = refused(KEY, 'usage_url = "http://gpu-box/usage"\n' + FIELD)
    assert error.key == "pools.p.usage_key_env" and "cross the network" in error.message
    assert refused('limit = "unlimited"\n', URL + FIELD).key == "pools.p.limit"


def test_query_and_what_looks_like_a_key_are_not_shown() -> None:
    shown = parse_url(f"https://api.example.com/{SECRET}/usage?key={SECRET}").shown
    assert shown == "https://api.example.com/***/usage"
