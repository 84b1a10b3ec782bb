"""One way to say which Value is meant: its name, module path, attribute path or legacy name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from glob import escape
from itertools import chain

from graphtool.arguments import bad_argument
from graphtool.diagnostics import Diagnostic, GraphtoolError, ReadError, UsageError, Where, rule
from graphtool.graph import Graph, Operator, Value, module_path
from graphtool.lookalikes import closest, near_notes
from graphtool.paths import is_there
from graphtool.text import as_path, command, named, option, shown_forms

__all__ = [
    "check_selector",
    "find",
    "find_in",
    "is_source",
    "is_unknown_name",
    "listing",
    "meant",
    "misplaced",
    "nearest",
    "renamed",
]

_NEAREST = 3
_ALIKE = 0.3
_FIND = 'gt.find(gt.read(program), "relu_48")'


def find(graph: Graph, selector: str) -> Value:
    r"""Return the one Value that a selector means.

    Tried in this order: the name (`relu_48`, a parameter's or Variable's own name), the exact
    legacy name where a legacy program was translated, the attribute path of a sublayer
    (`layer4.2`) and the module path (`/ResNet/Sequential_3/BasicBlock_1/ReLU_1`) with the root's
    counter ignored. A path stands for the Value that the module hands on. What fits none is taken
    as it is shown: `\x1b` for a letter that cannot be, the middle left out.

    Raises ReadError: GT101 with the nearest three names, GT102 with the candidates. Raises
    UsageError: GT248.
    """
    _check_graph(graph)
    check_selector(selector)
    for spelling in chain((selector,), _shown_as(graph, selector)):
        exact = graph.values.get(spelling)
        if exact is not None:
            return exact
        for candidates in _meanings(graph, spelling):
            if len(candidates) == 1:
                return candidates[0]
            if candidates:
                raise ReadError(ambiguous_name(graph, selector, tuple(candidates)))
    raise ReadError(unknown_name(graph, selector))


def _check_graph(given: object) -> None:
    if not isinstance(given, Graph):
        wanted = "a Graph, which `gt.read` gives, and a Network has as `.graph`"
        raise UsageError(bad_argument("graph", given, wanted, _FIND))


def check_selector(given: object) -> None:
    """Refuse a selector that is no text.

    Raises UsageError: GT248.
    """
    if not isinstance(given, str):
        raise UsageError(bad_argument("selector", given, "the name of a Value", _FIND))


def is_unknown_name(error: GraphtoolError) -> bool:
    """Tell that `find` knew no such Value from what else stands against a selector."""
    return error.report.errors[0].code == "GT101"


def renamed(error: ReadError, selector: str) -> ReadError:
    """Say what was typed where no Value was found by a part of it."""
    if not is_unknown_name(error):
        return error
    said = _unknown(selector)
    return ReadError(*(replace(one, message=said) for one in error.report))


_OTHERS = {"teacher": "student", "student": "teacher"}


def misplaced(
    error: ReadError, selector: str, name: str, *, having: str, help: str | None = None
) -> ReadError:
    """Say so where a name that the teacher, or the student, lacks is one of the other's."""
    if not is_unknown_name(error):
        return error
    said = f"the {_OTHERS[having]} has no `{selector}`: it is the {having}'s `{name}`"
    return ReadError(*(replace(one, message=said, help=help or one.help) for one in error.report))


def find_in(role: str, graph: Graph, other: Graph, selector: str) -> Value:
    """Return the Value of the teacher, or of the student, that a selector means.

    Raises ReadError: as `find`, and says so where the name is one of the other's.
    """
    try:
        return find(graph, selector)
    except ReadError as error:
        with suppress(ReadError):
            name = find(other, selector).name
            error = misplaced(error, selector, name, having=_OTHERS[role])
        raise error from None


