"""`graphtool inspect`: print a program, its stages and heads, and its Values."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
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
    stage_text,
    write_json,
)
from graphtool.cli._source import check_inputs, read_source
from graphtool.diagnostics import ReadError, Where, counted
from graphtool.graph import UNKNOWN_DIM, Graph, Operator, Origin, Value, shape_text, shapes_agree
from graphtool.matching.pairs import end_of
from graphtool.ops import kind_of
from graphtool.selectors import nearest_names, unknown_name
from graphtool.structure import Role, Structure, ValueRow, analyse, value_row
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

__all__ = ["run"]

_MAX_TYPES = 8
_BACKWARD_ROLE = 1


def run(args: Namespace) -> int:
    """Read a model, and print its summary, stages and Values."""
    check_inputs("--input", args.input, args.model)
    graph = read_source(args.model, args.input)
    with progress("finding stages and heads"):
        structure = analyse(graph)
    rows, side_results = _select(structure, args)
    if args.format == "json":
        write_json(_json_data(structure, rows[: args.limit]))
        return 0
    console = results()
    narrows = _narrows(args)
    if not narrows:
        _print_summary(console, structure)
        _print_stages(console, structure)
        console.print()
    shown = rows[: args.limit or (None if args.all else ROWS)]
    _print_values(console, shown)
    remarks: list[str] = []
    if len(shown) < len(rows):
        more = counted(len(rows) - len(shown), "more row")
        remarks.append(f"{more} hidden: --limit {len(rows)}, or --all, shows them")
    if side_results:
        remarks.append(f"{counted(side_results, 'side result')} left out: --all shows them")
    if not (narrows or args.all):
        values = counted(len(graph.values), "Value")
        remarks.append(f"feature maps worth pairing: {len(rows)} of {values}; --all shows all")
    for line in remarks:
        console.print(line, style="dim", soft_wrap=True)
    return 0


def _print_summary(console: Console, structure: Structure) -> None:
    from rich.text import Text

    console.print(Text(escaped_bounded(structure.graph.source), style="bold"), soft_wrap=True)
    rows: list[tuple[str, str]] = []
    last = ""
    for title, text in _summary(structure):
        rows.append(("" if title == last else title, text))
        last = title
    print_table(console, (Column("", TITLE), Column("", least=20)), rows)


def _summary(structure: Structure) -> Iterator[tuple[str, str]]:
    """Yield the lines of the summary: a title, and its text with names made visible."""
    graph = structure.graph
    version = f", format version {printable(graph.version)}" if graph.version else ""
    operators = graph.operators.values()
    # PIR files have no operator roles.
    gradients = sum(bool(op.role & _BACKWARD_ROLE) or op.kind.endswith("_grad") for op in operators)
    training = f", for training: {gradients:,} operators compute gradients" if gradients else ""
    yield "program", f"{graph.kind.value}{version}{training}"
    for title, names in (("feeds", graph.feeds), ("fetches", graph.fetches)):
        for value in (graph.values[name] for name in names):
            dtype = printable(value.dtype or "?")
            yield title, f"{printed_name(value.name)}  {shape_text(value.shape)} {dtype}"
    types = _type_counts(graph)
    shown = ", ".join(f"{count:,} {escaped_bounded(name)}" for name, count in types[:_MAX_TYPES])
    more = len(types) - _MAX_TYPES
    others = f", and {counted(more, 'other type')}" if more > 0 else ""
    blocks = f" in {counted(len(graph.blocks), 'block')}" if len(graph.blocks) > 1 else ""
    yield "operators", f"{len(operators):,}{blocks}: {shown}{others}"
    statistics = structure.running_statistics
    added = f", and {statistics:,} running statistics" if statistics else ""
    yield "parameters", f"{structure.parameters:,}{added}"
    cost = f"{magnitude(structure.multiply_adds)} for one sample"
    nominal = "(unknown sizes taken as 224 × 224, lengths as 128)"
    yield "multiply-adds", cost if structure.is_cost_exact else f"≈ {cost} {nominal}"
    for head in structure.heads:
        parts = [f"logits {_name_and_shape(graph, head.logits)}"]
        if head.softmax is not None:
            parts.append(f"normalised by {printed_name(_probabilities(graph, head.softmax))}")
        if head.embedding is not None:
            parts.append(f"embedding {_name_and_shape(graph, head.embedding)}")
        yield "head", ", ".join(parts)
    if structure.encoder is not None:
        states = structure.encoder.hidden_states
        shape = shape_text(graph.values[states[-1]].shape)
        yield "encoder", f"{counted(len(states), 'layer')}, hidden states {shape}"


def _type_counts(graph: Graph) -> list[tuple[str, int]]:
    return Counter(operator.kind for operator in graph.operators.values()).most_common()


def _name_and_shape(graph: Graph, name: str) -> str:
    return f"{printed_name(name)} {shape_text(graph.values[name].shape)}"


def _probabilities(graph: Graph, operator: str) -> str:
    """Return the Value of the probabilities, whose name is more familiar than the operator's."""
    return graph.operators[operator].results[0]


