from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasecap._config.pool_name import LONGEST_NAME, pool_name
from leasecap._errors import ConfigError


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        pool_name(text)
    assert caught.value.allowed is not None
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            " ",
            "\t",
            "\u3000",
            ".",
            "..",
            "a\0b",
            "a\nb",
            "\x1b[31m",
            "a\x7f",
            "\ud800",
            "\udcff",
            " a",
            "a ",
            "a\u00a0",
        ),
        *("a\u202eb", "a\u200bb", "a\u2028b", "a" * (LONGEST_NAME + 1), "x" * 10_000, "é" * 10_000),
    ],
)
def test_hostile_names_are_refused(name: str) -> None:
    refused(name)


@pytest.mark.parametrize(
    "name", ["🦙", "🏴\U000e0067\U000e0062\U000e007f", "👩\u200d💻", "team/a", "a b", "zaï", "team:3", "a@b"]
)
def test_unusual_but_visible_names_are_allowed(name: str) -> None:
    assert pool_name(name).text == name


def test_a_name_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="int"):
        pool_name(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Anthropic", "aNTHROPIC"),
        ("straße", "STRASSE"),
        (unicodedata.normalize("NFC", "Zürich"), unicodedata.normalize("NFD", "zürich")),
        ("\u212bngstrom", "ångstrom"),
        ("\u1fb4", "\u03b1\u0345\u0301"),  # folded first and normalised then, these would differ
    ],
)
def test_twins_are_one_pool_in_one_directory(one: str, other: str) -> None:
    assert pool_name(one).identity == pool_name(other).identity
    assert pool_name(one).directory == pool_name(other).directory


def test_names_with_the_same_slug_have_different_directories() -> None:
    names = ["a/b", "a-b", "a b", "a\\b", "🦙", "🐑", "pool"]
    assert len({pool_name(name).directory for name in names}) == len(names)


@given(st.text(max_size=60))
def test_no_name_escapes_the_directory_of_pools(text: str) -> None:
    try:
        directory = pool_name(text).directory
    except ConfigError:
        return
    assert directory.isascii()
    assert directory == directory.lower()
    assert set(directory) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert directory[0].isalnum()
    assert len(directory) <= 53


@given(st.text(alphabet="aA.:/@[]?#%ÄßΣς0189-_ \u0345\u0301", max_size=30) | st.text(max_size=20))
def test_the_shown_name_is_the_same_pool_again(text: str) -> None:
    try:
        name = pool_name(text)
    except ConfigError:
        return
    assert pool_name(name.text).identity == name.identity


@given(st.text(max_size=20))
def test_case_never_makes_another_pool(text: str) -> None:
    try:
        name = pool_name(text)
        folded = pool_name(text.casefold())
    except ConfigError:
        return
    assert folded.identity == name.identity


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("http://LOCALHOST:8000/v1", "localhost:8000"),
        ("http://127.0.0.1:8000", "localhost:8000"),
        ("localhost:8000", "localhost:8000"),
        ("LocalHost.:8000/v1", "localhost:8000"),
        ("http://[::1]:8000/", "localhost:8000"),
        ("[0:0:0:0:0:0:0:1]:8000", "localhost:8000"),
        ("http://[::ffff:127.0.0.1]:8000/", "localhost:8000"),
        ("0.0.0.0:8000", "localhost:8000"),
        ("ws://localhost:08000", "localhost:8000"),
        ("http://localhost", "localhost"),
        ("127.0.0.1", "localhost"),
        ("::1", "localhost"),
        ("LOCALHOST", "localhost"),
        ("https://llm.example.com/v1", "llm.example.com"),
        ("https://LLM.example.com.:443", "llm.example.com"),
        ("llm.example.com:443", "llm.example.com"),
        ("https://llm.example.com:8443?key=k", "llm.example.com:8443"),
        ("https://user:password@llm.example.com:8443/v1#x", "llm.example.com:8443"),
        ("user:password@llm.example.com:8443/v1", "llm.example.com:8443"),
        ("https://bücher.example:8443", "xn--bcher-kva.example:8443"),
        ("https://[2001:DB8:0::1]:8443", "[2001:db8::1]:8443"),
        ("https://10.0.0.7:8000", "10.0.0.7:8000"),
        ("http://gpu:8000/v1", "gpu:8000"),
        ("https://api.openai.com/v1", "openai"),
        ("api.openai.com:443", "openai"),
        ("API.openai.com", "openai"),
        ("https://api.anthropic.com", "anthropic"),
        ("https://generativelanguage.googleapis.com/v1beta", "gemini"),
        ("https://api.z.ai/api/coding/paas/v4", "zai"),
        ("https://open.bigmodel.cn/api/anthropic", "zai"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("http://127.0.0.1:11434/v1", "ollama"),
        ("https://api.openai.com:8443", "api.openai.com:8443"),
    ],
)
def test_the_spellings_of_an_endpoint_are_one_pool(endpoint: str, name: str) -> None:
    assert pool_name(endpoint).text == name
    assert pool_name(endpoint) == pool_name(name)


@pytest.mark.parametrize(
    "name", ["team:3", "team:3/x", "gpt-5.2", "claude:fast", "localhost:team", "v1.2:beta", "a@b:3"]
)
def test_what_is_no_endpoint_stays_as_it_is_written(name: str) -> None:
    assert pool_name(name).text == name


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://",
        "https:///v1",
        "https://u:SECRET@",
        "https://u:SECRET@host:0/",
        "https://u:SECRET@host:99999/SECRET",
        "https://u:SECRET@ho st/",
        "https://u:SECRET@[::zz]:1/",
        "https://u:SECRET@a..b/?key=SECRET",
        "https://u:SECRET@host%00/",
        "https://SECRET:1/SECRET@host/",
        "https://SECRET/more@host/",
        "https://u:12#SECRET@host/",
        "https:/u:SECRET@host/",
        "ftp://u:SECRET@host/",
        "u:SECRET@host",
        "u:SE/CRET@host.example:443",
        "localhost:99999",
        "https://" + "ä" * 300 + ".example",
        "https://host/" + "SECRET" * 2000,
    ],
)
def test_a_bad_endpoint_is_refused_and_nothing_of_it_is_repeated(endpoint: str) -> None:
    message = refused(endpoint)
    assert "SECRET" not in message
    assert "SE/CRET" not in message


@given(
    st.text(
        alphabet=st.characters(codec="ascii", exclude_characters="/?#@[]\\", categories=("L", "N", "P")), min_size=1
    )
)
def test_no_part_of_userinfo_reaches_the_name(password: str) -> None:
    name = pool_name(f"https://user:{password}@llm.example.com/{password}?key={password}")
    assert name == pool_name("llm.example.com")


def test_a_directory_can_be_made_for_the_longest_and_strangest_name(tmp_path: Path) -> None:
    for name in ("🦙" * LONGEST_NAME, "/" * 50, "con", "a" * LONGEST_NAME, "-"):
        (tmp_path / pool_name(name).directory).mkdir()
    assert len(list(tmp_path.iterdir())) == 5
