"""Diagnostics of pairs and recipes: GT301 to GT322."""

from __future__ import annotations

from collections.abc import Sequence
from reprlib import repr as brief

from graphtool.diagnostics import Diagnostic, Severity, Where, counted, listed, rule
from graphtool.graph import UNKNOWN_DIM, Graph, Shape
from graphtool.lookalikes import closest, near_notes
from graphtool.paths import ls_command
from graphtool.selectors import listing_help
from graphtool.structure import Structure
from graphtool.text import string_literal
from graphtool.version import UPGRADE

__all__ = [
    "bad_recipe_key",
    "duplicate_pair",
    "edited_name",
    "form_leaves_out",
    "form_without_pairs",
    "left_out",
    "moved_value",
    "no_feature_map",
    "no_layer_paths",
    "no_such_tap",
    "not_a_pair",
    "not_a_recipe",
    "nothing_in_common",
    "other_program",
    "stale_recipe",
    "teacher_is_smaller",
    "unclear_answer",
    "unequal_heads",
    "unknown_config",
    "unknown_loss",
    "unknown_schema",
    "unreadable_recipe",
]

_LISTED = 8
_LISTED_OUTPUTS = 6
_NEAREST = 3
# The least similarity, of 1: `DistilationCELoss` is near `DistillationCELoss`, `mse` near nothing.
_LEAST_SIMILARITY = 0.6
_DEFAULT_LOSS = "l2"


def _both(teacher: Graph, student: Graph) -> tuple[Where, Where]:
    return (
        Where(role="teacher", program=teacher.source),
        Where(role="student", program=student.source),
    )


@rule("GT301")
def nothing_in_common(teacher: Graph, student: Graph, count: int) -> Diagnostic:
    """The two networks have no kind of feature map in common: at most their outputs pair.

    Maps pair with maps, layers of a transformer with layers of a transformer.
    `graphtool inspect MODEL` shows what a network has.
    """
    suggested = "nothing can be suggested" if not count else "only vectors at the end can be paired"
    return Diagnostic(
        message=f"no kind of feature map is found in both networks: {suggested}",
        severity=Severity.WARNING,
        where=_both(teacher, student),
        help=listing_help(student.source),
    )


@rule("GT302")
def unequal_heads(teacher: Graph, student: Graph, heads: tuple[int, int]) -> Diagnostic:
    """The networks have different numbers of outputs, so some outputs have no partner.

    Outputs are paired where resolution and channels are equal, in order. Look at the list, and
    choose by hand what was left out.
    """
    return Diagnostic(
        message=f"the teacher has {heads[0]} outputs and the student {heads[1]}: not all can pair",
        severity=Severity.WARNING,
        where=_both(teacher, student),
        help=listing_help(teacher.source),
    )


@rule("GT304")
def not_a_pair(given: str) -> Diagnostic:
    """A pair is written as the teacher's Value, an equals sign, and the student's Value."""
    return Diagnostic(
        message=f"`{given}` is no pair: two names with `=` between them were wanted",
        help="graphtool suggest-pairs TEACHER STUDENT --explain relu_48=relu_26",
    )


@rule("GT305")
def form_without_pairs(
    form: str, what: str, teacher: Graph, student: Graph, reasons: Sequence[str]
) -> Diagnostic:
    """A published form of distillation needs Values that the two networks don't both have.

    `transformer` and `minilm` need encoder layers in both, `attention`, `fitnet`, `features` and
    `overhaul` stages, `logits` classes. Where both have them, the notes say how they differ too
    much for the form's loss: without a form, such pairs get a loss that takes any two shapes.
    """
    why = "the form's loss cannot compare in these two" if reasons else "the two do not both have"
    return Diagnostic(
        message=f"`{form}` pairs {what}, which {why}",
        where=_both(teacher, student),
        notes=tuple(reasons),
        help=listing_help(student.source),
    )


