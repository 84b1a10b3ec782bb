"""Build into a Program under a scope of names, all of it or nothing."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from typing import Any, TypeAlias

from graphtool.merging._backend import Extent
from graphtool.merging._interrupts import heed_interrupt
from graphtool.merging._legacy import Before
from graphtool.merging._pir import remove_unused
from graphtool.readers._paddle import is_legacy, load_paddle
from graphtool.readers.counters import keep_counters

__all__ = ["SCOPE", "all_or_nothing", "label_of", "named"]

# Programs, Blocks and operations are Paddle's, without types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

SCOPE = "graphtool_distill"


def label_of(name: str) -> str:
    """Return a name that Paddle takes for a part of a path."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)


@contextmanager
def all_or_nothing(*programs: _Paddle) -> Generator[None]:
    """Take out again what was built into Programs where building ends in an error."""
    with ExitStack() as undo:
        for program in programs:
            keep_counters(program, undo)
            if is_legacy(program):
                undo.callback(Before.of(program).restore, program)
            else:
                undo.callback(_cut, program, Extent.of(program))
                _keep_parameters(program, undo)
        yield
        heed_interrupt()
        undo.pop_all()


def _cut(program: _Paddle, extent: Extent) -> None:
    block = program.global_block()
    remove_unused(block, [op for op in block.ops if op.id() not in extent.ids])


def _keep_parameters(program: _Paddle, undo: ExitStack) -> None:
    """Let `undo` make a Program of PIR forget the parameters that were created in it since.

    It knows their names apart from its operations: one that it knows gets no initial value again.
    """
    known = load_paddle().static.Program()
    known.set_parameters_from(program)
    undo.callback(program.set_parameters_from, known)


@contextmanager
def named(program: _Paddle, part: str) -> Generator[None]:
    """Put what is built meanwhile under `/graphtool_distill/<part>/`.

    That is the `op_namescope` of legacy operators, and the module path of operations under PIR,
    where `paddle.static.name_scope` does nothing.
    """
    heed_interrupt()
    if is_legacy(program):
        with load_paddle().static.name_scope(label_of(part)):
            yield
        return
    ops = program.global_block().ops
    last = ops[-1] if ops else None
    yield
    # New operations come after the last; new parameters don't, and take no attribute of their own:
    # they could not be saved.
    for op in takewhile(lambda op: op != last, reversed(program.global_block().ops)):
        if op.name() != "builtin.parameter":
            op.set_str_attr("struct_name", f"/{SCOPE}/{label_of(part)}/")
