"""The URL of a store: what is read, what is refused, and that no text shows a password."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasecap._config.config import load_config, parse_config
from leasecap._config.store_address import Secret, StoreAddress, masked, parse_address, parse_store
from leasecap._errors import ConfigError

HOST = (("cap.example.com", 6379),)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("redis://cap.example.com", StoreAddress("redis", HOST, "", "", 0)),
        ("redis://CAP.example.com./", StoreAddress("redis", HOST, "", "", 0)),
        ("redis://cap.example.com:7000/3", StoreAddress("redis", (("cap.example.com", 7000),), "", "", 3)),
        ("redis://[::1]:7000", StoreAddress("redis", (("::1", 7000),), "", "", 0)),
        ("redis://[0:0:0:0:0:0:0:1]", StoreAddress("redis", (("::1", 6379),), "", "", 0)),
        ("redis://a:7000,B,[::2]/0", StoreAddress("redis", (("a", 7000), ("b", 6379), ("::2", 6379)), "", "", 0)),
        ("redis://10.1.2.3/0", StoreAddress("redis", (("10.1.2.3", 6379),), "", "", 0)),
        (
            "redis://agent:s%40cret%2F@cap.example.com/1?prefix=team:a",
            StoreAddress("redis", HOST, "", "", 1, "team:a", "agent", Secret("s@cret/")),
        ),
        ("redis://:x@cap.example.com", StoreAddress("redis", HOST, "", "", 0, password=Secret("x"))),
        ("redis://agent@cap.example.com", StoreAddress("redis", HOST, "", "", 0, user="agent")),
        (
            "redis://agent@cap.example.com?password_env=CAP_PASSWORD",
            StoreAddress("redis", HOST, "", "", 0, user="agent", password_env="CAP_PASSWORD"),
        ),
        (
            "rediss://cap.example.com?ca=/etc/ca.pem&cert=/etc/me.pem&key=/etc/me.key&password_file=/run/pw",
            StoreAddress(
                "rediss", HOST, "", "", 0, password_file="/run/pw", ca="/etc/ca.pem", cert="/etc/me.pem",
                key="/etc/me.key",
            ),
        ),
        ("unix:///run/redis.sock", StoreAddress("unix", (), "/run/redis.sock", "", 0)),
        ("unix://me:x@/run/a%20b?db=2", StoreAddress("unix", (), "/run/a b", "", 2, user="me", password=Secret("x"))),
        (
            "redis+sentinel://a,b:7001,[::2]/main",
            StoreAddress("redis", (("a", 26379), ("b", 7001), ("::2", 26379)), "", "main", 0),
        ),
        (
            "rediss+sentinel://u:p@a/main/4?sentinel_password_env=S",
            StoreAddress(
                "rediss", (("a", 26379),), "", "main", 4, user="u", password=Secret("p"), sentinel_password_env="S"
            ),
        ),
    ],
)  # fmt: skip
def test_an_address_is_read(text: str, address: StoreAddress) -> None:
    assert parse_address(text) == address


BAD = {
    "empty": "",
    "no-scheme": "cap.example.com:6379",
    "other-scheme": "http://cap.example.com",
    "unix-sentinel": "unix+sentinel://a/main",
    "blank": "redis://cap example.com",
    "control": "redis://cap.example.com\n",
    "not-ascii": "redis://cäp.example.com",
    "too-long": "redis://" + "a" * 3000,
    "no-host": "redis://",
    "no-host-with-db": "redis:///0",
    "dots": "redis://a..b",
    "port-0": "redis://a:0",
    "port-too-high": "redis://a:65536",
    "port-no-number": "redis://a:http",
    "bare-ipv6": "redis://::1",
    "bad-ipv6": "redis://[::g]",
    "db-no-number": "redis://a/x",
    "db-negative": "redis://a/-1",
    "db-too-high": "redis://a/70000",
    "db-and-more": "redis://a/0/1",
    "host-and-none": "redis://a,/0",
    "unix-hosts": "unix://a,b/run/redis.sock",
    "fragment": "redis://a/0#x",
    "unknown-option": "redis://a?pool=x",
    "misspelt-option": "redis://a?prefx=x",
    "twice": "redis://a?prefix=x&prefix=y",
    "prefix-braces": "redis://a?prefix={x}",
    "prefix-empty": "redis://a?prefix=",
    "prefix-too-long": "redis://a?prefix=" + "x" * 65,
    "variable-no-name": "redis://a?password_env=1A",
    "variable-equals": "redis://a?password_env=A=B",
    "relative-file": "redis://a?password_file=pw",
    "tilde-file": "redis://a?password_file=~/pw",
    "tls-without-tls": "redis://a?ca=/ca.pem",
    "key-without-cert": "rediss://a?key=/k.pem",
    "db-as-option": "redis://a?db=1",
    "sentinel-option": "redis://a?sentinel_password_env=S",
    "password-as-option": "redis://a?password=hidden",
    "password-twice": "redis://:hidden@a?password_env=A",
    "password-two-ways": "redis://a?password_env=A&password_file=/b",
    "slash-in-password": "redis://u:hid/den@a",
    "at-in-password": "redis://u:hid@den@a",
    "hash-in-password": "redis://u:hid#den@a",
    "question-in-password": "redis://u:hid?den@a",
    "newline-in-password": "redis://u:hid%0Aden@a",
    "not-utf-8": "redis://u:%FFhidden@a",
    "unix-host": "unix://host/run/redis.sock",
    "unix-no-path": "unix://",
    "no-service": "redis+sentinel://a,b/",
    "odd-service": "redis+sentinel://a/ma%20in",
    "sentinel-no-host": "redis+sentinel://a,,b/main",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_is_no_address_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_store(text)
    error = caught.value
    assert error.allowed
    assert error.value is not None
    shown = str(error) + repr(error) + error.value
    assert "hid" not in shown
    assert "den" not in shown


def test_a_store_that_is_no_text_is_refused() -> None:
    for value in (1, True, ["redis://a"], {"url": "redis://a"}, None):
        with pytest.raises(ValueError):
            parse_store(value)


def test_files_is_a_word() -> None:
    assert parse_store("files") is None
    with pytest.raises(ConfigError):
        parse_store("Files")


SECRETS = [
    "redis://agent:hunter2hunter2@a:1/2",
    "redis://:hunter2hunter2@a:1/2",
    "rediss://agent:hunter2hunter2@a:1/2?ca=/x",
    "unix://agent:hunter2hunter2@/a?db=2",
    "redis+sentinel://agent:hunter2hunter2@a,b/main/2",
]


@pytest.mark.parametrize("text", SECRETS)
def test_no_text_of_an_address_shows_its_password(text: str) -> None:
    address = parse_address(text)
    assert address.password is not None
    assert address.password.reveal() == "hunter2hunter2"
    shown = [str(address), repr(address), f"{address}", address.name, address.shown, address.without_password]
    shown += [repr(address.password), str(address.password), str(address._asdict()), masked(text)]
    assert [one for one in shown if "hunter2" in one] == []


@pytest.mark.parametrize("text", SECRETS)
def test_the_name_is_the_same_whoever_gets_in(text: str) -> None:
    address = parse_address(text)
    assert address.name == parse_address(text.replace("agent", "").replace("hunter2hunter2", "other")).name
    assert "agent" not in address.name
    assert parse_address(address.name).name == address.name


@pytest.mark.parametrize(
    "text",
    [
        *SECRETS,
        "redis://a?password_env=V&prefix=p",
        "rediss://u@a?password_file=/a%20b",
        "redis://team%2Fapp@a",
        "redis://a%3Ab%40c@a",
    ],
)
def test_an_address_without_its_password_leads_to_the_same_store(text: str) -> None:
    address = parse_address(text)
    rest = parse_address(address.without_password)
    assert rest == address._replace(password=None, password_env="", sentinel_password_env="")


def test_what_differs_in_the_name() -> None:
    texts = ["redis://a", "redis://b", "redis://a:1", "redis://a/1", "redis://a?prefix=x", "rediss://a", "unix:///a"]
    texts += ["redis+sentinel://a/main", "redis+sentinel://a/other"]
    assert len({parse_address(text).name for text in texts}) == len(texts)


def test_shown_says_who_and_that_there_is_a_password() -> None:
    assert parse_address("redis://me:x@a").shown == "redis://me:***@a:6379/0"
    assert parse_address("redis://a?password_env=P").shown == "redis://:***@a:6379/0"
    assert parse_address("redis://me@a").shown == "redis://me@a:6379/0"
    assert parse_address("redis://a").shown == "redis://a:6379/0"


def test_the_variables_with_passwords_are_known() -> None:
    assert parse_address("redis+sentinel://a/s?password_env=A&sentinel_password_env=B").variables == ("A", "B")
    assert parse_address("redis://:x@a").variables == ()


def test_an_error_about_an_address_can_be_pickled() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address("redis://u:hidden@a/x")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


WORDS = st.text(st.sampled_from("ab0:/@?#%[],.=&+-_ \n{}é"), max_size=12)


@given(WORDS, WORDS, st.sampled_from(["redis", "rediss", "unix", "redis+sentinel", "http", ""]), WORDS, WORDS)
def test_whatever_is_written_no_error_shows_the_password(
    before: str, after: str, scheme: str, host: str, query: str
) -> None:
    password = f"{before}XYZZY{after}"
    try:
        address = parse_address(f"{scheme}://user:{password}@{host}?{query}")
    except ConfigError as error:
        assert "XYZZY" not in str(error) + repr(error) + repr(error.__dict__)
    else:
        assert "XYZZY" not in repr(address) + address.shown + address.name + address.without_password


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_configuration_error(text: str) -> None:
    for start in ("", "redis://", "unix:///", "redis+sentinel://"):
        try:
            address = parse_address(start + text)
        except ConfigError as error:
            assert error.allowed
        else:
            assert parse_address(address.name).name == address.name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://default:S3cret", "redis://***"),
        ("redis://cap:S3cret%40host:6379/0", "redis://***/0"),
        ("redis://S3cret%40host", "redis://***"),
        ("redis+sentinel://a:1,b:x,[::1]:2,[::1]/svc/0", "redis+sentinel://a:1,***,[::1]:2,[::1]/svc/0"),
        ("redis://host:99999/0", "redis://host:99999/0"),
        ("redis://host", "redis://host"),
    ],
)
def test_what_may_be_a_password_is_masked_where_the_at_sign_is_missing(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_a_refused_store_of_the_file_names_file_line_key_and_masked_value() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("/root/config.toml", '[pools.a]\nlimit = 1\nstore = "redis://me:hidden@a/x"\n')
    error = caught.value
    assert (error.file, error.line, error.key) == ("/root/config.toml", 3, "pools.a.store")
    assert error.value == '"redis://***@a/x"'
    assert "hidden" not in str(error)


def test_a_store_that_is_no_text_in_the_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="redis://host:6379/0"):
        parse_config("/root/config.toml", "[defaults]\nstore = 6379\n")


def test_pools_of_a_file_without_a_store_are_kept_in_files(tmp_path: object) -> None:
    assert load_config(str(tmp_path)).pool("anthropic").store is None