@rule("GT308")
def form_leaves_out(
    form: str, count: int, teacher: Graph, student: Graph, reasons: Sequence[str]
) -> Diagnostic:
    """A published form was taken without some of its pairs, which its losses can't compare.

    The notes say how their shapes differ. Without a form, such pairs get a loss that takes any two
    shapes.
    """
    return Diagnostic(
        message=f"`{form}` is taken without {counted(count, 'pair')} that its loss cannot compare",
        severity=Severity.WARNING,
        where=_both(teacher, student),
        notes=tuple(reasons),
    )


@rule("GT309")
def unclear_answer(role: str, teacher: Structure, student: Structure) -> Diagnostic:
    """A network ends in a loss, or a number, that does not say what it answers: that was guessed.

    A loss is followed back to the last Values that no label touches. Here these are several, or
    there is none but the number itself: the loss compares two towers, say, or needs no label. What
    was taken is what the last weights make. Where that is not what you mean, name the pair
    yourself, or give the network without its loss.
    """
    side = teacher if role == "teacher" else student
    graph, logits = side.graph, _vector_logits(side)
    outputs = dict.fromkeys(head.output for head in side.heads if not head.is_clear)
    which = "which does not say" if len(outputs) == 1 else "which do not say"
    guess = f"taken was {listed(logits, _LISTED_OUTPUTS)}" if logits else "no logits are paired"
    places = [
        Where(role=role, program=graph.source, value=name, shape=graph.values[name].shape)
        for name in logits[:_LISTED_OUTPUTS]
    ]
    pair = [string_literal(name) for one in (teacher, student) for name in _vector_logits(one)[:1]]
    ends = listed([*outputs], _LISTED_OUTPUTS)
    return Diagnostic(
        message=f"the {role} ends in {ends}, {which} what it answers: {guess}",
        severity=Severity.WARNING,
        where=tuple(places) or (Where(role=role, program=graph.source),),
        help=f"gt.distill_loss(merged, [({', '.join(pair)})])"
        if len(pair) == 2
        else listing_help(graph.source),
    )


def _vector_logits(side: Structure) -> list[str]:
    """Return the logits, without scalars."""
    values = side.graph.values
    return [head.logits for head in side.heads if (values[head.logits].rank or 0) > 1]


@rule("GT306")
def no_such_tap(tap: str, count: int, teacher: Graph, student: Graph) -> Diagnostic:
    """Some pairs were left where they are: one of the two blocks has no Value at the tap wanted.

    A linear bottleneck has nothing after an activation, a block without normalisation nothing
    before one. `alternatives` in the JSON lists the taps of each pair.
    """
    return Diagnostic(
        message=f"{counted(count, 'pair')} cannot be taken {tap.replace('-', ' ')}, left as found",
        severity=Severity.NOTE,
        where=_both(teacher, student),
    )


@rule("GT307")
def teacher_is_smaller(teacher: Graph, student: Graph, sizes: tuple[str, str]) -> Diagnostic:
    """The teacher has fewer parameters and fewer multiply-adds than the student.

    That works (a network can learn from a smaller one), but most often the two were exchanged:
    name the teacher first.
    """
    return Diagnostic(
        message=f"the teacher is smaller than the student: {sizes[0]} and {sizes[1]} parameters",
        severity=Severity.NOTE,
        where=_both(teacher, student),
    )


@rule("GT303")
def no_feature_map(structure: Structure, name: str, role: str) -> Diagnostic:
    """The Value is no feature map, so nothing can be paired with it.

    A feature map is a floating-point Value of the top-level block that depends on the input and on
    a weight. Parameters, constants, inputs, gradients and Values inside cond and while are none.
    """
    graph = structure.graph
    return Diagnostic(
        message=f"`{name}` is no feature map but a {structure.role(name).value}",
        where=(Where(role=role, program=graph.source, value=name, shape=graph.values[name].shape),),
        help=listing_help(graph.source),
    )


@rule("GT310")
def not_a_recipe(reason: str) -> Diagnostic:
    """The text is no TOML, so no recipe can be read from it.

    `graphtool suggest-pairs TEACHER STUDENT -o pairs.toml` writes a recipe; after an edit, quotes
    and brackets are what most often went missing. The message gives line and column.
    """
    return Diagnostic(
        message=f"the recipe is no TOML: {reason}",
        help="graphtool suggest-pairs TEACHER STUDENT -o pairs.toml",
    )


