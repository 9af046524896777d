from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import IS_ROOT

from leasecap._config import edit
from leasecap._config.config import UNLIMITED, load_config
from leasecap._config.edit import set_limit
from leasecap._config.toml_file import signature
from leasecap._errors import ConfigError, StoreError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir(mode=0o700)
    return path


def write(root: Path, text: str) -> Path:
    path = root / "config.toml"
    path.write_bytes(text.encode())
    return path


def only_the_lock_remains(root: Path) -> bool:
    return sorted(entry.name for entry in root.iterdir()) == ["config.lock", "config.toml"]


def test_root_and_file_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    change = set_limit(str(root), "anthropic", 4)
    assert (change.before.limit, change.after.limit) == (None, 4)
    assert root.stat().st_mode & 0o777 == 0o700
    assert (root / "config.toml").stat().st_mode & 0o777 == 0o600
    assert (root / "config.toml").read_text() == "[pools.anthropic]\nlimit = 4\n"
    assert only_the_lock_remains(root)


COMMENTED = """\
# my limits, do not touch the order
[pools.b]
limit = 2   # two, since Tuesday
# more to come

[commands]  # who is who
x = 'b'

[pools."team/a"] # odd name
lock = 'os'
"""


def test_an_edit_changes_its_line_and_nothing_else(root: Path) -> None:
    path = write(root, COMMENTED)
    set_limit(str(root), "B", 7)
    assert path.read_text() == COMMENTED.replace("limit = 2 ", "limit = 7 ")
    set_limit(str(root), "b", UNLIMITED)
    assert path.read_text() == COMMENTED.replace("limit = 2 ", 'limit = "unlimited" ')
    assert load_config(str(root)).pool("b").limit == UNLIMITED
    set_limit(str(root), "b", None)
    assert path.read_text() == COMMENTED.replace("limit = 2   # two, since Tuesday\n", "")


def test_a_pool_without_a_limit_gets_one_in_its_table(root: Path) -> None:
    path = write(root, COMMENTED)
    set_limit(str(root), "TEAM/a", 3)
    assert path.read_text() == COMMENTED.replace("lock = 'os'", "limit = 3\nlock = 'os'")


