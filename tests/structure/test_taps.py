"""The places in one block where a Value can be taken."""

from __future__ import annotations

import pytest

from graphtool.structure import Tap, analyse
from tests.networks import vision

AFTER, BEFORE = Tap.AFTER_ACTIVATION, Tap.BEFORE_ACTIVATION
NORM, CONVOLUTION = Tap.BEFORE_NORM, Tap.LAST_CONVOLUTION


@pytest.mark.parametrize(
    ("network", "stage", "expected"),
    [
        # add, then relu; the main branch ends in conv3 and its normalisation.
        ("resnet50", -1, {AFTER: "relu", BEFORE: "add", NORM: "conv2d", CONVOLUTION: "conv2d"}),
        # conv and relu, no normalisation.
        ("vgg11", -1, {AFTER: "relu", BEFORE: "add", CONVOLUTION: "conv2d"}),
        # A linear bottleneck: nothing behind the join.
        ("mobilenet_v2", 2, {BEFORE: "add", NORM: "conv2d", CONVOLUTION: "conv2d"}),
    ],
)
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