@rule("GT311")
def unknown_schema(found: object, known: int, *, empty: bool) -> Diagnostic:
    """The recipe's key `schema` is missing, or is a version that this graphtool doesn't know.

    It says how the file is laid out. A newer graphtool may have written the file, or the file is no
    recipe at all.
    """
    line = f"schema = {known}"
    if empty:
        line = "graphtool suggest-pairs TEACHER STUDENT -o pairs.toml"
    elif type(found) is int and found > known:
        line = UPGRADE
    state = "has no `schema`" if found is None else f"has the `schema` {brief(found)}"
    return Diagnostic(message=f"the recipe {state}; this graphtool reads {known}", help=line)


@rule("GT312")
def unreadable_recipe(path: str, reason: str) -> Diagnostic:
    """The recipe file is not there, or the operating system does not let graphtool read it."""
    return Diagnostic(
        message=f"the recipe `{path}` cannot be read: {reason}",
        help=ls_command(path),
    )


@rule("GT313")
def bad_recipe_key(place: str, reason: str) -> Diagnostic:
    """A key of the recipe is missing, unknown, of the wrong type, or has an impossible value.

    `pairs[0]` is the first `[[pairs]]` of the file. A pair needs `kind`, `loss`, and a `teacher`
    and a `student` that each have a `name`; its `weight` is 1 unless given.
    """
    return Diagnostic(message=f"`{place}`: {reason}", help="graphtool explain GT313")


@rule("GT314")
def unknown_loss(
    place: str, loss: str, known: Sequence[str], typed: str = 'loss = "{}"'
) -> Diagnostic:
    """A pair names a loss that does not exist; the notes give the nearest, and all that there are.

    In a recipe and in a plain list of pairs, those are graphtool's. In a configuration of another
    toolkit, they are its losses that compare two networks. To have a loss of your own read, give
    it the name of the one that comes next to it, in a copy of the file.
    """
    near = closest(loss, known, most=_NEAREST, cutoff=_LEAST_SIMILARITY)
    suggestion = near[0] if near else _DEFAULT_LOSS if _DEFAULT_LOSS in known else known[0]
    return Diagnostic(
        message=f"`{place}`: there is no loss `{loss}`",
        notes=(*near_notes(loss, near), f"known: {listed(known, len(known))}"),
        help=typed.format(suggestion),
    )


@rule("GT315")
def duplicate_pair(first: str, again: str, teacher: str, student: str) -> Diagnostic:
    """Two pairs of the recipe join the same two Values with the same loss, which counts it twice.

    Take one out, and raise the weight of the other if that is what was meant. One pair may stand
    twice with two losses.
    """
    return Diagnostic(
        message=f"`{again}` joins the same Values with the same loss as `{first}`",
        where=(Where(role="teacher", value=teacher), Where(role="student", value=student)),
        help=f"delete {again}, or give it another loss",
    )


@rule("GT316")
def stale_recipe(
    place: str,
    *,
    before: Where,
    type_before: str | None,
    now: Where,
    type_now: str | None,
    same: Sequence[str],
) -> Diagnostic:
    """A Value of the recipe is not in the program any more: nothing in it computes the same.

    Values are found by a fingerprint: their Operator, their shape without the batch, and everything
    that is computed before them. Names, train or eval mode, losses, batch and input size may
    change; layers, channels, strides and activations before the Value may not. Make the recipe
    again, or, where the Value is meant all the same, delete its `fingerprint` so that its name
    alone decides. Where several Values compute the same and none has the name, put the right one's
    name in.
    """
    old, new = _operator_text(type_before, before.shape), _operator_text(type_now, now.shape)
    if not now.value:
        changed = f"was {old} and is not in the program now"
    elif old == new:
        changed = f"is {old} as it was, and is computed from something else now"
    else:
        changed = f"was {old} and is {new} now"
    if same:
        notes = (f"{len(same)} Values compute what it did: {listed(same, _LISTED)}",)
    else:
        notes = ("no Value of the program computes what it did",)
    return Diagnostic(
        message=f"`{place}`: stale: `{before.value}` {changed}",
        where=(before, now),
        notes=notes,
        help="graphtool suggest-pairs TEACHER STUDENT -o new.toml",
    )


