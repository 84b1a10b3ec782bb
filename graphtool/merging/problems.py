"""What can be wrong with weights that are loaded, or input that is given, after a merge."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Diagnostic, Where, listed, rule

__all__ = [
    "changed_folder",
    "feeds_not_given",
    "not_fetchable",
    "wrong_program",
]

_LISTED = 5


@rule("GT253", replaces=("GT540", "GT541", "GT542", "GT543"))
def not_fetchable(message: str, where: Sequence[Where], help: str) -> Diagnostic:
    """Paddle cannot fetch what was requested, or nothing was requested.

    Paddle fetches tensors at the top level of the Program that it runs. Fetch what a loop or branch
    returns, not what is inside; and no arrays of tensors. A Value of another Program or of a clone,
    or one whose operator was removed, would crash Paddle or fetch nothing: use Values that were
    built in this Program, or names.

    A Program for test has no gradients and no updates: fetch them from the Program that trains. It
    computes what it is to fetch. graphtool knows the outputs of a Network, of a merged student and
    of a saved model; for other Programs list them.
    """
    return Diagnostic(message=message, where=tuple(where), help=help)


@rule("GT618")
def changed_folder(path: str, files: Sequence[str]) -> Diagnostic:
    """Files of a merged program are not as they were saved: they were edited, damaged or exchanged.

    Such a folder is not loaded; a picture of it is drawn, with a warning. Its `pairs.toml` may be
    edited. Merge again, or copy the folder again from where it is whole.
    """
    return Diagnostic(
        message=f"changed since the merged program was saved: {listed(files, _LISTED)}",
        where=(Where(program=path),),
        help="graphtool merge TEACHER STUDENT -o DIR",
    )


@rule("GT340", replaces=("GT341", "GT359", "GT533"))
def wrong_program(
    message: str,
    where: Sequence[Where] = (),
    *,
    notes: Sequence[str] = (),
    help: str = "with paddle.static.program_guard(merged.program, startup):",
) -> Diagnostic:
    """A Value, a name or a loss does not belong to the current main Program.

    Build losses and minimize them inside the `program_guard` of the merged Program, on Values that
    `merged.teacher(name)` and `merged.student(name)` return. Names are found only in a Program with
    a merged teacher; Values need none. A legacy Program on Paddle 3 also needs
    `paddle.pir_utils.OldIrGuard()`.

    Under PIR, a loss over a Value of another Program, of a clone, or from inside a branch or loop
    would be built, and crash or give nothing later. If the Program of a loss was deleted, or the
    operator of the loss removed, build the loss again.

    Use the student's startup program in the guard, or a new one for adapters, which leaves loaded
    weights alone: run it before training.
    """
    return Diagnostic(message=message, where=tuple(where), notes=tuple(notes), help=help)


@rule("GT256", replaces=("GT373",))
def feeds_not_given(
    message: str, where: Sequence[Where], help: str, notes: Sequence[str] = ()
) -> Diagnostic:
    """Some feeds were not given that the networks need.

    Evidence needs samples for every feed that the feature maps are computed from: a `.npz`, or a
    batch that is a dict, has an array under the name of each. Leave out what only a loss needs,
    such as the label. If a network has one feed, an array without a name, as in a `.npy`, will do.

    `verify` generates input, but no sequences of different lengths (LoD): pass them.
    `paddle.base.create_lod_tensor` makes one from an array and lengths.
    """
    return Diagnostic(message=message, where=tuple(where), notes=tuple(notes), help=help)
