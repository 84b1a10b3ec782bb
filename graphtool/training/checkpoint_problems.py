"""What can be wrong with checkpoints: GT619 to GT629."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Diagnostic, Severity, Where, listed, rule
from graphtool.version import UPGRADE

__all__ = [
    "bad_step",
    "never_minimized",
    "newer_checkpoint",
    "not_a_checkpoint",
    "other_operators",
    "other_optimizer",
    "other_place",
    "other_rate",
    "other_state",
    "other_teacher",
    "state_not_there",
]


@rule("GT620")
def state_not_there(names: Sequence[str], total: int) -> Diagnostic:
    """Parameters, or the optimizer's state, hold nothing yet: no startup program has run there.

    Run the startup program after `minimize`, and the teacher's weights have to be loaded. Where the
    Program runs in a Scope of its own, name it.
    """
    return Diagnostic(
        message=f"{len(names)} of {total} Variables hold nothing yet: {listed(names)}",
        help="gt.save_checkpoint(path, merged, optimizer, step=step, scope=scope)",
    )


@rule("GT621")
def not_a_checkpoint(path: str, reason: str) -> Diagnostic:
    """The file is no checkpoint of graphtool's, or a damaged one.

    `gt.save_checkpoint` writes one. Parameters alone are read by `gt.load_parameters`.
    """
    return Diagnostic(
        message=f"the file is no whole checkpoint: {reason}",
        where=(Where(program=path),),
        help="gt.save_checkpoint(path, merged, optimizer, step=step)",
    )


@rule("GT622")
def newer_checkpoint(path: str, schema: str, known: int) -> Diagnostic:
    """The checkpoint is of a version that this graphtool does not know."""
    return Diagnostic(
        message=f"the checkpoint's `schema` is {schema}; this graphtool reads {known}",
        where=(Where(program=path),),
        help=UPGRADE,
    )


@rule("GT623")
def other_optimizer(
    path: str, part: str, was: str | None, now: str | None, help: str
) -> Diagnostic:
    """The checkpoint was written with another optimizer, or another schedule of its rate.

    Their state means nothing to each other. To go on with another one, take the parameters alone:
    `gt.export_student` writes them, and `gt.load_parameters` reads them.
    """
    return Diagnostic(
        message=f"the {part} was {_code(was)} and is {_code(now)} now",
        where=(Where(program=path),),
        help=help,
    )


def _code(name: str | None) -> str:
    return "none" if name is None else f"`{name}`"


@rule("GT624")
def other_state(
    path: str,
    *,
    missing: Sequence[str],
    unexpected: Sequence[str],
    misshapen: Sequence[str],
) -> Diagnostic:
    """The checkpoint is of another Program: it holds other Variables, or other shapes.

    Build the Program as it was built then: the same networks, adapters and optimizer, from the same
    code, each under `paddle.utils.unique_name.guard()` where names are counted.
    """
    found = {
        "not in the file": missing,
        "not in the Program": unexpected,
        "of another shape or dtype": misshapen,
    }
    counts = ", ".join(f"{len(names)} {what}" for what, names in found.items() if names)
    return Diagnostic(
        message=f"the checkpoint does not fit the Program: {counts}",
        where=(Where(program=path),),
        notes=tuple(f"{what}: {listed(names)}" for what, names in found.items() if names),
        help="build the Program by the code that the checkpoint was written by",
    )


@rule("GT625")
def never_minimized(optimizer: str) -> Diagnostic:
    """The optimizer has no state in the Program: `gt.minimize` was not called with the two of them.

    Give the optimizer that minimized the loss, and the Program that has the loss in it.
    """
    return Diagnostic(
        message=f"`{optimizer}` has minimized no loss of the Program",
        help="gt.minimize(optimizer, loss), then the checkpoint",
    )


@rule("GT626")
def other_teacher(path: str, number: int, was: str, now: str) -> Diagnostic:
    """The merged teacher is not the one that the checkpoint was written with.

    A checkpoint refers to its teachers by a digest of their weights and does not hold them. Merge
    the same ones, in the same order, with the weights that they had.
    """
    return Diagnostic(
        message=f"teacher {number} was {was} and is {now} now",
        where=(Where(role="teacher", program=path),),
        help="merged.load_teacher(...) with the weights of that time",
    )


@rule("GT627")
def other_operators(path: str, differences: Sequence[str]) -> Diagnostic:
    """The Program has other operators than the one that the checkpoint was written from.

    All Variables fit, so it was loaded; the losses to come are not those that would have come then.
    """
    return Diagnostic(
        message=f"the Program computes otherwise than then: {listed(differences)}",
        severity=Severity.WARNING,
        where=(Where(program=path),),
    )


@rule("GT628")
def other_place(path: str, part: str, was: str, now: str) -> Diagnostic:
    """The checkpoint was written under another release of Paddle or on other devices.

    It was loaded, but results may differ in their last bits. Random state of other devices could
    not be set: dropout goes on from where the generator is now.
    """
    return Diagnostic(
        message=f"{part}: `{was}` then, `{now}` now",
        severity=Severity.WARNING,
        where=(Where(program=path),),
    )


@rule("GT619")
def other_rate(path: str, was: float, now: float, help: str) -> Diagnostic:
    """The optimizer has another learning rate than the one that the checkpoint was written with.

    The one that it has now is used, as all else that it is made with: betas, weight decay. What the
    training has come to, moments among it, is the checkpoint's.
    """
    return Diagnostic(
        message=f"the learning rate was `{was:g}` and is `{now:g}` now: `{now:g}` is used",
        severity=Severity.WARNING,
        where=(Where(program=path),),
        help=help,
    )


@rule("GT629")
def bad_step(step: str) -> Diagnostic:
    """The step of a checkpoint is how many steps were trained: a whole number from 0."""
    return Diagnostic(
        message=f"`step` is `{step}`; wanted a whole number from 0",
        help="gt.save_checkpoint(path, merged, optimizer, step=1000)",
    )