NEXT = """\
[pools.a]  # mine
priority = 1

# What b is for.
[pools.b]
limit = 2
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_limit_goes_above_the_comments_of_the_next_table(root: Path, end: str) -> None:
    path = write(root, NEXT.replace("\n", end))
    set_limit(str(root), "a", 3)
    assert path.read_bytes().decode() == NEXT.replace("# mine\n", "# mine\nlimit = 3\n").replace("\n", end)


def test_a_line_of_a_text_is_taken_for_no_table(root: Path) -> None:
    text = "[pools.b]\nusage_command = ['''\n[pools.a]\n''']\n[pools.a]"
    path = write(root, text)
    set_limit(str(root), "a", 3)
    assert path.read_text() == text + "\nlimit = 3\n"


@pytest.mark.parametrize(("end", "gap"), [("\n", "\n"), ("", "\n\n"), ("\r\n", "\r\n")])
def test_a_new_pool_goes_to_the_end_with_a_blank_line_before_it(root: Path, end: str, gap: str) -> None:
    path = write(root, f"[commands]{end}")
    set_limit(str(root), "new one", 3)
    line = "\r\n" if "\r" in end else "\n"
    assert path.read_bytes().decode() == f'[commands]{end}{gap}[pools."new one"]{line}limit = 3{line}'


def test_an_alias_and_an_endpoint_edit_the_pool_they_mean(root: Path) -> None:
    path = write(root, '[pools.a]\nlimit = 1\naliases = ["b", "http://localhost:8000"]\n')
    set_limit(str(root), "b", 2)
    assert set_limit(str(root), "http://user:hidden@127.0.0.1:8000/v1", 3).before.limit == 2
    assert path.read_text() == '[pools.a]\nlimit = 3\naliases = ["b", "http://localhost:8000"]\n'
    set_limit(str(root), "https://user:hidden@example.com:8443/v1", 4)
    assert '[pools."example.com:8443"]\nlimit = 4\n' in path.read_text()
    assert "hidden" not in path.read_text()


@pytest.mark.parametrize("text", ["", "[pools.a]\nlimit = 1\n", "# mine\r\n[defaults]\r\nlimit = 2\r\n"])
def test_a_table_that_was_added_for_a_limit_goes_with_it(root: Path, text: str) -> None:
    """An empty one stayed, and a misspelt name was known from then on."""
    (root / "config.toml").write_bytes(text.encode())
    for limit in (3, UNLIMITED):
        set_limit(str(root), "openai.com", limit)
        set_limit(str(root), "openai.com", None)
        assert (root / "config.toml").read_bytes() == text.encode()


QUOTED = "[defaults]\nusage_command = ['''\n\n[pools.p]\nlimit = 3\n''']\n"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("[pools.p]\nlimit = 3\nstagger = 1\n", "[pools.p]\nstagger = 1\n"),
        ("[pools.p]\nlimit = 3  # as they say\n", "[pools.p]\n"),
        ("[pools.p]\nlimit = 3\n# as they say\n", "[pools.p]\n# as they say\n"),
        ("# as they say\n[pools.p]\nlimit = 3\n", "# as they say\n[pools.p]\n"),
        ("[pools.p]\nlimit = 3\n\n[pools.q]\n", "\n[pools.q]\n"),
        (f"{QUOTED}[pools]\np.limit = 3\n", f"{QUOTED}[pools]\n"),
    ],
)
def test_taking_a_limit_out_leaves_what_a_person_has_written(root: Path, text: str, left: str) -> None:
    path = write(root, text)
    set_limit(str(root), "p", None)
    assert path.read_text() == left


def test_taking_out_what_is_not_there_writes_nothing(root: Path) -> None:
    change = set_limit(str(root), "zai", None)
    assert (change.before.limit, change.after.limit, change.after.limit_source) == (3, 3, "preset")
    assert not (root / "config.toml").exists()
    path = write(root, COMMENTED)
    before = signature(str(path))
    set_limit(str(root), "team/a", None)
    set_limit(str(root), "b", 2)
    assert signature(str(path)) == before


@pytest.mark.parametrize("limit", [0, -1, 1_000_001, True, 2.5])
def test_a_limit_that_is_none_is_refused_before_anything_is_made(tmp_path: Path, limit: int) -> None:
    with pytest.raises(ConfigError, match="from 1 to 1000000"):
        set_limit(str(tmp_path / "not-made"), "a", limit)
    with pytest.raises(ConfigError, match="name a pool"):
        set_limit(str(tmp_path / "not-made"), "..", 1)
    assert not (tmp_path / "not-made").exists()


@pytest.mark.parametrize(
    "text", ["[pools.a]\nlimt = 1\n", "[pools.a\n", '[pools.a]\nlimit = "1"\n', "[pools.a]\nstale_after = 1\n", "x = 1"]
)
def test_a_broken_file_is_never_edited(root: Path, text: str) -> None:
    path = write(root, text)
    with pytest.raises(ConfigError) as caught:
        set_limit(str(root), "a", 3)
    assert caught.value.file == str(path)
    assert path.read_text() == text
    assert only_the_lock_remains(root)


@pytest.mark.parametrize(
    "text",
    [
        "pools.a.limit = 1 # one\n",
        "pools = { a = { limit = 1 } }\n",
        "[pools]\na.limit = 1\n",
        "[pools]\na = {limit = 1}\n",
    ],
)
def test_a_limit_is_changed_in_every_way_that_toml_can_write_it(root: Path, text: str) -> None:
    path = write(root, text)
    set_limit(str(root), "a", 7)
    assert path.read_text() == text.replace("limit = 1", "limit = 7")
    assert set_limit(str(root), "a", None).after.limit is None


def test_what_cannot_be_edited_safely_is_left_alone(root: Path) -> None:
    text = "pools = { a = { limit = 1 } }\n"
    path = write(root, text)
    with pytest.raises(ConfigError, match=r"pools\.b\.limit.*left as it is\nWrite the limit by hand"):
        set_limit(str(root), "b", 3)
    assert path.read_text() == text


def test_an_editor_that_changes_something_else_is_found_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(root, COMMENTED)
    monkeypatch.setattr(edit, "_edited", lambda _path, text, _name, _value: text.replace("lock = 'os'", "limit = 7"))
    with pytest.raises(ConfigError, match="by hand"):
        set_limit(str(root), "b", 7)
    assert path.read_text() == COMMENTED


@pytest.mark.posix("owners and modes")
def test_the_mode_of_the_file_stays(root: Path) -> None:
    path = write(root, COMMENTED)
    path.chmod(0o640)
    set_limit(str(root), "b", 7)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.posix("owners and modes")
@pytest.mark.skipif(not IS_ROOT, reason="only root can give files away")
def test_the_owner_of_the_file_stays_when_root_edits_it(root: Path) -> None:
    path = write(root, COMMENTED)
    os.chown(path, 12345, 12345)
    set_limit(str(root), "b", 7)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12345)


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_a_full_disk_at_any_step_leaves_the_file_as_it_was(
    root: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = write(root, COMMENTED)
    set_limit(str(root), "b", 2)  # makes the lock
    real = getattr(os, step)

    def full(*args: object, **options: object) -> object:
        if step != "open" or str(args[0]).endswith(".new"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **options)

    monkeypatch.setattr(os, step, full)
    with pytest.raises(StoreError, match=r"(?i)no space left.*\n.*free some space") as caught:
        set_limit(str(root), "b", 7)
    monkeypatch.undo()
    assert caught.value.path == str(path)
    assert path.read_text() == COMMENTED
    assert only_the_lock_remains(root)


def test_a_short_write_is_carried_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(root, COMMENTED)
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:5]))
    set_limit(str(root), "b", 7)
    assert path.read_text() == COMMENTED.replace("limit = 2 ", "limit = 7 ")


def test_a_change_by_a_text_editor_in_the_same_moment_is_not_lost(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(root, COMMENTED)
    real = os.fsync

    def meanwhile(descriptor: int) -> None:
        real(descriptor)
        path.write_text("[pools.b]\nlimit = 99\n")

    monkeypatch.setattr(os, "fsync", meanwhile)
    with pytest.raises(StoreError, match="Try again"):
        set_limit(str(root), "b", 7)
    assert path.read_text() == "[pools.b]\nlimit = 99\n"
    assert only_the_lock_remains(root)


def test_an_editor_that_never_ends_is_an_error_that_names_its_lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    path = write(root, COMMENTED)
    monkeypatch.setattr(edit, "_PATIENCE", 0.05)
    with (root / "config.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another `leasecap limit`") as caught:
            set_limit(str(root), "b", 7)
    assert caught.value.path == str(root / "config.lock")
    assert path.read_text() == COMMENTED
    assert set_limit(str(root), "b", 7).after.limit == 7


@pytest.mark.parametrize("plant", ["symlink", "directory"])
def test_what_is_planted_in_place_of_the_lock_is_refused(root: Path, tmp_path: Path, plant: str) -> None:
    path = write(root, COMMENTED)
    if plant == "symlink":
        (root / "config.lock").symlink_to(tmp_path / "elsewhere")
    else:
        (root / "config.lock").mkdir()
    with pytest.raises(StoreError) as caught:
        set_limit(str(root), "b", 7)
    assert caught.value.path == str(root / "config.lock")
    assert path.read_text() == COMMENTED
    assert not (tmp_path / "elsewhere").exists()


def test_a_link_in_place_of_the_file_is_written_through(root: Path, tmp_path: Path) -> None:
    dotfiles = tmp_path / "dotfiles"
    dotfiles.mkdir()
    real = dotfiles / "real.toml"
    real.write_text(COMMENTED)
    (root / "config.toml").symlink_to("../dotfiles/real.toml")
    set_limit(str(root), "b", 7)
    assert (root / "config.toml").is_symlink()
    assert "limit = 7   # two, since Tuesday" in real.read_text()
    assert list(dotfiles.iterdir()) == [real]


def test_a_link_to_what_is_read_only_is_left_as_it_is(root: Path, tmp_path: Path) -> None:
    real = tmp_path / "generation.toml"
    real.write_text(COMMENTED)
    real.chmod(0o444)
    (root / "config.toml").symlink_to(real)
    with pytest.raises(StoreError, match="is a link to") as caught:
        set_limit(str(root), "b", 7)
    assert str(real) in caught.value.message and "read-only" in caught.value.message
    assert "home-manager" in caught.value.remedy
    assert (root / "config.toml").is_symlink() and real.read_text() == COMMENTED


EDITOR = """
import sys
import filelock, tomlkit
from leasecap._config import edit
from leasecap._config.edit import set_limit
edit._PATIENCE = 100.0  # who waits for the lock tries every 50 ms, and the others leave it for less
root, who = sys.argv[1:]
print("ready", flush=True)
sys.stdin.read()
for number in range(20):
    set_limit(root, f"{who}-{number}", number + 1)
    set_limit(root, "shared", number + 1)
