"""PIR Programs: read them with the same names as their saved JSON, and edit them in place."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias, cast

from graphtool.backend.errors import PADDLE_ERRORS
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.diagnostics import Diagnostic, ReadError, Where, rule
from graphtool.graph import Attribute, Graph, Operator, Shape, collection_paused
from graphtool.ops import PIR_FETCHES, STACK_PUSHES, TEST_MODE
from graphtool.readers.graph_builder import (
    NAME_ATTRIBUTES,
    GraphBuilder,
    ResultType,
    int_or_zero,
    str_or_none,
    user_line,
)

__all__ = [
    "PirWalk",
    "ValueKey",
    "contains_value",
    "freeze",
    "inserting_after",
    "inserting_before",
    "insertion_block",
    "operations",
    "read_pir",
    "remove_stack_pushes",
    "remove_unused",
    "set_test_mode",
    "training_clone",
]

# Identifies a Value within the process: the id of the operation (a counter that is never reused,
# unlike the address in `Value.id`), the index of its Block (-1 for results) and the position.
ValueKey: TypeAlias = tuple[int, int, int]

_RESULT = -1
_UNDEFINED = "Undefined(ALL_DTYPE)"
_PLACES = {"undefined": 0, "cpu": 1, "gpu": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class PirWalk:
    """A Graph, and how its names map to Paddle's Values and operations.

    `names`: `Value.id` -> name; `keys`: name -> ValueKey; `ids`: Operator name -> `op.id()`.
    """

    graph: Graph
    names: Mapping[str, str]
    keys: Mapping[str, ValueKey]
    ids: Mapping[str, int]


@rule("GT050")
def foreign_operand(operator: str, source: str | None) -> Diagnostic:
    """An operator reads a Value of another Program.

    Operators are added to the default main Program, whichever Program their operands are in. Paddle
    does not check this, and crashes when one of the two Programs is freed. Build the Program again,
    and compute with each Value inside the `program_guard` of its own Program.
    """
    return Diagnostic(
        message=f"`{operator}` reads a Value of another Program",
        where=(Where(program="<Program>", value=operator, source=source),),
        help="with paddle.static.program_guard(merged.program, startup): ...",
    )


@collection_paused()
def read_pir(program: Paddle) -> PirWalk:
    """Read a live PIR Program, and keep how names map to its Values.

    Raises ReadError: GT050.
    """
    top = program.global_block()
    reader = _PirReader(GraphBuilder(frozenset(_user_names(top))))
    reader.read_block(top, path="", owner=None)
    return PirWalk(
        graph=reader.builder.graph(source="<Program>", unknown=tuple(sorted(reader.unknown))),
        # `Value.id` is a string.
        names=cast("Mapping[str, str]", reader.builder.keys),
        keys=reader.keys,
        ids=reader.ids,
    )


def contains_value(program: Paddle, value: Paddle) -> bool:
    """Return whether a PIR Value is at the top level of a Program.

    Only its address is compared: other access crashes if its Program is gone.
    """
    if is_legacy(program):
        return False
    address = value.id
    ops = program.global_block().ops
    return any(result.id == address for op in ops for result in op.results())


@dataclass
class _PirReader:
    builder: GraphBuilder
    keys: dict[str, ValueKey] = field(default_factory=dict[str, ValueKey])
    ids: dict[str, int] = field(default_factory=dict[str, int])
    unknown: set[str] = field(default_factory=set[str])

    def read_block(self, block: Paddle, *, path: str, owner: str | None, number: int = 0) -> None:
        arguments: list[str] = []
        for index, value in enumerate(block.args()):
            name = self.builder.add_argument(value.id, _result_type(value), path, index)
            if owner is not None:
                self.keys[name] = (self.ids[owner], number, index)
            arguments.append(name)
        operators = [
            self._read_operator(op, path, index if owner is None else None)
            for index, op in enumerate(block.ops)
        ]
        self.builder.add_block(path, owner=owner, arguments=arguments, operators=operators)

    def _read_operator(self, op: Paddle, path: str, index: int | None) -> Operator:
        attributes = self._attributes(op)
        blocks = list(op.blocks()) if op.num_regions() else []
        callstack = attributes.pop("op_callstack", None)
        source = user_line(callstack) if callstack else None
        keys = self.builder.keys
        try:
            operands = tuple(
                [keys[value.id] if value.initialized() else None for value in op.operands_source()]
            )
        except KeyError:
            raise ReadError(foreign_operand(op.name(), source)) from None
        operator = self.builder.add_operator(
            type=op.name(),
            block=path,
            index=index,
            operands=operands,
            results=[(value.id, _result_type(value)) for value in op.results()],
            stop_gradient=tuple(attributes.pop("stop_gradient", ())),
            persistable=any(attributes.pop("persistable", ())),
            trainable=any(attributes.pop("trainable", ())),
            regions=len(blocks),
            module=str_or_none(attributes.pop("struct_name", None)),
            role=int_or_zero(attributes.pop("op_role", 0)),
            source=source,
            attributes=_plain_attributes(attributes),
        )
        op_id = self.ids[operator.name] = op.id()
        for output, name in enumerate(operator.results):
            self.keys[name] = (op_id, _RESULT, output)
        for number, inner in enumerate(blocks):
            self.read_block(inner, path=operator.blocks[number], owner=operator.name, number=number)
        return operator

    def _attributes(self, op: Paddle) -> dict[str, Paddle]:
        # The call takes 6 us, half of it for the callstack, which `source` needs.
        try:
            attributes: dict[str, Paddle] = op.attrs()
        except PADDLE_ERRORS:
            self.unknown.add(f"attributes of {op.name()}")
            return {}
        if "is_parameter" in attributes:
            for name in _PARAMETER_FLAGS:
                attributes[name] = any(attributes.get(name, ()))
        return attributes


_PARAMETER_FLAGS = ("is_distributed", "is_parameter", "need_clip")
_USER_NAMED = frozenset({"builtin.parameter", "pd_op.data"})


def _user_names(block: Paddle) -> Iterator[str]:
    for op in block.ops:
        op_type = op.name()
        if op_type in _USER_NAMED:
            yield op.str_attr(NAME_ATTRIBUTES[op_type])
        elif op.num_regions():
            for inner in op.blocks():
                yield from _user_names(inner)


def _result_type(value: Paddle) -> ResultType:
    if not value.initialized():
        return ResultType()
    if value.is_dense_tensor_type() or value.is_selected_row_type():
        return _tensor_type(int(value.dtype), tuple(value.shape))
    if value.is_combine():
        elements = value.type().as_vec_type().as_list()
        tensors = [_tensor_type(int(element.dtype), tuple(element.shape)) for element in elements]
        return ResultType(elements=tuple([(tensor.dtype, tensor.shape) for tensor in tensors]))
    if value.is_dense_tensor_array_type():
        return _tensor_type(int(value.dtype), tuple(value.shape))
    return ResultType()


@lru_cache(maxsize=4096)
def _tensor_type(dtype: int, shape: Shape) -> ResultType:
    # The dtype is a number: looking up one of Paddle's takes 1 us.
    name = str(load_paddle().base.core.DataType(dtype))
    return ResultType(shape=shape, dtype=name.rpartition(".")[2].lower())


_SCALARS = frozenset({bool, int, float, str, bytes, type(None)})


def _plain_attributes(attributes: dict[str, Paddle]) -> dict[str, Attribute]:
    """Convert attributes to plain data, in place."""
    for name, value in attributes.items():
        if type(value) not in _SCALARS:
            attributes[name] = _plain(value)
    return attributes


def _plain(value: Paddle) -> Attribute:
    if type(value) in _SCALARS:
        return value
    if isinstance(value, (list, tuple)):
        items = tuple(cast("Sequence[Paddle]", value))
        is_plain = _SCALARS.issuperset(map(type, items))
        return items if is_plain else tuple([_plain(item) for item in items])
    return _dtype_or_place(str(value))


def _dtype_or_place(text: str) -> Attribute:
    """Return a dtype or place as in the saved JSON: `float32`, `(1, 0, '')` for `Place(cpu)`."""
    kind, _, device = text.removeprefix("Place(").removesuffix(")").partition(":")
    if text.startswith("Place(") and kind in _PLACES:
        return (_PLACES[kind], int(device or 0), "")
    if text.startswith(("paddle.", "DataType.")):
        dtype = text.rpartition(".")[2].lower()
        return _UNDEFINED if dtype == "undefined" else dtype
    return text


def operations(block: Paddle) -> Iterator[Paddle]:
    """Yield a Block's operations in pre-order, nested Blocks included."""
    for op in block.ops:
        yield op
        if op.num_regions():
            for inner in op.blocks():
                yield from operations(inner)


