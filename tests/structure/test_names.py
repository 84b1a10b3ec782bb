"""What blocks are made of and called."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from graphtool.sources import read
from graphtool.structure import BlockPartition, analyse, block_names, blocks_of, module_class
from tests.networks import pyramid, vision

_SEQUENTIAL = re.compile(r"/Sequential(_\d+)?(?=/Bottleneck)")
FIXTURES = Path(__file__).parent.parent / "fixtures" / "3.3.1"


def test_blocks_share_the_operators_out_and_are_called_by_what_they_are_made_of() -> None:
    structure = analyse(read(FIXTURES / "cnn.json"))
    blocks = blocks_of(structure)
    shared = {end: [step.result for step in steps] for end, steps in blocks.items()}

    assert shared == {
        "relu_0": ["conv2d_0", "add_0", "batch_norm_0", "relu_0"],
        "relu_2": [
            "pool2d_0",
            *("conv2d_1", "batch_norm_1", "relu_1", "conv2d_2", "batch_norm_2", "add_1", "relu_2"),
        ],
    }
    assert block_names(structure.graph, blocks) == {"relu_0": "Conv 3×3", "relu_2": "Residual"}


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("/ResNet/Sequential_2/BottleneckBlock_1", "Bottleneck block"),
        ("/MobileNetV3Small/InvertedResidual", "Inverted residual"),
        ("/Net/Sequential_3", None),
        ("/Net/BERTLayer_11", "BERT layer"),
        ("/Net/残差_1", "残差"),
    ],
)
def test_a_class_is_written_in_words(module: str, words: str | None) -> None:
    assert module_class(module) == words


@pytest.mark.pir
@pytest.mark.slow
def test_blocks_of_all_stages_are_called_alike_where_a_file_does_not_tell_the_stages_apart() -> (
    None
):
    graph = vision("resnet50")
    operators = {
        name: replace(operator, module=_SEQUENTIAL.sub("", operator.module or "") or None)
        for name, operator in graph.operators.items()
    }
    saved = analyse(replace(graph, operators=operators))

    names = block_names(saved.graph, blocks_of(saved))
    assert Counter(names.values()) == {"Bottleneck block": 16, "Conv 7×7": 1}


@pytest.mark.slow
def test_what_several_outputs_depend_on_is_counted_for_all_of_them_at_once() -> None:
    structure = analyse(pyramid())
    outputs = [head.output for head in structure.heads]
    claims = BlockPartition.empty(structure.flow)
    claims.assign(structure.stages[-1].end)
    apart = Counter(step.result for end in outputs for step in claims.unassigned(end))

    assert claims.dependant_counts(outputs) == apart
    assert sorted(set(apart.values())) == [1, 2, 3]
