"""Reasons not to minimize a loss."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Diagnostic, Severity, Where, listed, rule
from graphtool.graph import Shape

__all__ = [
    "half_way",
    "no_low_precision",
    "not_a_loss",
    "nothing_learns",
    "optimizer_unfit",
    "ranks_not_joined",
    "unknown_parameter",
]

_CALL = "gt.minimize(optimizer, loss)"


@rule("GT531")
def optimizer_unfit(name: str, reason: str, way: str, notes: Sequence[str] = ()) -> Diagnostic:
    """The optimizer does not work on this kind of Program, on several ranks, or a second time.

    Under PIR, `paddle.static.amp.decorate` inserts no casts, and `fleet.minimize`, gradient merging
    and recomputation fail inside Paddle. Use `accumulate` to add up the gradients of several runs.
    Optimizers that override `minimize` can neither do this nor train on several ranks. On legacy
    Programs all of these work; several ranks need `fleet.distributed_optimizer`.

    An optimizer keeps its state, such as moments, in the first Program that it was added to. Make
    an optimizer for each Program.
    """
    return Diagnostic(message=f"`{name}` {reason}", notes=tuple(notes), help=way)


@rule("GT532")
def not_a_loss(given: str, shape: Shape | None, wanted: str, part: str = "mean()") -> Diagnostic:
    """A loss must be a floating-point Value with one element, built in a static Program.

    Reduce larger tensors with `mean()`: a sum grows with the batch, and so would the steps. Of what
    `gt.distill_loss` returns, `total` is the loss.
    """
    return Diagnostic(
        message=f"the loss, `{given}`, is not {wanted}",
        where=() if shape is None else (Where(role="loss", value=given, shape=shape),),
        help=f"gt.minimize(optimizer, loss.{part})",
    )


@rule("GT534")
def unknown_parameter(name: str, reason: str) -> Diagnostic:
    """A listed parameter is not a parameter of the loss's Program.

    Optimizers of the dynamic graph take `parameters=layer.parameters()`. A static Program needs no
    such list, and does not contain the parameters of a Layer made in dynamic mode.
    """
    return Diagnostic(
        message=f"`{name}` {reason}",
        where=(Where(role="parameter", value=name),),
        help="make the optimizer without `parameters=`",
    )


@rule("GT535")
def nothing_learns(loss: str, names: Sequence[str], frozen: Sequence[str]) -> Diagnostic:
    """The gradient of the loss reaches no parameter to train, so nothing would change.

    The loss compares frozen Values only (two Values of the teacher), something stops the gradient
    (`detach`, `stop_gradient`, an operator without a gradient), or the parameters belong to another
    part of the network.
    """
    note = f"trainable: {listed(names)}" if names else f"frozen: {listed(frozen)}"
    return Diagnostic(
        message=f"the gradient of the loss, `{loss}`, reaches no parameter to train",
        notes=(note,),
        help="add a loss on a Value of the student: merged.student(name)",
    )


@rule("GT537")
def ranks_not_joined(ranks: int) -> Diagnostic:
    """The script runs on several ranks that were not connected, so each would train on its own.

    Under PIR, connect them in dynamic mode: call `init_parallel_env`, then `enable_static`.
    """
    return Diagnostic(
        message=f"{ranks} ranks were launched, and `init_parallel_env` was not called",
        help="paddle.distributed.init_parallel_env(), before paddle.enable_static()",
    )


@rule("GT547")
def half_way(reason: str | None, *, marked: Sequence[str] = ("Program", "optimizer")) -> Diagnostic:
    """`gt.minimize` failed or was interrupted after it had begun to change the Program.

    Some gradients and updates are in the Program and its startup program, and the optimizer holds
    their state. This cannot be undone, so both are refused from now on. Build the networks, merge
    them, and make a new optimizer; Scopes are as they were. Fleet is one object for the whole
    process and not refused: give it a new optimizer with `fleet.distributed_optimizer`.
    """
    outcome = "failed half-way before" if reason is None else f"failed half-way: {reason}"
    return Diagnostic(
        message=f"`gt.minimize` {outcome}",
        notes=(f"the {' and the '.join(marked)} cannot be used any more",),
        help="build the Programs and the optimizer anew, and call gt.minimize(optimizer, loss)",
    )


@rule("GT539")
def no_low_precision(optimizer: str) -> Diagnostic:
    """Mixed precision was requested, but no operator of the Program computes in it.

    None of the network's operators is on Paddle's list for mixed precision. On a CPU that list is
    empty, and float32 is used.
    """
    return Diagnostic(
        message=f"`{optimizer}` has inserted no cast to float16 or bfloat16",
        severity=Severity.WARNING,
        help="gt.minimize(optimizer, loss), without `paddle.static.amp.decorate`",
    )
