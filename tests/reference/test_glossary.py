"""The glossary explains the words that graphtool's tables and files use."""

from __future__ import annotations

from graphtool.matching.pairs import Kind, Relation
from graphtool.structure import Tap
from tests.guides.running import EXAMPLES

_TEXT = (EXAMPLES / "glossary.md").read_text(encoding="utf-8")
_ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in _TEXT.splitlines()
    if line.startswith("| ") and not line.startswith("| term ")
]
_MEANINGS = {term.strip("`"): meaning for term, _, _, meaning in _ROWS}


def test_every_row_is_whole() -> None:
    assert all(len(row) == 4 and all(row) for row in _ROWS)


def test_the_words_of_the_tables_are_explained() -> None:
    assert {kind.value for kind in Kind} <= _MEANINGS.keys()
    assert [one.value for one in Relation if f"`{one.value}`" not in _TEXT] == []
    for part in (part for one in Tap for part in one.value.split("-")):
        assert part.removeprefix("norm") in _MEANINGS["tap"]
