"""Graphs in files for other tools: GraphML for networkx, Gephi or yEd, CSV for tables."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from os import PathLike, fspath
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from graphtool.arguments import bad_argument
from graphtool.diagnostics import UsageError
from graphtool.files import check_writable, write_text
from graphtool.graph import UNKNOWN_DIM, Graph, Operator
from graphtool.matching.pairs import end_of
from graphtool.rendering import problems
from graphtool.sources import Source, read
from graphtool.structure import Structure, ValueRow, analyse, value_row
from graphtool.text import printable

if TYPE_CHECKING:
    import networkx

__all__ = [
    "CSV",
    "GRAPHML",
    "check_graph_file",
    "is_written_here",
    "row_data",
    "write_graph",
    "write_rows",
]

CSV, GRAPHML = ".csv", ".graphml"
# How either file begins, within its first bytes.
_BEGINS = {CSV: b"name,op,op_index,", GRAPHML: b'<key id="op_index"'}
_BEGINNING = 4096
_CALL = 'gt.write_graph("model.json", "values.csv")'
# Spreadsheets compute what begins with these, the wide forms of them included.
_ACTIVE = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_QUOTE = "'"

# networkx knows attributes by name alone.
_Attributes: TypeAlias = "dict[str, str | int | float | bool]"


def write_graph(x: Source, path: str | PathLike[str]) -> None:
    r"""Write a Graph, or what `gt.read` takes, for other tools, as the ending of `path` says.

    `.graphml` has every Operator and Value as a node, keyed as in `Graph.nx`, with its attributes;
    `place` of an edge lists which operands or results of the Operator it is, from 0; what goes into
    a region, and out of it, has none. `networkx.read_graphml` reads it. `.csv` has a line for each
    Value in program order, with the columns of `graphtool inspect --format json`: shapes are
    `? 512 7 7`, depth is a share from 0 to 1, multiply-adds are for one sample, and lists have `; `
    between items.

    Names are written as graphtool shows them: letters that XML forbids, or that cannot be seen, as
    `\x1b`, which selectors take. In the CSV, text that a spreadsheet would compute, beginning with
    `=`, `+`, `-` or `@`, or that begins with `'`, has a `'` put before it.

    Raises UsageError: GT402 for another ending, GT248. Raises GraphtoolError: GT601. Raises
    ReadError as `gt.read` does.
    """
    _require_path(path)
    check_graph_file(path)
    structure = analyse(read(x))
    if _ending(path) == GRAPHML:
        write_text(path, _graphml(structure))
    else:
        write_rows(structure.graph, _rows(structure), path)


def _require_path(given: object) -> None:
    if not isinstance(given, str | PathLike):
        raise UsageError(bad_argument("path", given, "the path of a file", _CALL))


def check_graph_file(path: str | PathLike[str]) -> None:
    """Refuse a file that can't be written before work is put into what goes there.

    Raises UsageError: GT402 for another ending. Raises GraphtoolError: GT601.
    """
    if _ending(path) not in (CSV, GRAPHML):
        raise UsageError(problems.unknown_ending(fspath(path), (CSV, GRAPHML), "graph"))
    check_writable(path)


def is_written_here(path: str) -> bool:
    """Tell a file that `write_graph` wrote from anybody's table or graph.

    Raises OSError where it can't be read.
    """
    with Path(path).open("rb") as file:
        return _BEGINS[_ending(path)] in file.read(_BEGINNING)


def _ending(path: str | PathLike[str]) -> str:
    return PurePath(path).suffix.lower()


def _rows(structure: Structure) -> Iterator[ValueRow]:
    return (value_row(structure, value) for value in structure.graph.values.values())


def row_data(graph: Graph, row: ValueRow) -> dict[str, Any]:
    """Return all that is known of a Value as plain data."""
    return {
        **asdict(end_of(graph, row.value)),
        "aliases": row.value.aliases,
        "role": row.role,
        "stage": row.stage,
        "resolution": row.resolution,
        "depth": row.depth,
        "multiply_adds_before": row.cost_fraction,
        "main_line": row.main_line,
    }


def write_rows(graph: Graph, rows: Iterable[ValueRow], path: str | PathLike[str]) -> None:
    """Write Values as CSV, whole or not at all.

    Raises GraphtoolError: GT601.
    """
    import csv

    table = [row_data(graph, row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]) if table else ["name"], lineterminator="\n")
    writer.writeheader()
    for data in table:
        writer.writerow({key: _cell(value) for key, value in data.items()})
    write_text(path, text.getvalue())


def _cell(given: Any) -> Any:
    """Return what a cell holds: no spreadsheet computes a text of it."""
    text = _text(given)
    is_active = isinstance(text, str) and text.startswith((*_ACTIVE, _QUOTE))
    return f"{_QUOTE}{text}" if is_active else text


def _text(given: Any) -> Any:
    """Write texts so that they can be told letter by letter, and lists as one of them."""
    if isinstance(given, tuple):
        several = cast("tuple[object, ...]", given)
        is_shape = all(isinstance(dim, int) for dim in several)
        texts = ["?" if dim == UNKNOWN_DIM else str(dim) for dim in several]
        given = (" " if is_shape else "; ").join(texts)
    return printable(given) if isinstance(given, str) else given


def _graphml(structure: Structure) -> str:
    import networkx

    lines = networkx.generate_graphml(_exported(structure), named_key_ids=True)
    return "".join(f"{line}\n" for line in lines)


def _exported(structure: Structure) -> networkx.DiGraph[str]:
    """Return the graph with plain attributes, and with names that XML can hold."""
    import networkx

    graph = structure.graph
    exported: networkx.DiGraph[str] = networkx.DiGraph()
    for row in _rows(structure):
        exported.add_node(printable(row.value.name), **_of_value(graph, row))
    keys = {name: printable(key) for name, key in graph.operator_keys.items()}
    for operator in graph.operators.values():
        exported.add_node(keys[operator.name], **_of_operator(operator))
    exported.add_edges_from((printable(tail), printable(head)) for tail, head in graph.nx.edges)
    for (tail, head), places in _places(graph, keys).items():
        exported.edges[tail, head]["place"] = " ".join(places)
    return exported


def _of_value(graph: Graph, row: ValueRow) -> _Attributes:
    origin = row.value.origin.value
    return _attributes({"node": "value", "origin": origin, **row_data(graph, row)})


def _of_operator(operator: Operator) -> _Attributes:
    return _attributes(
        {
            "node": "operator",
            "name": operator.name,
            "op": operator.type,
            "op_index": operator.index,
            "block": operator.block,
            "module": operator.module,
        }
    )


def _attributes(found: Mapping[str, Any]) -> _Attributes:
    """Return what GraphML has types for: texts, numbers, and what is there at all."""
    plain = {key: _text(value) for key, value in found.items()}
    return {key: value for key, value in plain.items() if value is not None}


def _places(graph: Graph, keys: Mapping[str, str]) -> Mapping[tuple[str, str], list[str]]:
    """Number the operands and results on their edges; one Value may be several operands."""
    places: dict[tuple[str, str], list[str]] = {}
    for operator in graph.operators.values():
        key = keys[operator.name]
        for place, name in enumerate(operator.operands):
            if name is not None:
                places.setdefault((printable(name), key), []).append(str(place))
        for place, name in enumerate(operator.results):
            places.setdefault((key, printable(name)), []).append(str(place))
    return places
