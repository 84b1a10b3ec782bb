"""Build into Programs atomically, under a scope of names: whole losses, and `custom`."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import takewhile

from graphtool.backend.errors import raise_paddle_errors_as
from graphtool.backend.generators import restore_counters_on
from graphtool.backend.joining import BlockSnapshot
from graphtool.backend.legacy import ProgramSnapshot
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.backend.pir import remove_unused
from graphtool.diagnostics import Diagnostic, PairError, UsageError, rule
from graphtool.interrupts import raise_pending_interrupt
from graphtool.losses._values import (
    find_all,
    find_any,
    is_in_main_program,
    is_value,
    require_in_main_program,
    require_trainable_program,
)

__all__ = ["SCOPE", "building", "custom", "name_scope", "path_component", "rollback_on_error"]


SCOPE = "graphtool_distill"


def path_component(name: str) -> str:
    """Replace the characters that Paddle does not accept in a component of a path."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)


@contextmanager
def building(call: str) -> Generator[None]:
    """Build into the current Programs all or nothing, and ignore `paddle.amp.auto_cast`.

    Raises PairError GT258 for what Paddle raises in a call of that name.
    """
    paddle = load_paddle()
    main, startup = paddle.static.default_main_program(), paddle.static.default_startup_program()
    with ExitStack() as stack:
        stack.enter_context(raise_paddle_errors_as(PairError, call))
        stack.enter_context(rollback_on_error(main, startup))
        # Legacy Programs are cast later, by `static.amp.decorate`.
        if not is_legacy(main):
            stack.enter_context(paddle.amp.auto_cast(enable=False))
        yield


@contextmanager
def rollback_on_error(*programs: Paddle) -> Generator[None]:
    """Remove what was built into the Programs if building ends in an error."""
    with ExitStack() as rollback:
        for program in programs:
            restore_counters_on(program, rollback)
            if is_legacy(program):
                rollback.callback(ProgramSnapshot.of(program).restore, program)
                continue
            rollback.callback(_remove_added, program, BlockSnapshot.of(program))
            # It registers the names of parameters apart from its operations, and a registered
            # parameter gets no initial value again.
            registered = load_paddle().static.Program()
            registered.set_parameters_from(program)
            rollback.callback(program.set_parameters_from, registered)
        yield
        raise_pending_interrupt()
        rollback.pop_all()


def _remove_added(program: Paddle, extent: BlockSnapshot) -> None:
    block = program.global_block()
    remove_unused(block, [op for op in block.ops if op.id() not in extent.ids])


@contextmanager
def name_scope(program: Paddle, part: str) -> Generator[None]:
    """Put what is built in this context under `/graphtool_distill/<part>/`.

    That is the `op_namescope` of legacy operators, and the module path of PIR operations, for which
    `paddle.static.name_scope` does nothing.
    """
    raise_pending_interrupt()
    if is_legacy(program):
        with load_paddle().static.name_scope(path_component(part)):
            yield
        return
    ops = program.global_block().ops
    last = ops[-1] if ops else None
    yield
    # New operations come after the last; new parameters do not, and must not get the attribute:
    # they could not be saved.
    for op in takewhile(lambda op: op != last, reversed(program.global_block().ops)):
        if op.name() != "builtin.parameter":
            op.set_str_attr("struct_name", f"/{SCOPE}/{path_component(part)}/")


def custom(function: Callable[..., Paddle], /, **inputs: object) -> Paddle:
    """Return the loss that a function computes from Values: the tutorial's `loss(function, ...)`.

    Each string in `inputs` names a Value: a teacher's if it has that teacher's prefix, else the
    student's. Everything else is passed on unchanged. The function may take Values of any shape.
    Teachers are frozen by the merge.

        gt.losses.custom(lambda t, s: paddle.abs(t - s).mean(), t="teacher_relu_4", s="relu_2")

    Raises UsageError, with nothing built: GT231, GT340, GT352, and GT353 if the function
    does not return a Value. Raises ReadError: GT101, GT102, GT031. What the function itself
    raises is passed on, after a rollback of what it had built.
    """

    def find_input(argument: str, given: object) -> Paddle:
        if isinstance(given, str):
            return find_any(given)
        return require_in_main_program(given, argument) if is_value(given) else given

    require_trainable_program("custom")
    values = find_all(partial(find_input, name, given) for name, given in inputs.items())
    static = load_paddle().static
    with rollback_on_error(static.default_main_program(), static.default_startup_program()):
        result = function(**dict(zip(inputs, values, strict=True)))
        if not is_value(result) or not is_in_main_program(result):
            name = getattr(function, "__name__", type(function).__name__)
            raise UsageError(custom_result(name, result))
    return result


@rule("GT353")
def custom_result(function: str, given: object) -> Diagnostic:
    """The function given to `custom` did not return a Value of the current main Program.

    It gets Values by keyword, and returns the loss that it computes from them with Paddle's
    operators.
    """
    return Diagnostic(
        message=f"`{function}` returned a `{type(given).__name__}`; wanted the Value of a loss",
        help="gt.losses.custom(lambda t, s: ((t - s) ** 2).mean(), t=teacher, s=student)",
    )
