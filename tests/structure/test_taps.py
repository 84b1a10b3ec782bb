"""The places in one block where a Value can be taken."""

from __future__ import annotations

from typing import Any

import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

from graphtool.structure import Tap, analyse
from tests.networks import computed, vision

AFTER, BEFORE = Tap.AFTER_ACTIVATION, Tap.BEFORE_ACTIVATION
NORM, CONVOLUTION = Tap.BEFORE_NORM, Tap.LAST_CONVOLUTION


@pytest.mark.pir
@pytest.mark.parametrize(
    ("network", "stage", "expected"),
    [
        # add, then relu; the main branch ends in conv3 and its normalisation.
        ("resnet50", -1, {AFTER: "relu", BEFORE: "add", NORM: "conv2d", CONVOLUTION: "conv2d"}),
        # conv and relu, no normalisation.
        ("vgg11", -1, {AFTER: "relu", BEFORE: "add", CONVOLUTION: "conv2d"}),
        # A linear bottleneck: nothing behind the join.
        ("mobilenet_v2", 2, {BEFORE: "add", NORM: "conv2d", CONVOLUTION: "conv2d"}),
        # Two activations, concatenated: no one Value is before them.
        ("squeezenet1_1", -1, {AFTER: "concat"}),
    ],
)
@pytest.mark.slow
def test_each_tap_is_made_by_the_operator_that_it_is_named_for(
    network: str, stage: int, expected: dict[Tap, str]
) -> None:
    structure = analyse(vision(network))
    taps = structure.taps(structure.stages[stage].end)
    makers = {tap: structure.graph.producer(name) for tap, name in taps.items()}

    assert {tap: maker and maker.kind for tap, maker in makers.items()} == expected


def test_the_main_branch_and_not_the_shortcut_is_followed() -> None:
    structure = analyse(vision("resnet50"))
    first = structure.stages[1].blocks[0]
    taken = structure.graph.values[structure.taps(first)[CONVOLUTION]]

    assert taken.layer == "layer1.0.conv3"


@pytest.mark.parametrize(("plain", "expected"), [(False, AFTER), (True, BEFORE)])
def test_a_block_is_after_activations_where_all_that_it_joins_is(
    plain: bool,  # noqa: FBT001
    expected: Tap,
) -> None:
    def shuffled(x: Any) -> Any:
        """Half the channels pass by, as in ShuffleNetV2; `plain` ends in no ReLU."""
        stem = F.relu(nn.Conv2D(3, 8, 3, 2, 1)(x))
        passed, taken = paddle.split(stem, 2, axis=1)
        branch = nn.Conv2D(4, 4, 3, 1, 1)(taken)
        joined = paddle.concat([passed, branch if plain else F.relu(branch)], axis=1)
        return nn.Linear(8, 5)(nn.ChannelShuffle(2)(joined).mean([2, 3]))

    structure = analyse(computed(shuffled, [3, 16, 16]))
    end = structure.stages[-1].end

    assert {tap for tap, name in structure.taps(end).items() if name == end} == {expected}
