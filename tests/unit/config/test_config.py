from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasecap._config.config import UNLIMITED, Config, load_config, parse_config
from leasecap._config.toml_file import line_of
from leasecap._errors import ConfigError


def read(text: str) -> Config:
    return parse_config("/root/config.toml", text)


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert caught.value.file == "/root/config.toml"
    assert caught.value.allowed
    return caught.value


FULL = """\
# what a person wrote
[defaults]
limit = 8
queue_timeout = "5m"
priority = -1
heartbeat = 1
stale_after = 3.0
pool = "Anthropic"

[pools.anthropic]
limit = 4
aliases = ["claude", "http://127.0.0.1:8000/v1"]
queue_timeout = 90

[pools."team/a"]
limit = "unlimited"
priority = 99
heartbeat = "2s"
stale_after = "6s"
lock = "directory"
max_hold = "30m"
kill_after = 0
reclaim = "force"

[commands]
claude = "anthropic"
codex = "https://user:hidden@api.openai.com/v1"
"""


def test_a_missing_file_and_a_missing_root_are_an_empty_configuration(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none"):
        config = load_config(str(root))
        assert config.pools == ()
        assert config.commands == {}
        assert config.default_pool is None
        assert config.path == str(root / "config.toml")
        pool = config.pool("anthropic")
        assert (pool.limit, pool.limit_source, pool.queue_timeout, pool.priority) == (None, "", None, 0)
        assert (pool.stale_after, pool.heartbeat, pool.lock) == (30, 10, "auto")
        assert (pool.max_hold, pool.kill_after, pool.reclaim) == (None, 10, "never")


def test_every_setting_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(FULL)
    config = load_config(str(tmp_path))
    assert [name.text for name in config.pools] == ["anthropic", "team/a"]
    assert config.commands == {"claude": "anthropic", "codex": "openai"}
    assert config.default_pool == "Anthropic"
    pool = config.pool("ANTHROPIC")
    assert (pool.name.text, pool.limit, pool.limit_source) == ("anthropic", 4, "config.toml [pools.anthropic]")
    assert (pool.queue_timeout, pool.priority, pool.stale_after, pool.heartbeat) == (90, -1, 3, 1)
    team = config.pool("team/a")
    assert (team.limit, team.limit_source) == (UNLIMITED, 'config.toml [pools."team/a"]')
    assert (team.queue_timeout, team.priority, team.stale_after, team.heartbeat) == (300, 99, 6, 2)
    assert (team.lock, pool.lock) == ("directory", "auto")
    assert (team.max_hold, team.kill_after, team.reclaim) == (1800, 0, "force")


def test_the_limit_is_the_pools_own_then_the_preset_then_the_default() -> None:
    config = read("[defaults]\nlimit = 8\n[pools.zai]\n[pools.ollama]\nlimit = 2\n")
    assert (config.pool("ollama").limit, config.pool("zai").limit) == (2, 3)
    assert (config.pool("llamacpp").limit, config.pool("llamacpp").limit_source) == (1, "preset")
    assert (config.pool("other").limit, config.pool("other").limit_source) == (8, "config.toml [defaults]")
    with_alias = read('[pools.glm]\naliases = ["https://api.z.ai/v1"]\n').pool("zai")
    assert (with_alias.name.text, with_alias.limit, with_alias.limit_source) == ("glm", 3, "preset")


def test_unlimited_is_a_number_above_every_limit_that_can_be_written() -> None:
    assert sys.maxsize == UNLIMITED
    refused(f"[pools.a]\nlimit = {sys.maxsize}\n")
    refused("[pools.a]\nlimit = 1000001\n")


def test_aliases_and_endpoints_lead_to_their_pool() -> None:
    config = read('[pools.local]\nlimit = 1\naliases = ["http://0.0.0.0:8000/v1", "Llama"]\n')
    for name in ("local", "LOCAL", "llama", "localhost:8000", "http://[::1]:8000", "http://LOCALHOST:8000/v1"):
        assert config.pool(name).name.text == "local"
    assert config.pool("localhost:8001").name.text == "localhost:8001"


@pytest.mark.parametrize(
    "text",
    [
        '[pools.a]\naliases = ["x"]\n[pools.b]\naliases = ["X"]\n',
        '[pools.a]\naliases = ["b"]\n[pools.b]\n',
        '[pools.a]\naliases = ["localhost:1"]\n[pools.b]\naliases = ["http://127.0.0.1:1/v1"]\n',
        '[pools.work]\naliases = ["https://api.openai.com/v1"]\n[pools.openai]\n',
    ],
)
def test_an_alias_of_two_pools_is_refused(text: str) -> None:
    error = refused(text)
    assert "already means the pool" in error.message
    assert error.line == text[: text.index("aliases", 20 if text.count("aliases") > 1 else 0)].count("\n") + 1


def test_an_alias_that_is_the_pools_own_name_does_no_harm() -> None:
    assert read('[pools.a]\naliases = ["A", "x", "X"]\n').pool("x").name.text == "a"


def test_two_tables_for_one_pool_are_refused() -> None:
    error = refused("[pools.Anthropic]\nlimit = 2\n[pools.anthropic]\nlimit = 3\n")
    assert (error.key, error.line) == ("pools.anthropic", 3)
    assert "[pools.Anthropic]" in error.message
    refused('[pools."localhost:1"]\n[pools."http://127.0.0.1:1"]\n')


@pytest.mark.parametrize(
    ("text", "key", "line", "named"),
    [
        ("[pools.a]\nlimt = 3\n", "pools.a.limt", 2, "limit"),
        ("[pools.a]\nlimit = 1\nqueue-timeout = 3\n", "pools.a.queue-timeout", 3, "queue_timeout"),
        ("[default]\nlimit = 3\n", "default", 1, "defaults"),
        ("\n[pool.a]\nlimit = 3\n", "pool", 2, "pools"),
        ("[anthropic]\nlimit = 3\n", "anthropic", 1, "[pools.anthropic]"),
        ("[pools.api.example]\nlimit = 3\n", "pools.api.example", 1, '[pools."api.example"]'),
        ("limit = 3\n", "limit", 1, "[defaults]"),
        ("[defaults]\nStale_After = 30\n", "defaults.Stale_After", 2, "stale_after"),
        ('[defaults]\naliases = ["a"]\n', "defaults.aliases", 2, "limit"),
        ("[pools.a]\nzzzzzzzz = 3\n", "pools.a.zzzzzzzz", 2, "limit"),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_is_named(text: str, key: str, line: int, named: str) -> None:
    error = refused(text)
    assert (error.key, error.line) == (key, line)
    assert "unknown" in error.message
    assert named in str(error)


@pytest.mark.parametrize(
    "value", ['"2"', "true", "0", "-1", "2.5", "nan", "inf", "[1]", "{a=1}", '"Unlimited"', "2026-01-01"]
)
def test_a_limit_is_a_whole_number_above_zero_or_the_word(value: str) -> None:
    for table in ("defaults", "pools.a"):
        error = refused(f"# comment\n[{table}]\npriority = 1\nlimit = {value}\n")
        assert (error.key, error.line) == (f"{table}.limit", 4)
        assert 'a whole number from 1 to 1000000, or "unlimited"' in str(error)
        if value[0] not in "[{":
            assert error.value == value


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    refused("[pools.a]\nlimit = 0x" + "f" * 6000)
    refused("[pools.a]\nlimit = " + "9" * 6000)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("queue_timeout", ['"30"x', "-1", "nan", "inf", "true", '"-1s"', '"1w"', '""', "1e12", "[]"]),
        ("heartbeat", ["0", '"0s"', "0.001", "-1", "nan", "true", '"soon"']),
        ("stale_after", ["0", "-1", "nan", "false", '"soon"']),
        ("priority", ["100", "-100", "1.0", "true", '"1"', "nan"]),
        ("lock", ['"none"', "true", "1", '"AUTO"', "[]"]),
        ("max_hold", ["0", '"0s"', "-1", "nan", "inf", "true", '"never"', '"2w"']),
        ("kill_after", ["-1", "nan", "inf", "true", '"soon"']),
        ("reclaim", ["true", "false", '"Force"', '"always"', "1", "[]"]),
        ("aliases", ['"a"', "[1]", "[[]]", '[""]', '[" a"]', "true", '["a\\u0000"]']),
    ],
)
def test_every_value_that_a_key_may_not_hold_is_refused_at_its_line(key: str, values: list[str]) -> None:
    for value in values:
        error = refused(f"[pools.a]\nlimit = 1\n\n{key} = {value}\n")
        assert error.line == 4
        if "TOML" not in error.message:
            assert error.key == f"pools.a.{key}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[pools.a]\nstale_after = 29.9\n", 2),
        ("[pools.a]\nlimit = 1\nheartbeat = 10.1\n", 3),
        ("[defaults]\nheartbeat = 20\n", 2),
        ("[defaults]\nheartbeat = 5\nstale_after = 15\n[pools.a]\nheartbeat = 6\n", 5),
        ("[defaults]\nheartbeat = 5\nstale_after = 15\n[pools.a]\nstale_after = 14\n", 5),
        ("[defaults]\nheartbeat = 20\nstale_after = 60\n[pools.a]\nstale_after = 30\n", 5),
        ('[pools.a]\nheartbeat = "1s"\nstale_after = "2999ms"\n', 3),
    ],
)
def test_less_than_three_heartbeats_before_stale_is_refused(text: str, line: int) -> None:
    error = refused(text)
    assert error.line == line
    assert "3 heartbeats" in error.message


