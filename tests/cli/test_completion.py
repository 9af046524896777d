"""What shells complete: asked as their scripts ask, and typed into real ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
from commands import PROGRAM, environment, run, until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BREAKS = " \t\n\"'><=;|&(:"
SHELLS = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "-i"),
}
LOAD = {shell: f'eval "$(leasecap completion {shell})"' for shell in ("bash", "zsh")} | {
    "fish": "leasecap completion fish | source"
}


@pytest.fixture(autouse=True)
def pools(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text('[pools."my pool"]\nlimit = 1\n[pools.mine]\nlimit = 2\n[pools."box:8000"]\n')


def ask(shell: str, *arguments: str) -> list[str]:
    done = run(*arguments, env=environment(_LEASECAP_COMPLETE=shell))
    assert done.stderr == ""
    return done.stdout.splitlines()


def words(*arguments: str) -> tuple[str, list[str]]:
    """What is answered to zsh: the kind, and the values without their meaning."""
    kind, *values = ask("zsh", *arguments)
    return kind, [value.partition("\t")[0] for value in values]


@pytest.mark.parametrize("before", [["-p"], ["--pool"], ["-n", "-p"], ["-np"], ["--limit=3", "-v", "--pool"]])
def test_value_of_an_option_is_completed(before: list[str]) -> None:
    assert words("run", *before, "min") == ("values", ["mine"])


@pytest.mark.parametrize("word", ["--pool=min", "-pmin"])
def test_value_in_the_word_of_its_option_is_completed(word: str) -> None:
    assert words("run", word) == ("values", ["mine"])
    prefix = word.removesuffix("min")
    assert ask("fish", "run", word) == ["values", f"{prefix}mine"]


def test_options_are_completed_in_both_spellings() -> None:
    kind, values = words("acquire", "-")
    assert kind == "values"
    assert {"-p", "--pool", "-n", "--no-wait", "--for-parent", "-h", "--help"} <= set(values)
    assert words("acquire", "--no-b") == ("values", ["--no-borrow"])


@pytest.mark.parametrize(
    ("before", "index"),
    [
        (["run", "--", ""], 3),
        (["run", "-p", "mine", "--", "gi"], 5),
        (["run", "-p", "mine", "--", "git", "--no-b"], 5),
        (["run", "-pmine", "git", "-"], 3),
        (["run", "--limit", "3", "gi"], 4),
        (["run", "--", "--", "x"], 3),
    ],
)
def test_command_of_run_is_left_to_the_shell(before: list[str], index: int) -> None:
    assert words(*before) == (f"command {index}", [])


def test_words_of_each_argument_are_completed() -> None:
    assert words("limit", "my") == ("values", ["my pool"])
    assert words("status", "mine", "my") == ("values", ["my pool"])
    assert words("limit", "mine", "") == ("values", [])
    assert words("report", "mine", "--kind", "q") == ("values", ["quota"])
    assert words("doctor", "") == ("files", [])
    assert words("stat") == ("values", ["status"])
    assert words("nonsense", "") == ("values", [])
    assert words("acquire", "--for-parent", "-p", "min") == ("values", ["mine"])
    assert words("gate", "--env=") == ("values", ["sh", "fish", "powershell"])
    assert words("gate", "--env", "--ro") == ("values", ["--rotate"])


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("leasecap limit my", ["my\\ pool"]),
        ("leasecap limit my\\ p", ["my\\ pool"]),
        ("leasecap limit 'my p", ["my pool"]),
        ('leasecap run -p "my', ["my pool"]),
        ("leasecap run --pool=my", ["my\\ pool"]),
        ("leasecap run --pool=min", ["mine"]),
        ("leasecap limit box:", ["8000"]),
        ("leasecap limit bo", ["box:8000"]),
    ],
)
def test_bash_gets_what_stands_after_its_word_breaks_quoted(line: str, answer: list[str]) -> None:
    assert ask("bash", line, BREAKS) == ["values", *answer]


def test_bash_is_told_at_which_character_a_command_begins() -> None:
    assert ask("bash", "leasecap run --limit=4 --  git ch", BREAKS) == ["command 27"]


class Shell:
    """An interactive shell in a terminal of its own, to type into."""

    def __init__(self, shell: str, directory: Path) -> None:
        self._tmux = ("tmux", "-f", os.devnull, "-L", f"leasecap-{uuid.uuid4().hex}")
        program = directory / "bin" / "leasecap"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{environment()["PYTHONPATH"]}" exec {" ".join(PROGRAM)} "$@"\n')
        program.chmod(0o700)
        path = f"{program.parent}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "TERM": "screen", "HOME": str(directory), "PS1": "$ ", "LC_ALL": "C.UTF-8"}
        start = ("new-session", "-d", "-x", "150", "-y", "40", "-c", str(directory), *SHELLS[shell])
        subprocess.run([*self._tmux, *start], env=env, check=True)
        self.type(LOAD[shell])
        self.type("Enter", "echo read-$(math 1 + 1)" if shell == "fish" else "echo read-$((1+1))", "Enter")
        self.expect("\nread-2")

    def type(self, *keys: str) -> None:
        subprocess.run([*self._tmux, "send-keys", *keys], check=True)

    def screen(self) -> str:
        return subprocess.run([*self._tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True).stdout

    def expect(self, text: str) -> None:
        until(lambda: text in re.sub(" +", " ", self.screen()))  # a completed word may be followed by a blank already

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Shell]]:
    if shutil.which("tmux") is None or shutil.which(request.param) is None:
        pytest.skip(f"needs tmux and {request.param}")
    (tmp_path / "afile-to-complete").touch()
    opened: list[Shell] = []

    def open_shell() -> Shell:
        opened.append(Shell(request.param, tmp_path))
        return opened[-1]

    yield open_shell
    for each in opened:
        each.close()


def test_shell_completes_options_pools_commands_and_files(shell: Callable[[], Shell]) -> None:
    typed = shell()
    typed.type("leasecap sta", "Tab")
    typed.expect("leasecap status")
    typed.type("C-u", "leasecap run --pool=min", "Tab")
    typed.expect("--pool=mine")
    typed.type(" -- readli", "Tab")
    typed.expect("-- readlink")
    typed.type(" afi", "Tab")
    typed.expect("readlink afile-to-complete")
    typed.type("C-u", "leasecap limit my", "Tab")
    typed.expect("my\\ pool")


def test_word_that_is_no_verb_is_answered_with_the_nearest() -> None:
    done = run("statuss")
    assert done.returncode == 2
    assert "Did you mean status?" in done.stderr


@pytest.mark.parametrize(
    "verb, given, said",
    [
        ("run", "--timeout", "Did you mean --wait or --max-hold?"),
        ("acquire", "--timeout=5", "Did you mean --wait or --max-hold?"),
        ("run", "--provider", "Did you mean --pool?"),
        ("run", "--quite", "--quiet"),  # that one is misspelt
        ("pause", "--timeout", "No such option '--timeout'."),
    ],
)
def test_option_of_another_name_elsewhere_is_answered_with_what_is_meant(verb: str, given: str, said: str) -> None:
    done = run(verb, given, "5", "-p", "x", "--", "true")
    assert said in done.stderr and "--limit" not in done.stderr


def test_help_cuts_off_no_summary() -> None:
    help_of_all = run("--help").stdout
    assert "..." not in help_of_all.partition("Commands:")[2]
    assert "CMD ends" in help_of_all
