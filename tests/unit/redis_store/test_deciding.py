"""What is decided in Python of a pool on a server."""

from __future__ import annotations

import pytest

from leasecap._decisions.entry import make_entry
from leasecap._feedback import adaptive
from leasecap._feedback.adaptive import Report
from leasecap._feedback.rules import Rules
from leasecap._feedback.state import NOTHING, State, decode_state
from leasecap._redis_store.answer import Seen
from leasecap._redis_store.deciding import decision, report_change, rules_in, state_of


def name(number: int, *, process: int | None = None, ancestors: tuple[int, ...] = ()) -> str:
    tokens = tuple(f"{one:016x}" for one in ancestors)
    process = process or number
    return make_entry(
        token=f"{number:016x}", process=f"{process:012x}", order=number, priority=0, limit=None, ancestors=tokens
    ).name


def seen(**fields: object) -> Seen:
    empty = Seen(1000.0, "7", 1, "", "", (), (), {}, {}, {}, 0.0)
    return empty._replace(**fields)  # type: ignore[arg-type]


def test_nested_ticket_is_granted_before_the_head_of_the_queue() -> None:
    decided = decision(seen(leases={name(1): 990.0}, queue=(name(2), name(3, ancestors=(1,)))))
    assert decided.grant == (name(3, ancestors=(1,)),)
    assert (decided.version, decided.feedback) == ("7", "same")


def test_late_grant_is_taken_back_and_its_slot_goes_on() -> None:
    decided = decision(seen(granted={name(1): 990.0}, queue=(name(2),)))
    assert (decided.take_back, decided.grant) == ((name(1),), (name(2),))


def test_process_whose_grant_is_late_is_granted_nothing_else() -> None:
    decided = decision(seen(granted={name(1): 990.0}, queue=(name(2, process=1), name(3))))
    assert (decided.take_back, decided.grant) == ((name(1),), (name(3),))


def test_state_of_a_change_is_kept_and_says_when_to_decide_again() -> None:
    decided = decision(seen(queue=(name(1),)), change=lambda state, now: adaptive.paused(state, now, 5.0, "a test"))
    assert decided.grant == ()
    assert decided.due == pytest.approx(5.0)
    again = decision(seen(queue=(name(1),), feedback=decided.feedback, now=1005.1))
    assert again.grant == (name(1),)


def test_state_without_content_is_forgotten() -> None:
    paused = decision(seen(), change=lambda state, now: adaptive.paused(state, now, 5.0, "a test"))
    assert decision(seen(feedback=paused.feedback), change=lambda state, now: NOTHING).feedback == "none"
    assert decision(seen()).feedback == "same"


def test_cooling_slot_is_counted_until_it_has_cooled() -> None:
    decided = decision(seen(cooling={name(1): 1002.0}, queue=(name(2),)))
    assert decided.grant == ()
    assert decided.due == pytest.approx(2.0)


def test_refusal_cuts_by_the_policy_of_the_store() -> None:
    pool = seen(limit=10, leases={name(number): 990.0 for number in range(10)}, rules='{"backoff": 0.5}')
    decided = decision(pool, change=report_change(pool, Report("concurrency", "a test")))
    cut = decode_state(decided.feedback.encode()).cut
    assert cut is not None and cut.limit == 5


def test_reduced_limit_grows_while_it_is_pressed() -> None:
    pool = seen(limit=2, leases={name(1): 990.0}, queue=(name(2),), rules='{"probe_interval": 1.0}')
    decided = decision(pool, change=report_change(pool, Report("concurrency", "a test")))
    for _ in range(100):
        assert decided.due <= 1.0
        if decided.feedback != "same":
            pool = pool._replace(feedback=decided.feedback)
        pool = pool._replace(now=pool.now + decided.due)
        decided = decision(pool)
        if decided.grant:
            return
    pytest.fail("it never grew")