@rule("GT101")
def unknown_name(graph: Graph, selector: str) -> Diagnostic:
    """No Value of the program has this name, legacy name, attribute path or module path.

    `graphtool inspect MODEL --name 'relu_*'` lists names. Pruning a program renumbers derived
    names such as `relu_48`.
    """
    near = nearest(selector, list(_spellings(graph)))
    known = any(selector in value.name for value in graph.values.values())
    return Diagnostic(
        message=_unknown(selector),
        where=(Where(program=graph.source),),
        notes=tuple(_notes(graph, selector, near)),
        help=listing(graph.source, name=f"*{escape(selector)}*" if known and selector else None),
    )


def _unknown(selector: str) -> str:
    return f"no Value is called `{selector}`"


def listing(source: str, *, name: str | None = None) -> str:
    """Say what lists the Values of a program: a command, where one can name it there."""
    if is_source(source):
        wanted = "--all" if name is None else option("--name", name)
        return f"{command('graphtool', 'inspect', as_path(source))} {wanted}"
    return "print(*gt.read(program).values)"


def is_source(source: str) -> bool:
    """Tell whether what a Graph was read from can be named to a command as well."""
    return ":" in source or is_there(source)


def _notes(graph: Graph, selector: str, near: Sequence[str]) -> Iterator[str]:
    yield from near_notes(selector, near)
    if all(value.layer is None for value in graph.values.values()):
        yield (
            "the program keeps no attribute paths (`layer4.2`): "
            "only what `module:callable` or `gt.from_layer` builds has them"
        )


@rule("GT102")
def ambiguous_name(graph: Graph, selector: str, candidates: tuple[Value, ...]) -> Diagnostic:
    """The selector fits several Values; name one of them.

    A module that runs more than once, or hands on several Values, is such a case.
    """
    return Diagnostic(
        message=f"`{selector}` means {len(candidates)} Values",
        where=tuple(
            Where(program=graph.source, value=value.name, shape=value.shape) for value in candidates
        ),
        help=f"use one of their names: `{named(candidates[0].name)}`",
    )


def _meanings(graph: Graph, selector: str) -> Iterator[list[Value]]:
    yield [value for value in graph.values.values() if selector in value.aliases]
    yield [value for value in graph.values.values() if selector in value.layer_outputs]
    if selector.startswith("/"):
        yield list(_handed_on(graph, module_path(selector)))


def _shown_as(graph: Graph, shown: str) -> Iterator[str]:
    modules = (operator.module or "" for operator in graph.operators.values())
    yield from _written_out(chain(_spellings(graph), modules), shown)


def _written_out(names: Iterable[str], shown: str) -> Iterator[str]:
    """Yield the names that hold other letters than they are shown with."""
    for name in dict.fromkeys(names):
        if name != shown and shown in shown_forms(name):
            yield name


def meant(given: str, known: Collection[str]) -> str:
    """Return which of the known names was given, letter by letter or as it is shown."""
    return given if given in known else next(_written_out(known, given), given)


def _handed_on(graph: Graph, path: str) -> Iterator[Value]:
    """Yield first results made inside a module that an Operator outside of it, or none, reads."""
    for operator in graph.operators.values():
        if not _inside(operator, path) or not operator.results:
            continue
        result = operator.results[0]
        readers = graph.consumers.get(result, ())
        if not readers or any(not _inside(reader, path) for reader in readers):
            yield graph.values[result]


def _inside(operator: Operator, path: str) -> bool:
    module = operator.module
    return module is not None and (module == path or module.startswith(f"{path}/"))


def _spellings(graph: Graph) -> Iterator[str]:
    for value in graph.values.values():
        yield value.name
        yield from value.aliases
        yield from value.layer_outputs


def nearest(wanted: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return the three names that are most like one that does not exist, the nearest first."""
    alike = closest(wanted, known, most=_NEAREST, cutoff=_ALIKE)
    if len(alike) < _NEAREST:
        # Short names and long ones are never alike by this measure: `fc` and `linear_0.w_0`.
        alike = closest(wanted, known, most=_NEAREST, cutoff=0.0)
    return tuple(alike)
