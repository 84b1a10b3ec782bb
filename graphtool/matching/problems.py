"""Diagnostics of pairs, recipes and configurations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphtool.diagnostics import Diagnostic, Parts, Severity, Where, counted, listed, rule
from graphtool.graph import Graph
from graphtool.selectors import listing_help
from graphtool.structure import Structure
from graphtool.text import closest, near_notes, string_literal

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "WRITE",
    "bad_recipe",
    "both_places",
    "duplicate_pair",
    "form_without_pairs",
    "moved_value",
    "no_feature_map",
    "no_pairs",
    "no_such_tap",
    "not_a_pair",
    "nothing_in_common",
    "teacher_is_smaller",
    "unclear_prediction",
    "unequal_heads",
    "unknown_loss",
]

_LISTED_OUTPUTS = 6
_NEAREST = 3
# The least similarity, of 1: `DistilationCELoss` is near `DistillationCELoss`, `mse` near nothing.
_LEAST_SIMILARITY = 0.6
_DEFAULT_LOSS = "l2"
WRITE = "graphtool suggest-pairs TEACHER STUDENT -o pairs.toml"


def both_places(teacher: Graph, student: Graph) -> tuple[Where, Where]:
    """Return the places that stand for two networks."""
    return (
        Where(role="teacher", program=teacher.source),
        Where(role="student", program=student.source),
    )


@rule("GT301")
def nothing_in_common(teacher: Structure, student: Structure, count: int) -> Diagnostic:
    """The networks have no kind of feature map in common; at most their outputs can be paired.

    Maps pair with maps, transformer layers with transformer layers; the notes say what each network
    is read as. Train with what is left, the logits or the vector before the classifier, or name
    pairs yourself: `graphtool inspect MODEL` lists Values, and `graphtool explain-pair` scores any
    two of them.
    """
    left = "there is nothing to pair" if not count else "only the vectors at the end can be paired"
    return Diagnostic(
        message=f"the networks have no kind of feature map in common: {left}",
        severity=Severity.WARNING,
        where=both_places(teacher.graph, student.graph),
        notes=(
            f"the teacher is read as {teacher.description}",
            f"the student is read as {student.description}",
        ),
        help=listing_help(student.graph.source),
    )


@rule("GT302")
def unequal_heads(teacher: Graph, student: Graph, heads: tuple[int, int]) -> Diagnostic:
    """The networks have different numbers of outputs, so some outputs are not paired.

    Outputs with equal resolution and channels are paired in order. List the Values and name the
    other pairs yourself.
    """
    return Diagnostic(
        message=f"the teacher has {heads[0]} outputs, the student {heads[1]}: some are not paired",
        severity=Severity.WARNING,
        where=both_places(teacher, student),
        help=listing_help(teacher.source),
    )


@rule("GT304")
def not_a_pair(given: str) -> Diagnostic:
    """A pair is written as `TEACHER_VALUE=STUDENT_VALUE`."""
    return Diagnostic(
        message=f"`{given}` is not a pair; wanted two names with `=` between them",
        help="graphtool suggest-pairs TEACHER STUDENT --explain relu_48=relu_26",
    )


@rule("GT305", replaces=("GT308",))
def form_without_pairs(
    message: str,
    teacher: Graph,
    student: Graph,
    reasons: Sequence[str],
    severity: Severity = Severity.ERROR,
) -> Diagnostic:
    """The networks lack all or some of the pairs of a published form of distillation.

    `transformer` and `minilm` need encoder layers in both networks, `attention`, `fitnet`,
    `features` and `overhaul` stages, `logits` classes. If both have them, the notes say how their
    shapes differ. Without a form, such pairs get a loss that takes any two shapes. For different
    numbers of attention heads use `minilm`: its loss can regroup them.
    """
    return Diagnostic(
        message=message,
        severity=severity,
        where=both_places(teacher, student),
        notes=tuple(reasons),
        help=listing_help(student.source) if severity is Severity.ERROR else None,
    )


@rule("GT309")
def unclear_prediction(role: str, teacher: Structure, student: Structure) -> Diagnostic:
    """A network ends in a loss or another number, so its prediction had to be guessed.

    A loss is followed back to the last Values that do not depend on a label. Here there are several
    of them, or only the number itself, as in a loss of two towers or one without labels. The guess
    is what the last weights compute. If it is wrong, name the pair yourself, or give the network
    without its loss.
    """
    side = teacher if role == "teacher" else student
    graph, logits = side.graph, _vector_logits(side)
    outputs = dict.fromkeys(head.output for head in side.heads if not head.is_clear)
    guess = f"guessed {listed(logits, _LISTED_OUTPUTS)}" if logits else "no logits are paired"
    places = [
        Where(role=role, program=graph.source, value=name, shape=graph.values[name].shape)
        for name in logits[:_LISTED_OUTPUTS]
    ]
    pair = [string_literal(name) for one in (teacher, student) for name in _vector_logits(one)[:1]]
    ends = listed([*outputs], _LISTED_OUTPUTS)
    return Diagnostic(
        message=f"the {role} ends in {ends}, so its prediction is unclear: {guess}",
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
    """Some pairs were not moved to the tap, because one of the two blocks has no Value there.

    A linear bottleneck has nothing after an activation, a block without normalisation nothing
    before one. `pair.alternatives`, also in the JSON, lists the taps of each pair.
    """
    return Diagnostic(
        message=f"{counted(count, 'pair')} not moved: one of the blocks has no Value "
        f"{tap.replace('-', ' ')}",
        severity=Severity.NOTE,
        where=both_places(teacher, student),
    )


@rule("GT307")
def teacher_is_smaller(teacher: Graph, student: Graph, sizes: tuple[str, str]) -> Diagnostic:
    """The teacher has fewer parameters and fewer multiply-adds than the student.

    A network can learn from a smaller one, but more often the two were swapped: the teacher comes
    first.
    """
    return Diagnostic(
        message=f"the teacher is smaller than the student: {sizes[0]} and {sizes[1]} parameters",
        severity=Severity.NOTE,
        where=both_places(teacher, student),
    )


@rule("GT303")
def no_feature_map(structure: Structure, name: str, role: str) -> Diagnostic:
    """The Value is not a feature map, so it cannot be paired.

    A feature map is a floating-point Value of the top-level block that depends on the input and on
    a weight. Parameters, constants, inputs, gradients and Values inside cond and while are not.
    """
    graph = structure.graph
    return Diagnostic(
        message=f"`{name}` is not a feature map but a {structure.role(name).value}",
        where=(Where(role=role, program=graph.source, value=name, shape=graph.values[name].shape),),
        help=listing_help(graph.source),
    )


@rule("GT310", replaces=("GT311", "GT312", "GT313", "GT315"))
def bad_recipe(message: str, **parts: Unpack[Parts]) -> Diagnostic:
    """The recipe cannot be read: the file is missing, or its TOML, schema or a pair is wrong.

    `graphtool suggest-pairs TEACHER STUDENT -o pairs.toml` writes a recipe. In TOML that does not
    parse, quotes or brackets are missing; each pair begins with `[[pairs]]`. The key `schema` is
    the version of the layout: a file without it is not a recipe, one with a higher number needs a
    newer graphtool.

    `pairs[0]` is the first `[[pairs]]` of the file. A pair needs a `kind` (`logits`, `embedding`,
    `stage`, `feature`, `hidden_state`, `attention` or `head`), a `loss`, and a `teacher` and a
    `student` that each have a `name`; its `weight` is 1 unless given. Two pairs with the same
    Values and the same loss would count twice: delete one, and raise the weight of the other.
    """
    parts.setdefault("help", WRITE)
    return Diagnostic(message=message, **parts)


@rule("GT314")
def unknown_loss(
    place: str, loss: str, known: Sequence[str], typed: str = 'loss = "{}"'
) -> Diagnostic:
    """A pair names a loss that does not exist; the notes give the nearest and all known losses.

    Recipes and plain lists of pairs take the losses of graphtool, the configuration of another
    toolkit takes its losses that compare two networks. If the configuration has a loss of your own,
    name the most similar known one in a copy of the file.
    """
    near = closest(loss, known, most=_NEAREST, cutoff=_LEAST_SIMILARITY)
    suggestion = near[0] if near else _DEFAULT_LOSS if _DEFAULT_LOSS in known else known[0]
    return Diagnostic(
        message=f"`{place}`: there is no loss `{loss}`",
        notes=(*near_notes(near), f"known: {listed(known, len(known))}"),
        help=typed.format(suggestion),
    )


def duplicate_pair(first: str, again: str, teacher: str, student: str) -> Diagnostic:
    """Report two entries of a file with the same Values and the same loss."""
    return bad_recipe(
        f"`{again}` has the same Values and the same loss as `{first}`",
        where=(Where(role="teacher", value=teacher), Where(role="student", value=student)),
        help=f"delete {again}, or give it another loss",
    )


@rule("GT317", replaces=("GT318", "GT319", "GT368"))
def moved_value(message: str, **parts: Unpack[Parts]) -> Diagnostic:
    """A recipe or Pair was made for another Program, where its names may mean other Values.

    Names such as `relu_48` count operators, so they change when a Program is pruned, exported or
    built in another way. A recipe and a PairSet find their Values by fingerprints, and note what
    moved: there is nothing to do. A list of Pairs is taken by its names, so a Pair whose name means
    another Value is an error: put the Pairs that you want back into a PairSet.

    If you edit a name in a recipe, it alone decides which Value is meant. Its `fingerprint` is
    ignored, and `relation`, `adapter`, `score` and `why` are computed anew: check that `kind` and
    `loss` still fit. To keep an adapter of your own, delete the `fingerprint`.
    """
    parts.setdefault("severity", Severity.NOTE)
    return Diagnostic(message=message, **parts)


@rule("GT367", replaces=("GT363",))
def no_pairs(message: str, **parts: Unpack[Parts]) -> Diagnostic:
    """There are no pairs to build a loss from, or `fsp` has an odd number of them.

    `suggest_pairs` found nothing in common, or all pairs were deleted from a recipe. The flow of a
    network (Yim et al. 2017) is between two maps, so `fsp` takes pairs by twos: the first says
    where the flow starts, the next where it ends. In each network the two maps have the same size.
    """
    parts.setdefault("help", WRITE)
    return Diagnostic(message=message, **parts)
