"""Live Programs: a Program with its Graph, and the Paddle Value of each name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from graphtool.backend.errors import PADDLE_ERRORS, error_text, shortened_message
from graphtool.backend.facts import known_operators
from graphtool.backend.legacy import read_legacy
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle, static_mode
from graphtool.backend.pir import ValueKey, operations, read_pir
from graphtool.diagnostics import Diagnostic, ReadError, Where, listed, rule
from graphtool.graph import Graph, ProgramKind, variable_of
from graphtool.ops import unknown_operators, unsupported_operators
from graphtool.readers.files import check_not_special
from graphtool.readers.problems import no_such_path
from graphtool.readers.program_desc import read_protobuf
from graphtool.selectors import find
from graphtool.text import inspect_command

__all__ = [
    "LiveProgram",
    "clone_without_schedule",
    "graph_before_merges",
    "is_live",
    "live_program",
    "merge_records",
    "open_saved",
    "program_before_merges",
    "program_of",
    "read_program",
    "save_program",
    "set_merge_records",
    "student_scope_of",
    "translate",
    "value_gone",
    "with_names_of",
]

# No operation has the id -1.
_NO_KEY: ValueKey = (-1, -1, 0)
_NOT_OPENED = "Paddle cannot open the saved model"


@rule("GT031")
def value_gone(program: str, name: str) -> Diagnostic:
    """The Value was removed from the Program after the Program was read.

    Read the Program again to get its current names.
    """
    return Diagnostic(
        message=f"`{name}` was removed from the Program after it was read",
        where=(Where(program=program, value=name),),
        help="gt.read(program)",
    )


@rule("GT032", replaces=("GT049",))
def not_opened(
    program: str,
    reason: str,
    *,
    message: str = "Paddle cannot translate this Program to PIR",
    help: str | None = None,
) -> Diagnostic:
    """Paddle cannot open this saved model, or cannot translate this legacy Program to PIR.

    The note is Paddle's own message. A model that does not open is damaged, or was written by
    another release of Paddle; graphtool can still read, check and draw it.

    Paddle cannot translate the gradient of a while loop and operators that PIR lacks; Paddle 2.6
    translates nothing. Merge the Program into a legacy student, or build it from the network's
    code.
    """
    return Diagnostic(message=message, where=(Where(program=program),), notes=(reason,), help=help)


def read_program(program: Paddle) -> Graph:
    """Read a live Program of either kind; the Graph is plain data and outlives it."""
    return read_legacy(program) if is_legacy(program) else read_pir(program).graph


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class LiveProgram:
    """A Program, kept alive, and its Graph at the time of reading.

    A Paddle Value dies with its Program, and using it then crashes the process: keep the
    LiveProgram while you use its Values.
    """

    program: Paddle
    graph: Graph
    keys: Mapping[str, ValueKey]

    @classmethod
    def of(
        cls, program: Paddle, *, aliases: Mapping[str, Iterable[str]] | None = None
    ) -> LiveProgram:
        """Read a live Program; `aliases` maps names of Values to further names for selectors."""
        if is_legacy(program):
            graph, keys = read_legacy(program), dict[str, ValueKey]()
        else:
            walk = read_pir(program)
            graph, keys = walk.graph, walk.keys
        return cls(program=program, graph=_with_aliases(graph, aliases or {}), keys=keys)

    def __repr__(self) -> str:
        return f"LiveProgram({self.graph!r})"

    @property
    def kind(self) -> ProgramKind:
        """Which of Paddle's two representations the Program has."""
        return self.graph.kind

    def value(self, selector: str) -> Paddle:
        """Return the Paddle Value, or Variable of a legacy Program, that a selector means.

        Raises ReadError: GT101, GT102 as `find`; GT031 if it was removed from the Program since.
        """
        name = find(self.graph, selector).name
        if self.kind is ProgramKind.LEGACY:
            variable = variable_of(name, self.graph)
            for block in self.program.blocks:
                if variable in block.vars:
                    return block.vars[variable]
        else:
            # Looked up each time: a Value whose operation was removed crashes when used.
            op_id, region, position = self.keys.get(name, _NO_KEY)
            for op in operations(self.program.global_block()):
                if op.id() == op_id:
                    inner = list(op.blocks())[region] if region >= 0 else None
                    return op.result(position) if inner is None else inner.args()[position]
        raise ReadError(value_gone(self.graph.source, name))


