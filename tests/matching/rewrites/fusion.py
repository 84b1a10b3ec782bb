"""The same computation in more or fewer Operators: folded, fused, written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from graphtool.graph import Graph, Operator, Shape
from graphtool.ops import kind_of
from tests.matching.rewrites.editing import Editor, edited
from tests.matching.rewrites.rewritten import Rewritten

__all__ = ["with_folded_norms", "with_fused_activations", "with_split_activations"]


def with_folded_norms(graph: Graph) -> Rewritten:
    """Fold each normalisation of a convolution's result into the convolution: a bias is left.

    The bias is added where the normalisation was, and has its name.
    """

    def step(editor: Editor, operator: Operator) -> None:
        read = operator.operands[0] if kind_of(operator) == "batch_norm" else None
        source = None if read is None else graph.producer(read)
        if source is None or kind_of(source) != "conv2d":
            editor.keep(operator)
            return
        convolved, result = source.results[0], operator.results[0]
        shape = graph.values[convolved].shape or ()
        bias = editor.add("reshape", (editor.parameter(shape[1:2]),), (1, *shape[1:2], 1, 1))
        editor.add("add", (convolved, bias), shape, result=result)
        editor.names.update(dict.fromkeys(operator.results[1:]))

    return edited(graph, step).done()


def with_fused_activations(graph: Graph) -> Rewritten:
    """Let convolutions with a bias and nothing else before a ReLU compute all three at once."""
    fused = dict(_fusible(graph))
    gone = {name for chain in fused.values() for name in chain}

    def step(editor: Editor, operator: Operator) -> None:
        if operator.name not in fused:
            if operator.name not in gone:
                editor.keep(operator)
            return
        convolution, bias = (graph.operators[name] for name in fused[operator.name])
        weights = (convolution.operands[1], bias.operands[1])
        editor.add(
            "fused_conv2d_add_act",
            (convolution.operands[0], *weights, None),
            graph.values[operator.results[0]].shape,
            result=operator.results[0],
            **convolution.attributes,
            activation="relu",
        )
        editor.names.update(dict.fromkeys((*convolution.results, *bias.results)))

    return edited(graph, step).done()


def _fusible(graph: Graph) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield ReLUs with the names of their convolution and of its bias, which nothing else reads."""
    for operator in graph.operators.values():
        if operator.kind != "relu" or operator.operands[0] is None:
            continue
        bias = graph.producer(operator.operands[0])
        if bias is None or bias.kind != "add" or bias.operands[0] is None:
            continue
        convolution = graph.producer(bias.operands[0])
        if convolution is None or convolution.kind not in ("conv2d", "depthwise_conv2d"):
            continue
        if all(len(graph.consumers[one.results[0]]) == 1 for one in (bias, convolution)):
            yield operator.name, (convolution.name, bias.name)


def with_split_activations(graph: Graph) -> Rewritten:
    """Write hardswish, swish and gelu out as the operators of their formulas."""

    def step(editor: Editor, operator: Operator) -> None:
        split = _FORMULAS.get(kind_of(operator))
        if split is None:
            editor.keep(operator)
        else:
            split(editor, operator)

    return edited(graph, step).done()


def _hardswish(editor: Editor, operator: Operator) -> None:
    """x · relu6(x + 3) / 6."""
    x, shape, result = _ends(editor, operator)
    shifted = editor.add("scale", (x,), shape, bias=3.0, scale=1.0)
    product = editor.add("multiply", (x, editor.add("relu6", (shifted,), shape)), shape)
    editor.add("scale", (product,), shape, result=result, bias=0.0, scale=1 / 6)


def _swish(editor: Editor, operator: Operator) -> None:
    """x · sigmoid(x)."""
    x, shape, result = _ends(editor, operator)
    editor.add("multiply", (x, editor.add("sigmoid", (x,), shape)), shape, result=result)


def _gelu(editor: Editor, operator: Operator) -> None:
    """x · (1 + erf(x / √2)) / 2."""
    x, shape, result = _ends(editor, operator)
    error = editor.add("erf", (editor.add("scale", (x,), shape, scale=0.5**0.5),), shape)
    shifted = editor.add("scale", (error,), shape, scale=1.0, bias=1.0)
    product = editor.add("multiply", (x, shifted), shape)
    editor.add("scale", (product,), shape, result=result, scale=0.5)


def _ends(editor: Editor, operator: Operator) -> tuple[str, Shape | None, str]:
    x, result = operator.operands[0], operator.results[0]
    assert x is not None
    return x, editor.graph.values[result].shape, result


_FORMULAS: Mapping[str, Callable[[Editor, Operator], None]] = {
    "hardswish": _hardswish,
    "swish": _swish,
    "silu": _swish,
    "gelu": _gelu,
}
