"""The referee of the soak: what it makes of a journal."""

from __future__ import annotations

import pytest

from _soak.referee import Referee, Verdict, parse


def judge(journal: str) -> Verdict:
    """What comes of a journal. Its lines: seconds, event, and as far as they matter pool, who, process and under."""
    lines = []
    for line in filter(None, map(str.strip, journal.splitlines())):
        seconds, what, *rest = line.split()
        pool, who, process, under = (*rest, *("p", "-", "a", "-")[len(rest) :])
        lines.append(f"{int(float(seconds) * 1e9)} {what} {pool} {who} {process} 1 {under}")
    return Referee().judge(parse(lines))


# -- overlaps -------------------------------------------------------------------------------------------------------


def test_one_more_than_the_limit_is_an_overlap() -> None:
    verdict = judge(
        """
        0 limit p 2
        5 start p a.0 a
        6 start p b.0 b
        7 start p c.0 c
        """
    )
    assert len(verdict.overlaps) == 1
    assert verdict.operations == 3


def test_one_that_begins_when_another_has_ended_or_was_killed_is_none() -> None:
    verdict = judge(
        """
        0 limit p 1
        5 start p a.0 a
        6 end p a.0 a
        6 start p b.0 b
        7 kill - - b
        7 start p c.0 c
        """
    )
    assert not verdict.overlaps
    assert verdict.killed_holding == 1


def test_what_the_killed_writes_between_the_line_that_says_so_and_its_death_is_none() -> None:
    verdict = judge(
        """
        0 limit p 1
        5 ask p a.0 a
        6 kill - - a
        6.00001 start p a.0 a
        7 start p b.0 b
        """
    )
    assert not verdict.overlaps


def test_slots_of_other_pools_do_not_count() -> None:
    assert not judge("0 limit p 1 \n 0 limit q 1 \n 5 start p a.0 a \n 5 start q b.0 b").overlaps


@pytest.mark.parametrize(("asked", "overlaps"), [(9, 0), (10.1, 0), (11, 1)])
def test_a_lowered_limit_revokes_nothing_and_holds_for_who_asks_afterwards(asked: float, overlaps: int) -> None:
    verdict = judge(
        f"""
        0 limit p 2
        5 start p a.0 a
        10 limiting p 1
        10.2 limit p 1
        {asked} ask p b.0 b
        14 start p b.0 b
        """
    )
    assert len(verdict.overlaps) == overlaps


LENDING = """
    0 limit p 1
    5 start p a.0 a
    6 lend p a.0 a
    6 start p a.1 a a.0
    """


def test_a_lender_that_waits_does_not_count_and_one_that_works_beside_its_borrower_does() -> None:
    assert not judge(f"{LENDING} \n 7 end p a.1 a a.0 \n 7 start p a.0 a").overlaps
    assert len(judge(f"{LENDING} \n 7 start p a.0 a").overlaps) == 1


def test_a_borrower_is_judged_by_the_limit_of_its_lender() -> None:
    verdict = judge(
        """
        0 limit p 2
        1 ask p a.0 a
        2 start p a.0 a
        2 start p b.0 b
        3 limiting p 1
        3 limit p 1
        4 lend p a.0 a
        4 ask p a.1 a a.0
        5 start p a.1 a a.0
        """
    )
    assert not verdict.overlaps


def test_a_borrower_of_a_borrower_is_judged_by_the_limit_of_who_lent_first() -> None:
    verdict = judge(
        """
        0 limit p 2
        1 ask p a.0 a
        2 start p a.0 a
        2 start p b.0 b
        3 limiting p 1
        3 limit p 1
        4 lend p a.0 a
        4 ask p a.1 a a.0
        5 start p a.1 a a.0
        5 lend p a.1 a a.0
        5 ask p a.2 a a.1
        6 start p a.2 a a.1
        """
    )
    assert not verdict.overlaps


# -- slots that stand empty -----------------------------------------------------------------------------------------


def test_the_hand_off_after_a_kill_lasts_until_as_many_work_as_may() -> None:
    verdict = judge(
        """
        0 limit p 2
        5 start p a.0 a
        5 start p b.0 b
        6 ask p c.0 c
        7 kill - - b
        7.25 start p c.0 c
        """
    )
    assert verdict.refills == {"killed": [250_000_000], "disturbed": [], "calm": []}


def test_a_newcomers_wait_for_the_slot_of_a_killed_one_counts_from_its_asking() -> None:
    verdict = judge(
        """
        0 limit p 1
        5 start p a.0 a
        7 kill - - a
        8 ask p b.0 b
        8.5 start p b.0 b
        """
    )
    assert verdict.refills["killed"] == [500_000_000]


@pytest.mark.parametrize("why", ["6.5 quit p c.0 c", "6.5 stop - - c", "6.5 block - - c", "6.5 kill - - c"])
def test_there_is_no_refill_when_nobody_waits_who_could_take_it(why: str) -> None:
    verdict = judge(
        f"""
        0 limit p 1
        5 start p a.0 a
        6 ask p c.0 c
        {why}
        7 kill - - a
        12 start p d.0 d
        """
    )
    assert verdict.refills == {"killed": [], "disturbed": [], "calm": []}


