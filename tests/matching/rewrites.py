"""Other spellings of one network: Graphs that compute the same, or more beside it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from typing import Any

import networkx

from graphtool.graph import UNKNOWN_DIM, Attribute, Graph, Operator, Origin, Shape, Value
from graphtool.ops import kind_of
from graphtool.structure import analyse

_NAMING = frozenset({"name", "parameter_name"})
_CONVOLUTION: Mapping[str, Attribute] = {
    "strides": (1, 1),
    "paddings": (1, 1),
    "dilations": (1, 1),
    "groups": 1,
    "data_format": "NCHW",
}


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A Graph and where the Values of the one it was made from are in it.

    A Value keeps its name unless `names` has another; what has None is there no more.
    """

    graph: Graph
    names: Mapping[str, str | None] = field(default_factory=dict[str, "str | None"])

    def of(self, name: str) -> str | None:
        """Return the name that a Value of the first Graph has in this one."""
        return self.names.get(name, name)

    def then(self, rewrite: Callable[[Graph], Rewritten]) -> Rewritten:
        """Rewrite this Graph as well."""
        second = rewrite(self.graph)
        middle = {name: self.of(name) for name in (*self.names, *second.names)}
        names = {name: None if now is None else second.of(now) for name, now in middle.items()}
        return Rewritten(second.graph, names)


def _with_operators(
    graph: Graph, operators: Iterable[Operator], values: Mapping[str, Value]
) -> Graph:
    """Give the top-level Block these Operators, in this order; they are numbered anew."""
    top = {one.name: replace(one, index=index) for index, one in enumerate(operators)}
    inner = {name: one for name, one in graph.operators.items() if one.block}
    made = {name for one in (*top.values(), *inner.values()) for name in one.results}
    return replace(
        graph,
        operators={**top, **inner},
        values={
            name: value
            for name, value in values.items()
            if value.origin not in (Origin.OPERATOR, Origin.PARAMETER) or name in made
        },
        blocks={**graph.blocks, "": replace(graph.blocks[""], operators=tuple(top))},
    )