def _print_stages(console: Console, structure: Structure) -> None:
    if not structure.stages:
        return
    console.print()
    rows: list[tuple[str, ...]] = []
    before = 0.0
    for number, stage in enumerate(structure.stages, structure.first_stage):
        sides, last = structure.sides(stage.end), structure.last_parametric_value(stage)
        # The layers after the blocks count as well.
        channels = map(structure.channels, (stage.end, last))
        texts = ("?" if count == UNKNOWN_DIM else str(count) for count in channels)
        share = structure.cost_fraction(last)
        rows.append(
            (
                stage_text(number),
                str(stage.scale),
                "?" if sides is None else f"{sides[0]} × {sides[1]}",
                str(len(stage.blocks)),
                " → ".join(dict.fromkeys(texts)),
                percent(share - before),
                printed_name(stage.end),
            )
        )
        before = share
    columns = (
        Column("stage", justify="right"),
        "resolution",
        "H × W",
        *(Column(title, justify="right") for title in ("blocks", "channels", "multiply-adds")),
        "last output",
    )
    print_table(console, columns, rows)


def _print_values(console: Console, rows: Sequence[ValueRow]) -> None:
    columns = (
        Column("name", least=32),
        Column("operator", order=4),
        "shape",
        Column("dtype", order=5),
        "role",
        Column("stage", justify="right", order=1),
        Column("resolution", order=3),
        Column("depth", justify="right"),
        Column("cost so far", justify="right", order=6),
        Column("layer or module", least=16, order=2),
    )
    cells = [
        (
            printed_name(row.value.name),
            "" if row.operator is None else escaped_bounded(row.operator.type),
            shape_text(row.value.shape),
            printable(row.value.dtype or "?"),
            row.role,
            stage_text(row.stage),
            row.resolution or "",
            percent(row.depth),
            percent(row.cost_fraction),
            escaped_bounded(row.value.layer or (row.operator and row.operator.module) or ""),
        )
        for row in rows
    ]
    print_table(console, columns, cells)


def _json_data(structure: Structure, rows: Sequence[ValueRow]) -> dict[str, Any]:
    graph, encoder = structure.graph, structure.encoder

    def tensors(names: Sequence[str]) -> list[dict[str, Any]]:
        values = (graph.values[name] for name in names)
        return [{"name": one.name, "shape": one.shape, "dtype": one.dtype} for one in values]

    return {
        "schema": 1,
        "source": graph.source,
        "kind": graph.kind.value,
        "version": graph.version,
        "unknown": graph.unknown,
        "feeds": tensors(graph.feeds),
        "fetches": tensors(graph.fetches),
        "operators": dict(_type_counts(graph)),
        "blocks": len(graph.blocks),
        "parameters": structure.parameters,
        "running_statistics": structure.running_statistics,
        "multiply_adds": {"count": structure.multiply_adds, "exact": structure.is_cost_exact},
        "stages": [
            {
                "stage": number,
                "resolution": str(stage.scale),
                "size": structure.sides(stage.end),
                "channels": structure.channels(stage.end),
                "multiply_adds_before_end": structure.cost_fraction(stage.end),
                "blocks": stage.blocks,
            }
            for number, stage in enumerate(structure.stages, structure.first_stage)
        ],
        "heads": [
            {
                "output": head.output,
                "logits": head.logits,
                "embedding": head.embedding,
                "normalised_by": head.softmax and _probabilities(graph, head.softmax),
            }
            for head in structure.heads
        ],
        "encoder": encoder
        and {
            "embeddings": encoder.embeddings,
            "hidden_states": encoder.hidden_states,
            "attention_scores": encoder.scores,
        },
        "values": [
            {
                **asdict(end_of(graph, row.value)),
                "aliases": row.value.aliases,
                "role": row.role,
                "stage": row.stage,
                "resolution": row.resolution,
                "depth": row.depth,
                "multiply_adds_before": row.cost_fraction,
                "main_line": row.main_line,
            }
            for row in rows
        ],
    }


