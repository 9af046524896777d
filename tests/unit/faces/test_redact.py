from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasecap._redact import MASK, mask, printable, redact_argv

SECRET = "Zq7vR2mK9xLp4TnW8sYb"  # looks drawn by lot, and begins like no issuer's key

TEMPLATES = [
    ["x", "--api-key", "{}"],
    ["x", "--api-key={}"],
    ["x", "-token", "{}"],
    ["x", "--token", "{}", "--verbose"],
    ["x", "--openai-api-key={}"],
    ["x", "--client-secret", "{}"],
    ["x", "--password", "{}"],
    ["x", "--authToken={}"],
    ["env", "X_API_KEY={}", "cmd"],
    ["env", "GITHUB_PAT={}", "cmd"],
    ["env", "accessToken={}", "cmd"],
    ["curl", "-H", "Authorization: Bearer {}"],
    ["curl", "-H", "authorization: {}"],
    ["curl", "-HAuthorization: Basic {}"],
    ["curl", "-H", "x-api-key:{}"],
    ["curl", "-H", "Authorization:", "Bearer", "{}"],
    ["curl", "--header=X-Goog-Api-Key: {}"],
    ["curl", "-H", "Cookie: session={}; other=1"],
    ["curl", "-u", "me:{}"],
    ["curl", "https://me:{}@example.com/v1"],
    ["curl", "https://{}@example.com/v1"],
    ["curl", "https://example.com/v1?model=x&key={}&stream=1"],
    ["curl", "https://example.com/v1?access_token={}"],
    ["git", "clone", "me:{}@example.com:a/b"],
    ["sh", "-c", "export OPENAI_API_KEY={}; claude -p hello"],
    ["sh", "-c", "export OPENAI_API_KEY='{}' && claude"],
    ["sh", "-c", "claude --token {} | tee log"],
    ["sh", "-c", "curl -H 'Authorization: Bearer {}' https://example.com"],
    ["curl", "-d", '{{"api_key": "{}", "model": "x"}}'],
    ["python", "-c", "client = Client(api_key='{}')"],
]

ISSUED = [
    "sk-{}",
    "sk-ant-api03-{}",
    "sk_live_{}",
    "ghp_{}",
    "github_pat_{}",
    "glpat-{}",
    "AIza{}",
    "xoxb-{}",
    "hf_{}",
    "gsk_{}",
    "eyJhbGciOiJIUzI1NiJ9.{}.{}",
]


@pytest.mark.parametrize("template", TEMPLATES, ids=" ".join)
def test_a_key_in_a_known_place_is_masked(template: list[str]) -> None:
    shown = redact_argv([word.format("s3cr3t") for word in template])
    assert "s3cr3t" not in shown
    assert MASK in shown


@given(st.sampled_from(TEMPLATES), st.text(alphabet=string.ascii_letters + string.digits + "_-.+", min_size=6))
def test_whatever_a_key_in_a_known_place_is_it_is_not_shown(template: list[str], middle: str) -> None:
    secret = f"q{middle}q"
    shown = redact_argv([word.format(secret) for word in template], limit=10_000)
    assert secret not in shown


@pytest.mark.parametrize("form", ISSUED)
@pytest.mark.parametrize(
    "place", ["{}", "--x={}", "say {} to them", "a,{},b", '{{"k":"{}"}}', "https://example.com/{}/v1"]
)
def test_a_key_that_its_issuer_marks_is_masked_wherever_it_stands(form: str, place: str) -> None:
    shown = redact_argv([place.format(form.replace("{}", "abcdef123456"))])
    assert "abcdef123456" not in shown


@pytest.mark.parametrize(
    "secret",
    [
        SECRET,
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY",
        "0123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef.Qm4Tz8LrWc2Vy6Xn",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA",
    ],
)
def test_a_bare_word_drawn_by_lot_is_masked(secret: str) -> None:
    shown = redact_argv(["login", secret])
    assert shown.startswith("login ***")
    assert secret[:12] not in shown


@pytest.mark.parametrize(
    "argv",
    [
        ["claude", "-p", "fix the tests"],
        ["python3", "train.py", "--max-tokens", "4096", "--no-auth", "--author=me"],
        ["pytest", "tests/test_run.py::test_a_killed_holders_slot_is_granted_within_300_ms"],
        ["/usr/lib/python3.11/site-packages/some_package_name/module_name.py"],
        ["node", "/home/me/.nvm/versions/node/v22.11.0/lib/node_modules/@scope/package-name/cli.js"],
        ["curl", "http://localhost:8000/v1/chat/completions"],
        ["run", "someVeryLongCamelCaseName", "2026-01-31T12:00:00"],
        ["git", "clone", "git@github.com:owner/repository.git"],
    ],
)
def test_what_people_want_to_read_stays(argv: list[str]) -> None:
    assert MASK not in redact_argv(argv)


def test_words_are_quoted_where_a_shell_would_need_it() -> None:
    assert redact_argv(["a", "b c", "", "it's", "$x"]) == "a 'b c' '' 'it'\\''s' '$x'"


def test_a_command_is_cut_only_after_it_is_masked() -> None:
    shown = redact_argv(["word/" * 38, "--token", "abcdefgh"], limit=200)
    assert len(shown) == 200
    assert shown.endswith("…")
    assert "abc" not in shown
    assert len(redact_argv(["word"] * 100_000)) == 200


@given(st.lists(st.text(max_size=30), max_size=6), st.integers(1, 300))
def test_a_command_is_one_printable_line_of_bounded_length(argv: list[str], limit: int) -> None:
    shown = redact_argv(argv, limit=limit)
    assert len(shown) <= limit
    assert shown.replace("\u200d", "").isprintable()


@given(st.text(), st.integers(1, 50))
def test_no_text_can_make_a_terminal_obey(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert shown.replace("\u200d", "").isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b]0;x\x07", "\\x1b]0;x\\x07"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud800", "\\ud800"),
        ("a\u202eb", "a\\u202eb"),
        ("\U000e0001", "\\U000e0001"),
        ("👩\u200d💻 ä", "👩\u200d💻 ä"),
        ("abcdefghijklm", "abcdefghi…"),
    ],
)
def test_control_characters_are_escaped_and_the_rest_is_kept(text: str, shown: str) -> None:
    assert printable(text, 100 if len(text) < 12 else 10) == shown


@pytest.mark.parametrize(
    "word", ["key_" * 1024, "key " * 1024, "://" * 1300, "key" + " " * 4000, "a:" * 2000, "A1" * 2000]
)
def test_masking_a_hostile_word_does_not_take_for_ever(word: str) -> None:
    mask(word)  # the suite's time-out is the judge: a pattern that backtracks takes minutes here
    redact_argv([word * 100])
