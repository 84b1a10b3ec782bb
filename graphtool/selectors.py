"""Selectors: name a Value by its name, module path, attribute path or legacy name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from glob import escape
from itertools import chain

from graphtool.arguments import bad_argument
from graphtool.diagnostics import Diagnostic, GraphtoolError, ReadError, UsageError, Where, rule
from graphtool.graph import Graph, Operator, Value, module_path
from graphtool.paths import path_exists
from graphtool.text import (
    closest,
    near_notes,
    path_argument,
    printed_forms,
    printed_name,
    shell_command,
    shell_option,
)

__all__ = [
    "ambiguous_name",
    "check_selector",
    "find",
    "find_for_role",
    "is_command_source",
    "is_unknown_name",
    "listing_help",
    "nearest_names",
    "unescape_name",
    "unknown_name",
    "with_owning_role",
    "with_selector",
]

_NEAREST = 3
_MIN_SIMILARITY = 0.3
_OTHER_ROLE = {"teacher": "student", "student": "teacher"}
_UNKNOWN = "no Value is called `{}`"
_FIND = 'gt.find(gt.read(program), "relu_48")'


def find(graph: Graph, selector: str) -> Value:
    r"""Return the one Value that a selector means.

    Tried in this order: the name (`relu_48`, or that of a parameter or Variable), the exact legacy
    name where a legacy program was translated, the attribute path of a sublayer (`layer4.2`) and
    the module path (`/ResNet/Sequential_3/BasicBlock_1/ReLU_1`), the root's counter ignored. A path
    means the output of that module. Then names are matched as graphtool prints them: with `\x1b`
    for a character that is not printable, and the middle left out.

    Raises ReadError: GT101 with the nearest three names, GT102 with the candidates. Raises
    UsageError: GT248.
    """
    if not isinstance(graph, Graph):  # pyright: ignore[reportUnnecessaryIsInstance]
        expected = "a Graph, which `gt.read` gives, and a Network has as `.graph`"
        raise UsageError(bad_argument("graph", graph, expected, _FIND))
    check_selector(selector)
    modules = (operator.module or "" for operator in graph.operators.values())
    for spelling in chain((selector,), _printed_as(selector, chain(_names(graph), modules))):
        if spelling in graph.values:
            return graph.values[spelling]
        values = graph.values.values()
        meanings = (
            [value for value in values if spelling in value.aliases],
            [value for value in values if spelling in value.layer_outputs],
            _module_outputs(graph, module_path(spelling)) if spelling.startswith("/") else [],
        )
        candidates = next((found for found in meanings if found), meanings[0])
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            places = (
                Where(program=graph.source, value=value.name, shape=value.shape)
                for value in candidates
            )
            raise ReadError(
                ambiguous_name(
                    f"`{selector}` means {len(candidates)} Values",
                    where=tuple(places),
                    help=f"use one of their names: `{printed_name(candidates[0].name)}`",
                )
            )
    near = nearest_names(selector, list(_names(graph)))
    notes = list(near_notes(near))
    if all(value.layer is None for value in graph.values.values()):
        notes.append(
            "the program has no attribute paths (`layer4.2`): "
            "only networks built by `module:callable` or `gt.from_layer` have them"
        )
    is_substring = selector and any(selector in name for name in graph.values)
    listing = listing_help(graph.source, name=f"*{escape(selector)}*" if is_substring else None)
    message = _UNKNOWN.format(selector)
    where = Where(program=graph.source)
    raise ReadError(unknown_name(message, where, notes=tuple(notes), help=listing))


def check_selector(value: object) -> None:
    """Check that a selector is a string.

    Raises UsageError: GT248.
    """
    if not isinstance(value, str):
        raise UsageError(bad_argument("selector", value, "the name of a Value", _FIND))


def is_unknown_name(error: GraphtoolError) -> bool:
    """Return whether an error of `find` is that no Value has the name."""
    return error.report.errors[0].code == "GT101"


def with_selector(error: ReadError, selector: str) -> ReadError:
    """Return an error about an unknown name with the selector that the user typed."""
    if not is_unknown_name(error):
        return error
    message = _UNKNOWN.format(selector)
    return ReadError(*(replace(one, message=message) for one in error.report))


def with_owning_role(
    error: ReadError, selector: str, name: str, *, having: str, help: str | None = None
) -> ReadError:
    """Return an error about an unknown name that names the network having it, `having`."""
    if not is_unknown_name(error):
        return error
    message = f"the {_OTHER_ROLE[having]} has no `{selector}`: it is the {having}'s `{name}`"
    return ReadError(
        *(replace(one, message=message, help=help or one.help) for one in error.report)
    )


def find_for_role(role: str, graph: Graph, other: Graph, selector: str) -> Value:
    """Return the Value of the teacher, or of the student, that a selector means.

    Raises ReadError: as `find`; the message says if the other network has the name.
    """
    try:
        return find(graph, selector)
    except ReadError as error:
        with suppress(ReadError):
            name = find(other, selector).name
            error = with_owning_role(error, selector, name, having=_OTHER_ROLE[role])
        raise error from None


@rule("GT101", replaces=("GT110", "GT111", "GT112", "GT330"))
def unknown_name(
    message: str, where: Where, *, notes: tuple[str, ...] = (), help: str | None = None
) -> Diagnostic:
    """The network has no such Value, operator or stage.

    A Value is named by its name, legacy name, attribute path or module path; `graphtool inspect
    MODEL --name 'relu_*'` lists names. Pruning a network renumbers names such as `relu_48`. A pair
    names the teacher's Value first, with or without the prefix. A loss cannot compare a Value
    inside a branch or loop, or a vector of tensors: name what the branch or loop returns, or one of
    the tensors.

    The filters of `inspect` must all match. `--op` takes a type (`pd_op.relu`, `relu`) or a pattern
    (`'conv*'`), in the spelling of PIR or of legacy programs; `--stage` a number from 1, or `stem`;
    in `--shape`, `?` and -1 match any size. A network without feature maps has no stages.
    """
    return Diagnostic(message=message, where=(where,), notes=notes, help=help)


def listing_help(source: str, *, name: str | None = None) -> str:
    """Return what to type to list the Values of a program: a command if it can be named in one."""
    if is_command_source(source):
        options = "--all" if name is None else shell_option("--name", name)
        return f"{shell_command('graphtool', 'inspect', path_argument(source))} {options}"
    return "print(*gt.read(program).values)"


def is_command_source(source: str) -> bool:
    """Return whether a command can name the source of a Graph, a path or `module:callable`."""
    return ":" in source or path_exists(source)


@rule("GT102", replaces=("GT351",))
def ambiguous_name(
    message: str, *, where: tuple[Where, ...] = (), notes: tuple[str, ...] = (), help: str
) -> Diagnostic:
    """Several Values fit the name; use the name of one of them.

    A path means several Values if its module runs more than once, or returns several. If several
    teachers have the name, put the prefix that was given to `gt.merge` before it.
    """
    return Diagnostic(message=message, where=where, notes=notes, help=help)


def _printed_as(printed: str, names: Iterable[str]) -> Iterator[str]:
    """Yield the names that are printed like this, escaped or shortened."""
    for name in dict.fromkeys(names):
        if name != printed and printed in printed_forms(name):
            yield name


def unescape_name(name: str, known: Collection[str]) -> str:
    """Return the known name that equals the given one, or is printed like it."""
    return name if name in known else next(_printed_as(name, known), name)


def _module_outputs(graph: Graph, path: str) -> list[Value]:
    """Return first results of Operators in a module that are unread, or read outside of it."""

    def is_inside(operator: Operator) -> bool:
        return f"{operator.module}/".startswith(f"{path}/")

    found: list[Value] = []
    for operator in graph.operators.values():
        if is_inside(operator) and operator.results:
            result = operator.results[0]
            consumers = graph.consumers.get(result, ())
            if not consumers or not all(map(is_inside, consumers)):
                found.append(graph.values[result])
    return found


def _names(graph: Graph) -> Iterator[str]:
    for value in graph.values.values():
        yield value.name
        yield from value.aliases
        yield from value.layer_outputs


def nearest_names(name: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return the three known names most similar to an unknown one, the nearest first."""
    similar = closest(name, known, most=_NEAREST, cutoff=_MIN_SIMILARITY)
    if len(similar) < _NEAREST:
        # A short and a long name never reach that similarity: `fc` and `linear_0.w_0`.
        similar = closest(name, known, most=_NEAREST, cutoff=0.0)
    return tuple(similar)