def test_exactly_three_heartbeats_are_enough() -> None:
    pool = read("[pools.a]\nheartbeat = 0.1\nstale_after = 0.3\n").pool("a")
    assert (pool.heartbeat, pool.stale_after) == (0.1, 0.3)


@pytest.mark.parametrize(
    "text",
    [
        "pools = 3\n",
        "defaults = []\n",
        "[[pools.a]]\nlimit = 1\n",
        "[pools]\na = 3\n",
        'commands = "claude"\n',
        "[commands]\nclaude = 3\n",
        '[commands]\n"/usr/bin/claude" = "a"\n',
        '[commands]\n"" = "a"\n',
        '[commands]\nclaude = ""\n',
        '[defaults]\npool = ".."\n',
        '[pools.""]\nlimit = 1\n',
        '[pools." a"]\nlimit = 1\n',
    ],
)
def test_tables_and_names_of_the_wrong_kind_are_refused(text: str) -> None:
    assert refused(text).line is not None


@pytest.mark.parametrize(
    "text",
    [
        '[pools."http://u:SECRET@h:99999"]\nlimit = 1\n',
        '[pools."http://u:SECRET@h:1"]\nlimit = 0\n',
        '[pools."http://h:99999/SECRET"]\nlimit = 1\n',
        '[pools."http://h:1/SECRET"]\nlimit = 0\n',
        '[pools.a]\naliases = ["http://u:SECRET@h:99999"]\n',
        '[pools.a]\naliases = ["http://u:SECRET@h:1", 3]\n',
        '[defaults]\npool = "http://u:SECRET@ h"\n',
        '[commands]\nclaude = "http://u:SECRET@ h"\n',
        '[pools.a]\napi_key = "SECRET"\n',
        '[pools.a]\nlimit = "http://u:SECRET@h:1"\n',
    ],
)
def test_no_error_repeats_what_may_be_a_password(text: str) -> None:
    assert "SECRET" not in str(refused(text))


