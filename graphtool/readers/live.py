"""Live Programs: a Program together with its Graph, and the way from a name to the Paddle Value."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from graphtool.diagnostics import ReadError
from graphtool.graph import Graph, ProgramKind, Value
from graphtool.readers import problems
from graphtool.readers._kinds import check_kind
from graphtool.readers._legacy import read_legacy, variable_of
from graphtool.readers._messages import brief, said_by
from graphtool.readers._paddle import REFUSALS, is_legacy, load_paddle
from graphtool.readers._pir import PirWalk, ValueKey, walk_pir
from graphtool.readers._protobuf import read_protobuf
from graphtool.readers.facts import known_operators, operators_not_known, strange_operators
from graphtool.readers.registry import noted
from graphtool.selectors import find

__all__ = [
    "LiveProgram",
    "as_live",
    "deserialise",
    "is_live",
    "own_graph",
    "own_live",
    "parse",
    "program_of",
    "read_program",
    "translate",
]

# Paddle's Programs and Values have no static types that hold for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


# No operation has this id.
_NOWHERE: ValueKey = (-1, -1, 0)


def read_program(program: _Paddle) -> Graph:
    """Read a live Program of either kind; the Graph is plain data and outlives it."""
    return read_legacy(program) if is_legacy(program) else walk_pir(program).graph


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class LiveProgram:
    """A Program, kept alive, and its Graph as it was when it was read.

    A Paddle Value dies with its Program, and using it then crashes the process: keep the
    LiveProgram for as long as you use Values taken from it.
    """

    program: _Paddle
    graph: Graph
    keys: Mapping[str, ValueKey]

    @classmethod
    def of(
        cls, program: _Paddle, *, aliases: Mapping[str, Iterable[str]] | None = None
    ) -> LiveProgram:
        """Read a live Program; `aliases` gives Values, by name, further names to be found by."""
        if is_legacy(program):
            live = cls(program=program, graph=read_legacy(program), keys={})
        else:
            walk = walk_pir(program)
            live = cls(program=program, graph=walk.graph, keys=walk.keys)
        return live if aliases is None else replace(live, graph=_with_aliases(live.graph, aliases))

    def __repr__(self) -> str:
        return f"LiveProgram({self.graph!r})"

    @property
    def kind(self) -> ProgramKind:
        """Which of Paddle's two representations the Program has."""
        return self.graph.kind

    def value(self, selector: str) -> _Paddle:
        """Return the Paddle Value, or Variable of a legacy Program, that a selector means.

        Raises ReadError: GT101, GT102 as `find` does; GT031 where it has left the Program since.
        """
        name = find(self.graph, selector).name
        found = self._variable(name) if self.kind is ProgramKind.LEGACY else self._pir_value(name)
        if found is None:
            raise ReadError(problems.value_gone(self.graph.source, name))
        return found

    def _variable(self, name: str) -> _Paddle | None:
        variable = variable_of(name, self.graph)
        homes = (block for block in self.program.blocks if variable in block.vars)
        return next((block.vars[variable] for block in homes), None)

    def _pir_value(self, name: str) -> _Paddle | None:
        # Looked up anew each time: a Value whose operation was removed crashes when touched.
        op_id, block, position = self.keys.get(name, _NOWHERE)
        op = _operation(self.program.global_block(), op_id)
        if op is None:
            return None
        return op.result(position) if block < 0 else list(op.blocks())[block].args()[position]


def program_of(source: _Paddle) -> _Paddle:
    """Return the Program of what has one (a Network, a Trainable, a Merged), else the same.

    Blocks and the like of Paddle's own count as none: they crash where their Program is gone.
    """
    if type(source).__module__.partition(".")[0] == "paddle":
        return source
    return getattr(source, "program", source)


def is_live(source: object) -> bool:
    """Tell a Program of either kind, or what has one."""
    return not isinstance(source, type) and hasattr(program_of(source), "global_block")


def as_live(source: _Paddle) -> LiveProgram:
    """Read a Program, or that of what has one, as it is now, with the names that it is known by."""
    known = source if isinstance(source, LiveProgram) else getattr(source, "live", None)
    now = LiveProgram.of(program_of(source))
    if not isinstance(known, LiveProgram):
        return now
    if now.graph.operators.keys() == known.graph.operators.keys():
        return known
    return replace(now, graph=_with_names_of(now.graph, known.graph))


def own_graph(source: _Paddle) -> Graph:
    """Return the Graph of a network as it was before the first teacher was merged into it.

    One without a teacher is read as it is now.
    """
    merges = noted(program_of(source))
    return merges[0].before.graph if merges else as_live(source).graph


