"""Networks that compute more beside what they did: branches that nothing reads, another head."""

from __future__ import annotations

from dataclasses import replace

from graphtool.graph import Graph, Operator
from graphtool.ops import kind_of
from tests.matching.rewrites.editing import Editor, edited
from tests.matching.rewrites.rewritten import Rewritten

__all__ = ["with_auxiliary_head", "with_dead_branches"]

_BATCH = -1


def with_dead_branches(graph: Graph) -> Rewritten:
    """Let a convolution that nothing reads follow every third convolution of the network."""
    convolutions = _maps(graph)[::3]
    assert convolutions

    def step(editor: Editor, operator: Operator) -> None:
        editor.keep(operator)
        if operator.name in convolutions:
            _convolved(editor, operator.results[0], channels=7)

    return edited(graph, step).done()


def _maps(graph: Graph) -> list[str]:
    """Name the convolutions of the top-level Block whose results are NCHW maps."""
    return [
        name
        for name in graph.blocks[""].operators
        if kind_of(graph.operators[name]) == "conv2d"
        and graph.operators[name].attributes.get("data_format", "NCHW") == "NCHW"
    ]


def _convolved(editor: Editor, name: str, *, channels: int) -> str:
    shape = editor.values[name].shape
    assert shape
    batch, width, *sides = shape
    weight = editor.parameter((channels, width, 3, 3))
    return editor.add(
        "conv2d",
        (name, weight),
        (batch, channels, *sides),
        strides=(1, 1),
        paddings=(1, 1),
        dilations=(1, 1),
        groups=1,
        data_format="NCHW",
    )


def with_auxiliary_head(graph: Graph, *, classes: int, place: int = 1) -> Rewritten:
    """Fetch class scores from the middle of the network too, as Inception does in training.

    They are the output with this index; 0 is before all others.
    """
    convolutions = _maps(graph)
    assert convolutions
    middle = convolutions[len(convolutions) // 2]
    fetched: list[str] = []

    def step(editor: Editor, operator: Operator) -> None:
        editor.keep(operator)
        if operator.name == middle:
            fetched.append(_classified(editor, operator.results[0], classes))

    made = edited(graph, step).done()
    outputs = (*graph.fetches[:place], *fetched, *graph.fetches[place:])
    return replace(made, graph=replace(made.graph, fetches=outputs))


def _classified(editor: Editor, name: str, classes: int) -> str:
    convolved = _convolved(editor, name, channels=16)
    pooled = editor.add(
        "pool2d",
        (convolved,),
        (_BATCH, 16, 1, 1),
        global_pooling=True,
        pooling_type="avg",
        data_format="NCHW",
    )
    vector = editor.add("flatten", (pooled,), (_BATCH, 16), start_axis=1, stop_axis=3)
    weight, bias = editor.parameter((16, classes)), editor.parameter((classes,))
    product = editor.add("matmul", (vector, weight), (_BATCH, classes))
    return editor.add("add", (product, bias), (_BATCH, classes))