def program_of(source: Paddle) -> Paddle:
    """Return the Program of an object that has one (a Network, a Trainable, a Merged), else itself.

    Paddle's objects, such as Blocks, are returned unexamined: they crash if their Program is gone.
    """
    if type(source).__module__.partition(".")[0] == "paddle":
        return source
    return getattr(source, "program", source)


def is_live(source: object) -> bool:
    """Return whether a source is a Program of either kind, or an object that has one."""
    return not isinstance(source, type) and hasattr(program_of(source), "global_block")


def live_program(source: Paddle) -> LiveProgram:
    """Read the current state of a source's Program, keeping the aliases and paths known for it."""
    earlier = source if isinstance(source, LiveProgram) else getattr(source, "live", None)
    current = LiveProgram.of(program_of(source))
    if not isinstance(earlier, LiveProgram):
        return current
    if current.graph.operators.keys() == earlier.graph.operators.keys():
        return earlier
    return replace(current, graph=with_names_of(current.graph, earlier.graph))


def graph_before_merges(source: Paddle) -> Graph:
    """Return the Graph of a network before the first teacher was merged into it.

    A network without a teacher is read in its current state.
    """
    merges = merge_records(program_of(source))
    return merges[0].before.graph if merges else live_program(source).graph


def program_before_merges(source: Paddle) -> LiveProgram:
    """Return a clone of a network from before the first teacher was merged into it.

    It shares its Variables with the Program. A network without a teacher is read in its current
    state.
    """
    merges = merge_records(program_of(source))
    if not merges:
        return live_program(source)
    first = merges[0]
    return replace(LiveProgram.of(first.originals[1]), graph=first.before.graph)


def with_names_of(graph: Graph, earlier: Graph) -> Graph:
    """Copy aliases, attribute paths, fetches and source from an earlier Graph of the Program."""
    values = dict(graph.values)
    for name, value in earlier.values.items():
        if name in values and (value.aliases or value.layer or value.layer_outputs):
            values[name] = replace(
                values[name],
                aliases=value.aliases,
                layer=value.layer,
                layer_outputs=value.layer_outputs,
            )
    # The outputs of the network: a loss that was added since is not one.
    fetches = tuple(name for name in earlier.fetches if name in values) or graph.fetches
    return replace(graph, source=earlier.source, values=values, fetches=fetches)


def open_saved(graph: Graph, kind: ProgramKind) -> LiveProgram:
    """Open the saved model that a Graph was read from; a legacy one may be wanted as PIR.

    Raises ReadError: GT032 if Paddle has no PIR or refuses, GT244 for operators unknown to Paddle.
    """
    if graph.kind is ProgramKind.PIR:
        live = _open_pir(graph)
    elif kind is ProgramKind.PIR:
        live = translate(Path(graph.source))
    else:
        with static_mode(kind), _refusals_reported(graph.source):
            data = Path(graph.source).read_bytes()
            live = LiveProgram.of(load_paddle().static.Program.parse_from_string(data))
    read = replace(live.graph, source=graph.source, report=graph.report, unknown=graph.unknown)
    return replace(live, graph=read)


def _open_pir(graph: Graph) -> LiveProgram:
    paddle, path = load_paddle(), graph.source
    core = paddle.base.core
    if not hasattr(core, "deserialize_pir_program"):
        reason = f"Paddle {paddle.__version__} reads no models of Paddle 3"
        raise ReadError(not_opened(path, reason, message=_NOT_OPENED))
    unknown = unsupported_operators(graph, known_operators(graph.kind) or frozenset())
    if unknown:
        # Paddle would abort the process.
        types = list(dict.fromkeys(operator.type for operator in unknown))
        message = f"Paddle does not know operators of the saved model: {listed(types)}"
        raise ReadError(unknown_operators(message, where=(Where(program=path),)))
    program = paddle.static.Program()
    with _refusals_reported(path):
        # Bytes, since a path need not be UTF-8.
        core.deserialize_pir_program(os.fsencode(path), program)
    return LiveProgram.of(program)


@contextmanager
def _refusals_reported(path: str) -> Generator[None]:
    """Turn an error of Paddle into GT032."""
    try:
        yield
    except PADDLE_ERRORS as error:
        reason, inspect = error_text(error), inspect_command(path)
        found = not_opened(path, reason, message=_NOT_OPENED, help=inspect)
        raise ReadError(found) from error