@pytest.mark.parametrize("fault", ["stop", "block"])
def test_a_refill_is_told_apart_when_a_stopped_one_may_have_had_the_grant(fault: str) -> None:
    verdict = judge(
        f"""
        0 limit p 1
        5 start p a.0 a
        6 ask p b.0 b
        6 ask p c.0 c
        7 kill - - a
        7 {fault} - - b
        9.1 start p c.0 c
        """
    )
    assert verdict.refills == {"killed": [], "disturbed": [2_100_000_000], "calm": []}


@pytest.mark.parametrize("last", ["13 start p b.0 b", "13 quit p b.0 b", "13 over"])
def test_a_slot_that_stands_empty_for_long_while_somebody_waits_is_late(last: str) -> None:
    verdict = judge(
        f"""
        0 limit p 1
        5 start p a.0 a
        6 ask p b.0 b
        7 end p a.0 a
        {last}
        """
    )
    assert len(verdict.late) == 1


@pytest.mark.parametrize(
    ("fault", "late"),
    [
        ("10 kill - - c", 0),
        ("10 stop - - c", 0),
        ("10 block - - c", 0),
        ("10 limiting p 2 x", 0),
        ("10 kill - - d", 1),  # of another pool
        ("8 kill - - c", 1),
    ],
)
def test_the_time_to_refill_begins_anew_with_each_fault_in_the_pool(fault: str, late: int) -> None:
    verdict = judge(
        f"""
        0 limit p 1
        0 limit q 1
        5 start p a.0 a
        6 ask p b.0 b
        6 ask p c.0 c
        6 start q d.0 d
        7 kill - - a
        {fault}
        14 start p b.0 b
        """
    )
    assert len(verdict.late) == late


def test_one_who_goes_on_waits_from_then_on() -> None:
    verdict = judge(
        """
        0 limit p 1
        5 start p a.0 a
        6 ask p b.0 b
        6 block - - b
        7 kill - - a
        20 unblock - - b
        20.5 start p b.0 b
        """
    )
    assert verdict.refills["disturbed"] == [500_000_000]


def test_the_time_to_refill_does_not_run_while_one_is_stopped_inside_and_begins_anew_when_it_goes_on() -> None:
    stopped_inside = """
        0 limit p 1
        5 start p a.0 a
        6 ask p b.0 b
        6 ask p c.0 c
        7 stop - - c
        7 inside p - c
        7 kill - - a
        20 continue - - c
        """
    assert not judge(f"{stopped_inside} \n 24 start p b.0 b").late
    assert len(judge(f"{stopped_inside} \n 26 start p b.0 b").late) == 1


DECLARING = """
    0 limit p 3
    5 start p a.0 a
    6 declare p b.0 b 1
    6 ask p b.0 b
    6 ask p c.0 c
    """


def test_a_pool_is_full_by_the_limit_that_one_who_waits_declared() -> None:
    assert not judge(f"{DECLARING} \n 20 stop - - b \n 20 over").late


@pytest.mark.parametrize("end", ["quit p b.0 b", "kill - - b"])
def test_what_one_declared_who_has_left_or_was_killed_keeps_no_slot_empty(end: str) -> None:
    assert len(judge(f"{DECLARING} \n 7 {end} \n 13 start p c.0 c").late) == 1


def test_what_one_declared_who_was_killed_before_it_asked_keeps_no_slot_empty() -> None:
    killed = "0 limit p 3 \n 5 start p a.0 a \n 6 declare p b.0 b 1 \n 6 kill - - b"
    assert len(judge(f"{killed} \n 7 ask p c.0 c \n 13 over").late) == 1


def test_what_a_holder_declared_holds_for_who_asks_while_it_holds() -> None:
    holds = "0 limit p 3 \n 5 declare p a.0 a 1 \n 5 ask p a.0 a \n 6 start p a.0 a"
    assert len(judge(f"{holds} \n 7 ask p b.0 b \n 8 start p b.0 b").overlaps) == 1
    assert not judge(f"{holds} \n 7 ask p b.0 b \n 8 end p a.0 a \n 8 start p b.0 b").overlaps


def test_what_one_declared_is_not_held_against_who_asked_before_it_held() -> None:
    verdict = judge(
        """
        0 limit p 3
        4 ask p b.0 b
        5 declare p a.0 a 1
        5 ask p a.0 a
        6 end p a.0 a
        7 start p b.0 b
        8 declare p c.0 c 2
        8 ask p d.0 d
        9 start p c.0 c
        10 start p d.0 d
        """
    )
    assert not verdict.overlaps


def test_one_more_than_the_limit_that_it_declared_itself_is_an_overlap() -> None:
    verdict = judge("0 limit p 3 \n 4 start p b.0 b \n 5 declare p a.0 a 1 \n 5 ask p a.0 a \n 6 start p a.0 a")
    assert len(verdict.overlaps) == 1


def test_a_slot_that_is_lent_stands_not_empty() -> None:
    assert not judge(f"{LENDING} \n 6 ask p b.0 b \n 40 over").late
    assert not judge("0 limit p 1 \n 5 start p a.0 a \n 5 lend p a.0 a \n 6 ask p b.0 b \n 40 over").late