def test_no_error_repeats_what_a_terminal_would_obey() -> None:
    for text in ('"\\u001b[2J" = 1\n', '[pools.a]\n"\\u009b" = 1\n', '[pools.a]\nlimit = "\\u001b[2J"\n'):
        assert str(refused(text)).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[pools.a]\nlimit = \n", 2),
        ("[pools.a]\nlimit = 1\nlimit = 2\n", 3),
        ("[pools.a\n", 1),
        ("[pools.a]\nlimit = 1\n[pools.a]\n", 3),
        ('a = """\n', 2),
    ],
)
def test_broken_toml_is_refused_with_its_line(text: str, line: int) -> None:
    error = refused(text)
    assert "not valid TOML" in error.message
    assert error.line == line


def test_a_table_that_stands_there_twice_is_named_as_it_is_written() -> None:
    assert "[pools.a] twice" in refused("[pools.a]\nlimit = 1\n[pools.a]\n").message
    assert "[pools] twice" in refused("[pools]\n[pools]\n").message
    assert "('pools', 'a.b') twice" in refused('[pools."a.b"]\n[pools."a.b"]\n').message


def test_toml_nested_without_end_is_an_error_and_no_crash() -> None:
    with pytest.raises(ConfigError):
        read("a = " + "[" * 100_000)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("pools.a.limit = 0\n", 1),
        ("pools = { b = { limit = 1 },\n a = { limit = 0 } }\n", 1),
        ('x = 1\n"pools".a."limit" = 0\n', 1),
        ("[pools.b]\nlimit = 3\n\n[ pools . a ]\r\nlock = 'os'\r\n\r\n# limit = 1\r\n  'limit' = 0\r\n[commands]\n", 8),
        ('[pools.a]\naliases = [\n "x",\n "y",\n]\nlimit = 0\n', 6),
        ('[commands]\nq = """\n[pools.a]\nlimit = 0\n"""\n[pools.a]\nlimit = 0', 7),
    ],
)
def test_the_line_is_right_however_the_file_is_written(text: str, line: int) -> None:
    assert refused(text).line == line


