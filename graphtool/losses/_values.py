"""Find the Values that a loss is to compare, by name or as they are, in the current Program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from graphtool.diagnostics import Diagnostic, GraphtoolError, ReadError, UsageError, Where
from graphtool.graph import Graph
from graphtool.losses import problems
from graphtool.merging import Merged, merged_of
from graphtool.merging.merged import value_of
from graphtool.readers._legacy import read_legacy
from graphtool.readers._paddle import is_legacy, load_paddle
from graphtool.readers._pir import holds, walk_pir
from graphtool.selectors import is_unknown_name
from graphtool.structure import Normalised, is_training_type, kind_of_type, normalised
from graphtool.text import literal

__all__ = [
    "belongs",
    "dtype_of",
    "gathered",
    "home_of",
    "is_value",
    "normalised_before",
    "of_either",
    "of_student",
    "of_teacher",
    "own",
    "place_of",
    "require_trainable_program",
    "shape_of",
    "spelt",
]

# Values, Variables and Programs are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


def gathered(finders: Iterable[Callable[[], _Paddle]]) -> list[_Paddle]:
    """Find several Values, or raise what stands against all of them at once."""
    values: list[_Paddle] = []
    errors: list[GraphtoolError] = []
    for find in finders:
        try:
            values.append(find())
        except GraphtoolError as error:  # noqa: PERF203  # the others' problems are told as well
            errors.append(error)
    if errors:
        raise type(errors[0])(*(found for error in errors for found in error.report))
    return values


def own(value: _Paddle, argument: str) -> _Paddle:
    """Return a Value that belongs to the current main Program.

    Raises UsageError GT341.
    """
    if not belongs(value):
        merged = merged_of(load_paddle().static.default_main_program()) is not None
        raise UsageError(problems.foreign_value(argument, Where(role=argument), merged=merged))
    return value


def is_value(given: object) -> bool:
    """Tell a PIR Value or legacy Variable from anything else, dynamic tensors included."""
    paddle = load_paddle()
    kinds: tuple[type, ...] = (paddle.static.Variable, *_pir_values())
    return isinstance(given, kinds)


def _pir_values() -> tuple[type, ...]:
    value: type | None = getattr(load_paddle().pir, "Value", None)
    return () if value is None else (value,)


def require_trainable_program(loss: str) -> None:
    """Refuse to build a loss in dynamic mode, or after the Program was minimized.

    Raises UsageError: GT352, GT342.
    """
    paddle = load_paddle()
    if paddle.in_dynamic_mode():
        raise UsageError(problems.not_static(loss))
    for operator in _types(paddle.static.default_main_program().global_block()):
        if is_training_type(operator):
            raise UsageError(problems.after_minimize(loss, operator.rpartition(".")[2]))


def _types(block: _Paddle) -> Iterator[str]:
    for op in block.ops:
        yield op.type if is_legacy(op) else op.name()


def of_teacher(given: object, argument: str = "teacher") -> _Paddle:
    """Return the Value that a teacher's end means: a Value, or a name with or without prefix.

    Raises UsageError: GT340, GT350. Raises ReadError: GT101, GT102, GT031 and GT351.
    """
    if isinstance(given, str):
        return _by_prefix(given, _merges(given))
    return _checked(given, argument)


def of_student(given: object, argument: str = "student") -> _Paddle:
    """Return the Value that a student's end means: a Value, or a name of the student.

    Raises UsageError: GT340, GT350. Raises ReadError: GT101, GT102, GT031.
    """
    if isinstance(given, str):
        return _merges(given)[0].student(given)
    return _checked(given, argument)


def of_either(given: str) -> _Paddle:
    """Return the Value that a name means: with a teacher's prefix it is that teacher's.

    Raises what `of_teacher` and `of_student` do.
    """
    merges = _merges(given)
    return value_of(given, merges, merges[0].student)


def _checked(given: object, argument: str) -> _Paddle:
    if not is_value(given):
        raise UsageError(problems.no_value(argument, given))
    return given


def _merges(name: str) -> tuple[Merged, ...]:
    merged = merged_of(load_paddle().static.default_main_program())
    if merged is None:
        raise UsageError(problems.no_merged_program(name))
    return merged.teachers


def _by_prefix(name: str, merges: tuple[Merged, ...]) -> _Paddle:
    """Take a teacher by the longest prefix that fits; without one the only one that knows it."""
    if len(merges) == 1:
        return merges[0].teacher(name)
    fitting = [merged for merged in merges if name.startswith(merged.prefix)]
    if fitting:
        return max(fitting, key=lambda merged: len(merged.prefix)).teacher(name)
    unknown = [_unknown(merged, name) for merged in merges]
    knowing = [merged for merged, found in zip(merges, unknown, strict=True) if not found]
    if not knowing:
        raise ReadError(*(one for found in unknown for one in found))
    if len(knowing) > 1:
        raise ReadError(problems.which_teacher(name, [merged.prefix for merged in knowing]))
    return knowing[0].teacher(name)


def _unknown(merged: Merged, name: str) -> tuple[Diagnostic, ...]:
    """Return what is to be said where a teacher doesn't know a name at all."""
    try:
        merged.teacher_name(name)
    except ReadError as error:
        return error.report.errors if is_unknown_name(error) else ()
    return ()


