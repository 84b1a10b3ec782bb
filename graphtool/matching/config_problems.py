"""What can be wrong with a distillation configuration that pairs are read from: GT323 to GT327."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Diagnostic, Severity, Where, counted, listed, rule
from graphtool.graph import Graph
from graphtool.matching._entry import Loss

__all__ = ["no_entries", "not_yaml", "other_loss", "unknown_form", "unread_entry"]

_WRITE = "graphtool suggest-pairs TEACHER STUDENT -o pairs.toml"
_KEYS = "Loss: Train:", "Loss: loss_config_list:", "Distillation:", "DistillConfig:", "pairs:"
_REASONS = 8


@rule("GT323")
def not_yaml(reason: str) -> Diagnostic:
    """The file is no YAML, or more of it than a configuration has.

    Files that end in `.yml` or `.yaml` are read as configurations, all others as recipes. Tags are
    not looked at: nothing in the file can run. A blank too few or too many before a key is what
    most often went wrong; the message gives line and column. A key that stands twice in what is
    read, and says two things, is refused: parsers keep the last, and which was meant is not known.
    """
    return Diagnostic(message=f"the configuration cannot be read: {reason}", help=_WRITE)


@rule("GT324")
def unknown_form() -> Diagnostic:
    """The YAML is no distillation configuration that graphtool knows.

    Known are the `Loss: Train:` of PaddleClas, the `Loss: loss_config_list:` of PaddleOCR, the
    `Distillation: node:` of PaddleSlim's automatic compression and its `DistillConfig:` for the
    dynamic graph, and `pairs:`, a plain list, each with a `teacher` and a `student`.
    """
    return Diagnostic(
        message="the YAML is no distillation configuration",
        notes=(f"looked for: {listed(_KEYS)}",),
        help=_WRITE,
    )


@rule("GT325")
def unread_entry(place: str, reason: str, severity: Severity) -> Diagnostic:
    """A loss of the configuration was read as no pair; the message gives the reason.

    A loss on labels alone has no teacher, which is only noted. Others compare what no Program has a
    name for: a key of what the network's code returns, a part of a Value, one of several heads, two
    students. Nothing is guessed: where such a loss is meant to be a pair, name its two Values. In
    the plain list `pairs:` all are to be pairs, and one that is none is an error.
    """
    return Diagnostic(
        message=f"`{place}` is no pair: {reason}",
        severity=severity,
        help=None if severity is Severity.NOTE else "graphtool explain GT325",
    )


@rule("GT326")
def other_loss(place: str, loss: Loss, ours: str) -> Diagnostic:
    """The configuration has a loss that graphtool lacks, or has in another form.

    The two Values are paired all the same, with the loss that comes next to it, or that such a pair
    is suggested with, and with the defaults of that. Options other than the weight are not read:
    those that make a difference are named, and so is a teacher that learns as well. An option that
    the loss does not take, such as `wieght`, is warned of.
    """
    said = [] if loss.unlike is None else [loss.unlike]
    if loss.strange:
        said.append(f"it takes no {listed(loss.strange)}")
    notes = (f"it takes: {listed(loss.takes, len(loss.takes))}",) if loss.strange else ()
    return Diagnostic(
        message=f"`{place}`: {'; '.join(said)}: the pair is read with `{ours}`",
        severity=Severity.WARNING if loss.strange else Severity.NOTE,
        notes=notes,
    )


@rule("GT327")
def no_entries(
    teacher: Graph, student: Graph, reasons: Sequence[str], *, of_recipe: bool = False
) -> Diagnostic:
    """Nothing in the file was read as a pair; of a configuration, the notes give the reasons.

    A plain list always can be: `pairs:` with a `teacher` and a `student` for each. A recipe without
    any `[[pairs]]` is what is written where nothing can be suggested; there is no loss to build.
    """
    left = len(reasons) - _REASONS
    more = (f"and {counted(left, 'more reason')}",) if left > 0 else ()
    return Diagnostic(
        message=f"no pair is read from the {'recipe' if of_recipe else 'configuration'}",
        where=(
            Where(role="teacher", program=teacher.source),
            Where(role="student", program=student.source),
        ),
        notes=(*reasons[:_REASONS], *more),
        help=_WRITE,
    )
