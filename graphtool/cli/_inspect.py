"""`graphtool inspect`: what a program is, what its network is made of, and its Values."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphtool.cli._arguments import ROWS
from graphtool.cli._console import (
    TITLE,
    Column,
    errors,
    print_table,
    progress,
    results,
    write_json,
)
from graphtool.cli._listing import Query, Selection, select
from graphtool.cli._picture import holds_something, verb_for
from graphtool.cli._source import check_inputs, read_source
from graphtool.cli._text import magnitude, percent, shape_text, stage_text, value_type
from graphtool.cli.problems import not_of_inspect, wrong_usage
from graphtool.diagnostics import UsageError, counted
from graphtool.files import reported
from graphtool.graph import UNKNOWN, Graph
from graphtool.structure import Head, Row, Stage, Structure, analyse
from graphtool.text import bounded, named, visible

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["run"]

_TYPES_SHOWN = 8
_BACKWARD = 1


def run(args: Namespace) -> int:
    """Read a model and print what it is."""
    check_inputs("--input", args.input, args.model)
    query = _query(args)
    _check_output(args.output, query)
    graph = read_source(args.model, args.input)
    with progress("finding stages and heads"):
        structure = analyse(graph)
    selection = select(structure, query)
    if args.output is not None:
        _write(structure, query, args.output)
    if args.format == "json":
        write_json(_data(structure, selection.rows, args.limit))
        return 0
    console = results()
    if not query.narrows:
        _print_summary(console, structure)
        _print_stages(console, structure)
        console.print()
    shown = selection.rows[: _limit(args)]
    print_table(console, _columns(shown))
    for line in _remarks(structure, query, selection, len(shown)):
        console.print(line, style="dim", soft_wrap=True)
    return 0


def _check_output(path: str | None, query: Query) -> None:
    """Refuse a file that is none of a graph, or not ours, and a part of what has the whole graph.

    Raises UsageError: GT413, GT600, GT606. Raises GraphtoolError: GT601.
    """
    if path is None:
        return
    from graphtool.rendering.interchange import GRAPHML, check_graph_file, is_written_here

    check_graph_file(path)
    if holds_something(path):
        with reported(Path(path)):
            ours = is_written_here(path)
        if not ours:
            raise UsageError(not_of_inspect(path))
    if path.lower().endswith(GRAPHML) and query.narrows:
        message = f"argument --output: a {GRAPHML} has the whole graph, and no part of it"
        raise UsageError(wrong_usage(message, help="-o values.csv"))


def _write(structure: Structure, query: Query, path: str) -> None:
    """Write the Values that were asked for, else all of them, or the whole graph."""
    from graphtool.rendering.interchange import GRAPHML, write_graph, write_rows

    graph, verb = structure.graph, verb_for(path)
    if path.lower().endswith(GRAPHML):
        write_graph(graph, path)
        said = f"{counted(len(graph.operators), 'operator')}, {counted(len(graph.values), 'Value')}"
    else:
        rows = select(structure, replace(query, everything=True)).rows
        write_rows(graph, rows, path)
        said = counted(len(rows), "Value")
    errors().print(f"{verb} {visible(path)}: {said}", soft_wrap=True)


def _limit(args: Namespace) -> int | None:
    return args.limit or (None if args.all else ROWS)


def _query(args: Namespace) -> Query:
    return Query(
        name=args.name,
        op=args.op,
        shape=args.shape,
        stage=args.stage,
        parameters=args.params,
        everything=args.all or args.format == "json",
    )


def _print_summary(console: Console, structure: Structure) -> None:
    from rich.text import Text

    console.print(Text(bounded(structure.graph.source), style="bold"), soft_wrap=True)
    lines = list(_summary(structure))
    titles = [title for title, _ in lines]
    repeated = [title in titles[:place] for place, title in enumerate(titles)]
    columns = (
        Column(
            title="",
            cells=["" if again else title for title, again in zip(titles, repeated, strict=True)],
            style=TITLE,
        ),
        Column(title="", cells=[text for _, text in lines], least=20),
    )
    print_table(console, columns)


def _summary(structure: Structure) -> Iterator[tuple[str, str]]:
    """Yield titles and what to show under them, names in it made visible."""
    graph = structure.graph
    version = f", format version {visible(graph.version)}" if graph.version else ""
    yield "program", f"{graph.kind.value}{version}{_training(graph)}"
    yield from (("feeds", _typed(graph, name)) for name in graph.feeds)
    yield from (("fetches", _typed(graph, name)) for name in graph.fetches)
    yield "operators", _operators(graph)
    yield "parameters", _parameters(structure)
    yield "multiply-adds", _multiply_adds(structure)
    yield from (("head", _head(graph, head)) for head in structure.heads)
    if structure.encoder is not None:
        layers = counted(len(structure.encoder.hidden_states), "layer")
        state = graph.values[structure.encoder.hidden_states[-1]]
        yield "encoder", f"{layers}, hidden states {shape_text(state.shape)}"


def _training(graph: Graph) -> str:
    """Say that a program trains, by its gradients: PIR files have no roles, but type names."""
    operators = graph.operators.values()
    gradients = sum(bool(op.role & _BACKWARD) or op.kind.endswith("_grad") for op in operators)
    return f", for training: {gradients:,} operators compute gradients" if gradients else ""


def _typed(graph: Graph, name: str) -> str:
    return f"{named(name)}  {value_type(graph.values[name])}"


def _operators(graph: Graph) -> str:
    types = _types(graph)
    shown = ", ".join(f"{count:,} {bounded(name)}" for name, count in types[:_TYPES_SHOWN])
    more = len(types) - _TYPES_SHOWN
    others = f", and {counted(more, 'other type')}" if more > 0 else ""
    blocks = f" in {counted(len(graph.blocks), 'block')}" if len(graph.blocks) > 1 else ""
    return f"{len(graph.operators):,}{blocks}: {shown}{others}"


def _types(graph: Graph) -> list[tuple[str, int]]:
    return Counter(operator.kind for operator in graph.operators.values()).most_common()


def _parameters(structure: Structure) -> str:
    statistics = structure.running_statistics
    added = f", and {statistics:,} running statistics" if statistics else ""
    return f"{structure.parameters:,}{added}"


def _multiply_adds(structure: Structure) -> str:
    if structure.exact:
        return f"{magnitude(structure.multiply_adds)} for one sample"
    nominal = "unknown sizes taken as 224 × 224, lengths as 128"
    return f"≈ {magnitude(structure.multiply_adds)} for one sample ({nominal})"


def _head(graph: Graph, head: Head) -> str:
    parts = [f"logits {named(head.logits)} {shape_text(graph.values[head.logits].shape)}"]
    if head.normalised is not None:
        parts.append(f"normalised by {named(_normalised(graph, head.normalised))}")
    if head.embedding is not None:
        shape = shape_text(graph.values[head.embedding].shape)
        parts.append(f"embedding {named(head.embedding)} {shape}")
    return ", ".join(parts)


def _normalised(graph: Graph, operator: str) -> str:
    """Return the Value that holds the probabilities: people know it, not the operator's name."""
    return graph.operators[operator].results[0]


