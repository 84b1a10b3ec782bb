"""`graphtool inspect`: print a program, its stages and heads, and its Values."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from graphtool.cli._arguments import ROWS
from graphtool.cli._console import (
    TITLE,
    Column,
    magnitude,
    percent,
    print_table,
    progress,
    results,
    shape_text,
    stage_text,
    value_type,
    write_json,
)
from graphtool.cli._source import check_inputs, read_source
from graphtool.diagnostics import ReadError, Where, counted
from graphtool.graph import UNKNOWN_DIM, Graph, Operator, Origin, Shape, Value, shapes_agree
from graphtool.matching.pairs import end_of
from graphtool.ops import kind_of
from graphtool.selectors import nearest_names, unknown_name
from graphtool.structure import Head, Role, Stage, Structure, ValueRow, analyse, value_row
from graphtool.text import (
    escaped_bounded,
    inspect_command,
    near_notes,
    printable,
    printed_forms,
    printed_name,
    shell_option,
)

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Query", "Selection", "run", "select"]

_MAX_TYPES = 8
_BACKWARD_ROLE = 1


def run(args: Namespace) -> int:
    """Read a model, and print its summary, stages and Values."""
    check_inputs("--input", args.input, args.model)
    query = _query(args)
    graph = read_source(args.model, args.input)
    with progress("finding stages and heads"):
        structure = analyse(graph)
    selection = select(structure, query)
    if args.format == "json":
        write_json(_json_data(structure, selection.rows, args.limit))
        return 0
    console = results()
    if not query.narrows:
        _print_summary(console, structure)
        _print_stages(console, structure)
        console.print()
    shown = selection.rows[: args.limit or (None if args.all else ROWS)]
    print_table(console, _columns(shown))
    for line in _remarks(structure, query, selection, len(shown)):
        console.print(line, style="dim", soft_wrap=True)
    return 0


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

    console.print(Text(escaped_bounded(structure.graph.source), style="bold"), soft_wrap=True)
    lines = list(_summary(structure))
    titles = [title for title, _ in lines]
    first_only = ["" if title in titles[:index] else title for index, title in enumerate(titles)]
    columns = (
        Column(title="", cells=first_only, style=TITLE),
        Column(title="", cells=[text for _, text in lines], least=20),
    )
    print_table(console, columns)


def _summary(structure: Structure) -> Iterator[tuple[str, str]]:
    """Yield the lines of the summary: a title, and its text with names made visible."""
    graph = structure.graph
    version = f", format version {printable(graph.version)}" if graph.version else ""
    yield "program", f"{graph.kind.value}{version}{_training_note(graph)}"
    yield from (("feeds", _name_and_type(graph, name)) for name in graph.feeds)
    yield from (("fetches", _name_and_type(graph, name)) for name in graph.fetches)
    yield "operators", _operators_text(graph)
    yield "parameters", _parameters_text(structure)
    yield "multiply-adds", _multiply_adds_text(structure)
    yield from (("head", _head_text(graph, head)) for head in structure.heads)
    if structure.encoder is not None:
        layers = counted(len(structure.encoder.hidden_states), "layer")
        state = graph.values[structure.encoder.hidden_states[-1]]
        yield "encoder", f"{layers}, hidden states {shape_text(state.shape)}"


def _training_note(graph: Graph) -> str:
    """Return a note on the gradients of a training program; PIR files have no operator roles."""
    operators = graph.operators.values()
    gradients = sum(bool(op.role & _BACKWARD_ROLE) or op.kind.endswith("_grad") for op in operators)
    return f", for training: {gradients:,} operators compute gradients" if gradients else ""


def _name_and_type(graph: Graph, name: str) -> str:
    return f"{printed_name(name)}  {value_type(graph.values[name])}"


def _operators_text(graph: Graph) -> str:
    types = _type_counts(graph)
    shown = ", ".join(f"{count:,} {escaped_bounded(name)}" for name, count in types[:_MAX_TYPES])
    more = len(types) - _MAX_TYPES
    others = f", and {counted(more, 'other type')}" if more > 0 else ""
    blocks = f" in {counted(len(graph.blocks), 'block')}" if len(graph.blocks) > 1 else ""
    return f"{len(graph.operators):,}{blocks}: {shown}{others}"


def _type_counts(graph: Graph) -> list[tuple[str, int]]:
    return Counter(operator.kind for operator in graph.operators.values()).most_common()


def _parameters_text(structure: Structure) -> str:
    statistics = structure.running_statistics
    added = f", and {statistics:,} running statistics" if statistics else ""
    return f"{structure.parameters:,}{added}"


def _multiply_adds_text(structure: Structure) -> str:
    if structure.is_cost_exact:
        return f"{magnitude(structure.multiply_adds)} for one sample"
    nominal = "unknown sizes taken as 224 × 224, lengths as 128"
    return f"≈ {magnitude(structure.multiply_adds)} for one sample ({nominal})"


def _head_text(graph: Graph, head: Head) -> str:
    parts = [f"logits {printed_name(head.logits)} {shape_text(graph.values[head.logits].shape)}"]
    if head.softmax is not None:
        parts.append(f"normalised by {printed_name(_probabilities(graph, head.softmax))}")
    if head.embedding is not None:
        shape = shape_text(graph.values[head.embedding].shape)
        parts.append(f"embedding {printed_name(head.embedding)} {shape}")
    return ", ".join(parts)


def _probabilities(graph: Graph, operator: str) -> str:
    """Return the Value of the probabilities, whose name is more familiar than the operator's."""
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
        Column(title="H × W", cells=[_size_text(structure, end) for end in ends]),
        Column(title="blocks", cells=[str(len(stage.blocks)) for stage in stages], justify="right"),
        Column(
            title="channels",
            cells=[_stage_channels(structure, stage) for stage in stages],
            justify="right",
        ),
        Column(title="multiply-adds", cells=_stage_shares(structure), justify="right"),
        Column(title="last output", cells=list(map(printed_name, ends))),
    )
    print_table(console, columns)