class Editor:
    """Writes the top-level Block of a Graph anew, one Operator after the other."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.operators: list[Operator] = []
        self.values = dict(graph.values)
        self.names: dict[str, str | None] = {}
        self.count = 0

    def keep(self, operator: Operator) -> None:
        self.operators.append(operator)

    def add(
        self,
        kind: str,
        operands: Iterable[str | None],
        shape: Shape | None,
        *,
        result: str | None = None,
        **attributes: Attribute,
    ) -> str:
        """Write an Operator with one result, which may have the name of one that was there."""
        name = ""
        # Another rewrite may have made some, too.
        while not name or name in self.values or name in self.graph.operators:
            self.count += 1
            name = f"new_{kind}_{self.count}"
        written = result or name
        self.values[written] = Value(
            name=written,
            shape=shape,
            dtype=(self.graph.values[result].dtype if result else None) or "float32",
            producer=name,
            origin=Origin.PARAMETER if kind == "parameter" else Origin.OPERATOR,
        )
        self.operators.append(
            Operator(
                name=name,
                type=f"builtin.{kind}" if kind == "parameter" else f"pd_op.{kind}",
                index=None,
                block="",
                operands=tuple(operands),
                results=(written,),
                attributes=attributes,
            )
        )
        return written

    def parameter(self, *shape: int) -> str:
        """Write a parameter; it stands where it is first read, which is no matter."""
        return self.add("parameter", (), shape)

    def done(self) -> Rewritten:
        return Rewritten(_with_operators(self.graph, self.operators, self.values), self.names)


def _edited(graph: Graph, step: Callable[[Editor, Operator], object]) -> Editor:
    """Let `step` write each Operator of the top-level Block, as it is or otherwise."""
    editor = Editor(graph)
    for name in graph.blocks[""].operators:
        step(editor, graph.operators[name])
    return editor


def renamed(graph: Graph) -> Rewritten:
    """Replace all names: of feeds, parameters, Values, Operators; module and layer paths too."""
    order = list(graph.values)
    random.Random(len(order)).shuffle(order)
    values: dict[str | None, str] = {name: f"v{index}" for index, name in enumerate(order)}
    makers: dict[str | None, str] = {
        name: f"o{index}" for index, name in enumerate(graph.operators)
    }

    def of(names: Iterable[str | None], new: Mapping[str | None, str] = values) -> tuple[str, ...]:
        return tuple(new.get(name) for name in names)  # pyright: ignore[reportReturnType]

    plain = without_modules(graph).graph
    mapped = replace(
        graph,
        operators={
            makers[name]: replace(
                one,
                name=makers[name],
                operands=of(one.operands),
                results=of(one.results),
                attributes={key: x for key, x in one.attributes.items() if key not in _NAMING},
            )
            for name, one in plain.operators.items()
        },
        values={
            values[name]: replace(
                one, name=values[name], producer=makers.get(one.producer or ""), aliases=()
            )
            for name, one in plain.values.items()
        },
        blocks={
            path: replace(
                block,
                owner=makers.get(block.owner or ""),
                arguments=of(block.arguments),
                operators=of(block.operators, makers),
                results=of(block.results),
            )
            for path, block in graph.blocks.items()
        },
        feeds=of(graph.feeds),
        fetches=of(graph.fetches),
    )
    return Rewritten(mapped, dict(values))


def without_modules(graph: Graph) -> Rewritten:
    """Drop what tells where in the source a Value was made: `struct_name`, layers, lines."""
    operators = {
        name: replace(one, module=None, source=None) for name, one in graph.operators.items()
    }
    values = {
        name: replace(one, layer=None, layer_outputs=()) for name, one in graph.values.items()
    }
    return Rewritten(replace(graph, operators=operators, values=values))


def reordered(graph: Graph, seed: int) -> Rewritten:
    """Put the Operators of the top-level Block into a random order that respects what they read."""
    generator = random.Random(seed)
    top = {name: graph.operators[name] for name in graph.blocks[""].operators}

    def needed(operator: Operator) -> set[str | None]:
        inner = (graph.operators[x] for y in operator.blocks for x in graph.blocks[y].operators)
        read = [name for one in (operator, *inner) for name in one.operands if name is not None]
        return {graph.values[name].producer for name in read} & top.keys()

    sorter = TopologicalSorter({name: needed(one) for name, one in top.items()})
    sorter.prepare()
    ready, order = list(sorter.get_ready()), list[Operator]()
    while ready:
        name = ready.pop(generator.randrange(len(ready)))
        order.append(top[name or ""])
        sorter.done(name)
        ready += sorter.get_ready()
    return Rewritten(_with_operators(graph, order, graph.values))


def with_unknown_sides(graph: Graph) -> Rewritten:
    """Forget H and W of every Value with four dims, as a Program for images of any size has it."""
    axes = analyse(graph).channel_axes
    values = dict(graph.values)
    for name, value in graph.values.items():
        if value.origin is not Origin.PARAMETER and value.shape and len(value.shape) == 4:
            kept = {0, axes.get(name, 1)}
            dims = (dim if axis in kept else UNKNOWN_DIM for axis, dim in enumerate(value.shape))
            values[name] = replace(value, shape=tuple(dims))
    return Rewritten(replace(graph, values=values))


def with_dead_branches(graph: Graph) -> Rewritten:
    """Let a convolution that nothing reads follow every third convolution of the network."""
    convolutions = _maps(graph)[::3]
    assert convolutions

    def step(editor: Editor, operator: Operator) -> None:
        editor.keep(operator)
        if operator.name in convolutions:
            _convolved(editor, operator.results[0], channels=7)

    return _edited(graph, step).done()


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
    weight = editor.parameter(channels, width, 3, 3)
    return editor.add("conv2d", (name, weight), (batch, channels, *sides), **_CONVOLUTION)


def with_auxiliary_head(graph: Graph, *, classes: int, place: int = 1) -> Rewritten:
    """Fetch class scores from the middle of the network too, as Inception does in training.

    They are the output with this index; 0 is before all others.
    """
    convolutions = _maps(graph)
    middle = convolutions[len(convolutions) // 2]
    fetched: list[str] = []

    def step(editor: Editor, operator: Operator) -> None:
        editor.keep(operator)
        if operator.name == middle:
            fetched.append(_classified(editor, operator.results[0], classes))

    made = _edited(graph, step).done()
    outputs = (*graph.fetches[:place], *fetched, *graph.fetches[place:])
    return replace(made, graph=replace(made.graph, fetches=outputs))


def _classified(editor: Editor, name: str, classes: int) -> str:
    convolved = (_convolved(editor, name, channels=16),)
    how: Mapping[str, Attribute] = {"pooling_type": "avg", "data_format": "NCHW"}
    pooled = editor.add("pool2d", convolved, (-1, 16, 1, 1), global_pooling=True, **how)
    vector = editor.add("flatten", (pooled,), (-1, 16), start_axis=1, stop_axis=3)
    weight, bias = editor.parameter(16, classes), editor.parameter(classes)
    product = editor.add("matmul", (vector, weight), (-1, classes))
    return editor.add("add", (product, bias), (-1, classes))


def without_block(graph: Graph, before: str, after: str) -> Rewritten:
    """Take a block out: what read its output `after` reads its input `before` instead.

    Both have one shape, and every path to `after` passes `before`.
    """
    assert graph.values[before].shape == graph.values[after].shape
    inside = networkx.ancestors(graph.nx, after) - networkx.ancestors(graph.nx, before)

    def step(editor: Editor, operator: Operator) -> None:
        if graph.operator_keys[operator.name] in inside:
            editor.names.update(dict.fromkeys(operator.results))
            return
        operands = tuple(before if name == after else name for name in operator.operands)
        editor.keep(replace(operator, operands=operands))

    editor = _edited(graph, step)
    editor.names[after] = before
    return editor.done()


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
        weight = editor.parameter(*shape[1:2])
        bias = editor.add("reshape", (weight,), (1, *shape[1:2], 1, 1))
        editor.add("add", (convolved, bias), shape, result=result)
        editor.names.update(dict.fromkeys(operator.results[1:]))

    return _edited(graph, step).done()


def with_fused_activations(graph: Graph) -> Rewritten:
    """Let convolutions with a bias and nothing else before a ReLU compute all three at once."""
    fused = dict(_fusible(graph))
    gone = {one.name for chain in fused.values() for one in chain}

    def step(editor: Editor, operator: Operator) -> None:
        if operator.name not in fused:
            if operator.name not in gone:
                editor.keep(operator)
            return
        convolution, bias = fused[operator.name]
        result = operator.results[0]
        editor.add(
            "fused_conv2d_add_act",
            (*convolution.operands[:2], bias.operands[1], None),
            graph.values[result].shape,
            result=result,
            **convolution.attributes,
            activation="relu",
        )
        editor.names.update(dict.fromkeys((*convolution.results, *bias.results)))

    return _edited(graph, step).done()


def _fusible(graph: Graph) -> Iterator[tuple[str, tuple[Operator, Operator]]]:
    """Yield ReLUs with their convolution and its bias, which nothing else reads."""

    def source(operator: Operator | None, *kinds: str) -> Operator | None:
        first = operator.operands[0] if operator else None
        maker = graph.producer(first) if first else None
        return maker if maker and maker.kind in kinds else None

    for relu in graph.operators.values():
        bias = source(relu, "add") if relu.kind == "relu" else None
        convolution = source(bias, "conv2d", "depthwise_conv2d")
        if bias and convolution:
            made = bias.results[0], convolution.results[0]
            if all(len(graph.consumers[name]) == 1 for name in made):
                yield relu.name, (convolution, bias)


def with_split_activations(graph: Graph) -> Rewritten:
    """Write hardswish, swish and gelu out as the operators of their formulas."""

    def step(editor: Editor, operator: Operator) -> None:
        kind = kind_of(operator)
        if kind not in ("hardswish", "swish", "silu", "gelu"):
            editor.keep(operator)
            return
        x, result = operator.operands[0], operator.results[0]
        shape = graph.values[result].shape

        def add(kind: str, *read: str | None, **given: Any) -> str:
            return editor.add(kind, read, shape, **given)

        if kind == "hardswish":  # x · relu6(x + 3) / 6
            shifted = add("scale", x, bias=3.0, scale=1.0)
            product = add("multiply", x, add("relu6", shifted))
            add("scale", product, result=result, bias=0.0, scale=1 / 6)
        elif kind == "gelu":  # x · (1 + erf(x / √2)) / 2
            error = add("erf", add("scale", x, scale=0.5**0.5))
            product = add("multiply", x, add("scale", error, scale=1.0, bias=1.0))
            add("scale", product, result=result, scale=0.5)
        else:  # x · sigmoid(x)
            add("multiply", x, add("sigmoid", x), result=result)

    return _edited(graph, step).done()


def kind_names(graph: Graph) -> Mapping[tuple[str, int], str]:
    """Return the main results by what made them: (`conv2d`, 3) is the fourth convolution's.

    Networks that one source built as PIR and as a legacy Program agree in these numbers.
    """
    found: dict[str, list[str]] = {}
    for name in graph.blocks[""].operators:
        operator = graph.operators[name]
        if operator.results:
            found.setdefault(kind_of(operator), []).append(operator.results[0])
    return {(kind, n): name for kind, names in found.items() for n, name in enumerate(names)}
