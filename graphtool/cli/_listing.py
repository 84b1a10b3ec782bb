"""Select the Values that `inspect` lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from graphtool.cli._formatting import shape_text, stage_text
from graphtool.diagnostics import ReadError, Where
from graphtool.graph import Operator, Origin, Shape, Value, shapes_agree
from graphtool.ops import kind_of
from graphtool.selectors import nearest_names, unknown_name
from graphtool.structure import Role, Structure, ValueRow, value_row
from graphtool.text import inspect_command, near_notes, printed_forms, shell_option

__all__ = ["Query", "Selection", "select"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The filters of `inspect`; None filters nothing. `stage` is as in Row."""

    name: str | None = None
    op: str | None = None
    shape: Shape | None = None
    stage: int | None = None
    parameters: bool = False
    everything: bool = False

    @property
    def narrows(self) -> bool:
        """Return whether any filter is set."""
        filters = (self.name, self.op, self.shape, self.stage)
        return self.parameters or any(value is not None for value in filters)

    def __str__(self) -> str:
        filters = {
            "the name": self.name,
            "an operator of type": self.op,
            "the shape": None if self.shape is None else shape_text(self.shape),
            "the stage": None if self.stage is None else stage_text(self.stage),
        }
        texts = [f"{label} `{text}`" for label, text in filters.items() if text is not None]
        return " and ".join(texts) or "the origin `parameter`"


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows in program order, and the number of matching side results left out."""

    rows: tuple[ValueRow, ...]
    side_results: int = 0


def select(structure: Structure, query: Query) -> Selection:
    """Select the Values that match a Query; without a filter, the feature maps worth pairing.

    Side results, such as the statistics that a normalisation outputs, are left out if other Values
    match, unless the Query is for everything.

    Raises ReadError: GT101 for a filter that nothing matches.
    """
    _check_filters(structure, query)
    graph = structure.graph
    matching = [
        value
        for value in graph.values.values()
        if _in_scope(structure, value, query) and _fits(structure, value, query)
    ]
    if not matching and query.narrows:
        name = (query.name or "").strip("*")
        near = nearest_names(name, list(_all_spellings(structure))) if query.name else ()
        raise ReadError(
            unknown_name(
                f"no Value has {query}",
                Where(program=graph.source),
                notes=tuple(near_notes(near)),
                help=f"{inspect_command(graph.source)} --all",
            )
        )
    main = [value for value in matching if not _is_side_result(structure, value)]
    shown = matching if query.everything or not main else main
    rows = tuple(value_row(structure, value) for value in shown)
    return Selection(rows, len(matching) - len(shown))


def _is_side_result(structure: Structure, value: Value) -> bool:
    return value.output > 0 and structure.role(value.name) is Role.OTHER


def _check_filters(structure: Structure, query: Query) -> None:
    """Check that the stage and the type of operator exist.

    Raises ReadError: GT101.
    """
    graph = structure.graph
    where, inspect = Where(program=graph.source), inspect_command(graph.source)
    known = range(structure.first_stage, structure.first_stage + len(structure.stages))
    if query.stage is not None and query.stage not in known:
        count = len([number for number in known if number])
        stages = {0: "it has no stages", 1: "its only stage is 1"}
        wanted = "stem" if query.stage == 0 else f"stage {query.stage}"
        existing = stages.get(count, f"its stages are 1 to {count}")
        stem = ", after the stem" if 0 in known else ""
        message = f"the network has no {wanted}: {existing}{stem}"
        raise ReadError(unknown_name(message, where, help=inspect))
    if query.op is not None:
        operators = graph.operators.values()
        if not any(_has_type(operator, query.op) for operator in operators):
            types = sorted({operator.kind for operator in operators})
            near = nearest_names(query.op.rpartition(".")[2].strip("*"), types)
            raise ReadError(
                unknown_name(
                    f"the program has no operator of type `{query.op}`",
                    where,
                    notes=tuple(near_notes(near)),
                    help=f"{inspect} {shell_option('--op', near[0])}" if near else inspect,
                )
            )


def _in_scope(structure: Structure, value: Value, query: Query) -> bool:
    if query.parameters:
        return value.origin is Origin.PARAMETER
    return query.everything or query.narrows or structure.is_on_main_line(value.name)


def _fits(structure: Structure, value: Value, query: Query) -> bool:
    operator = structure.graph.producer(value.name)
    if query.op is not None and (operator is None or not _has_type(operator, query.op)):
        return False
    if query.shape is not None and not shapes_agree(query.shape, value.shape):
        return False
    if query.stage is not None and structure.stage_of(value.name) != query.stage:
        return False
    return query.name is None or any(
        _matches(spelling, query.name) for spelling in _spellings(value, operator)
    )


def _has_type(operator: Operator, pattern: str) -> bool:
    return any(
        _matches(spelling, pattern)
        for spelling in (operator.type, operator.kind, kind_of(operator))
    )


def _matches(spelling: str, pattern: str) -> bool:
    """Return whether a name, as it is or as printed, equals a pattern or matches it."""
    forms = {spelling, *printed_forms(spelling)}
    return pattern in forms or any(fnmatchcase(form, pattern) for form in forms)


def _spellings(value: Value, operator: Operator | None) -> Iterator[str]:
    yield value.name
    yield from value.aliases
    yield from value.layer_outputs
    if value.layer is not None:
        yield value.layer
    if operator is not None and operator.module is not None:
        yield operator.module


def _all_spellings(structure: Structure) -> Iterator[str]:
    for value in structure.graph.values.values():
        yield from _spellings(value, structure.graph.producer(value.name))
