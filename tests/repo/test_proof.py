"""docs/proof.md names tests; each of them is there."""

from __future__ import annotations

import re

import pytest
from places import REPOSITORY, TESTS

PROOF = (REPOSITORY / "docs" / "proof.md").read_text()


@pytest.mark.parametrize("section", ["Guards", "Hostile machines", "Lineage", "Reports on servers"])
def test_every_row_names_tests_that_are_there(section: str) -> None:
    text = PROOF.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 12
    controls = (TESTS / "proof" / "test_explore_controls.py").read_text()
    for row in rows:
        named = re.findall(r"`([^`]+)`", row.rsplit("|", 2)[1])
        assert named, row
        for name in named:
            file, _, test = name.rpartition("::")
            if file:
                assert f"\ndef {test}(" in (TESTS / file).read_text(), name
            else:
                assert re.search(rf"(controls\.|def ){name}\b", controls), name