def _size_text(structure: Structure, name: str) -> str:
    sides = structure.sides(name)
    return "?" if sides is None else f"{sides[0]} × {sides[1]}"


def _channels_text(structure: Structure, name: str) -> str:
    channels = structure.channels(name)
    return "?" if channels == UNKNOWN_DIM else str(channels)


def _stage_channels(structure: Structure, stage: Stage) -> str:
    """Return the channels of the last block, and those of layers after it if they differ."""
    outputs = stage.end, structure.last_parametric_value(stage)
    return " → ".join(dict.fromkeys(_channels_text(structure, name) for name in outputs))


def _stage_shares(structure: Structure) -> list[str]:
    """Return each stage's share of the multiply-adds, with the layers after its blocks."""
    ends = [
        structure.cost_fraction(structure.last_parametric_value(stage))
        for stage in structure.stages
    ]
    starts = [0.0, *ends]
    return [percent(end - start) for start, end in zip(starts, ends, strict=False)]


def _columns(rows: Sequence[ValueRow]) -> tuple[Column, ...]:
    ops = ["" if row.operator is None else escaped_bounded(row.operator.type) for row in rows]
    stages = ["" if row.stage is None else stage_text(row.stage) for row in rows]
    return (
        Column(title="name", cells=[printed_name(row.value.name) for row in rows], least=32),
        Column(title="operator", cells=ops, order=4),
        Column(title="shape", cells=[shape_text(row.value.shape) for row in rows]),
        Column(title="dtype", cells=[printable(row.value.dtype or "?") for row in rows], order=5),
        Column(title="role", cells=[row.role for row in rows]),
        Column(title="stage", cells=stages, justify="right", order=1),
        Column(title="resolution", cells=[row.resolution or "" for row in rows], order=3),
        Column(
            title="depth", cells=[_percent_or_blank(row.depth) for row in rows], justify="right"
        ),
        Column(
            title="cost so far",
            cells=[_percent_or_blank(row.cost_fraction) for row in rows],
            justify="right",
            order=6,
        ),
        Column(
            title="layer or module", cells=[_module_path(row) for row in rows], least=16, order=2
        ),
    )


def _percent_or_blank(fraction: float | None) -> str:
    return "" if fraction is None else percent(fraction)


def _module_path(row: ValueRow) -> str:
    module = None if row.operator is None else row.operator.module
    return escaped_bounded(row.value.layer or module or "")


def _remarks(structure: Structure, query: Query, selection: Selection, shown: int) -> Iterator[str]:
    total = len(selection.rows)
    if shown < total:
        yield f"{counted(total - shown, 'more row')} hidden: --limit {total}, or --all, shows them"
    if selection.side_results:
        yield f"{counted(selection.side_results, 'side result')} left out: --all shows them"
    if not (query.narrows or query.everything):
        values = counted(len(structure.graph.values), "Value")
        yield f"feature maps worth pairing: {total} of {values}; --all shows all"


def _json_data(structure: Structure, rows: Sequence[ValueRow], limit: int | None) -> dict[str, Any]:
    graph = structure.graph
    return {
        "schema": 1,
        "source": graph.source,
        "kind": graph.kind.value,
        "version": graph.version,
        "unknown": graph.unknown,
        "feeds": [_tensor_data(graph, name) for name in graph.feeds],
        "fetches": [_tensor_data(graph, name) for name in graph.fetches],
        "operators": dict(_type_counts(graph)),
        "blocks": len(graph.blocks),
        "parameters": structure.parameters,
        "running_statistics": structure.running_statistics,
        "multiply_adds": {"count": structure.multiply_adds, "exact": structure.is_cost_exact},
        "stages": _stage_data(structure),
        "heads": [_head_data(graph, head) for head in structure.heads],
        "encoder": _encoder_data(structure),
        "values": [_row_data(graph, row) for row in rows[:limit]],
    }


def _row_data(graph: Graph, row: ValueRow) -> dict[str, Any]:
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


def _tensor_data(graph: Graph, name: str) -> dict[str, Any]:
    value = graph.values[name]
    return {"name": name, "shape": value.shape, "dtype": value.dtype}


def _stage_data(structure: Structure) -> list[dict[str, Any]]:
    return [
        {
            "stage": number,
            "resolution": str(stage.scale),
            "size": structure.sides(stage.end),
            "channels": structure.channels(stage.end),
            "multiply_adds_before_end": structure.cost_fraction(stage.end),
            "blocks": stage.blocks,
        }
        for number, stage in enumerate(structure.stages, structure.first_stage)
    ]


def _head_data(graph: Graph, head: Head) -> dict[str, Any]:
    normalised = head.softmax
    return {
        "output": head.output,
        "logits": head.logits,
        "embedding": head.embedding,
        "normalised_by": None if normalised is None else _probabilities(graph, normalised),
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
