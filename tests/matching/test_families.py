"""Networks of many families: what an expert would pair is suggested, what is wrong is not."""

from __future__ import annotations

import pytest

from graphtool.matching import suggest_pairs
from tests.matching.families import Case, cases, graph_of, judge, overlaps

EACH_CASE = pytest.mark.parametrize("case", cases(), ids=str)


@pytest.mark.slow
@EACH_CASE
def test_an_experts_pairs_are_suggested_and_no_wrong_one(case: Case) -> None:
    verdict = judge(case, suggest_pairs(graph_of(case.teacher), graph_of(case.student)))

    # What was written down before the first run also says how long a list may be, and what leads
    # it: no rule was made for that.
    assert verdict.found == case.finds, f"\n{verdict}"
    assert not verdict.wrong, f"\n{verdict}"
    if case.set == "tuned":
        assert not verdict.faults, f"\n{verdict}"


@EACH_CASE
def test_what_is_written_down_exists_and_does_not_contradict_itself(case: Case) -> None:
    graphs = graph_of(case.teacher), graph_of(case.student)
    for pair in (*case.expected, *case.never):
        assert graphs[0].values.keys() >= set(pair.teacher)
        assert graphs[1].values.keys() >= set(pair.student)
    assert not overlaps(case)
    assert 1 <= case.lead <= len(case.expected) <= case.most
