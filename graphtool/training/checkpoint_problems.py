"""What can be wrong with checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Diagnostic, Severity, Where, rule

__all__ = [
    "never_minimized",
    "not_a_checkpoint",
    "other_optimizer",
    "other_program_state",
]


@rule("GT621", replaces=("GT622",))
def not_a_checkpoint(path: str, reason: str, help: str | None = None) -> Diagnostic:
    """The file is not a checkpoint of graphtool, or is damaged or of a newer version.

    `gt.save_checkpoint` writes one. Parameters alone are read by `gt.load_parameters`.
    """
    return Diagnostic(
        message=f"the file is no whole checkpoint: {reason}",
        where=(Where(program=path),),
        help=help or "gt.save_checkpoint(path, merged, optimizer, step=step)",
    )


@rule("GT623", replaces=("GT619",))
def other_optimizer(
    path: str, message: str, help: str, severity: Severity = Severity.ERROR
) -> Diagnostic:
    """The checkpoint was written with another optimizer, or another learning rate or schedule.

    The state of one optimizer means nothing to another. To go on with another one, take the
    parameters alone: `gt.export_student` writes them, `gt.load_parameters` reads them. If only the
    learning rate differs, the optimizer's is used, as are its betas and weight decay; the moments
    are the checkpoint's.
    """
    return Diagnostic(message=message, where=(Where(program=path),), help=help, severity=severity)


@rule("GT624", replaces=("GT626", "GT627"))
def other_program_state(
    path: str,
    message: str,
    notes: Sequence[str] = (),
    help: str | None = None,
    *,
    role: str | None = None,
    severity: Severity = Severity.ERROR,
) -> Diagnostic:
    """The checkpoint is of another Program: its Variables, teachers or operators differ.

    Build the Program as it was built then: the same networks, adapters and optimizer, from the same
    code, each under `paddle.utils.unique_name.guard()` where names are counted. A checkpoint
    refers to its teachers by a digest of their weights: merge the same ones, in the same order. If
    only operators differ, it is loaded with a warning, and the losses will be others.
    """
    return Diagnostic(
        message=message,
        severity=severity,
        where=(Where(role=role, program=path),),
        notes=tuple(notes),
        help=help,
    )


@rule("GT625")
def never_minimized(optimizer: str) -> Diagnostic:
    """The optimizer has no state in the Program: `gt.minimize` was not called with both.

    Give the optimizer that minimized the loss, and the Program with that loss.
    """
    return Diagnostic(
        message=f"`{optimizer}` has minimized no loss of the Program",
        help="gt.minimize(optimizer, loss), then the checkpoint",
    )
