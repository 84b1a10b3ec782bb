"""`graphtool inspect`: print a program, its stages and heads, and its Values."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from itertools import chain, groupby
from operator import itemgetter
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
from graphtool.diagnostics import Diagnostic, ReadError, Where, counted
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

__all__ = ["run_inspect"]

_MAX_TYPES = 8
_BACKWARD_ROLE = 1


def run_inspect(args: Namespace) -> int:
    """Read a model, and print its summary, stages and Values."""
    check_inputs("--input", args.input, args.model)
    graph = read_source(args.model, args.input)
    with progress("finding stages and heads"):
        structure = analyse(graph)
    filters = _filters(structure, args)
    rows, side_results = _select(structure, filters, args)
    if args.format == "json":
        write_json(_json_data(structure, rows[: args.limit]))
        return 0
    console = results()
    if not filters:
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
    if not (filters or args.all):
        values = counted(len(graph.values), "Value")
        remarks.append(f"feature maps worth pairing: {len(rows)} of {values}; --all shows all")
    for line in remarks:
        console.print(line, style="dim", soft_wrap=True)
    return 0


def _print_summary(console: Console, structure: Structure) -> None:
    from rich.text import Text

    console.print(Text(escaped_bounded(structure.graph.source), style="bold"), soft_wrap=True)
    rows: list[tuple[str, str]] = []
    for title, lines in groupby(_summary(structure), itemgetter(0)):
        rows += (("" if index else title, text) for index, (_, text) in enumerate(lines))
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
    yield "read as", structure.description

    def named(name: str) -> str:
        return f"{printed_name(name)} {shape_text(graph.values[name].shape)}"

    for head in structure.heads:
        parts = [f"logits {named(head.logits)}"]
        if head.softmax is not None:
            parts.append(f"normalised by {printed_name(_probabilities(graph, head.softmax))}")
        if head.embedding is not None:
            parts.append(f"embedding {named(head.embedding)}")
        yield "head", ", ".join(parts)
    if structure.encoder is not None:
        states = structure.encoder.hidden_states
        shape = shape_text(graph.values[states[-1]].shape)
        yield "encoder", f"{counted(len(states), 'layer')}, hidden states {shape}"


def _type_counts(graph: Graph) -> list[tuple[str, int]]:
    return Counter(operator.kind for operator in graph.operators.values()).most_common()


def _probabilities(graph: Graph, operator: str) -> str:
    """Return the Value of the probabilities, whose name is more familiar than the operator's."""
    return graph.operators[operator].results[0]


def _print_stages(console: Console, structure: Structure) -> None:
    rows: list[tuple[str, ...]] = []
    before = 0.0
    course = structure.course
    numbered = enumerate(structure.stages, structure.first_stage)
    named = [(stage_text(number), stage) for number, stage in numbered]
    named += [("middle", course.middle)] if course.middle else []
    named += [(f"up {number}", stage) for number, stage in enumerate(course.up, 1)]
    if not named:
        return
    console.print()
    for name, stage in named:
        sides, last = structure.sides(stage.end), structure.last_parametric_value(stage)
        # The layers after the blocks count as well.
        channels = map(structure.channels, (stage.end, last))
        texts = ("?" if count == UNKNOWN_DIM else str(count) for count in channels)
        share = structure.cost_fraction(last)
        rows.append(
            (
                name,
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
    def operator(row: ValueRow) -> str:
        return "" if row.operator is None else escaped_bounded(row.operator.type)

    def path(row: ValueRow) -> str:
        return escaped_bounded(row.value.layer or (row.operator and row.operator.module) or "")

    table: dict[Column, Callable[[ValueRow], str]] = {
        Column("name", least=32): lambda row: printed_name(row.value.name),
        Column("operator", order=4): operator,
        Column("shape"): lambda row: shape_text(row.value.shape),
        Column("dtype", order=5): lambda row: printable(row.value.dtype or "?"),
        Column("role"): lambda row: row.role,
        Column("stage", justify="right", order=1): lambda row: stage_text(row.stage),
        Column("resolution", order=3): lambda row: row.resolution or "",
        Column("depth", justify="right"): lambda row: percent(row.depth),
        Column("cost so far", justify="right", order=6): lambda row: percent(row.cost_fraction),
        Column("layer or module", least=16, order=2): path,
    }
    print_table(console, list(table), [[cell(row) for cell in table.values()] for row in rows])


def _json_data(structure: Structure, rows: Sequence[ValueRow]) -> dict[str, Any]:
    graph, encoder = structure.graph, structure.encoder

    def picked(item: object, *names: str) -> dict[str, Any]:
        return {name: getattr(item, name) for name in names}

    def tensors(names: Sequence[str]) -> list[dict[str, Any]]:
        return [picked(graph.values[name], "name", "shape", "dtype") for name in names]

    return {
        "schema": 1,
        "source": graph.source,
        "kind": graph.kind.value,
        **picked(graph, "version", "unknown"),
        "feeds": tensors(graph.feeds),
        "fetches": tensors(graph.fetches),
        "operators": dict(_type_counts(graph)),
        "blocks": len(graph.blocks),
        **picked(structure, "parameters", "running_statistics"),
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
                **picked(head, "output", "logits", "embedding"),
                "normalised_by": head.softmax and _probabilities(graph, head.softmax),
            }
            for head in structure.heads
        ],
        "encoder": encoder
        and {
            **picked(encoder, "embeddings", "hidden_states"),
            "attention_scores": encoder.scores,
        },
        "values": [
            {
                **asdict(end_of(graph, row.value)),
                "aliases": row.value.aliases,
                **picked(row, "role", "stage", "resolution", "depth"),
                "multiply_adds_before": row.cost_fraction,
                "main_line": row.main_line,
            }
            for row in rows
        ],
    }


