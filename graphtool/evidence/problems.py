"""Diagnostics of evidence from data."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Call, Diagnostic, Severity, Where, counted, listed, rule
from graphtool.graph import UNKNOWN_DIM, Shape
from graphtool.text import string_literal

__all__ = [
    "at",
    "no_evidence",
    "not_measured",
    "random_weights",
    "savez_call",
    "shape_text",
    "shared_scope",
    "unusable_evidence",
]

_LISTED = 6


@rule("GT370", replaces=("GT371", "GT377", "GT379"))
def no_evidence(
    message: str,
    *,
    where: Sequence[Where] = (),
    notes: Sequence[str] = (),
    help: str = 'yield {"image": images}',
) -> Diagnostic:
    """The samples cannot be found, read or iterated over, or the network cannot run.

    Samples come from a `.npy`, a `.npz`, `module:callable` or `random`, in Python also from an
    array, a dict of arrays, a function, or anything that yields batches, such as a DataLoader. A
    `.npy` holds samples for networks with one feed, a `.npz` an array for each feed, by name.
    `numpy.save` and `numpy.savez` write both. Nothing is unpickled, and a `.npz` that unpacks to
    many times its size is refused.

    `module:callable` is called without arguments and yields batches: arrays whose first axis counts
    the samples, or dicts of arrays by feed name. `random` draws the same numbers every time.

    A Graph has no parameters and cannot run: pass what it was read from, a path,
    `module:callable`, a Program or a Network.
    """
    return Diagnostic(message=message, where=tuple(where), notes=tuple(notes), help=help)


@rule("GT372", replaces=("GT374", "GT375"))
def unusable_evidence(
    message: str, where: Sequence[Where] = (), *, notes: Sequence[str] = (), help: str
) -> Diagnostic:
    """The samples do not fit a feed, a batch is too small, or a number is NaN or infinite.

    The first axis counts the samples, the others are those of the feed. Integers do not fit a
    floating-point feed: normalise images that are bytes. Each feed gets the array of its name, so
    feeds that need different arrays need different names.

    Unbiased CKA takes at least 4 samples per batch, because its estimator divides by n - 3; 32 or
    more are better. A network that was exported with a fixed batch takes no other.

    A NaN or an infinity is reported at the first place in program order: in the samples, the
    parameters, or a feature map, where it comes from numbers that are too large.
    """
    return Diagnostic(message=message, where=tuple(where), notes=tuple(notes), help=help)


@rule("GT376", replaces=("GT520",))
def random_weights(
    message: str,
    where: Sequence[Where],
    *,
    severity: Severity,
    notes: Sequence[str] = (),
    help: str | None = None,
) -> Diagnostic:
    """Parameters are as their initialisers left them: such a network has learnt nothing.

    A saved model has its weights in a file beside it, a network from `module:callable` those that
    the callable loads. If all biases, scales and shifts hold one number throughout, as initialisers
    leave them and training never does, the network is taken for untrained. A Layer without biases
    and norms cannot be told from a new one.

    A teacher that knows nothing teaches nothing, and the CKA of random weights means nothing: load
    the weights. `--allow-random` (in Python `allow_random=True`) measures all the same, and draws
    missing parameters at random.
    """
    return Diagnostic(
        message=message, severity=severity, where=tuple(where), notes=tuple(notes), help=help
    )


@rule("GT380", replaces=("GT381",))
def not_measured(
    role: str,
    program: str,
    names: Sequence[str],
    reason: str,
    severity: Severity = Severity.NOTE,
) -> Diagnostic:
    """Some Values have no CKA; the message says why.

    Values of inner Blocks, integers, single numbers, Variables that are written again later, and
    maps whose first axis is not the samples, as in recurrent networks, are not measured.

    A map that is the same for all samples has no CKA. Either it is dead (the whole input of a ReLU
    is negative) or the samples are all equal.
    """
    return Diagnostic(
        message=f"no CKA of {listed(names, _LISTED)} of the {role}: {reason}",
        severity=severity,
        where=(Where(role=role, program=program),),
    )


@rule("GT383")
def random_samples() -> Diagnostic:
    """Random samples show how similar the networks are on noise, not on your data."""
    return Diagnostic(
        message="random samples: CKA compares the networks on noise, not on your data",
        severity=Severity.NOTE,
        help=Call(None, evidence="samples.npz"),
    )


@rule("GT384")
def shared_scope(places: Sequence[Where], count: int) -> Diagnostic:
    """Teacher and student have parameters of the same name in the same Scope.

    Each Program counts its layers from 0, so parameters of two Programs often have the same names.
    The startup program that ran last set them, so the teacher would run with the student's weights.
    Run the teacher's startup program and load its weights in another Scope, and pass that as
    `teacher_scope`. If both Programs are meant to share the weights, pass their Scope as
    `teacher_scope`.
    """
    parameters = counted(count, "parameter")
    return Diagnostic(
        message=f"{parameters} of teacher and student have the same name in the same Scope",
        where=tuple(places),
        notes=("each Program counts its layers from 0",),
        help='gt.suggest_pairs(teacher, student, evidence="samples.npz", '
        "teacher_scope=teacher_scope)",
    )


def at(batch: int, sample: int) -> str:
    """Return where a number is as text: `batch 1, sample 3, both from 1`."""
    return f"batch {batch}, sample {sample}, both from 1"


def savez_call(*feeds: str) -> str:
    """Return a call that saves samples for some feeds: `numpy.savez("samples.npz", x=images)`."""
    if all(name.isidentifier() for name in feeds):
        arrays = ", ".join(f"{name}=images" for name in feeds)
    else:
        arrays = f"**{{{', '.join(f'{string_literal(name)}: images' for name in feeds)}}}"
    return f'numpy.savez("samples.npz", {arrays})'


def shape_text(shape: Shape | None, dtype: str | None) -> str:
    """Return a shape and dtype as text: `[?, 3, 32, 32] float32`."""
    dims = ", ".join("?" if dim == UNKNOWN_DIM else str(dim) for dim in shape or ())
    return f"[{dims}] {dtype or '?'}"
