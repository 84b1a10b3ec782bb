"""Build into Programs atomically, under a scope of names."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from itertools import takewhile

from graphtool.backend.counters import restore_counters_on
from graphtool.backend.interrupts import heed_interrupt
from graphtool.backend.joining import BlockSnapshot
from graphtool.backend.legacy_editing import ProgramSnapshot
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.backend.pir_editing import remove_unused

__all__ = ["SCOPE", "name_scope", "path_component", "rollback_on_error"]


SCOPE = "graphtool_distill"


def path_component(name: str) -> str:
    """Replace the characters that Paddle does not accept in a component of a path."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)


@contextmanager
def rollback_on_error(*programs: Paddle) -> Generator[None]:
    """Remove what was built into the Programs if building ends in an error."""
    with ExitStack() as rollback:
        for program in programs:
            restore_counters_on(program, rollback)
            if is_legacy(program):
                rollback.callback(ProgramSnapshot.of(program).restore, program)
            else:
                rollback.callback(_remove_added, program, BlockSnapshot.of(program))
                _restore_parameters(program, rollback)
        yield
        heed_interrupt()
        rollback.pop_all()


def _remove_added(program: Paddle, extent: BlockSnapshot) -> None:
    block = program.global_block()
    remove_unused(block, [op for op in block.ops if op.id() not in extent.ids])


def _restore_parameters(program: Paddle, rollback: ExitStack) -> None:
    """Have `rollback` reset the parameters that a PIR Program has registered.

    It registers their names apart from its operations, and a registered parameter gets no initial
    value again.
    """
    registered = load_paddle().static.Program()
    registered.set_parameters_from(program)
    rollback.callback(program.set_parameters_from, registered)


@contextmanager
def name_scope(program: Paddle, part: str) -> Generator[None]:
    """Put what is built in this context under `/graphtool_distill/<part>/`.

    That is the `op_namescope` of legacy operators, and the module path of PIR operations, for which
    `paddle.static.name_scope` does nothing.
    """
    heed_interrupt()
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
