"""What can stand against training a loss: GT529 to GT537, GT539, GT547."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Diagnostic, Severity, Where, counted, listed, rule
from graphtool.graph import Shape

__all__ = [
    "dynamic_mode",
    "half_way",
    "minimized_before",
    "no_low_precision",
    "not_a_loss",
    "not_an_optimizer",
    "nothing_learns",
    "optimizer_unfit",
    "other_program",
    "ranks_not_joined",
    "strange_parameter",
]

_CALL = "gt.minimize(optimizer, loss)"


@rule("GT529")
def dynamic_mode() -> Diagnostic:
    """`gt.minimize` was called in dynamic mode: it works on a Program, which takes static mode.

    A network of the dynamic graph becomes a Program by `gt.from_layer`. To train it where it is,
    call the optimizer's own `step`.
    """
    return Diagnostic(
        message="`minimize` was called in dynamic mode",
        help="paddle.enable_static()",
    )


@rule("GT530")
def not_an_optimizer(given: str) -> Diagnostic:
    """The first argument of `gt.minimize` is no optimizer of Paddle's.

    It takes what `paddle.optimizer` and `paddle.incubate.optimizer` make, the optimizer first and
    the loss second.
    """
    return Diagnostic(
        message=f"`{given}` is no optimizer",
        help="gt.minimize(paddle.optimizer.AdamW(0.001), loss)",
    )


@rule("GT531")
def optimizer_unfit(name: str, reason: str, way: str, notes: Sequence[str] = ()) -> Diagnostic:
    """The optimizer does not work on a Program of this kind, on several ranks, or a second time.

    Under PIR `paddle.static.amp.decorate` inserts no cast at all, and `fleet.minimize`, Paddle's
    gradient merging and recomputation fail inside of Paddle; `accumulate` adds gradients up over
    several runs there, of any optimizer without a `minimize` of its own. On several ranks an
    optimizer must let its gradients be averaged before it uses them, which one with a `minimize` of
    its own does not. On legacy Programs all of them work, and several ranks need
    `fleet.distributed_optimizer`. What an optimizer keeps of a parameter, such as moments, is in
    the Program that it was added to first: each Program takes an optimizer of its own.
    """
    return Diagnostic(message=f"`{name}` {reason}", notes=tuple(notes), help=way)


@rule("GT532")
def not_a_loss(given: str, shape: Shape | None, wanted: str, part: str = "mean()") -> Diagnostic:
    """A loss is a Value of floating point with one element, built in a static Program.

    Take the mean of what has more: a sum grows with the batch, and the learning rate with it. Of
    what `gt.distill_loss` returns, `total` is the loss.
    """
    return Diagnostic(
        message=f"the loss, `{given}`, is not {wanted}",
        where=() if shape is None else (Where(role="loss", value=given, shape=shape),),
        help=f"gt.minimize(optimizer, loss.{part})",
    )


@rule("GT533")
def other_program(*, gone: bool) -> Diagnostic:
    """The loss belongs to another Program than the current default one, or to none any more.

    The optimizer's state would be initialised by a startup program that has nothing to do with it.
    Call `gt.minimize` where the loss was built, or name the startup program. A loss whose Program
    nobody holds any more, or whose operator was removed, is lost: build it again.
    """
    of_another = "the loss is of another Program than the default one"
    return Diagnostic(
        message="the loss is of no Program that is there" if gone else of_another,
        help=f"with paddle.static.program_guard(merged.program, startup): {_CALL}",
    )


@rule("GT534")
def strange_parameter(name: str, reason: str) -> Diagnostic:
    """What is to learn is no parameter of the loss's Program.

    An optimizer for the dynamic graph is made with `parameters=layer.parameters()`; a static
    Program needs no such list, and those of a Layer made in dynamic mode aren't in it.
    """
    return Diagnostic(
        message=f"`{name}` {reason}",
        where=(Where(role="parameter", value=name),),
        help="make the optimizer without `parameters=`",
    )


@rule("GT535")
def nothing_learns(loss: str, names: Sequence[str], frozen: Sequence[str]) -> Diagnostic:
    """The loss reaches none of the parameters that are to learn, so nothing would ever change.

    Everything between is frozen (a loss between two Values of the teacher), something stops the
    gradient (`detach`, `stop_gradient`, an operator without a gradient), or the parameters belong
    to another part of the network.
    """
    note = f"could learn: {listed(names)}" if names else f"frozen: {listed(frozen)}"
    return Diagnostic(
        message=f"the loss, `{loss}`, reaches no parameter that is to learn",
        notes=(note,),
        help="add a loss on a Value of the student: merged.student(name)",
    )


@rule("GT536")
def minimized_before(names: Sequence[str], operator: str) -> Diagnostic:
    """An optimizer updates these parameters already; a second one would move them twice a step.

    Add the losses up and minimize their sum. For two optimizers, name with `parameters=` what each
    of them moves.
    """
    return Diagnostic(
        message=f"an optimizer moves {counted(len(names), 'parameter')} already: {listed(names)}",
        where=(Where(role="optimizer", value=operator),),
        help="gt.minimize(optimizer, first_loss + second_loss)",
    )


@rule("GT537")
def ranks_not_joined(ranks: int) -> Diagnostic:
    """The script runs on several ranks that have not been joined, so each would train by itself.

    Under PIR they are joined in dynamic mode: `init_parallel_env` first, then `enable_static`.
    """
    return Diagnostic(
        message=f"{ranks} ranks were launched, and no group of them has been made",
        help="paddle.distributed.init_parallel_env(), before paddle.enable_static()",
    )


@rule("GT547")
def half_way(reason: str | None, *, marked: Sequence[str] = ("Program", "optimizer")) -> Diagnostic:
    """Paddle failed while an optimizer was being added to a Program, or was interrupted there.

    Some gradients and updates are in the Program and its startup program, and the optimizer holds
    the state that belongs to them: neither can be taken back. Both are refused from then on. Build
    the networks, merge them, and make a new optimizer; what is in Scopes is as it was. Of Fleet
    there is one in a process: it is not refused, and takes a new optimizer by
    `fleet.distributed_optimizer`.
    """
    said = "was left half-way before" if reason is None else f"failed half-way: {reason}"
    return Diagnostic(
        message=f"`gt.minimize` {said}",
        notes=(f"the {' and the '.join(marked)} can't be used any more",),
        help="build the Programs and the optimizer anew, and call gt.minimize(optimizer, loss)",
    )


@rule("GT539")
def no_low_precision(optimizer: str) -> Diagnostic:
    """Mixed precision was asked for, and no operator of the Program computes in low precision.

    No operator of the network is on Paddle's list of those that may. On a CPU that list is empty:
    float32 is what is computed there.
    """
    return Diagnostic(
        message=f"`{optimizer}` has inserted no cast to float16 or bfloat16",
        severity=Severity.WARNING,
        help="gt.minimize(optimizer, loss), without `paddle.static.amp.decorate`",
    )
