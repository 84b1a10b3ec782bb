"""The spellings of the distillation tutorial and of PaddleSlim over graphtool's own.

A script runs on `paddle.static` with its imports changed: `from graphtool.compat import merge, l2`
(or `l2_loss`) for `from paddleslim.dist import merge, l2`. Arguments stand in the order that both
generations have. `program` is the merged Program, the current main Program where it is left out;
Values are named as `graphtool inspect` names them, teachers' with the prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from graphtool import losses, merging
from graphtool.checks import persistable_names
from graphtool.diagnostics import Diagnostic, warn
from graphtool.graph import Graph
from graphtool.readers._paddle import load_paddle
from graphtool.readers.live import as_live, is_live, program_of
from graphtool.readers.tensors import copy_of, held_tensors, share_tensors
from graphtool.training import problems
from graphtool.training._subject import check_program

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

# Programs, Values, Scopes and Places are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


def merge(
    teacher_program: _Paddle,
    student_program: _Paddle,
    data_name_map: Mapping[str, str],
    place: _Paddle | None = None,
    scope: _Paddle | None = None,
    teacher_scope: _Paddle | str | None = None,
    name_prefix: str = "teacher_",
    merge_feed: bool = True,  # noqa: FBT001, FBT002  # PaddleSlim's own signature
    *,
    parameters: str | None = None,
    shared: Iterable[str] = (),
) -> _Paddle:
    """Merge a teacher into the student's Program, in place, and return that Program.

    `graphtool.merge` with PaddleSlim's names; the tutorial's older one had `name_prefix` in the
    sixth place, where text is taken as that. `merge_feed` decides nothing: feed operators of the
    teacher never come along. A teacher whose Scope holds none of its weights is merged with a
    warning, GT550. Both programs may name a tensor alike in one Scope as long as the student's
    startup program has not run: it is the teacher's then, which is copied before that sets it.
    `parameters` and `shared` are those of `graphtool.merge`; where `parameters` is given, it alone
    says whether weights come later. `graphtool.merging.merged_of(program)` has everything else
    about the merge.

    Raises MergeError, UsageError and ReadError as `graphtool.merge` does, with nothing changed.
    """
    del merge_feed
    if isinstance(teacher_scope, str):
        teacher_scope, name_prefix = None, teacher_scope
    teacher = as_live(teacher_program).graph if is_live(teacher_program) else None
    if teacher is not None and teacher_scope is None:
        teacher_scope = _set_aside(teacher, student_program, scope)
    held = scope if teacher_scope is None else teacher_scope
    empty = None if parameters or teacher is None else _without_weights(teacher, held)
    if empty is not None:
        warn(empty)
    merging.merge(
        teacher_program,
        student_program,
        data_name_map,
        place,
        scope,
        teacher_scope,
        name_prefix,
        parameters=parameters or ("now" if empty is None else "later"),
        shared=shared,
    )
    return program_of(student_program)


def _without_weights(teacher: Graph, scope: _Paddle | None) -> Diagnostic | None:
    """Return a warning where no parameter of a live teacher has been initialised."""
    names = persistable_names(teacher)
    held = load_paddle().static.global_scope() if scope is None else scope
    if not names or held_tensors(held, names):
        return None
    return problems.weights_come_later(teacher.source, len(names))


def _set_aside(teacher: Graph, student: _Paddle, scope: _Paddle | None) -> _Paddle | None:
    """Return a Scope of the teacher's own where its weights are in one that is to be the student's.

    None where no name is both networks', or where the student may have set the tensors: it has
    when any of its other ones is initialised, and nothing tells when there are no others.
    """
    if not is_live(student):
        return None
    theirs, ours = set(persistable_names(teacher)), set(persistable_names(as_live(student).graph))
    common, others = theirs & ours, ours - theirs
    held = load_paddle().static.global_scope() if scope is None else scope
    tensors = held_tensors(held, theirs | others)
    if not common or not others or others & tensors.keys() or theirs - tensors.keys():
        return None
    apart = load_paddle().static.Scope()
    copies = {name: copy_of(tensor) for name, tensor in tensors.items() if name in common}
    share_tensors(tensors | copies, apart)
    return apart


def l2(
    teacher_var_name: _Paddle | str, student_var_name: _Paddle | str, program: _Paddle | None = None
) -> _Paddle:
    """Return `graphtool.losses.l2`, built in `program`.

    For Values of one shape [N, ...]: PaddleSlim's `l2`, the tutorial's `l2_loss`.

    Raises what that raises, and UsageError GT248 where `program` is no Program.
    """
    with _building_in(program):
        return losses.l2(teacher_var_name, student_var_name)


def soft_label(
    teacher_var_name: _Paddle | str,
    student_var_name: _Paddle | str,
    program: _Paddle | None = None,
    teacher_temperature: float = 1.0,
    student_temperature: float = 1.0,
    *,
    from_probs: str | None = None,
) -> _Paddle:
    """Return `graphtool.losses.soft_label`, built in `program`.

    For logits [N, classes]. A teacher that ends in softmax is refused unless `from_probs` says so:
    PaddleSlim applied softmax twice, and gave 5.95 where 0.002 was right.

    Raises what that raises, and what `l2` does.
    """
    with _building_in(program):
        return losses.soft_label(
            teacher_var_name,
            student_var_name,
            teacher_temperature=teacher_temperature,
            student_temperature=student_temperature,
            from_probs=from_probs,
        )


def fsp(
    teacher_var1_name: _Paddle | str,
    teacher_var2_name: _Paddle | str,
    student_var1_name: _Paddle | str,
    student_var2_name: _Paddle | str,
    program: _Paddle | None = None,
) -> _Paddle:
    """Return `graphtool.losses.fsp`, built in `program`.

    For maps [N, C, H, W], two of each network: PaddleSlim's `fsp`, the tutorial's `fsp_loss`.

    Raises what that raises, and what `l2` does.
    """
    with _building_in(program):
        return losses.fsp(
            teacher_var1_name, teacher_var2_name, student_var1_name, student_var2_name
        )


def dkd(
    teacher_var_name: _Paddle | str,
    student_var_name: _Paddle | str,
    program: _Paddle | None = None,
    temperature: float = 1.0,
    alpha: float = 1.0,
    beta: float = 1.0,
    *,
    from_probs: str | None = None,
) -> _Paddle:
    """Return `graphtool.losses.dkd` for the teacher's own best class, built in `program`.

    For logits [N, classes]. PaddleSlim's gave -0.907 for identical logits; this is 0 there, as its
    paper says, and the mean over samples, where PaddleSlim's was over all elements. `from_probs`
    as in `soft_label`.

    Raises what that raises, and what `l2` does.
    """
    with _building_in(program):
        return losses.dkd(
            teacher_var_name,
            student_var_name,
            temperature=temperature,
            alpha=alpha,
            beta=beta,
            from_probs=from_probs,
        )


def skd(
    teacher_var_name: _Paddle | str,
    student_var_name: _Paddle | str,
    program: _Paddle | None = None,
    multiplier: float | None = None,
    *,
    from_probs: str | None = None,
) -> _Paddle:
    """Return `graphtool.losses.skd`, built in `program`.

    For logits [N, classes]: PaddleSlim's `skd`. `from_probs` as in `soft_label`.

    Raises what that raises, and what `l2` does.
    """
    with _building_in(program):
        return losses.skd(
            teacher_var_name, student_var_name, multiplier=multiplier, from_probs=from_probs
        )


def loss(
    loss_func: Callable[..., _Paddle], program: _Paddle | None = None, **kwargs: object
) -> _Paddle:
    """Return `graphtool.losses.custom`, built in `program`: the tutorial's `loss`.

    Texts among `kwargs` are names of Values, of whatever shapes the function takes.

    Raises what that raises, and what `l2` does.
    """
    with _building_in(program):
        return losses.custom(loss_func, **kwargs)


# What the tutorial calls them.
l2_loss = l2
soft_label_loss = soft_label
fsp_loss = fsp


@contextmanager
def _building_in(program: _Paddle | None) -> Generator[None]:
    """Make a Program the current main one for a while, unless it is that already."""
    if program is not None:
        check_program(program)
    static = load_paddle().static
    target = static.default_main_program() if program is None else program_of(program)
    if target is static.default_main_program():
        yield
        return
    with static.program_guard(target):
        yield