def set_test_mode(op: Paddle) -> None:
    """Put one operation into test mode, without the operations nested in it."""
    if op.has_attr("is_test"):
        op.set_bool_attr("is_test", True)  # noqa: FBT003
        if op.has_attr("trainable_statistics"):
            # While this is set, batch norm keeps updating its running statistics.
            op.set_bool_attr("trainable_statistics", False)  # noqa: FBT003


def freeze(op: Paddle) -> None:
    """Put an operation and those nested in it into test mode, and stop their gradients."""
    set_test_mode(op)
    for value in op.results():
        if value.initialized():
            value.stop_gradient = True
    if op.num_regions():
        for block in op.blocks():
            for argument in block.args():
                argument.stop_gradient = True
            for inner in block.ops:
                freeze(inner)


def remove_unused(block: Paddle, ops: Sequence[Paddle]) -> None:
    """Remove operations from a Block, last first, except those whose results are used."""
    for op in reversed(ops):
        # Removing an operation that has users makes Paddle abort the process.
        if all(value.use_empty() for value in op.results()):
            block.remove_op(op)


def remove_stack_pushes(op: Paddle) -> None:
    """Remove what the branches and loops in an operation save for a gradient that is gone."""
    for block in op.blocks() if op.num_regions() else ():
        for inner in block.ops:
            if inner.name() in STACK_PUSHES:
                block.remove_op(inner)
            else:
                remove_stack_pushes(inner)


