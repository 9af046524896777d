from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasecap._decisions.entry import PRIORITY_LIMIT, Group, make_entry, parse_entry
from leasecap._errors import LeasecapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._decisions.entry import Entry

TOKENS = st.integers(0, 2**64 - 1).map("{:016x}".format)
ENTRIES = st.builds(
    make_entry,
    token=TOKENS,
    process=st.integers(0, 2**48 - 1).map("{:012x}".format),
    order=st.integers(0, 2**63),
    priority=st.integers(-PRIORITY_LIMIT, PRIORITY_LIMIT),
    limit=st.none() | st.integers(1, 2**63 - 1),
    ancestors=st.lists(TOKENS, max_size=9).map(tuple),
)


@given(ENTRIES)
def test_a_name_says_all_that_went_into_it(entry: Entry) -> None:
    parse_entry.cache_clear()
    assert parse_entry(entry.name) == entry
    for field in ("token", "process", "order", "priority", "limit", "ancestors"):
        assert getattr(parse_entry(entry.name), field) == getattr(entry, field)


@given(token=TOKENS, limit=st.none() | st.integers(1, 9), priority=st.integers(-99, 99), ancestor=TOKENS)
def test_every_fact_comes_back_as_it_was_given(token: str, limit: int | None, priority: int, ancestor: str) -> None:
    entry = make_entry(token=token, process="ab" * 6, order=7, priority=priority, limit=limit, ancestors=(ancestor,))
    facts = (entry.token, entry.process, entry.order, entry.priority, entry.limit, entry.ancestors)
    assert facts == (token, "ab" * 6, 7, priority, limit, (ancestor,))


@given(st.lists(ENTRIES, max_size=20))
def test_names_sort_by_priority_and_then_by_arrival(entries: list[Entry]) -> None:
    queue = sorted(entries)
    assert [entry.name for entry in queue] == sorted(entry.name for entry in entries)
    keys = [(-entry.priority, entry.order) for entry in queue]
    assert keys == sorted(keys)


@given(ENTRIES)
def test_no_file_system_folds_refuses_or_cuts_a_name(entry: Entry) -> None:
    assert set(entry.name) <= set("0123456789abcdef-")
    assert len(entry.name) <= 255


def test_nesting_too_deep_for_a_name_is_refused_and_told_what_to_do() -> None:
    tokens = tuple(f"{number:016x}" for number in range(20))
    deepest = 0
    with pytest.raises(LeasecapError, match=r"nested in each other.*borrow=False") as caught:
        for depth in range(20):
            make_entry(token="a" * 16, process="b" * 12, order=1, priority=0, limit=3, ancestors=tokens[:depth])
            deepest = depth
    assert deepest >= 10
    assert str(deepest + 1) in str(caught.value)


NOT_OURS = [
    "x",
    "lost+found",
    ".nfs0000000000000001",
    "500-1-2-3-4",
    "500-0000000000000001-0000000000000002--0",
    "500-0000000000000001-00000000000002-ab-0",
    "50x-0000000000000001-0000000000000002-ab-0",
    "500-000000000000000g-0000000000000002-ab-0",
    "500-0000000000000001-0000000000000002-ab-none",
    "500-0000000000000001-0000000000000002-ab",
    "\udcff\udcfe",
]


@pytest.mark.parametrize("name", NOT_OURS)
def test_a_name_that_we_did_not_write_is_an_entry_that_owns_and_declares_nothing(name: str) -> None:
    entry = parse_entry(name)
    assert entry.name == name
    assert (entry.token, entry.limit, entry.ancestors) == ("", None, ())


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f+_-]{3}(-[0-9a-fx]{1,16}){0,9}", fullmatch=True))
def test_no_name_is_an_error(name: str) -> None:
    assert parse_entry(name).name == name


def test_a_clock_that_is_negative_gives_a_name_like_any_other() -> None:
    # libfaketime moves the boot clock, too; in a name of its own making the minus would be a separator.
    entry = make_entry(token="a" * 16, process="b" * 12, order=-5, priority=0, limit=None)
    assert (entry.token, entry.order) == ("a" * 16, 0)


# -- groups -----------------------------------------------------------------------------------------------------------

PLANTED = st.sampled_from(["x", "lost+found", "500-1-2-3-4", "\udcff", "x" * 60, "-" * 60, f"{'0' * 50}-zz", ""])


@given(st.lists(ENTRIES.map(lambda entry: entry.name) | PLANTED, max_size=20, unique=True))
def test_a_group_says_of_its_entries_what_each_says_of_itself(names: list[str]) -> None:
    group = Group(names)
    entries = [parse_entry(name) for name in names]
    assert list(group) == entries
    assert group.lowest == min((entry.limit for entry in entries if entry.limit is not None), default=None)
    assert group.nested == any(entry.ancestors for entry in entries)


def test_a_planted_name_hides_none_of_ours_that_ends_like_it() -> None:
    ours = make_entry(token="a" * 16, process="b" * 12, order=5, priority=0, limit=2, ancestors=("c" * 16,)).name
    planted = f"{'0' * 50}-{ours[51:]}"
    group = Group([planted, ours])
    assert (group.lowest, group.nested) == (2, True)
    assert (Group([planted]).lowest, Group([planted]).nested) == (None, False)


def test_a_name_whose_parts_are_not_of_our_lengths_has_no_ancestors() -> None:
    assert parse_entry(f"500-{0:016x}-{1:016x}-{'ab' * 5}-4-{2:016x}").ancestors == ()


@given(st.lists(ENTRIES, max_size=5), st.lists(ENTRIES, max_size=5))
def test_a_group_holds_each_entry_once_and_can_be_without_some(some: list[Entry], others: list[Entry]) -> None:
    group = Group.of((*some, *others, *some))
    assert set(group) == {*some, *others} and len(group) == len({*some, *others})
    rest = group.without({entry.name for entry in others})
    assert set(rest) == set(some) - set(others)
