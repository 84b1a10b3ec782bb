"""Diagnostics about the pairs of a loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd

from graphtool.checks.adapters import parse_adapter
from graphtool.checks.locations import format_shape
from graphtool.diagnostics import Diagnostic, Where, rule
from graphtool.graph import UNKNOWN_DIM, Graph, Shape, Value, shapes_agree
from graphtool.loss_specs import MinElements, channel_axis
from graphtool.selectors import is_command_source, unknown_name
from graphtool.text import path_argument, shell_command, shell_option, string_literal

__all__ = [
    "ComparedValues",
    "constant_loss",
    "frozen_student",
    "pair_dtype",
    "pair_shape",
    "partners_command",
    "shape_fix",
    "unknown_axis",
    "unknown_class_axis",
    "unknown_dim",
    "unusable_pair_name",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedValues:
    """Two Values that a loss compares, with their shapes after the `adapter` if there is one."""

    loss: str
    where: tuple[Where, Where]
    shapes: tuple[Shape, Shape]
    adapter: str | None

    @property
    def names(self) -> str:
        """Both names."""
        return " and ".join(f"`{where.value}`" for where in self.where)

    @property
    def description(self) -> str:
        """Both names and shapes, and the adapter."""
        shapes = f"{self.names} are {' and '.join(map(format_shape, self.shapes))}"
        return f"{shapes} behind `{self.adapter}`" if self.adapter else shapes


def in_pair(found: Diagnostic, role: str, graph: Graph, name: str) -> Diagnostic:
    """Return a problem with a name, GT101 or GT102, with the pair's side that has it."""
    return replace(
        found,
        message=f"a pair's {role} side: {found.message}",
        where=(Where(role=role, program=graph.source, value=name),),
    )


def unusable_pair_name(
    role: str, graph: Graph, value: Value, description: str, alternatives: Sequence[str]
) -> Diagnostic:
    """Report a Value that no loss can compare, with the first of the alternatives."""
    return unknown_name(
        f"a pair's {role} side: `{value.name}` is {description}",
        Where(role=role, program=graph.source, value=value.name),
        help=string_literal(alternatives[0]) if alternatives else None,
    )


@rule("GT333", replaces=("GT331", "GT332", "GT343", "GT344"))
def pair_shape(message: str, where: Sequence[Where], help: str) -> Diagnostic:
    """A loss cannot compare two Values of these ranks or dims, after the adapter if there is one.

    `help(gt.losses.l2)` and so on say which shapes a loss takes. For equal ranks pool a map to a
    vector (`paddle.nn.functional.adaptive_avg_pool2d`), or reshape tokens to a map. A 1 × 1
    convolution or a linear layer on the student's side brings it to the teacher's channels, as
    `hint` does itself; an interpolation brings a map to another size. `similarity` compares any two
    shapes of the same batch.

    If a dim is 1 on one side, Paddle would broadcast it, and the loss would have no meaning. The
    batch is not compared here. Unknown dims are compared at run time.
    """
    return Diagnostic(message=message, where=tuple(where), help=help)


def shape_fix(compared: ComparedValues) -> str:
    """Return the code of a pair that can be compared, or the command that lists others."""
    return (
        _with_heads(compared)
        or _other_adapter(compared)
        or _other_loss(compared)
        or partners_command(compared)
    )


def _with_heads(compared: ComparedValues) -> str | None:
    """Return the code of the option that regroups attention heads, if that makes them equal."""
    teacher, student = compared.shapes
    if compared.loss != "attention_relation" or not shapes_agree(teacher[2:3], student[2:3]):
        return None
    heads = gcd(teacher[1], student[1])
    options = f'{{"attention_relation": {{"heads": {heads}}}}}'
    return f"gt.distill_loss(merged, pairs, options={options})"


def _other_adapter(compared: ComparedValues) -> str | None:
    """Return the code of an adapter that also changes what the given one does not."""
    if compared.adapter is None or len(compared.shapes[0]) != 4:
        return None
    adapter = parse_adapter(compared.adapter)
    is_complete = adapter.resizes and adapter.layer is not None
    return None if is_complete else 'adapter = "conv1x1+resize"'