@rule("GT317")
def moved_value(place: str, role: str, graph: Graph, before: str, now: str) -> Diagnostic:
    """A Value of the recipe has another name in this program and was found by its fingerprint.

    Pruning renumbers derived names such as `relu_48`, and legacy programs count on from what was
    built before.
    """
    return Diagnostic(
        message=f"`{place}`: `{before}` is `{now}` in this program",
        severity=Severity.NOTE,
        where=(Where(role=role, program=graph.source, value=now, shape=graph.values[now].shape),),
    )


@rule("GT318")
def other_program(role: str, before: str, graph: Graph) -> Diagnostic:
    """The recipe was made from another program; its Values were looked for by their fingerprints.

    That is as it should be where the recipe comes from an inference model and is used for training.
    """
    return Diagnostic(
        message=f"the {role} is not the program that the recipe was made from",
        severity=Severity.NOTE,
        where=(
            Where(role="recipe", program=before or None),
            Where(role=role, program=graph.source),
        ),
    )


@rule("GT319")
def edited_name(place: str, role: str, graph: Graph, name: str) -> Diagnostic:
    """The name of a recipe's Value was edited: it alone says which Value is meant.

    The `fingerprint` beside it, and the other keys, are of the Value that was there before:
    `relation`, `adapter`, `score` and `why` of such a pair are found out anew. Look whether `kind`
    and `loss` go with the new one. To have an adapter of your own, delete the `fingerprint`.
    """
    return Diagnostic(
        message=f"`{place}`: the name was edited to `{name}`, and is taken as it stands",
        severity=Severity.NOTE,
        where=(Where(role=role, program=graph.source, value=name),),
    )


@rule("GT320")
def unknown_config(name: str, known: Sequence[str]) -> Diagnostic:
    """`--as` names a configuration that graphtool cannot write.

    `paddleclas` and `paddleocr` are fragments for the training configurations of those two; `yaml`
    is a plain list of pairs.
    """
    return Diagnostic(
        message=f"there is no configuration `{name}`; there are {listed(known)}",
        help=f"--as {known[-1]}",
    )


@rule("GT321")
def no_layer_paths(
    teacher: Graph, student: Graph, reasons: Sequence[str], config: str
) -> Diagnostic:
    """No pair can be written as a configuration, which names the sublayers of a network.

    A saved program doesn't keep the attribute paths of sublayers (`layer4.1`). Name both networks
    as `module:callable`, so that they are built from their code. Where they are, the notes say what
    else stops each pair; `--as yaml` refuses least.
    """
    return Diagnostic(
        message="no pair can be written in this configuration",
        where=_both(teacher, student),
        notes=tuple(reasons),
        help=f"graphtool suggest-pairs MODULE:CALLABLE MODULE:CALLABLE --input SHAPE --as {config}",
    )


@rule("GT322")
def left_out(ranks: Sequence[int], reason: str) -> Diagnostic:
    """Pairs are left out of the configuration, which can't say them; the message gives the reason.

    Both ends must be what a sublayer returns, so that a hook can take them. A hook keeps one tensor
    for each sublayer: one that runs more than once, or returns several tensors, has no name that
    tells them apart. The losses of PaddleClas and PaddleOCR compare equal shapes: none of them has
    an adapter. PaddleOCR hands out the results of `backbone`, `neck` and `head` alone.
    """
    numbers = ", ".join(map(str, ranks))
    subject = f"pairs {numbers} are" if len(ranks) > 1 else f"pair {numbers} is"
    return Diagnostic(
        message=f"{subject} left out: {reason}",
        severity=Severity.WARNING,
    )


def _operator_text(type: str | None, shape: Shape | None) -> str:
    kind = "no operator's result" if type is None else f"`{type.rpartition('.')[2].rstrip('_')}`"
    if shape is None:
        return kind
    return f"{kind} [{', '.join('?' if dim == UNKNOWN_DIM else str(dim) for dim in shape)}]"
