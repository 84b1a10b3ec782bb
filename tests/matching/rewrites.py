"""Other spellings of one network: Graphs that compute the same, or more beside it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from graphtool.graph import Attribute, Graph, Operator, Origin, Shape, Value
from graphtool.structure import kind_of

__all__ = [
    "Rewritten",
    "kind_names",
    "renamed",
    "reordered",
    "with_auxiliary_head",
    "with_dead_branches",
    "with_folded_norms",
    "with_fused_activations",
    "with_split_activations",
    "without_block",
    "without_modules",
]

_BATCH = -1


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


def renamed(graph: Graph) -> Rewritten:
    """Replace all names: of feeds, parameters, Values, Operators; module and layer paths too."""
    order = list(graph.values)
    random.Random(len(order)).shuffle(order)
    values = {name: f"v{index}" for index, name in enumerate(order)}
    operators = {name: f"o{index}" for index, name in enumerate(graph.operators)}
    return Rewritten(_mapped(graph, values, operators), dict(values))


def _mapped(graph: Graph, values: Mapping[str, str], operators: Mapping[str, str]) -> Graph:
    return replace(
        graph,
        operators={
            operators[name]: replace(
                operator,
                name=operators[name],
                operands=tuple(None if x is None else values[x] for x in operator.operands),
                results=tuple(values[x] for x in operator.results),
                attributes=_anonymous(operator.attributes),
                module=None,
                source=None,
            )
            for name, operator in graph.operators.items()
        },
        values={
            values[name]: replace(
                value,
                name=values[name],
                producer=None if value.producer is None else operators[value.producer],
                aliases=(),
                layer=None,
                layer_outputs=(),
            )
            for name, value in graph.values.items()
        },
        blocks={
            path: replace(
                block,
                owner=None if block.owner is None else operators[block.owner],
                arguments=tuple(values[x] for x in block.arguments),
                operators=tuple(operators[x] for x in block.operators),
                results=tuple(values[x] for x in block.results),
            )
            for path, block in graph.blocks.items()
        },
        feeds=tuple(values[x] for x in graph.feeds),
        fetches=tuple(values[x] for x in graph.fetches),
    )


def _anonymous(attributes: Mapping[str, Attribute]) -> Mapping[str, Attribute]:
    return {name: value for name, value in attributes.items() if name not in _NAMING}


_NAMING = frozenset({"name", "parameter_name"})


def without_modules(graph: Graph) -> Rewritten:
    """Drop what tells where in the source a Value was made: `struct_name`, layers, lines."""
    operators = {
        name: replace(operator, module=None, source=None)
        for name, operator in graph.operators.items()
    }
    values = {
        name: replace(value, layer=None, layer_outputs=()) for name, value in graph.values.items()
    }
    return Rewritten(replace(graph, operators=operators, values=values))


def reordered(graph: Graph, seed: int) -> Rewritten:
    """Put the Operators of the top-level Block into a random order that respects what they read."""
    generator = random.Random(seed)
    listed = [graph.operators[name] for name in graph.blocks[""].operators]
    lacking = {operator.name: _made(graph, operator, listed) for operator in listed}
    readers: dict[str, list[Operator]] = {}
    for operator in listed:
        for name in lacking[operator.name]:
            readers.setdefault(name, []).append(operator)
    ready = [operator for operator in listed if not lacking[operator.name]]
    order: list[Operator] = []
    while ready:
        operator = ready.pop(generator.randrange(len(ready)))
        order.append(operator)
        for reader in readers.get(operator.name, ()):
            lacking[reader.name].discard(operator.name)
            if not lacking[reader.name]:
                ready.append(reader)
    assert len(order) == len(listed)
    return Rewritten(_with_operators(graph, order))


def _made(graph: Graph, operator: Operator, listed: Sequence[Operator]) -> set[str]:
    """Name the Operators of the top-level Block that have to come before this one."""
    names = [name for name in operator.operands if name is not None]
    for path in operator.blocks:
        names += [x for y in graph.blocks[path].operators for x in graph.operators[y].operands if x]
    top = {one.name for one in listed} if operator.blocks else None
    makers = {graph.values[name].producer for name in names}
    return {name for name in makers if name is not None and (top is None or name in top)}


def _with_operators(
    graph: Graph, operators: Iterable[Operator], values: Mapping[str, Value] | None = None
) -> Graph:
    """Give the top-level Block these Operators, in this order; they are numbered anew."""
    top = {one.name: replace(one, index=index) for index, one in enumerate(operators)}
    inner = {name: one for name, one in graph.operators.items() if one.block}
    kept = graph.values if values is None else values
    made = {name for one in (*top.values(), *inner.values()) for name in one.results}
    return replace(
        graph,
        operators={**top, **inner},
        values={
            name: value
            for name, value in kept.items()
            if value.origin not in (Origin.OPERATOR, Origin.PARAMETER) or name in made
        },
        blocks={**graph.blocks, "": replace(graph.blocks[""], operators=tuple(top))},
    )


@dataclass(slots=True)
class _Editor:
    """Writes the top-level Block of a Graph anew, one Operator after the other."""

    graph: Graph
    operators: list[Operator] = field(default_factory=list[Operator])
    values: dict[str, Value] = field(default_factory=dict[str, Value])
    names: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    count: int = 0

    def __post_init__(self) -> None:
        self.values.update(self.graph.values)

    def keep(self, operator: Operator) -> None:
        self.operators.append(operator)

    def add(
        self,
        type: str,
        operands: Sequence[str | None],
        shape: Shape | None,
        *,
        result: str | None = None,
        **attributes: Attribute,
    ) -> str:
        """Write an Operator with one result, which may have the name of one that was there."""
        name = self._name(type)
        written = name if result is None else result
        dtype = None if result is None else self.graph.values[result].dtype
        self._write(name, written, shape, Origin.OPERATOR, dtype)
        self.operators.append(
            Operator(
                name=name,
                type=f"pd_op.{type}",
                index=None,
                block="",
                operands=tuple(operands),
                results=(written,),
                attributes=attributes,
            )
        )
        return written

    def parameter(self, shape: Shape) -> str:
        """Write a parameter; it stands where it is first read, which is no matter."""
        name = self._name("weight")
        self._write(name, name, shape, Origin.PARAMETER)
        self.operators.append(
            Operator(
                name=name,
                type="builtin.parameter",
                index=None,
                block="",
                operands=(),
                results=(name,),
            )
        )
        return name

    def done(self, fetches: Sequence[str] = ()) -> Rewritten:
        graph = _with_operators(self.graph, self.operators, self.values)
        return Rewritten(replace(graph, fetches=(*graph.fetches, *fetches)), self.names)

    def _name(self, stem: str) -> str:
        self.count += 1
        return f"new_{stem}_{self.count}"

    def _write(
        self, maker: str, name: str, shape: Shape | None, origin: Origin, dtype: str | None = None
    ) -> None:
        self.values[name] = Value(
            name=name, shape=shape, dtype=dtype or "float32", producer=maker, origin=origin
        )


def _edited(graph: Graph, step: Callable[[_Editor, Operator], None]) -> _Editor:
    editor = _Editor(graph)
    for name in graph.blocks[""].operators:
        step(editor, graph.operators[name])
    return editor


def with_dead_branches(graph: Graph) -> Rewritten:
    """Let a convolution that nothing reads follow every third convolution of the network."""
    convolutions = _maps(graph)[::3]
    assert convolutions

    def step(editor: _Editor, operator: Operator) -> None:
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


def _convolved(editor: _Editor, name: str, *, channels: int) -> str:
    batch, width, *sides = editor.values[name].shape or ()
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


def with_auxiliary_head(graph: Graph, *, classes: int) -> Rewritten:
    """Fetch class scores from the middle of the network too, as Inception does in training."""
    convolutions = _maps(graph)
    middle = convolutions[len(convolutions) // 2]
    fetched: list[str] = []

    def step(editor: _Editor, operator: Operator) -> None:
        editor.keep(operator)
        if operator.name == middle:
            fetched.append(_classified(editor, operator.results[0], classes))

    return _edited(graph, step).done(fetched)


def _classified(editor: _Editor, name: str, classes: int) -> str:
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


def with_folded_norms(graph: Graph) -> Rewritten:
    """Fold each normalisation of a convolution's result into the convolution: a bias is left.

    The bias is added where the normalisation was, and has its name.
    """

    def step(editor: _Editor, operator: Operator) -> None:
        source = graph.producer(operator.operands[0]) if _is_norm(operator) else None
        if source is None or kind_of(source) != "conv2d":
            editor.keep(operator)
            return
        convolved, result = source.results[0], operator.results[0]
        shape = graph.values[convolved].shape or ()
        bias = editor.add("reshape", (editor.parameter(shape[1:2]),), (1, *shape[1:2], 1, 1))
        editor.add("add", (convolved, bias), shape, result=result)
        editor.names.update(dict.fromkeys(operator.results[1:]))

    return _edited(graph, step).done()


def _is_norm(operator: Operator) -> bool:
    return kind_of(operator) == "batch_norm" and operator.operands[0] is not None


def with_fused_activations(graph: Graph) -> Rewritten:
    """Let convolutions with a bias and nothing else before a ReLU compute all three at once."""
    fused = dict(_fusible(graph))
    gone = {name for chain in fused.values() for name in chain}

    def step(editor: _Editor, operator: Operator) -> None:
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

    return _edited(graph, step).done()


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

    def step(editor: _Editor, operator: Operator) -> None:
        split = _FORMULAS.get(kind_of(operator))
        if split is None:
            editor.keep(operator)
        else:
            split(editor, operator)

    return _edited(graph, step).done()


def _hardswish(editor: _Editor, operator: Operator) -> None:
    """x · relu6(x + 3) / 6."""
    x, shape, result = _ends(editor, operator)
    shifted = editor.add("scale", (x,), shape, bias=3.0, scale=1.0)
    product = editor.add("multiply", (x, editor.add("relu6", (shifted,), shape)), shape)
    editor.add("scale", (product,), shape, result=result, bias=0.0, scale=1 / 6)


def _swish(editor: _Editor, operator: Operator) -> None:
    """x · sigmoid(x)."""
    x, shape, result = _ends(editor, operator)
    editor.add("multiply", (x, editor.add("sigmoid", (x,), shape)), shape, result=result)


def _gelu(editor: _Editor, operator: Operator) -> None:
    """x · (1 + erf(x / √2)) / 2."""
    x, shape, result = _ends(editor, operator)
    error = editor.add("erf", (editor.add("scale", (x,), shape, scale=0.5**0.5),), shape)
    shifted = editor.add("scale", (error,), shape, scale=1.0, bias=1.0)
    product = editor.add("multiply", (x, shifted), shape)
    editor.add("scale", (product,), shape, result=result, scale=0.5)


def _ends(editor: _Editor, operator: Operator) -> tuple[str, Shape | None, str]:
    x, result = operator.operands[0], operator.results[0]
    assert x is not None
    return x, editor.graph.values[result].shape, result


_FORMULAS: Mapping[str, Callable[[_Editor, Operator], None]] = {
    "hardswish": _hardswish,
    "swish": _swish,
    "silu": _swish,
    "gelu": _gelu,
}


def without_block(graph: Graph, before: str, after: str) -> Rewritten:
    """Take a block out: what read its output `after` reads its input `before` instead.

    Both have one shape, and every path to `after` passes `before`.
    """
    assert graph.values[before].shape == graph.values[after].shape
    inside, pending = set[str](), [after]
    while pending:
        operator = graph.producer(pending.pop())
        if operator is not None and before not in operator.results and operator.name not in inside:
            inside.add(operator.name)
            pending += [name for name in operator.operands if name is not None]
    gone = inside - _needed(graph, before)

    def step(editor: _Editor, operator: Operator) -> None:
        if operator.name in gone:
            editor.names.update(dict.fromkeys(operator.results))
            return
        operands = tuple(before if name == after else name for name in operator.operands)
        editor.keep(replace(operator, operands=operands))

    editor = _edited(graph, step)
    editor.names[after] = before
    return editor.done()


def _needed(graph: Graph, name: str) -> set[str]:
    """Name the Operators that a Value rests on."""
    found, pending = set[str](), [name]
    while pending:
        operator = graph.producer(pending.pop())
        if operator is not None and operator.name not in found:
            found.add(operator.name)
            pending += [one for one in operator.operands if one is not None]
    return found


def kind_names(graph: Graph) -> Mapping[tuple[str, int], str]:
    """Return the main results by what made them: (`conv2d`, 3) is the fourth convolution's.

    Networks that one source built as PIR and as a legacy Program agree in these numbers.
    """
    found: dict[tuple[str, int], str] = {}
    counts: dict[str, int] = {}
    for name in graph.blocks[""].operators:
        operator = graph.operators[name]
        kind = kind_of(operator)
        if operator.results:
            found[kind, counts.get(kind, 0)] = _main_result(operator)
            counts[kind] = counts.get(kind, 0) + 1
    return found


def _main_result(operator: Operator) -> str:
    """Return the first result; of a legacy normalisation, whose results are by slot, `Y`."""
    return operator.results[0]