def _print_stages(console: Console, structure: Structure) -> None:
    if not structure.stages:
        return
    console.print()
    stages = structure.stages
    ends = [stage.end for stage in stages]
    numbers = range(structure.first_stage, structure.first_stage + len(stages))
    columns = (
        Column(title="stage", cells=[stage_text(number) for number in numbers], justify="right"),
        Column(title="resolution", cells=[str(stage.scale) for stage in stages]),
        Column(title="H × W", cells=[_size(structure, end) for end in ends]),
        Column(title="blocks", cells=[str(len(stage.blocks)) for stage in stages], justify="right"),
        Column(
            title="channels",
            cells=[_stage_channels(structure, stage) for stage in stages],
            justify="right",
        ),
        Column(title="multiply-adds", cells=_shares(structure), justify="right"),
        Column(title="last output", cells=list(map(named, ends))),
    )
    print_table(console, columns)


def _size(structure: Structure, name: str) -> str:
    sides = structure.sides(name)
    return "?" if sides is None else f"{sides[0]} × {sides[1]}"


def _channels(structure: Structure, name: str) -> str:
    channels = structure.channels(name)
    return "?" if channels == UNKNOWN else str(channels)


def _stage_channels(structure: Structure, stage: Stage) -> str:
    """Return the channels of the last block's output, and what is made of them behind it."""
    found = (_channels(structure, name) for name in (stage.end, structure.last_weighed(stage)))
    return " → ".join(dict.fromkeys(found))


