"""The spellings of the distillation tutorial and of PaddleSlim over graphtool's own.

A script runs on `paddle.static` with its imports changed: `from graphtool.compat import merge, l2`
(or `l2_loss`) for `from paddleslim.dist import merge, l2`. Arguments stand in the order that both
generations have. `program` is the merged Program, the current main Program where it is left out;
Values are named as `graphtool inspect` names them, teachers' with the prefix.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any, TypeAlias

from graphtool import losses, merging
from graphtool.checks import persistable_names
from graphtool.diagnostics import Diagnostic
from graphtool.readers._paddle import load_paddle
from graphtool.readers.facts import scope_facts
from graphtool.readers.live import as_live, program_of
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
) -> _Paddle:
    """Merge a teacher into the student's Program, in place, and return that Program.

    `graphtool.merge` with PaddleSlim's names; the tutorial's older one had `name_prefix` in the
    sixth place, where text is taken as that. `merge_feed` decides nothing: feed operators of the
    teacher never come along. A teacher whose Scope holds none of its weights is merged with a
    warning, GT550. `graphtool.merging.merged_of(program)` has everything else about the merge.

    Raises MergeError, UsageError and ReadError as `graphtool.merge` does, with nothing changed.
    """
    del merge_feed
    if isinstance(teacher_scope, str):
        teacher_scope, name_prefix = None, teacher_scope
    held = scope if teacher_scope is None else teacher_scope
    empty = _without_weights(teacher_program, held)
    if empty is not None:
        warnings.warn(str(empty), stacklevel=2)
    merging.merge(
        teacher_program,
        student_program,
        data_name_map,
        place,
        scope,
        teacher_scope,
        name_prefix,
        parameters="now" if empty is None else "later",
    )
    return program_of(student_program)


def _without_weights(teacher: _Paddle, scope: _Paddle | None) -> Diagnostic | None:
    """Return a warning where no parameter of a live teacher has been initialised."""
    if isinstance(teacher, str | PathLike) or not hasattr(program_of(teacher), "global_block"):
        return None
    graph = as_live(teacher).graph
    names = persistable_names(graph)
    held = load_paddle().static.global_scope() if scope is None else scope
    facts = scope_facts(held, names).variables.values()
    if not names or any(fact.initialised for fact in facts):
        return None
    return problems.weights_come_later(graph.source, len(names))


def l2(
    teacher_var_name: _Paddle | str, student_var_name: _Paddle | str, program: _Paddle | None = None
) -> _Paddle:
    """Return `graphtool.losses.l2`, built in `program`; raises what that raises."""
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
    """Return `graphtool.losses.soft_label`, built in `program`; raises what that raises.

    A teacher that ends in softmax is refused unless `from_probs` says so: PaddleSlim applied
    softmax twice, and gave 5.95 where 0.002 was right.
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
    """Return `graphtool.losses.fsp`, built in `program`; raises what that raises."""
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
    """Return `graphtool.losses.dkd` for the teacher's own best class; raises what that raises.

    PaddleSlim's gave -0.907 for identical logits; this is 0 there, as its paper says, and the mean
    over samples, where PaddleSlim's was over all elements.
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
    """Return `graphtool.losses.skd`, built in `program`; raises what that raises."""
    with _building_in(program):
        return losses.skd(
            teacher_var_name, student_var_name, multiplier=multiplier, from_probs=from_probs
        )


def loss(
    loss_func: Callable[..., _Paddle], program: _Paddle | None = None, **kwargs: object
) -> _Paddle:
    """Return `graphtool.losses.custom`, built in `program`: texts are names of Values."""
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