def belongs(value: _Paddle) -> bool:
    """Tell whether a Value is at the top level of the current main Program."""
    program = load_paddle().static.default_main_program()
    if is_legacy(value):
        return is_legacy(program) and program.global_block().vars.get(value.name) is value
    return holds(program, value)


def shape_of(value: _Paddle) -> tuple[int, ...]:
    """Return the shape of a Value that belongs; -1 for dims that are not known."""
    return tuple(value.shape)


def dtype_of(value: _Paddle) -> str:
    """Return the name of the dtype: `float32`."""
    name: str = load_paddle().base.data_feeder.convert_dtype(value.dtype)
    # Paddle keeps bfloat16 in numpy's uint16 and has no dtype of that name.
    return "bfloat16" if name == "uint16" else name


def place_of(value: _Paddle, role: str) -> Where:
    """Point at a Value, by the name that it has in the Program as it is now."""
    return Where(role=role, value=_name(value), shape=shape_of(value))


def spelt(value: _Paddle, argument: str) -> str:
    """Spell a Value as a loss takes it: by the name that finds it, else by that of its argument."""
    name = _name(value)
    try:
        found = of_teacher(name) if argument.startswith("teacher") else of_student(name)
    except GraphtoolError:
        return argument
    same = found is value if is_legacy(value) else found.id == value.id
    return literal(name) if same else argument


def _name(value: _Paddle) -> str:
    """Return a name that finds a Value: the teacher's own behind its prefix, or the student's."""
    if is_legacy(value):
        return value.name
    program = load_paddle().static.default_main_program()
    walk = walk_pir(program)
    name, merged = walk.names[value.id], merged_of(program)
    for teacher in merged.teachers if merged else ():
        for own_name, key in teacher.joined.keys.items():
            if key == walk.keys[name]:
                return f"{teacher.prefix}{own_name}"
    return name


def home_of(value: _Paddle) -> tuple[Graph, str] | None:
    """Return the network that a Value was merged with and its name there.

    Of a Value that was computed since it is the Program as it is now; None where nothing was merged
    into that.
    """
    program = load_paddle().static.default_main_program()
    merged = merged_of(program)
    if merged is None:
        return None
    walk = None if is_legacy(value) else walk_pir(program)
    name = value.name if walk is None else walk.names[value.id]
    for teacher in merged.teachers:
        for own_name, there in teacher.values.items():
            if there == name:
                return teacher.source.graph, own_name
    student = merged.teachers[0].before.graph
    if name in student.values:
        return student, name
    return (read_legacy(program) if walk is None else walk.graph), name


def normalised_before(value: _Paddle) -> Normalised[str] | None:
    """Return the logits that a Value holds the probabilities of, None where it holds none."""
    before = normalised(value, _made_from)
    return None if before is None else Normalised(before.by, _name(before.logits))


def _made_from(value: _Paddle) -> tuple[str, _Paddle] | None:
    """Return what kind of operator a Value comes from, and the first Value that it reads."""
    if is_legacy(value):
        return _made_from_variable(value)
    op = value.get_defining_op()
    if op is None or not op.num_operands():
        return None
    return kind_of_type(op.name()), op.operand_source(0)


def _made_from_variable(value: _Paddle) -> tuple[str, _Paddle] | None:
    block = value.block
    makers = (op for op in reversed(block.ops) if value.name in op.output_arg_names)
    op = next(makers, None)
    if op is None:
        return None
    read = (op.input(slot) for slot in ("X", "Logits") if slot in op.input_names)
    source = block.vars.get(next((names[0] for names in read if names), None))
    return None if source is None else (kind_of_type(op.type), source)
