"""Pairs of further publications: as many are suggested as were when they were counted."""

from __future__ import annotations

import pytest

from tests.matching.families import Case, cases, graph_of
from tests.matching.more import score


@pytest.mark.slow
@pytest.mark.parametrize("case", cases(table="more-dev"), ids=lambda case: case.name[:4])
def test_as_many_published_pairs_as_counted_are_among_the_first_eight(case: Case) -> None:
    result = score(case)

    assert result.found == case.finds, f"\n{result}"


@pytest.mark.parametrize(
    "case",
    [*cases(table="more-dev"), *cases(table="more-held")],
    ids=lambda case: case.name[:4],
)
def test_published_ends_are_in_the_networks(case: Case) -> None:
    graphs = graph_of(case.teacher), graph_of(case.student)
    for pair in case.expected:
        assert graphs[0].values.keys() >= set(pair.teacher)
        assert graphs[1].values.keys() >= set(pair.student)