@given(
    st.lists(
        st.sampled_from(["# c", "", "heartbeat = 1", "lock = 'os'", "priority = 3", "queue_timeout = '1s'"]),
        unique=True,
    ),
    st.lists(st.sampled_from(["[commands]", "a = 'b'", "[defaults]", "# limit = 0"]), unique=True, max_size=2),
)
def test_the_line_is_right_wherever_the_key_stands(before: list[str], after: list[str]) -> None:
    lines = ["[pools.b]", "limit = 2", "[pools.a]", *before, "limit = 0", *(line for line in after if line[0] in "[#")]
    assert refused("\n".join(lines)).line == len(before) + 4


MUCH = 250_000  # just below the largest file
MADE_TO_LAST = {
    "an error at the end": "".join(f"[pools.p{i}]\nlimit = 3\n" for i in range(MUCH // 24)) + "limi = 3\n",
    "one key": "a" * MUCH + " = 1\n",
    "one quoted key": f'"{"a" * MUCH}" = 1\n',
    "a key of many parts": ".".join("a" * (MUCH // 2)) + " = 1\n",
    "a key of many quoted parts": ".".join(['"a"'] * (MUCH // 4)) + " = 1\n",
    "a header of many parts": "[" + " . ".join("a" * (MUCH // 4)) + "]\n",
    "a long array": "[commands]\nx = [" + "1,\n" * (MUCH // 3) + "]\n",
    "a long text": '[pools.p]\nlimit = """' + "\n" * MUCH + '"""\n',
    "many commands": "[commands]\n" + "".join(f"c{i} = 'p'\n" for i in range(MUCH // 13)) + "z = 3\n",
}


@pytest.mark.parametrize("text", MADE_TO_LAST.values(), ids=MADE_TO_LAST)
def test_no_file_takes_long_to_be_refused(text: str) -> None:
    # Whoever waits reads it again when it has changed, and everybody behind waits with it.
    began = time.process_time()
    assert len(str(refused(text))) < 1000
    assert time.process_time() - began < 5


def test_a_key_is_found_at_its_line_behind_texts_that_look_like_others() -> None:
    text = 'a = """x\\"""""\nb = \'\'\'[c]\n\'\'\'  # it\'s "\nd = [ # ]\n]\n[e]\n\n# f\nf = {g = 1}\n[[h]]\ni = 1\n'
    where = {"a": 1, "b": 2, "c": None, "d": 4, "e": 6, "e.f": 9, "e.f.g": 9, "e.x": None, "h": 10, "h.i": None}
    assert {key: line_of(text, key.split(".")) for key in where} == where


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_contents_do_anything_but_load_or_be_refused(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    try:
        parse_config("/config.toml", text)
    except ConfigError as error:
        assert str(error)


def test_a_broken_file_is_an_error_whose_text_says_everything() -> None:
    assert str(refused("[pools.anthropic]\nlimit = true\n")) == (
        "/root/config.toml:2: pools.anthropic.limit = true: this value can't be used\n"
        'allowed: a whole number from 1 to 1000000, or "unlimited"'
    )


GATE = """\
[gate.upstreams]
corp = "https://llm.example.com:8443/v2"

[gate.agents."my.agent"]
provider = "corp"
variables = { URL = "{corp}/v1" }
arguments = ["--url", "{corp}"]
[gate.agents.other]
"""


def test_the_gate_has_upstreams_and_agents_of_its_own() -> None:
    gate = read(GATE).gate
    assert gate is not None
    assert gate.upstreams == {"corp": ("https", "llm.example.com", 8443, "/v2")}
    assert gate.agents["my.agent"] == ("corp", {"URL": "{corp}/v1"}, ("--url", "{corp}"))
    assert gate.agents["other"] == (None, {}, ())
    assert read("[gate]\n").gate == ({}, {})
    assert read(FULL).gate is None


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("gate = 1\n", "gate", 1),
        ("[gate]\nupstream = {}\n", "gate.upstream", 2),
        ("[gate]\nupstreams = 1\n", "gate.upstreams", 2),
        ('[gate.upstreams]\nCorp = "https://a"\n', "gate.upstreams.Corp", 2),
        ('[gate.upstreams]\n"a/b" = "https://a"\n', 'gate.upstreams."a/b"', 2),
        ('[gate.upstreams]\ncorp = "a.example.com"\n', "gate.upstreams.corp", 2),
        ('[gate.upstreams]\ncorp = "https://user:hidden@a"\n', "gate.upstreams.corp", 2),
        ("[gate.upstreams]\ncorp = 3\n", "gate.upstreams.corp", 2),
        ("[gate.agents]\nmine = 3\n", "gate.agents.mine", 2),
        ('[gate.agents."a/b"]\n', 'gate.agents."a/b"', 1),
        ("[gate.agents.mine]\nprovder = 'x'\n", "gate.agents.mine.provder", 2),
        ("[gate.agents.mine]\nprovider = ''\n", "gate.agents.mine.provider", 2),
        ("[gate.agents.mine]\nvariables = { A = 1 }\n", "gate.agents.mine.variables", 2),
        ('[gate.agents.mine]\nvariables = { "A=B" = "x" }\n', "gate.agents.mine.variables", 2),
        ('[gate.agents.mine]\nvariables = { A = "\\u0000" }\n', "gate.agents.mine.variables", 2),
        ("[gate.agents.mine]\narguments = 'x'\n", "gate.agents.mine.arguments", 2),
        ("[gate.agents.mine.nested]\n", "gate.agents.mine.nested", 1),
    ],
)
def test_a_wrong_setting_of_the_gate_is_refused_with_its_place(text: str, key: str, line: int) -> None:
    error = refused(text)
    assert (error.key, error.line) == (key, line)
    assert "hidden" not in str(error)
    assert "pools" not in (error.allowed or "")