def _narrows(args: Namespace) -> bool:
    filters = (args.name, args.op, args.shape, args.stage)
    return args.params or any(value is not None for value in filters)


def _select(structure: Structure, args: Namespace) -> tuple[list[ValueRow], int]:
    """Return the Values that match all filters; without one, the feature maps worth pairing.

    Side results, such as the statistics that a normalisation outputs, are left out if other Values
    match, unless everything is asked for; the second result is their number.

    Raises ReadError: GT101 for a filter that nothing matches.
    """
    _check_filters(structure, args)
    graph = structure.graph
    everything, narrows = args.all or args.format == "json", _narrows(args)
    if args.params:
        values = [one for one in graph.values.values() if one.origin is Origin.PARAMETER]
    elif everything or narrows:
        values = list(graph.values.values())
    else:
        values = [one for one in graph.values.values() if structure.is_on_main_line(one.name)]
    matching = [value for value in values if _fits(structure, value, args)]
    if not matching and narrows:
        filters = {
            "the name": args.name,
            "an operator of type": args.op,
            "the shape": None if args.shape is None else shape_text(args.shape),
            "the stage": None if args.stage is None else stage_text(args.stage),
        }
        texts = [f"{label} `{text}`" for label, text in filters.items() if text is not None]
        wanted = " and ".join(texts) or "the origin `parameter`"
        near: Sequence[str] = ()
        if args.name:
            known = (_spellings(one, graph.producer(one.name)) for one in graph.values.values())
            near = nearest_names(args.name.strip("*"), [text for texts in known for text in texts])
        raise ReadError(
            unknown_name(
                f"no Value has {wanted}",
                Where(program=graph.source),
                notes=tuple(near_notes(near)),
                help=f"{inspect_command(graph.source)} --all",
            )
        )
    main = [
        value
        for value in matching
        if value.output == 0 or structure.role(value.name) is not Role.OTHER
    ]
    shown = matching if everything or not main else main
    return [value_row(structure, value) for value in shown], len(matching) - len(shown)


def _check_filters(structure: Structure, args: Namespace) -> None:
    """Check that the stage and the type of operator exist.

    Raises ReadError: GT101.
    """
    graph = structure.graph
    where, inspect = Where(program=graph.source), inspect_command(graph.source)
    known = range(structure.first_stage, structure.first_stage + len(structure.stages))
    if args.stage is not None and args.stage not in known:
        count = len([number for number in known if number])
        stages = {0: "it has no stages", 1: "its only stage is 1"}
        wanted = f"stage {args.stage}" if args.stage else stage_text(0)
        existing = stages.get(count, f"its stages are 1 to {count}")
        stem = ", after the stem" if 0 in known else ""
        message = f"the network has no {wanted}: {existing}{stem}"
        raise ReadError(unknown_name(message, where, help=inspect))
    if args.op is not None:
        operators = graph.operators.values()
        if not any(_has_type(operator, args.op) for operator in operators):
            types = sorted({operator.kind for operator in operators})
            near = nearest_names(args.op.rpartition(".")[2].strip("*"), types)
            raise ReadError(
                unknown_name(
                    f"the program has no operator of type `{args.op}`",
                    where,
                    notes=tuple(near_notes(near)),
                    help=f"{inspect} {shell_option('--op', near[0])}" if near else inspect,
                )
            )


def _fits(structure: Structure, value: Value, args: Namespace) -> bool:
    operator = structure.graph.producer(value.name)
    if args.op is not None and (operator is None or not _has_type(operator, args.op)):
        return False
    if args.shape is not None and not shapes_agree(args.shape, value.shape):
        return False
    if args.stage is not None and structure.stage_of(value.name) != args.stage:
        return False
    spellings = _spellings(value, operator)
    return args.name is None or any(_matches(spelling, args.name) for spelling in spellings)


def _has_type(operator: Operator, pattern: str) -> bool:
    spellings = operator.type, operator.kind, kind_of(operator)
    return any(_matches(spelling, pattern) for spelling in spellings)


def _matches(spelling: str, pattern: str) -> bool:
    """Return whether a name, as it is or as printed, equals a pattern or matches it."""
    forms = {spelling, *printed_forms(spelling)}
    return pattern in forms or any(fnmatchcase(form, pattern) for form in forms)


def _spellings(value: Value, operator: Operator | None) -> Iterator[str]:
    yield from (value.name, *value.aliases, *value.layer_outputs)
    if value.layer is not None:
        yield value.layer
    if operator is not None and operator.module is not None:
        yield operator.module
