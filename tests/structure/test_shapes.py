"""Shapes that say little: of unknown rank, or with the channels before the samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

from graphtool.graph import Graph, Origin
from graphtool.structure import GLOBAL, analyse
from tests.networks import PlainConvolutions, built


def without_ranks(graph: Graph) -> Graph:
    """Forget the shapes of all that Operators give, as behind one without shape inference."""
    values = {
        name: replace(value, shape=None) if value.origin is Origin.OPERATOR else value
        for name, value in graph.values.items()
    }
    return replace(graph, values=values)


class Residual(nn.Layer):
    """A convolution around which the input of its block passes, twice; then a mean over rows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2D(3, 8, 3, 2, 1, bias_attr=False)
        self.blocks = nn.LayerList([nn.Conv2D(8, 8, 3, 1, 1, bias_attr=False) for _ in range(2)])

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return x.mean(axis=2)


@pytest.mark.pir
def test_where_no_rank_is_known_an_output_is_no_sum_of_losses() -> None:
    graph = without_ranks(built(Residual, [3, 16, 16]))
    (head,) = analyse(replace(graph, fetches=("add_1",))).heads

    assert (head.output, head.prediction, head.logits) == ("add_1", "add_1", "add_1")


@pytest.mark.pir
def test_a_mean_of_something_of_unknown_rank_keeps_its_resolution() -> None:
    structure = analyse(without_ranks(built(Residual, [3, 16, 16])))

    assert str(structure.scales["mean_0"]) == str(structure.scales["add_1"]) == "1/2"


@pytest.mark.slow
def test_most_of_a_network_is_found_without_ranks() -> None:
    graph = built(lambda: PlainConvolutions([4, 8]), [3, 16, 16])
    known, unknown = analyse(graph), analyse(without_ranks(graph))

    assert [stage.blocks for stage in known.stages] == [stage.blocks for stage in unknown.stages]
    assert [head.logits for head in known.heads] == [head.logits for head in unknown.heads]


class Turned(nn.Layer):
    """Channels come before the samples when the map is enlarged."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2D(3, 4, 3, 1, 1)

    def forward(self, x: Any) -> Any:
        turned = self.convolution(x).transpose([1, 0, 2, 3])
        return F.interpolate(turned, size=[8, 8])


@pytest.mark.pir
def test_channels_before_the_samples_leave_the_sides_unknown() -> None:
    structure = analyse(built(Turned, [3, 16, 16]))

    assert structure.sides("transpose_0") is None
    assert structure.scales["transpose_0"] != GLOBAL


class Total(nn.Layer):
    """A loss that is added to itself and to others, over and over."""

    def forward(self, x: Any, y: Any) -> Any:
        weight = self.create_parameter([4, 4])
        first, second = (x @ weight).mean(), (y @ weight).square().mean()
        total = first + second
        for _ in range(1000):
            total = total + total
        return total


@pytest.mark.pir
@pytest.mark.slow
def test_a_total_of_many_terms_is_taken_apart_once() -> None:
    heads = analyse(built(Total, [4], [4])).heads

    assert [head.output for head in heads] == ["mean_0", "mean_1"]


class Recogniser(nn.Layer):
    """A map of one row becomes a sequence, as in a CRNN."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2D(3, 8, 3, (2, 1), 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        rows = F.relu(self.body(x)).max(axis=2, keepdim=True)
        return self.head(rows.squeeze(2).transpose([0, 2, 1]))


@pytest.mark.pir
def test_channels_move_up_where_the_height_is_squeezed_away() -> None:
    structure = analyse(built(Recogniser, [3, 8, 16]))

    assert structure.channel_axes["squeeze_0"] == 1
    assert structure.channels("squeeze_0") == structure.channels("transpose_0") == 8