def test_rules_of_a_later_version_are_read_and_commands_never() -> None:
    assert rules_in('{"backoff": 0.5, "from_the_future": 1, "usage_command": ["rm"]}') == Rules(backoff=0.5)


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 99}', '{"version": 1, "cut": 7}'])
def test_feedback_that_cannot_be_read_is_no_silence(text: str) -> None:
    with pytest.raises(ValueError):
        state_of(seen(feedback=text))
    assert decision(seen(feedback=text), change=lambda state, now: NOTHING, anew=True).feedback == "none"


def test_load_is_raised_step_by_step_after_the_pool_was_idle() -> None:
    rules = '{"stagger_after_idle": 60, "stagger": 2.0}'
    idle = decision(seen(limit=3, queue=(name(1), name(2)), rules=rules, idle_for=60.0))
    assert idle.grant == (name(1),)
    assert idle.due == pytest.approx(2.0)
    assert decision(seen(limit=3, queue=(name(1), name(2)), rules=rules, idle_for=59.0)).grant == (name(1), name(2))
    held = seen(limit=3, queue=(name(1), name(2)), rules=rules, idle_for=60.0, leases={name(3): 900.0})
    assert decision(held).grant == (name(1), name(2))


# -- the provider's own count ---------------------------------------------------------------------------------------

ASKED = '{"usage_source": "https://provider.test/", "usage_interval": 10.0, "usage_timeout": 4.0}'


def counted(pool: Seen, number: int | None, *, ago: float = 0.0) -> Seen:
    """The pool after the provider was asked and has said a number, or nothing."""
    now = pool.now - ago

    def change(state: State, _: float) -> State:
        error = None if number is not None else "a test"
        return adaptive.answered(adaptive.asking(state, now), now, now, number, error)

    return pool._replace(feedback=decision(pool._replace(queue=()), change=change).feedback)


def test_last_slot_is_granted_on_an_answer_alone_and_one_on_each() -> None:
    pool = seen(limit=2, queue=(name(1), name(2)), rules=ASKED)
    decided = decision(pool)
    assert (decided.grant, decided.unanswered, decided.may_ask, decided.due) == ((), True, True, 0.0)
    decided = decision(counted(pool, 0))
    assert (decided.grant, decided.unanswered, decided.may_ask) == ((name(1),), True, False)
    usage = decode_state(decided.feedback.encode()).usage
    assert usage is not None and usage.spent and usage.held == 1
    assert decided.due == pytest.approx(10.0)


def test_newcomer_that_leaves_a_slot_free_waits_for_no_answer() -> None:
    assert decision(seen(limit=2, queue=(name(1),), rules=ASKED), name(1)).grant == (name(1),)


def test_full_provider_is_asked_again_once_a_slot_was_released() -> None:
    pool = counted(seen(limit=2, queue=(name(1),), leases={name(2): 990.0, name(3): 990.0}, rules=ASKED), 3)
    pool = pool._replace(limit=3)
    decided = decision(pool)
    assert (decided.grant, decided.may_ask) == ((), False)
    pool = pool._replace(feedback=decided.feedback, leases={name(2): 990.0})
    released = decision(pool)
    assert (released.grant, released.may_ask, released.due) == ((), True, 0.0)


def test_question_that_is_out_is_waited_for_and_then_no_more() -> None:
    pool = seen(limit=1, queue=(name(1),), rules=ASKED)
    out = decision(pool, change=adaptive.asking)
    assert (out.grant, out.may_ask) == ((), False)
    assert out.due == pytest.approx(4.0)
    pool = pool._replace(feedback=out.feedback)
    assert decision(pool._replace(now=1004.0)).grant == (name(1),)
    late = decision(pool._replace(now=1010.0))
    assert (late.grant, late.may_ask) == ((), True)  # who asked was killed


def test_no_information_leaves_it_to_the_other_rules() -> None:
    assert decision(counted(seen(limit=1, queue=(name(1),), rules=ASKED), None)).grant == (name(1),)


def test_process_with_a_function_asks_whatever_the_policy_says() -> None:
    pool = seen(limit=1, queue=(name(1),))
    assert decision(pool).grant == (name(1),)
    assert decision(pool, counts=True).may_ask