def _other_loss(compared: ComparedValues) -> str | None:
    """Return the code of the pair with a loss for such shapes, None if the batches differ."""
    teacher, student = compared.shapes
    if compared.adapter or not teacher or not shapes_agree(teacher[:1], student[:1]):
        return None
    axis = channel_axis(len(teacher))
    without_channels = [(*shape[:axis], *shape[axis + 1 :]) for shape in compared.shapes]
    same_size = 2 <= len(teacher) <= 4 and shapes_agree(*without_channels)
    loss = (
        "hint" if same_size and UNKNOWN_DIM not in (teacher[axis], student[axis]) else "similarity"
    )
    names = ", ".join(string_literal(where.value or "") for where in compared.where)
    return f'({names}, "{loss}")'


@rule("GT334", replaces=("GT345",))
def pair_dtype(
    loss: str,
    where: Sequence[Where],
    dtypes: Sequence[str],
    help: str = 'paddle.cast(value, "float32")',
) -> Diagnostic:
    """The Values of a loss have different dtypes, or are not floating-point.

    Cast one before the loss. Only float16 and bfloat16 go together with float32: they are computed
    in float32.
    """
    return Diagnostic(
        message=f"`{loss}` wants floating-point Values of one dtype, not {' and '.join(dtypes)}",
        where=tuple(where),
        help=help,
    )


@rule("GT335")
def constant_loss(
    loss: str, where: Sequence[Where], least: MinElements, count: int, help: str
) -> Diagnostic:
    """A loss is constant, whatever the student does, because it compares too few numbers.

    A softmax over one class is always 1, and two standardised classes are always equally far apart.
    Attention over a map with one position has nothing to choose from. Compare scores of one class,
    as in text maps and foreground masks, by `l2`, before their sigmoid.
    """
    one, several = least.of
    return Diagnostic(
        message=f"`{loss}` over {count} {one if count == 1 else several} is constant: it needs "
        f"{least.count} or more",
        where=tuple(where),
        help=help,
    )


@rule("GT336", replaces=("GT354",))
def unknown_axis(message: str, where: Sequence[Where], help: str) -> Diagnostic:
    """The class axis of the logits, or the size of a dim that the loss needs, is unknown.

    For [N, classes] the class axis is the last. For other Values it follows from the layers around
    them: a convolution and its `data_format`, a linear layer, a transpose. It is unknown for
    inputs, if classes are reshaped together with other dims, or if a layer mixes another axis:
    pass `axis=`.

    A loss that is built from the number of classes, channels or the width must know it: give
    `paddle.static.data` the size, or reshape the Value.
    """
    return Diagnostic(message=message, where=tuple(where), help=help)


def unknown_class_axis(loss: str, where: Sequence[Where], help: str) -> Diagnostic:
    """Report that the class axis of the logits is unknown."""
    names = " and ".join(f"`{place.value}`" for place in where)
    shape = format_shape(where[0].shape)
    return unknown_axis(f"`{loss}`: the class axis of {names}, {shape}, is unknown", where, help)


def unknown_dim(loss: str, where: Where, axis: int) -> Diagnostic:
    """Report a dim that a loss must know when it is built."""
    rank = len(where.shape or ())
    sizes = ", ".join("SIZE" if at == axis % rank else "0" for at in range(rank))
    shape = format_shape(where.shape)
    message = f"`{loss}` must know dim {axis} of `{where.value}`, which is {shape}"
    return unknown_axis(message, (where,), f"paddle.reshape(value, [{sizes}])")


@rule("GT348")
def frozen_student(loss: str, where: Where, swapped: str | None) -> Diagnostic:
    """No gradient passes through the student's side of a loss, so the loss trains nothing.

    The two sides may be swapped: the teacher comes first. Otherwise the Value depends on no
    trainable parameter, as in a student loaded from an inference model: `gt.for_training` makes it
    trainable again. Or it depends on one only through a step function: class numbers, signs,
    rounded values.
    """
    return Diagnostic(
        message=f"the student's side of `{loss}`, `{where.value}`, gets no gradient",
        where=(where,),
        help=swapped or 'student = gt.for_training("student.json")  # before the merge',
    )


def partners_command(compared: ComparedValues) -> str:
    """Return the call, or the command for saved networks, that lists partners of the teacher's."""
    networks = [where.program or "" for where in compared.where]
    name = compared.where[0].value or ""
    if not all(map(is_command_source, networks)):
        return f"print(gt.partners(teacher, student, {string_literal(name)}))"
    suggest = shell_command("graphtool", "suggest-pairs", *map(path_argument, networks))
    return f"{suggest} {shell_option('--for', name)}"
