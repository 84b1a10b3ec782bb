"""Networks of many families: what an expert would pair is suggested, what is wrong is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from graphtool.matching import suggest_pairs
from tests.matching.families import CASES, PUBLISHED, WILD, Case, graph_of, judge, overlaps

_FAST = {
    "a ViT with a class token teaches one of half its depth",
    "a CRNN teaches a narrow one, at any width",
}
# What graphtool cannot do yet, by how many of the expected pairs it finds.
_FOUND_IN_PART = {
    "a translator teaches one with half of the layers on each side, at any length": 1,
    "two towers teach two of half their depth": 1,
    "a residual generator teaches transposed convolutions": 0,
    "residual teaches plain convolutions on sound, at any length": 2,
    "ArcFace's residual network teaches MobileFaceNet, no classifier in either": 3,
    "SegFormer teaches one half as wide and deep": 2,
    "BiSeNetV2 teaches a narrow one, both with the heads they train with": 2,
    "LeViT teaches a narrow one of half its depth": 4,
    "TNT teaches a ViT of half its depth": 3,
    "a recogniser with a CTC and an NRTR head teaches a narrow one with both": 3,
}


def _cases(cases: Iterable[Case], mark: pytest.MarkDecorator = pytest.mark.slow) -> Iterator[Any]:
    for case in cases:
        marks = [] if case.name in _FAST else [mark]
        yield pytest.param(case, id=case.name.replace(" ", "_").replace("×", "x"), marks=marks)


@pytest.mark.pir
@pytest.mark.parametrize("case", _cases(CASES))
def test_an_experts_pairs_are_suggested_and_no_wrong_one(case: Case) -> None:
    pairs = suggest_pairs(graph_of(case.teacher), graph_of(case.student))
    verdict = judge(case, pairs)

    assert not verdict.faults, f"\n{verdict}"


@pytest.mark.parametrize("case", _cases((*WILD, *PUBLISHED), pytest.mark.nightly))
def test_of_networks_first_measured_blind_all_is_found_but_what_is_said(case: Case) -> None:
    pairs = suggest_pairs(graph_of(case.teacher), graph_of(case.student))
    verdict = judge(case, pairs)

    assert verdict.found == _FOUND_IN_PART.get(case.name, len(case.expected)), f"\n{verdict}"
    assert not verdict.wrong


@pytest.mark.pir
@pytest.mark.parametrize(
    "case", [*_cases(CASES), *_cases((*WILD, *PUBLISHED), pytest.mark.nightly)]
)
def test_what_is_written_down_exists_and_does_not_contradict_itself(case: Case) -> None:
    assert not overlaps(case)
    assert 1 <= case.lead <= len(case.expected) <= case.most


def test_the_cases_that_are_always_run_exist() -> None:
    assert {case.name for case in CASES} >= _FAST
    everything = (*CASES, *WILD, *PUBLISHED)
    assert {case.name for case in everything} >= _FOUND_IN_PART.keys()
    assert len({case.name for case in everything}) == len(everything)