"""


def test_editors_at_once_lose_nothing_of_each_other(root: Path) -> None:
    write(root, COMMENTED)
    names = ("one", "two", "three")
    pipe = subprocess.PIPE
    editors = [
        subprocess.Popen([sys.executable, "-P", "-c", EDITOR, str(root), who], stdin=pipe, stdout=pipe) for who in names
    ]
    for editor in editors:
        assert editor.stdout is not None
        assert editor.stdout.readline() == b"ready\n"
    for editor in editors:
        assert editor.stdin is not None
        editor.stdin.close()
    for editor in editors:
        assert editor.wait() == 0
        assert editor.stdout is not None
        editor.stdout.close()
    config = load_config(str(root))
    assert config.pool("shared").limit == 20
    for who in names:
        assert [config.pool(f"{who}-{number}").limit for number in range(20)] == list(range(1, 21))
    assert (root / "config.toml").read_text().startswith(COMMENTED)
    assert only_the_lock_remains(root)


LINES = ["# comment", "", "limit = 3", "priority = 2  # why", "aliases = ['x']", "heartbeat = '1s'", "lock = 'os'"]


@given(
    st.lists(st.sampled_from(LINES), unique=True),
    st.lists(st.sampled_from([line for line in LINES if "aliases" not in line]), unique=True),
    st.sampled_from(["b", "A", "x", "new", "team/ü"]),
    st.sampled_from([1, 50, UNLIMITED, None]),
)
def test_an_edit_keeps_every_other_line_and_can_be_read_back(
    first: list[str], second: list[str], pool: str, limit: int | None
) -> None:
    text = "\n".join(["# top", "[pools.b]", *first, "[commands]", "q = 'b' # q", "[pools.a]", *second, "# end", ""])
    kept = [line for line in text.split("\n") if "limit" not in line and line]
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = write(Path(directory), text)
        after = set_limit(directory, pool, limit).after
        lines = path.read_text().split("\n")
        assert [line for line in lines if line in kept] == kept
        assert after == load_config(directory).pool(pool)
        assert after.limit == limit
