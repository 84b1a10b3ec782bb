"""The APIs of PaddleSlim and of the distillation tutorial, on top of graphtool.

Only the imports of a script change: `from graphtool.compat import merge, l2` (or `l2_loss`)
replaces `from paddleslim.dist import merge, l2`. Arguments are in the order that both APIs share.
`program` is the merged Program, by default the current main Program. Values are named as
`graphtool inspect` names them, those of a teacher with the prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext

from graphtool import losses, merging
from graphtool.backend.live import is_live, live_program, program_of
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.backend.tensors import copy_tensor, initialised_tensors, share_tensors
from graphtool.checks import persistable_names
from graphtool.checks.parameters import uninitialised_parameters
from graphtool.diagnostics import Severity, Where, counted, warn
from graphtool.graph import Graph
from graphtool.training.program_info import check_program, scope_of

__all__ = [
    "dkd",
    "fsp",
    "fsp_loss",
    "l2",
    "l2_loss",
    "loss",
    "merge",
    "skd",
    "soft_label",
    "soft_label_loss",
]


def merge(
    teacher_program: Paddle,
    student_program: Paddle,
    data_name_map: Mapping[str, str],
    place: Paddle | None = None,
    scope: Paddle | None = None,
    teacher_scope: Paddle | str | None = None,
    name_prefix: str = "teacher_",
    merge_feed: bool = True,  # noqa: FBT001, FBT002  # PaddleSlim's own signature
    *,
    parameters: str | None = None,
    shared: Iterable[str] = (),
) -> Paddle:
    """Merge a teacher into the student's Program, in place, and return that Program.

    `graphtool.merge` with PaddleSlim's argument names. The tutorial's older version took
    `name_prefix` as the sixth argument; a string there is taken as the prefix. `merge_feed` has no
    effect: the teacher's feed operators are never merged. A teacher with no weights in its Scope is
    merged with a warning, GT235. Both programs may use one name for a tensor in one Scope if the
    student's startup program has not run yet: the tensor is then the teacher's, and is copied.
    `parameters` and `shared` are those of `graphtool.merge`; `parameters`, if given, alone decides
    whether weights come later. `graphtool.merging.merged_of(program)` returns the Merged.

    Raises MergeError, UsageError and ReadError as `graphtool.merge` does, with nothing changed.
    """
    del merge_feed
    if isinstance(teacher_scope, str):
        teacher_scope, name_prefix = None, teacher_scope
    later = False
    if is_live(teacher_program):
        teacher = live_program(teacher_program).graph
        if teacher_scope is None:
            teacher_scope = _separate_scope(teacher, student_program, scope)
        held_in = scope if teacher_scope is None else teacher_scope
        names, home = persistable_names(teacher), scope_of(held_in)
        later = parameters is None and bool(names) and not initialised_tensors(home, names)
        if later:
            warn(
                uninitialised_parameters(
                    f"{counted(len(names), 'parameter')} of the teacher are uninitialised: "
                    "load them after the merge",
                    (Where(role="teacher", program=teacher.source),),
                    severity=Severity.WARNING,
                    help="graphtool.merging.merged_of(student_program).load_teacher(file_or_scope)",
                )
            )
    merging.merge(
        teacher_program,
        student_program,
        data_name_map,
        place,
        scope,
        teacher_scope,
        name_prefix,
        parameters=("later" if later else "now") if parameters is None else parameters,
        shared=shared,
    )
    return program_of(student_program)


def _separate_scope(teacher: Graph, student: Paddle, scope: Paddle | None) -> Paddle | None:
    """Return a new Scope with the teacher's weights, where names collide in the student's Scope.

    None if no name collides, or if the student's startup program may have run: it has if any
    student-only Variable is initialised, and it is unknown if there are no such Variables.
    """
    if not is_live(student):
        return None
    teacher_names = set(persistable_names(teacher))
    student_names = set(persistable_names(live_program(student).graph))
    common, student_only = teacher_names & student_names, student_names - teacher_names
    tensors = initialised_tensors(scope_of(scope), teacher_names | student_only)
    if not common or not student_only:
        return None
    if student_only & tensors.keys() or teacher_names - tensors.keys():
        return None
    separate = load_paddle().static.Scope()
    copies = {name: copy_tensor(tensor) for name, tensor in tensors.items() if name in common}
    share_tensors(tensors | copies, separate)
    return separate


def l2(
    teacher_var_name: Paddle | str, student_var_name: Paddle | str, program: Paddle | None = None
) -> Paddle:
    """Return `graphtool.losses.l2`, built in `program`.

    For Values of one shape [N, ...]: PaddleSlim's `l2`, the tutorial's `l2_loss`.

    Raises what that raises, and UsageError GT248 if `program` is not a Program.
    """
    return _build(program, losses.l2, teacher_var_name, student_var_name)


def soft_label(
    teacher_var_name: Paddle | str,
    student_var_name: Paddle | str,
    program: Paddle | None = None,
    teacher_temperature: float = 1.0,
    student_temperature: float = 1.0,
    *,
    from_probs: str | None = None,
) -> Paddle:
    """Return `graphtool.losses.soft_label`, built in `program`.

    For logits [N, classes]. A teacher that ends in softmax needs `from_probs`: PaddleSlim applied
    softmax twice, and gave 5.95 where 0.002 was right.

    Raises what that raises, and what `l2` does.
    """
    temperatures = {
        "teacher_temperature": teacher_temperature,
        "student_temperature": student_temperature,
    }
    values = teacher_var_name, student_var_name
    return _build(program, losses.soft_label, *values, **temperatures, from_probs=from_probs)


def fsp(
    teacher_var1_name: Paddle | str,
    teacher_var2_name: Paddle | str,
    student_var1_name: Paddle | str,
    student_var2_name: Paddle | str,
    program: Paddle | None = None,
) -> Paddle:
    """Return `graphtool.losses.fsp`, built in `program`.

    For maps [N, C, H, W], two of each network: PaddleSlim's `fsp`, the tutorial's `fsp_loss`.

    Raises what that raises, and what `l2` does.
    """
    values = teacher_var1_name, teacher_var2_name, student_var1_name, student_var2_name
    return _build(program, losses.fsp, *values)


def dkd(
    teacher_var_name: Paddle | str,
    student_var_name: Paddle | str,
    program: Paddle | None = None,
    temperature: float = 1.0,
    alpha: float = 1.0,
    beta: float = 1.0,
    *,
    from_probs: str | None = None,
) -> Paddle:
    """Return `graphtool.losses.dkd` for the teacher's predicted class, built in `program`.

    For logits [N, classes]. For identical logits this is 0, as in the paper; PaddleSlim's was
    -0.907. It is the mean over samples; PaddleSlim's was the mean over all elements. `from_probs`
    as in `soft_label`.

    Raises what that raises, and what `l2` does.
    """
    options = {"temperature": temperature, "alpha": alpha, "beta": beta, "from_probs": from_probs}
    return _build(program, losses.dkd, teacher_var_name, student_var_name, **options)


def skd(
    teacher_var_name: Paddle | str,
    student_var_name: Paddle | str,
    program: Paddle | None = None,
    multiplier: float | None = None,
    *,
    from_probs: str | None = None,
) -> Paddle:
    """Return `graphtool.losses.skd`, built in `program`.

    For logits [N, classes]: PaddleSlim's `skd`. `from_probs` as in `soft_label`.

    Raises what that raises, and what `l2` does.
    """
    options = {"multiplier": multiplier, "from_probs": from_probs}
    return _build(program, losses.skd, teacher_var_name, student_var_name, **options)


def loss(
    loss_func: Callable[..., Paddle], program: Paddle | None = None, **kwargs: object
) -> Paddle:
    """Return `graphtool.losses.custom`, built in `program`: the tutorial's `loss`.

    Strings in `kwargs` are names of Values, of whatever shapes the function takes.

    Raises what that raises, and what `l2` does.
    """
    return _build(program, losses.custom, loss_func, **kwargs)


# The tutorial's names.
l2_loss = l2
soft_label_loss = soft_label
fsp_loss = fsp


def _build(
    program: Paddle | None, loss: Callable[..., Paddle], /, *values: object, **options: object
) -> Paddle:
    """Build a loss in a Program, by default the current main one."""
    if program is None:
        return loss(*values, **options)
    check_program(program)
    static, target = load_paddle().static, program_of(program)
    is_current = target is static.default_main_program()
    with nullcontext() if is_current else static.program_guard(target):
        return loss(*values, **options)