def translate(source: Paddle | bytes | str | Path) -> LiveProgram:
    """Translate a legacy Program to PIR; Values keep the names of their Variables as aliases.

    `source` is a legacy Program, the bytes of a ProgramDesc or the path of a `.pdmodel`.

    Raises ReadError: GT032 if Paddle refuses (the gradient of a while loop, Paddle 2.6).
    """
    paddle = load_paddle()
    name, data = _program_desc(source)
    if not hasattr(paddle.pir, "translate_to_pir_with_param_map"):
        raise ReadError(not_opened(name, f"Paddle {paddle.__version__} cannot do it"))
    read_protobuf(name, data)
    try:
        desc = paddle.base.core.ProgramDesc(data)
        program, values = paddle.pir.translate_to_pir_with_param_map(desc)
    except PADDLE_ERRORS as error:
        raise ReadError(not_opened(name, shortened_message(str(error)))) from None
    walk = read_pir(program)
    aliases: defaultdict[str, set[str]] = defaultdict(set)
    for variable, translated in values.items():
        for value in translated:
            if value.initialized() and value.id in walk.names:
                aliases[walk.names[value.id]].add(variable)
    graph = replace(_with_aliases(walk.graph, aliases), source=name)
    return LiveProgram(program=program, graph=graph, keys=walk.keys)


def _with_aliases(graph: Graph, aliases: Mapping[str, Iterable[str]]) -> Graph:
    named = {
        name: replace(graph.values[name], aliases=tuple(sorted({*added} - {name})))
        for name, added in aliases.items()
    }
    return replace(graph, values={**graph.values, **named}) if named else graph


def _program_desc(source: Paddle | bytes | str | Path) -> tuple[str, bytes]:
    """Return the name and the ProgramDesc of a source."""
    if isinstance(source, bytes):
        return "<ProgramDesc>", source
    if not isinstance(source, str | Path):
        return "<Program>", source.desc.serialize_to_string()
    path = str(source)
    try:
        check_not_special(Path(path))
        return path, Path(path).read_bytes()
    except OSError:
        raise ReadError(no_such_path(path)) from None


_SCHEDULE_ATTRIBUTES = ("lr_scheduler", "lr_name", "lr_var")


def clone_without_schedule(program: Paddle, **options: bool) -> Paddle:
    """Clone a Program without its learning-rate schedule.

    With it, an Executor sets the rate in the global Scope before each run, and fails if the rate
    Variable was removed.
    """
    clone = program.clone(**options)
    for attribute in _SCHEDULE_ATTRIBUTES:
        if hasattr(clone, attribute):
            delattr(clone, attribute)
    return clone


def save_program(program: Paddle, path: Path) -> None:
    """Write a Program to a file that `open_saved` opens."""
    if is_legacy(program):
        path.write_bytes(program.desc.serialize_to_string())
        return
    serialise = load_paddle().base.core.serialize_pir_program
    # As bytes: the path need not be UTF-8.
    encoded = os.fsencode(path)
    try:
        serialise(program, encoded)
    except TypeError:
        # Paddle 3.0 requires the version of the format, and knows only one.
        serialise(program, encoded, pir_version=1)


_Merges: TypeAlias = "tuple[Any, ...]"

_MERGES = "_graphtool_teachers"


def merge_records(program: Paddle) -> _Merges:
    """Return the merge records of a Program, or of the one that it was cloned from."""
    merges: _Merges | None = getattr(program, _MERGES, None)
    if merges is not None:
        return merges
    return max(_of_parameters(program), key=len, default=()) if hasattr(program, "desc") else ()


def student_scope_of(program: Paddle) -> Paddle | None:
    """Return the student's Scope of a merged Program, None if it has no teacher."""
    merges = merge_records(program)
    return merges[0].scope if merges else None


def set_merge_records(program: Paddle, merges: _Merges, carriers: Iterable[str] = ()) -> None:
    """Attach merge records to a Program and its future clones; empty ones remove the records.

    Paddle's `clone` copies the attributes of a PIR Program, but only those of the Parameters of a
    legacy one. There, the frozen Parameters named `carriers`, whose options no optimizer reads,
    keep the records.
    """
    if merges:
        setattr(program, _MERGES, merges)
    elif hasattr(program, _MERGES):
        delattr(program, _MERGES)
    if is_legacy(program):
        variables = program.global_block().vars
        for parameter in [variables[name] for name in carriers if name in variables]:
            if hasattr(parameter, "optimize_attr"):
                parameter.optimize_attr = {**parameter.optimize_attr, _MERGES: merges}


def _of_parameters(program: Paddle) -> Iterator[_Merges]:
    for parameter in program.global_block().all_parameters():
        if _MERGES in (parameter.optimize_attr or ()):
            yield parameter.optimize_attr[_MERGES]
