"""The analysis of a Graph: done once, and at a cost that depends on its size, not on its form."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest
from paddle import Tensor, concat, nn

from graphtool.graph import Graph
from graphtool.structure import analyse
from graphtool.structure._dominators import dominators_of
from tests.networks import computed

DOUBLINGS = 60


@cache
def _concatenated() -> Graph:
    """Build convolutions in a row, each read by the next and by one concatenation of them all."""

    def forward(image: Tensor) -> Tensor:
        maps = [image]
        for _ in range(12):
            maps.append(nn.Conv2D(4, 4, 3, padding=1)(maps[-1]))
        return concat(maps[1:], axis=1)

    return computed(forward, [4, 8, 8])


@pytest.mark.slow
def test_what_dominates_two_values_is_the_nearest_that_dominates_both():
    graph = _concatenated()
    tree = dominators_of(analyse(graph).flow, graph.feeds)
    names = [name for name in tree.parent if name is not None]
    assert len(names) > 24
    for one, other in combinations(names, 2):
        above = {one, *tree.strict_dominators(one)}
        nearest = next(
            (name for name in (other, *tree.strict_dominators(other)) if name in above), None
        )
        assert tree.nearest_common([one, other]) == nearest


@pytest.mark.pir
def test_sums_of_sums_are_looked_at_once_each():
    """The ways back to what is added to itself are beyond counting."""

    def doubled(row: Tensor) -> Tensor:
        scores = nn.Linear(8, 4)(row)
        for _ in range(DOUBLINGS):
            scores = scores + scores
        return scores

    structure = analyse(computed(doubled, [8]))
    (head,) = structure.heads
    assert head.logits == f"add_{DOUBLINGS}"
    assert head.classifies


def test_a_graph_is_analysed_once_and_another_of_the_same_content_anew():
    graph = _concatenated()
    assert analyse(graph) is analyse(graph)
    other = replace(graph)
    assert other == graph
    assert analyse(other) is not analyse(graph)
