"""Which Values `inspect` lists, and what it says of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from graphtool.cli import problems
from graphtool.cli._text import shape_text, stage_text
from graphtool.diagnostics import ReadError
from graphtool.graph import Operator, Origin, Shape, Value, shapes_agree
from graphtool.selectors import nearest
from graphtool.structure import Role, Row, Structure, kind_of, row_of
from graphtool.text import shown_forms

__all__ = ["Query", "Selection", "select"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What the Values listed must have; None asks for nothing. `stage` is as in Row."""

    name: str | None = None
    op: str | None = None
    shape: Shape | None = None
    stage: int | None = None
    parameters: bool = False
    everything: bool = False

    @property
    def narrows(self) -> bool:
        """Tell whether anything is asked for."""
        wishes = (self.name, self.op, self.shape, self.stage)
        return self.parameters or any(wish is not None for wish in wishes)

    def __str__(self) -> str:
        wanted = {
            "the name": self.name,
            "an operator of type": self.op,
            "the shape": None if self.shape is None else shape_text(self.shape),
            "the stage": None if self.stage is None else stage_text(self.stage),
        }
        said = [f"{what} `{text}`" for what, text in wanted.items() if text is not None]
        return " and ".join(said) or "the origin `parameter`"


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows in program order, and how many side results that fit as well were left out."""

    rows: tuple[Row, ...]
    side_results: int = 0


def select(structure: Structure, query: Query) -> Selection:
    """List the Values that a Query asks for.

    Without any wish, those are the feature maps worth pairing. Side results, as the statistics that
    a normalisation hands on, are left out where others fit, unless everything is asked for.

    Raises ReadError: GT110, GT111 and GT112 where a wish cannot be fulfilled.
    """
    _check(structure, query)
    found = [
        value
        for value in structure.graph.values.values()
        if _in_scope(structure, value, query) and _fits(structure, value, query)
    ]
    if not found and query.narrows:
        graph = structure.graph
        wanted = (query.name or "").strip("*")
        near = nearest(wanted, list(_all_spellings(structure))) if query.name else ()
        raise ReadError(problems.no_such_value(graph.source, str(query), wanted, near))
    main = [value for value in found if not _is_side_result(structure, value)]
    shown = found if query.everything or not main else main
    rows = tuple(row_of(structure, value) for value in shown)
    return Selection(rows, len(found) - len(shown))


def _is_side_result(structure: Structure, value: Value) -> bool:
    return value.output > 0 and structure.role(value.name) is Role.OTHER


def _check(structure: Structure, query: Query) -> None:
    graph = structure.graph
    known = range(structure.first_stage, structure.first_stage + len(structure.stages))
    if query.stage is not None and query.stage not in known:
        raise ReadError(problems.no_such_stage(graph.source, query.stage, known))
    if query.op is not None:
        operators = graph.operators.values()
        if not any(_is_of_type(operator, query.op) for operator in operators):
            types = sorted({operator.kind for operator in operators})
            near = nearest(query.op.rpartition(".")[2].strip("*"), types)
            raise ReadError(problems.no_such_operator(graph.source, query.op, near))


def _in_scope(structure: Structure, value: Value, query: Query) -> bool:
    if query.parameters:
        return value.origin is Origin.PARAMETER
    return query.everything or query.narrows or structure.is_on_main_line(value.name)


def _fits(structure: Structure, value: Value, query: Query) -> bool:
    operator = structure.graph.producer(value.name)
    if query.op is not None and (operator is None or not _is_of_type(operator, query.op)):
        return False
    if query.shape is not None and not shapes_agree(query.shape, value.shape):
        return False
    if query.stage is not None and structure.stage_of(value.name) != query.stage:
        return False
    return query.name is None or any(
        _is_called(spelling, query.name) for spelling in _spellings(value, operator)
    )


def _is_of_type(operator: Operator, pattern: str) -> bool:
    return any(
        _is_called(spelling, pattern)
        for spelling in (operator.type, operator.kind, kind_of(operator))
    )


def _is_called(spelling: str, wanted: str) -> bool:
    """Tell whether a spelling is what is wanted or fits its pattern, as it is or as it is shown."""
    written = {spelling, *shown_forms(spelling)}
    return wanted in written or any(fnmatchcase(form, wanted) for form in written)


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