def own_live(source: _Paddle) -> LiveProgram:
    """Return a network as it was before the first teacher was merged into it: a clone of that time.

    It shares its Variables with the Program. One without a teacher is read as it is now.
    """
    merges = noted(program_of(source))
    if not merges:
        return as_live(source)
    first = merges[0]
    return replace(LiveProgram.of(first.originals[1]), graph=first.before.graph)


def _with_names_of(graph: Graph, known: Graph) -> Graph:
    values = dict(graph.values)
    for name, value in known.values.items():
        if name in values and (value.aliases or value.layer or value.layer_outputs):
            values[name] = replace(
                values[name],
                aliases=value.aliases,
                layer=value.layer,
                layer_outputs=value.layer_outputs,
            )
    # What a network answers: a loss that came to it since is none of its outputs.
    fetches = tuple(name for name in known.fetches if name in values) or graph.fetches
    return replace(graph, source=known.source, values=values, fetches=fetches)


def deserialise(path: str, graph: Graph) -> LiveProgram:
    """Open a saved PIR model, which has been read as a Graph, as a Program.

    Raises ReadError: GT032 where Paddle has no PIR, GT045 for operators that it doesn't know, GT049
    where it refuses.
    """
    paddle = load_paddle()
    core = paddle.base.core
    if not hasattr(core, "deserialize_pir_program"):
        reason = f"Paddle {paddle.__version__} reads no models of Paddle 3"
        raise ReadError(problems.not_translated(path, reason))
    strangers = strange_operators(graph, known_operators(graph.kind) or frozenset())
    if strangers:
        # Paddle ends the process.
        raise ReadError(operators_not_known(path, [found.type for found in strangers]))
    program = paddle.static.Program()
    with _refusals_said(path):
        # As bytes, which need not be UTF-8.
        core.deserialize_pir_program(os.fsencode(path), program)
    live = LiveProgram.of(program)
    return replace(
        live,
        graph=replace(live.graph, source=graph.source, report=graph.report, unknown=graph.unknown),
    )


def parse(path: str) -> LiveProgram:
    """Open a saved legacy model, which has been read as a Graph, as a legacy Program.

    Raises ReadError: GT049 where Paddle refuses.
    """
    with _refusals_said(path):
        program = load_paddle().static.Program.parse_from_string(Path(path).read_bytes())
    return LiveProgram.of(program)


@contextmanager
def _refusals_said(path: str) -> Generator[None]:
    try:
        yield
    except REFUSALS as error:
        raise ReadError(problems.not_opened(path, said_by(error))) from error


def translate(source: _Paddle | bytes | str | Path) -> LiveProgram:
    """Translate a legacy Program to PIR; Values keep their Variables' names as aliases.

    `source` is a legacy Program, the bytes of a ProgramDesc or the path of a `.pdmodel`.

    Raises ReadError: GT032 where Paddle refuses (the gradient of a while loop, Paddle 2.6).
    """
    paddle = load_paddle()
    name, data = _description(source)
    if not hasattr(paddle.pir, "translate_to_pir_with_param_map"):
        raise ReadError(problems.not_translated(name, f"Paddle {paddle.__version__} cannot do it"))
    read_protobuf(name, data)
    try:
        description = paddle.base.core.ProgramDesc(data)
        program, values = paddle.pir.translate_to_pir_with_param_map(description)
    except REFUSALS as error:
        raise ReadError(problems.not_translated(name, brief(str(error)))) from None
    walk = walk_pir(program)
    graph = replace(_with_aliases(walk.graph, _legacy_names(walk, values)), source=name)
    return LiveProgram(program=program, graph=graph, keys=walk.keys)


def _description(source: _Paddle | bytes | str | Path) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        return "<ProgramDesc>", source
    if isinstance(source, str | Path):
        return str(source), _bytes(str(source))
    return "<Program>", source.desc.serialize_to_string()


def _bytes(path: str) -> bytes:
    try:
        check_kind(Path(path))
        return Path(path).read_bytes()
    except OSError:
        raise ReadError(problems.no_such_path(path)) from None


def _legacy_names(walk: PirWalk, values: Mapping[str, list[_Paddle]]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for legacy, listed in values.items():
        for value in listed:
            if value.initialized() and value.id in walk.names:
                names.setdefault(walk.names[value.id], []).append(legacy)
    return names


def _with_aliases(graph: Graph, aliases: Mapping[str, Iterable[str]]) -> Graph:
    values = dict(graph.values)
    for name, further in aliases.items():
        values[name] = _with_alias(values[name], further)
    return replace(graph, values=values)


def _with_alias(value: Value, further: Iterable[str]) -> Value:
    new = sorted({*value.aliases, *further} - {value.name})
    return replace(value, aliases=tuple(new))


def _operation(block: _Paddle, id: int) -> _Paddle | None:
    for op in block.ops:
        if op.id() == id:
            return op
        for inner in op.blocks() if op.num_regions() else ():
            found = _operation(inner, id)
            if found is not None:
                return found
    return None