@contextmanager
def inserting_after(op: Paddle, program: Paddle) -> Generator[None]:
    """Insert what is built in the body behind an operation of a Program."""
    paddle = load_paddle()
    with paddle.static.program_guard(program):
        paddle.base.libpaddle.pir.set_insertion_point_after(op)
        yield


@contextmanager
def inserting_before(op: Paddle, program: Paddle) -> Generator[None]:
    """Insert what is built in the body in front of an operation of a Program."""
    paddle = load_paddle()
    with paddle.static.program_guard(program):
        paddle.pir.set_insertion_point(op)
        yield
        paddle.pir.reset_insertion_point_to_end()


def insertion_block() -> Paddle:
    """Return the Block that operations are inserted into at present."""
    return load_paddle().base.libpaddle.pir.get_current_insertion_point().block()


_BATCH_NORM = (
    "batch_norm_",
    ("is_test", "momentum", "epsilon", "data_format", "use_global_stats", "trainable_statistics"),
)
# Operators whose last result only their gradient reads: the function of `_C_ops` that makes each,
# as those of `nn.functional` would add further operators, and the attributes it takes, in order.
_REBUILT = {
    "pd_op.batch_norm": _BATCH_NORM,
    "pd_op.batch_norm_": _BATCH_NORM,
    "pd_op.dropout": ("dropout", ("is_test", "mode", "seed", "fix_seed")),
}


def training_clone(
    program: Paddle,
    *,
    trainable: Collection[str],
    statistics: Collection[str],
    unstopped: Collection[str],
) -> Paddle:
    """Return a clone in training mode without fetch operators.

    `trainable` names the parameters to train, `statistics` the running statistics, `unstopped` the
    Values whose `stop_gradient` is cleared.
    """
    clone = program.clone()
    block = clone.global_block()
    _clear_stop_gradient(clone, unstopped)
    for op in block.ops:
        if op.name() in PIR_FETCHES:
            block.remove_op(op)
        elif op.name() == "pd_op.feed":
            _replace_feed(clone, block, op)
    for op in list(operations(block)):
        for attribute in TEST_MODE:
            if op.has_attr(attribute):
                op.set_bool_attr(attribute, False)  # noqa: FBT003  # Paddle takes it by position
        if op.name() in _REBUILT and not op.result(op.num_results() - 1).initialized():
            _rebuild(clone, op)
    for value in block.all_parameters():
        _set_flags(value, trainable, statistics)
    return clone


def _clear_stop_gradient(program: Paddle, names: Collection[str]) -> None:
    if not names:
        return
    name_of = read_pir(program).names
    for op in operations(program.global_block()):
        for value in op.results():
            if name_of.get(value.id) in names:
                value.stop_gradient = False


def _set_flags(value: Paddle, trainable: Collection[str], statistics: Collection[str]) -> None:
    # Parameters of a translated program have no flags at all, which reads as frozen.
    if value.name in trainable:
        value.is_parameter = True
        value.trainable = True
        value.stop_gradient = False
    elif value.name in statistics:
        value.trainable = False
        value.stop_gradient = True


def _replace_feed(program: Paddle, block: Paddle, op: Paddle) -> None:
    """Replace a `feed` operation by a `data` operation, as `paddle.static.data` makes it."""
    paddle = load_paddle()
    fed, name = op.result(0), op.attrs()["name"]
    with inserting_before(op, program):
        place = paddle.base.core.Place()
        data = paddle._C_ops.data(name, fed.shape, fed.dtype, place)  # noqa: SLF001
    data.stop_gradient = True
    fed.replace_all_uses_with(data)
    block.remove_op(op)


def _rebuild(program: Paddle, op: Paddle) -> None:
    """Replace an operation without its last result by a complete one: Paddle would crash.

    Files of Paddle 2 omit the reserve of a batch norm and the mask of a dropout; translation leaves
    that result empty.
    """
    paddle, attributes = load_paddle(), op.attrs()
    function, names = _REBUILT[op.name()]
    operands = (value if value.initialized() else None for value in op.operands_source())
    with inserting_before(op, program):
        make = getattr(paddle._C_ops, function)  # noqa: SLF001
        results = make(*operands, *(attributes[name] for name in names))
    rebuilt = paddle.utils.flatten(results)[0].get_defining_op()
    if "struct_name" in attributes:
        rebuilt.set_str_attr("struct_name", attributes["struct_name"])
    for old, new in zip(op.results()[:-1], rebuilt.results()[:-1], strict=True):
        old.replace_all_uses_with(new)
    op.get_parent_block().remove_op(op)
