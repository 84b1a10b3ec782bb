"""Shapes that say little: of unknown rank, or with the channels before the samples."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

from graphtool.graph import Graph, Origin
from graphtool.structure import GLOBAL, analyse
from tests.networks import PlainConvolutions, built, computed


def without_ranks(graph: Graph) -> Graph:
    """Forget the shapes of all that Operators give, as behind one without shape inference."""
    values = {
        name: replace(value, shape=None) if value.origin is Origin.OPERATOR else value
        for name, value in graph.values.items()
    }
    return replace(graph, values=values)


@functools.cache
def residual() -> Graph:
    """Build a convolution around which the input of its block passes, twice; a mean over rows."""

    def forward(x: Any) -> Any:
        x = nn.Conv2D(3, 8, 3, 2, 1, bias_attr=False)(x)
        for _ in range(2):
            x = x + nn.Conv2D(8, 8, 3, 1, 1, bias_attr=False)(x)
        return x.mean(axis=2)

    return without_ranks(computed(forward, [3, 16, 16]))


@pytest.mark.pir
def test_where_no_rank_is_known_an_output_is_no_sum_of_losses() -> None:
    (head,) = analyse(replace(residual(), fetches=("add_1",))).heads

    assert (head.output, head.prediction, head.logits) == ("add_1", "add_1", "add_1")


@pytest.mark.pir
def test_a_mean_of_something_of_unknown_rank_keeps_its_resolution() -> None:
    structure = analyse(residual())

    assert str(structure.scales["mean_0"]) == str(structure.scales["add_1"]) == "1/2"


@pytest.mark.slow
def test_most_of_a_network_is_found_without_ranks() -> None:
    graph = built(lambda: PlainConvolutions([4, 8]), [3, 16, 16])
    known, unknown = analyse(graph), analyse(without_ranks(graph))

    assert [stage.blocks for stage in known.stages] == [stage.blocks for stage in unknown.stages]
    assert [head.logits for head in known.heads] == [head.logits for head in unknown.heads]


@pytest.mark.pir
def test_channels_before_the_samples_leave_the_sides_unknown() -> None:
    def turned(x: Any) -> Any:
        maps = nn.Conv2D(3, 4, 3, 1, 1)(x).transpose([1, 0, 2, 3])
        return F.interpolate(maps, size=[8, 8])

    structure = analyse(computed(turned, [3, 16, 16]))

    assert structure.sides("transpose_0") is None
    assert structure.scales["transpose_0"] != GLOBAL


@pytest.mark.pir
@pytest.mark.slow
def test_a_total_of_many_terms_is_taken_apart_once() -> None:
    def added_to_itself(x: Any, y: Any) -> Any:
        weight = paddle.create_parameter([4, 4], "float32")
        total = (x @ weight).mean() + (y @ weight).square().mean()
        for _ in range(1000):
            total = total + total
        return total

    heads = analyse(computed(added_to_itself, [4], [4])).heads

    assert [head.output for head in heads] == ["mean_0", "mean_1"]


@pytest.mark.pir
def test_channels_move_up_where_the_height_is_squeezed_away() -> None:
    def recogniser(x: Any) -> Any:
        """A map of one row becomes a sequence, as in a CRNN."""
        rows = F.relu(nn.Conv2D(3, 8, 3, (2, 1), 1)(x)).max(axis=2, keepdim=True)
        return nn.Linear(8, 5)(rows.squeeze(2).transpose([0, 2, 1]))

    structure = analyse(computed(recogniser, [3, 8, 16]))

    assert structure.channel_axes["squeeze_0"] == 1
    assert structure.channels("squeeze_0") == structure.channels("transpose_0") == 8