def _filters(structure: Structure, args: Namespace) -> dict[str, Callable[[Value], bool]]:
    """Return what each filter of the command line wants, with the function that tests a Value."""
    producer = structure.graph.producer
    filters: dict[str, Callable[[Value], bool]] = {}
    if args.name is not None:
        filters[f"the name `{args.name}`"] = lambda value: _matches(
            _spellings(value, producer(value.name)), args.name
        )
    if args.op is not None:
        filters[f"an operator of type `{args.op}`"] = lambda value: _matches(
            _types(producer(value.name)), args.op
        )
    if args.shape is not None:
        wanted = f"the shape `{shape_text(args.shape)}`"
        filters[wanted] = lambda value: shapes_agree(args.shape, value.shape)
    if args.stage is not None:
        wanted = f"the stage `{stage_text(args.stage)}`"
        filters[wanted] = lambda value: structure.stage_of(value.name) == args.stage
    if args.params:
        filters["the origin `parameter`"] = lambda value: value.origin is Origin.PARAMETER
    return filters


def _select(
    structure: Structure, filters: Mapping[str, Callable[[Value], bool]], args: Namespace
) -> tuple[list[ValueRow], int]:
    """Return the Values that match all filters; without one, the feature maps worth pairing.

    Side results, such as the statistics that a normalisation outputs, are left out if other Values
    match, unless everything is asked for; the second result is their number.

    Raises ReadError: GT101 for a filter that nothing matches.
    """
    everything, values = args.all or args.format == "json", structure.graph.values.values()
    matching = [value for value in values if all(fits(value) for fits in filters.values())]
    if filters and not matching:
        raise ReadError(_nothing_matches(structure, " and ".join(filters), args))
    if not (filters or everything):
        matching = [value for value in matching if structure.is_on_main_line(value.name)]
    main = [
        value
        for value in matching
        if value.output == 0 or structure.role(value.name) is not Role.OTHER
    ]
    shown = matching if everything or not main else main
    return [value_row(structure, value) for value in shown], len(matching) - len(shown)


def _nothing_matches(structure: Structure, wanted: str, args: Namespace) -> Diagnostic:
    """Report filters that no Value matches, with the nearest names and types, or the stages."""
    graph, notes = structure.graph, list[str]()
    fix = f"{inspect_command(graph.source)} --all"
    if args.name:
        known = (_spellings(one, graph.producer(one.name)) for one in graph.values.values())
        notes += near_notes(nearest_names(args.name.strip("*"), list(chain.from_iterable(known))))
    operators = graph.operators.values()
    if args.op is not None and not any(_matches(_types(one), args.op) for one in operators):
        kinds = sorted({one.kind for one in operators})
        near = nearest_names(args.op.rpartition(".")[2].strip("*"), kinds)
        notes += near_notes(near)
        fix = f"{inspect_command(graph.source)} {shell_option('--op', near[0])}" if near else fix
    if args.stage is not None:
        count = len(structure.stages)
        numbers = map(stage_text, range(structure.first_stage, structure.first_stage + count))
        notes.append(f"stages: {', '.join(numbers)}" if count else "the network has no stages")
    where = Where(program=graph.source)
    return unknown_name(f"no Value has {wanted}", where, notes=tuple(notes), help=fix)


def _matches(spellings: Iterable[str], pattern: str) -> bool:
    """Return whether a spelling, as it is or as printed, equals a pattern or matches it."""
    forms = {form for spelling in spellings for form in (spelling, *printed_forms(spelling))}
    return pattern in forms or any(fnmatchcase(form, pattern) for form in forms)


def _types(operator: Operator | None) -> tuple[str, ...]:
    return () if operator is None else (operator.type, operator.kind, kind_of(operator))


def _spellings(value: Value, operator: Operator | None) -> Iterator[str]:
    yield from (value.name, *value.aliases, *value.layer_outputs)
    yield from filter(None, (value.layer, operator and operator.module))