def _shares(structure: Structure) -> list[str]:
    """Return the share of all multiply-adds that each stage adds, what is behind its blocks too."""
    spent = [structure.cost_before(structure.last_weighed(stage)) for stage in structure.stages]
    before = [0.0, *spent]
    return [percent(end - start) for start, end in zip(before, spent, strict=False)]


def _columns(rows: Sequence[Row]) -> tuple[Column, ...]:
    ops = ["" if row.operator is None else bounded(row.operator.type) for row in rows]
    stages = ["" if row.stage is None else stage_text(row.stage) for row in rows]
    return (
        Column(title="name", cells=[named(row.value.name) for row in rows], least=32),
        Column(title="operator", cells=ops, order=4),
        Column(title="shape", cells=[shape_text(row.value.shape) for row in rows]),
        Column(title="dtype", cells=[visible(row.value.dtype or "?") for row in rows], order=5),
        Column(title="role", cells=[row.role for row in rows]),
        Column(title="stage", cells=stages, justify="right", order=1),
        Column(title="resolution", cells=[row.resolution or "" for row in rows], order=3),
        Column(title="depth", cells=[_share(row.depth) for row in rows], justify="right"),
        Column(
            title="cost so far",
            cells=[_share(row.spent) for row in rows],
            justify="right",
            order=6,
        ),
        Column(title="layer or module", cells=[_path(row) for row in rows], least=16, order=2),
    )


def _share(fraction: float | None) -> str:
    return "" if fraction is None else percent(fraction)


def _path(row: Row) -> str:
    module = None if row.operator is None else row.operator.module
    return bounded(row.value.layer or module or "")


def _remarks(structure: Structure, query: Query, selection: Selection, shown: int) -> Iterator[str]:
    found = len(selection.rows)
    if shown < found:
        yield f"{counted(found - shown, 'more row')} hidden: --limit {found}, or --all, shows them"
    if selection.side_results:
        yield f"{counted(selection.side_results, 'side result')} left out: --all shows them"
    if not (query.narrows or query.everything):
        whole = counted(len(structure.graph.values), "Value")
        yield f"feature maps worth pairing: {found} of {whole}; --all shows all"


def _data(structure: Structure, rows: Sequence[Row], limit: int | None) -> dict[str, Any]:
    from graphtool.rendering.interchange import row_data

    graph = structure.graph
    return {
        "schema": 1,
        "source": graph.source,
        "kind": graph.kind.value,
        "version": graph.version,
        "unknown": graph.unknown,
        "feeds": [_tensor(graph, name) for name in graph.feeds],
        "fetches": [_tensor(graph, name) for name in graph.fetches],
        "operators": dict(_types(graph)),
        "blocks": len(graph.blocks),
        "parameters": structure.parameters,
        "running_statistics": structure.running_statistics,
        "multiply_adds": {"count": structure.multiply_adds, "exact": structure.exact},
        "stages": _stage_data(structure),
        "heads": [_head_data(graph, head) for head in structure.heads],
        "encoder": _encoder_data(structure),
        "values": [row_data(graph, row) for row in rows[:limit]],
    }


def _tensor(graph: Graph, name: str) -> dict[str, Any]:
    value = graph.values[name]
    return {"name": name, "shape": value.shape, "dtype": value.dtype}


def _stage_data(structure: Structure) -> list[dict[str, Any]]:
    return [
        {
            "stage": number,
            "resolution": str(stage.scale),
            "size": structure.sides(stage.end),
            "channels": structure.channels(stage.end),
            "multiply_adds_before_end": structure.cost_before(stage.end),
            "blocks": stage.blocks,
        }
        for number, stage in enumerate(structure.stages, structure.first_stage)
    ]


def _head_data(graph: Graph, head: Head) -> dict[str, Any]:
    normalised = head.normalised
    return {
        "output": head.output,
        "logits": head.logits,
        "embedding": head.embedding,
        "normalised_by": None if normalised is None else _normalised(graph, normalised),
    }


def _encoder_data(structure: Structure) -> dict[str, Any] | None:
    encoder = structure.encoder
    if encoder is None:
        return None
    return {
        "embeddings": encoder.embeddings,
        "hidden_states": encoder.hidden_states,
        "attention_scores": encoder.scores,
    }
