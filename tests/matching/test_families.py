"""Networks of many families: what an expert would pair is suggested, what is wrong is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from graphtool.matching import suggest_pairs
from tests.matching.families import CASES, Case, graph_of, judge, overlaps

_FAST = {
    "a deep residual network teaches a shallow one",
    "residual teaches shuffle on 32×32, by the number of the stage",
    "a ViT with a class token teaches one of half its depth",
    "BERT teaches one of half its depth that trains",
    "a wide U-Net teaches a narrow one",
    "a CRNN teaches a narrow one, at any width",
}


def _cases() -> Iterator[Any]:
    for case in CASES:
        marks = [] if case.name in _FAST else [pytest.mark.slow]
        yield pytest.param(case, id=case.name.replace(" ", "_").replace("×", "x"), marks=marks)


@pytest.mark.parametrize("case", _cases())
def test_an_experts_pairs_are_suggested_and_no_wrong_one(case: Case) -> None:
    pairs = suggest_pairs(graph_of(case.teacher), graph_of(case.student))
    verdict = judge(case, pairs)

    assert not verdict.faults, f"\n{verdict}"


@pytest.mark.parametrize("case", _cases())
def test_what_is_written_down_exists_and_does_not_contradict_itself(case: Case) -> None:
    assert not overlaps(case)
    assert 1 <= case.lead <= len(case.expected) <= case.most


def test_the_cases_that_are_always_run_exist() -> None:
    assert {case.name for case in CASES} >= _FAST
    assert len({case.name for case in CASES}) == len(CASES)
