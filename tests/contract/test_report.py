"""`leasecap report` says what it has changed."""

from __future__ import annotations

import pytest
from commands import run
from holders import configure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team


@pytest.fixture(autouse=True)
def limit_of_four(team: Team) -> None:
    configure(team, limit=4)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (["--status", "200"], "p: noted, the limit stays 4\n"),
        (["--status", "429"], "p: limit 4 -> 3\n"),
        (["--status", "402"], "p: gives out no slot until it is resumed\n"),
    ],
)
def test_report_says_what_it_has_changed(answer: list[str], says: str) -> None:
    assert run("report", "p", *answer).stdout == says


def test_report_says_for_how_long_it_has_closed_the_pool() -> None:
    assert run("report", "p", "--status", "429", "--retry-after", "300").stdout.startswith(
        "p: limit 4 -> 3, gives out no slot for "
    )
