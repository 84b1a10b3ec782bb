"""Diagnostics about the pairs of a loss: GT330 to GT336, GT348, GT349, GT354, GT363."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from graphtool.checks.adapters import parse_adapter
from graphtool.checks.locations import format_shape
from graphtool.diagnostics import Diagnostic, Where, rule
from graphtool.dtypes import FLOAT_DTYPES
from graphtool.graph import UNKNOWN_DIM, Graph, Shape, Value, shapes_agree
from graphtool.loss_specs import MinElements, channel_axis
from graphtool.ops import Probabilities
from graphtool.selectors import is_command_source
from graphtool.text import path_argument, shell_command, shell_option, string_literal

__all__ = [
    "ComparedValues",
    "constant_loss",
    "frozen_student",
    "fsp_needs_two",
    "holds_probabilities",
    "pair_broadcast",
    "pair_dtype",
    "pair_rank",
    "pair_shape",
    "unknown_dim",
    "unknown_pair_name",
    "unusable_pair_name",
    "which_axis",
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


@rule("GT330")
def unknown_pair_name(role: str, graph: Graph, name: str, found: Diagnostic) -> Diagnostic:
    """A pair names a Value that a network does not have, or that several fit.

    Nor can one from inside of a branch or loop be compared, or a vector of tensors: name what it
    hands on, or one of them.
    `graphtool inspect MODEL` lists the names. Those of the teacher are its own, or those that
    merging gave them.
    """
    return Diagnostic(
        message=f"a pair's {role} side: {found.message}",
        where=(Where(role=role, program=graph.source, value=name),),
        notes=found.notes,
        help=found.help,
    )


def unusable_pair_name(
    role: str, graph: Graph, value: Value, description: str, alternatives: Sequence[str]
) -> Diagnostic:
    """Report a Value that no loss can compare, with the first of the alternatives."""
    found = Diagnostic(
        message=f"`{value.name}` is {description}",
        help=string_literal(alternatives[0]) if alternatives else None,
    )
    return unknown_pair_name(role, graph, value.name, found)


@rule("GT331")
def pair_rank(compared: ComparedValues, expected: str) -> Diagnostic:
    """The two Values of a pair have different ranks, or such as the loss is not defined for.

    A map against a vector needs pooling first, tokens against a map a reshape.
    """
    ranks = " and ".join(str(len(shape)) for shape in compared.shapes)
    return Diagnostic(
        message=f"{compared.names} have ranks {ranks}: {compared.loss} wants {expected}",
        where=compared.where,
        help=_partners_command(compared),
    )


@rule("GT332")
def pair_broadcast(compared: ComparedValues) -> Diagnostic:
    """The two Values of a pair differ in a dim that is 1 on one side.

    Paddle stretches it without a word: the loss has a number, and it means nothing. Pair Values of
    one size, or pool one side.
    """
    return Diagnostic(
        message=f"{compared.description}: {compared.loss} would broadcast one to the other",
        where=compared.where,
        help=_partners_command(compared),
    )


@rule("GT333")
def pair_shape(compared: ComparedValues, expected: str) -> Diagnostic:
    """The two Values of a pair have shapes that do not go together, behind its adapter too.

    A 1 × 1 convolution, or a linear layer, on the student's side brings it to the teacher's
    channels, as `hint` does by itself; an interpolation brings a map to its size. `similarity`
    compares any two shapes of one batch.
    """
    return Diagnostic(
        message=f"{compared.description}: {compared.loss} wants {expected}",
        where=compared.where,
        help=_with_heads(compared)
        or _other_adapter(compared)
        or _other_loss(compared)
        or _partners_command(compared),
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


@rule("GT334")
def pair_dtype(loss: str, where: Sequence[Where], dtypes: Sequence[str]) -> Diagnostic:
    """The Values of a pair have different dtypes, or are no floating-point numbers.

    Cast one before the loss. What is float16 or bfloat16 is computed in float32, beside float32
    too.
    """
    names = " and ".join(f"`{place.value}`" for place in where)
    dtype = dtypes[-1] if dtypes[-1] in FLOAT_DTYPES else "float32"
    return Diagnostic(
        message=f"{names} are {' and '.join(dtypes)}: {loss} wants floating-point Values of one "
        "dtype",
        where=tuple(where),
        help=f'paddle.cast(merged.teacher({string_literal(where[0].value or "")}), "{dtype}")',
    )


@rule("GT335")
def constant_loss(
    loss: str, where: Sequence[Where], least: MinElements, count: int, help: str
) -> Diagnostic:
    """A loss would be the same number whatever the student does: it compares too few numbers.

    A softmax over one class is 1, and two classes that are standardised are as far apart as any
    others. In a map of one place there is nothing to choose where to look. Scores of one class, as
    text maps and foregrounds have, are compared by `l2`, before their sigmoid.
    """
    one, several = least.of
    return Diagnostic(
        message=f"`{loss}` over {count} {one if count == 1 else several} is constant: it needs "
        f"{least.count} or more",
        where=tuple(where),
        help=help,
    )


@rule("GT336")
def which_axis(loss: str, where: Sequence[Where], help: str) -> Diagnostic:
    """Nothing says which axis of the logits has the classes, and a loss takes its softmax over it.

    For [N, classes] it is the last. For other Values it follows from the layers of the merged
    networks, and from what you compute behind them: a convolution and its `data_format`, a linear
    layer, a transpose. Nothing follows for inputs, nor where classes are reshaped together with
    other dims, or a layer mixes another axis than theirs: say `axis=`.
    """
    names = " and ".join(f"`{place.value}`" for place in where)
    return Diagnostic(
        message=f"`{loss}` cannot tell which axis of {names}, {format_shape(where[0].shape)}, has "
        "the classes",
        where=tuple(where),
        help=help,
    )


@rule("GT348")
def frozen_student(loss: str, where: Where, swapped: str | None) -> Diagnostic:
    """No gradient passes the student's side of a loss, so the loss would never train anything.

    The teacher comes first, the student second: the two may be swapped. Otherwise the Value depends
    on no trainable parameter, as in a student that was loaded from an inference model:
    `gt.for_training` makes one trainable again. Or only numbers that jump lead to one: classes,
    signs, what was rounded.
    """
    return Diagnostic(
        message=f"the student's side of `{loss}`, `{where.value}`, is fixed: no gradient passes it",
        where=(where,),
        help=swapped or 'student = gt.for_training("student.json")  # before the merge',
    )


@rule("GT349")
def holds_probabilities(
    loss: str, where: Where, source: Probabilities[str], help: str
) -> Diagnostic:
    """A loss that takes logits was given what went through softmax or sigmoid already.

    A second softmax flattens it: the loss is a number, and teaches next to nothing. Say
    `from_probs="teacher"` (or `"student"`, or `"both"`), or name the logits. Behind a sigmoid each
    score stands for itself, and a softmax over them has no meaning: compare what is before it, by
    `l2`.
    """
    return Diagnostic(
        message=f"`{where.value}` holds probabilities, and `{loss}` takes what is before "
        f"{source.function}",
        where=(where,),
        notes=(f"what went into {source.function} is `{source.logits}`",),
        help="help(gt.losses.attention_scores)" if loss == "attention_scores" else help,
    )


@rule("GT354")
def unknown_dim(loss: str, where: Where, axis: int) -> Diagnostic:
    """A loss must know a dim when it is built, and it is not known: classes, channels or width.

    Give `paddle.static.data` the size, or reshape the Value to it.
    """
    rank = len(where.shape or ())
    shape = ", ".join("SIZE" if at == axis % rank else "0" for at in range(rank))
    return Diagnostic(
        message=f"`{loss}` must know dim {axis} of `{where.value}`, which is "
        f"{format_shape(where.shape)}",
        where=(where,),
        help=f"paddle.reshape(value, [{shape}])",
    )


@rule("GT363")
def fsp_needs_two(left_over: str) -> Diagnostic:
    """A pair for `fsp` has no partner.

    The flow of a network (Yim et al. 2017) is between two maps, so fsp takes two pairs: the first
    one with `loss = "fsp"` says where it starts, the next one where it ends, and so on by twos. In
    both networks the two maps have one size.
    """
    return Diagnostic(
        message=f"`fsp` takes pairs by twos, a start and an end, and `{left_over}` is left over",
        help='gt.distill_loss(merged, [("t_1", "s_1", "fsp"), ("t_2", "s_2", "fsp")])',
    )


def _partners_command(compared: ComparedValues) -> str:
    """Return the call, or the command for saved networks, that lists partners of the teacher's."""
    networks = [where.program or "" for where in compared.where]
    name = compared.where[0].value or ""
    if not all(map(is_command_source, networks)):
        return f"print(gt.partners(teacher, student, {string_literal(name)}))"
    suggest = shell_command("graphtool", "suggest-pairs", *map(path_argument, networks))
    return f"{suggest} {shell_option('--for', name)}"
