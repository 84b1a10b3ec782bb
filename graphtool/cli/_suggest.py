"""`graphtool suggest-pairs`: suggest feature maps of a teacher and a student to pair."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from graphtool.cli._arguments import wrong_usage
from graphtool.cli._console import (
    TITLE,
    WARNING,
    Column,
    errors,
    magnitude,
    print_table,
    progress,
    results,
    shape_text,
    show_report,
    write_json,
)
from graphtool.cli._evidence import measure
from graphtool.cli._picture import check_picture, has_content, verb_for, write_picture
from graphtool.cli._source import check_networks, read_source
from graphtool.diagnostics import UsageError, counted
from graphtool.evidence.suggest import cka_text, rerank, with_evidence
from graphtool.files import check_writable, exists_already
from graphtool.graph import UNKNOWN_DIM, Graph
from graphtool.matching import (
    End,
    Explanation,
    Pair,
    PairSet,
    ShapeGroup,
    explain_pair,
    match_shapes,
    partners,
    suggest_pairs,
)
from graphtool.matching.explanation import as_pair_set
from graphtool.paths import numbered_path
from graphtool.text import escaped_bounded, printable, printed_name, shell_option

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_pairs", "run", "show_explanation"]

# On narrower terminals, the reasons are below the table, so that names are not broken.
_MIN_WIDTH_FOR_REASONS = 130


def run(args: Namespace) -> int:
    """Read two models, and print their pairs, partners, shapes or one explained pair."""
    check_networks(args)
    check_picture(args.render)
    _check_recipe(args)
    if args.evidence is not None:
        from graphtool.evidence.samples import check_samples

        check_samples(args.evidence)
    teacher = read_source(args.teacher, args.teacher_input or args.input)
    student = read_source(args.student, args.student_input or args.input)
    if args.match == "shape":
        with progress("comparing shapes"):
            groups = match_shapes(teacher, student)
        return _show_groups(groups, args)
    if args.explain is not None:
        return _explain(teacher, student, args)
    with progress("comparing both networks"):
        pairs = _suggested_pairs(teacher, student, args)
    _check_partners(pairs, args)
    _check_config(pairs, args.config)
    evidence, interrupted = measure(pairs, args)
    if evidence is not None:
        pairs = rerank(pairs, evidence)
    show_report(pairs.report)
    if interrupted:
        _show_pairs(pairs, args.format)
        sys.stdout.flush()
        raise KeyboardInterrupt
    succeeded = _output(pairs, args)
    return 0 if succeeded and not pairs.report.errors else 1


def _explain(teacher: Graph, student: Graph, args: Namespace) -> int:
    with progress("comparing both networks"):
        explanation = explain_pair(teacher, student, args.explain)
    evidence, interrupted = measure(as_pair_set(explanation), args)
    if evidence is not None:
        show_report(evidence.report)
        explanation = with_evidence(explanation, evidence)
    show_explanation(explanation, args.format)
    if interrupted:
        sys.stdout.flush()
        raise KeyboardInterrupt
    return 0


def _output(pairs: PairSet, args: Namespace) -> bool:
    """Write the recipe, print and draw; return whether the picture was drawn, if requested."""
    # First, so that nothing is written if the configuration can express none of the pairs.
    config = None if args.config is None else _configuration(pairs, args.config)
    if args.output is not None:
        _write_recipe(pairs, args.output)
    if config is None:
        _show_pairs(pairs, args.format)
    else:
        sys.stdout.write(config)
    return args.render is None or write_picture(pairs, args.render)


def _suggested_pairs(teacher: Graph, student: Graph, args: Namespace) -> PairSet:
    if args.partners_of is None:
        return suggest_pairs(teacher, student, limit=args.limit, tap=args.tap, recipe=args.recipe)
    if args.limit is None:
        return partners(teacher, student, args.partners_of)
    return partners(teacher, student, args.partners_of, limit=args.limit)


def _check_partners(pairs: PairSet, args: Namespace) -> None:
    """Check that alternative partners are not written as pairs, which would pull one map apart.

    Raises UsageError: GT600.
    """
    if args.partners_of is None or len(pairs) < 2:
        return
    if args.config is None and args.output is None:
        return
    option = "--as" if args.config is not None else "--output"
    message = f"argument --for: {len(pairs)} partners to choose from are not written with {option}"
    raise UsageError(wrong_usage(message, help="add --limit 1, which keeps the first"))


def _check_recipe(args: Namespace) -> None:
    """Check that no recipe is overwritten, as it may have been edited.

    Raises UsageError: GT604. Raises GraphtoolError: GT601 if it can't be written.
    """
    if args.output is None:
        return
    check_writable(args.output)
    if not args.force and has_content(args.output):
        message = f"`{args.output}` is there already, and may have been edited"
        fix = f"--force, or {shell_option('-o', numbered_path(args.output))}"
        raise UsageError(exists_already(message, fix))


def _write_recipe(pairs: PairSet, path: str) -> None:
    from graphtool.matching.recipe import write_recipe

    verb = verb_for(path)
    write_recipe(pairs, path)
    errors().print(f"{verb} {printable(path)}: {counted(len(pairs), 'pair')}", soft_wrap=True)


def _check_config(pairs: PairSet, name: str | None) -> None:
    """Check the name of a configuration before evidence is measured.

    Raises UsageError: GT320.
    """
    if name is not None:
        from graphtool.toolkits import check_export

        check_export(pairs, name)


def _configuration(pairs: PairSet, name: str) -> str:
    from graphtool.toolkits import check_export, export

    text = export(pairs, name)
    show_report(check_export(pairs, name))
    return text


def _show_pairs(pairs: PairSet, format: str) -> None:
    if format == "json":
        write_json({"schema": 1, "pairs": list(map(asdict, pairs))})
    else:
        print_pairs(results(), pairs)


def print_pairs(console: Console, pairs: PairSet) -> None:
    """Print the two networks and their pairs, with reasons and warnings."""
    _print_header(console, pairs)
    if not pairs.pairs:
        return
    console.print()
    if not console.is_terminal:
        print_table(console, _flat_columns(pairs))
    else:
        wide = console.width >= _MIN_WIDTH_FOR_REASONS
        columns = (
            [*_stacked_columns(pairs), _reasons_column(pairs)] if wide else _stacked_columns(pairs)
        )
        print_table(console, columns, spaced=True)
        if not wide:
            console.print()
            _print_reasons(console, pairs)
    _print_warnings(console, pairs)


def _print_header(console: Console, pairs: PairSet) -> None:
    graphs = pairs.teacher, pairs.student
    costs = [_costs(graph) for graph in graphs]
    columns = (
        Column(title="", cells=("teacher", "student"), style=TITLE),
        Column(
            title="network", cells=[escaped_bounded(graph.source) for graph in graphs], least=20
        ),
        Column(title="parameters", cells=[cost[0] for cost in costs], justify="right"),
        Column(title="multiply-adds", cells=[cost[1] for cost in costs], justify="right"),
    )
    print_table(console, columns)


def _costs(graph: Graph) -> tuple[str, str]:
    """Return the numbers of parameters and of multiply-adds."""
    from graphtool.structure import analyse

    structure = analyse(graph)
    about = "" if structure.is_cost_exact else "≈ "
    return magnitude(structure.parameters), f"{about}{magnitude(structure.multiply_adds)}"


def _flat_columns(pairs: PairSet) -> list[Column]:
    """Return the columns of one line per pair, for programs that read lines."""
    teachers, students = [pair.teacher for pair in pairs], [pair.student for pair in pairs]
    return [
        Column(title="rank", cells=[str(pair.rank) for pair in pairs], justify="right"),
        Column(title="kind", cells=[pair.kind.value for pair in pairs]),
        *_flat_end_columns("teacher", teachers),
        *_flat_end_columns("student", students),
        Column(title="relation", cells=[pair.relation.value for pair in pairs]),
        Column(title="adapter", cells=[pair.adapter or "-" for pair in pairs]),
        Column(title="loss", cells=[pair.loss for pair in pairs]),
        *_cka_column(pairs),
        Column(title="why", cells=[printable("; ".join(pair.why)) for pair in pairs]),
    ]


def _flat_end_columns(role: str, ends: Sequence[End]) -> Iterator[Column]:
    yield Column(title=role, cells=[printed_name(end.name) for end in ends])
    yield Column(title="shape", cells=[shape_text(end.shape) for end in ends])
    if any(_module_path(end) for end in ends):
        yield Column(title="layer or module", cells=[_module_path(end) or "-" for end in ends])


def _stacked_columns(pairs: PairSet) -> list[Column]:
    """Return the columns of several lines per pair, for a terminal."""
    return [
        Column(title="#", cells=[str(pair.rank) for pair in pairs], justify="right"),
        Column(title="kind", cells=[pair.kind.value for pair in pairs], order=1),
        Column(title="teacher", cells=[_stacked_end(pair.teacher) for pair in pairs], least=12),
        Column(title="student", cells=[_stacked_end(pair.student) for pair in pairs], least=12),
        Column(title="relation", cells=[_relation(pair) for pair in pairs], least=12, order=2),
        *_cka_column(pairs),
    ]


def _cka_column(pairs: PairSet) -> Iterator[Column]:
    """Yield a column of CKA on samples, if any pair has it."""
    if any(pair.cka is not None for pair in pairs):
        cells = ["-" if pair.cka is None else cka_text(pair.cka) for pair in pairs]
        yield Column(title="CKA", cells=cells, justify="right", order=1)


def _stacked_end(end: End) -> str:
    lines = printed_name(end.name), shape_text(end.shape), _module_path(end)
    return "\n".join(line for line in lines if line)


def _module_path(end: End) -> str:
    return escaped_bounded(end.layer or end.module or "")


def _relation(pair: Pair) -> str:
    lines = pair.relation.value, pair.adapter, f"loss {pair.loss}"
    return "\n".join(line for line in lines if line)


def _reasons_column(pairs: PairSet) -> Column:
    cells = ["\n".join(map(printable, pair.why)) for pair in pairs]
    return Column(title="why", cells=cells, least=30)


def _print_reasons(console: Console, pairs: PairSet) -> None:
    columns = (
        Column(title="#", cells=[str(pair.rank) for pair in pairs], justify="right"),
        _reasons_column(pairs),
    )
    print_table(console, columns)


def _print_warnings(console: Console, pairs: PairSet) -> None:
    from rich.text import Text

    ranks: dict[str, list[str]] = {}
    for pair in pairs:
        for warning in pair.warnings:
            ranks.setdefault(warning, []).append(str(pair.rank))
    if ranks:
        console.print()
    for warning, listed in ranks.items():
        concerned = f"pair{'' if len(listed) == 1 else 's'} {', '.join(listed)}"
        line = Text("warning", style=WARNING).append(f" {concerned}: ", style="bold")
        console.print(line.append(escaped_bounded(warning), style="default"))


def _show_groups(groups: Sequence[ShapeGroup], args: Namespace) -> int:
    shown = groups[: args.limit]
    if args.format == "json":
        write_json({"schema": 1, "groups": [_group_data(group) for group in shown]})
        return 0
    console = results()
    rows = [row for group in shown for row in _group_rows(group)]
    titles = "shape", "teacher", "student"
    columns = [
        Column(title=title, cells=[row[index] for row in rows], least=12)
        for index, title in enumerate(titles)
    ]
    print_table(console, columns)
    console.print(_group_summary(groups, len(shown)), style="dim", soft_wrap=True)
    return 0


def _group_data(group: ShapeGroup) -> dict[str, Any]:
    return {
        "shape": [UNKNOWN_DIM, *group.shape],
        "teacher": list(map(asdict, group.teacher)),
        "student": list(map(asdict, group.student)),
    }


def _group_rows(group: ShapeGroup) -> Iterator[tuple[str, str, str]]:
    shape = shape_text((UNKNOWN_DIM, *group.shape))
    names = zip_longest(
        map(_name_and_path, group.teacher), map(_name_and_path, group.student), fillvalue=""
    )
    for index, (teacher, student) in enumerate(names):
        yield shape if index == 0 else "", teacher, student


def _name_and_path(end: End) -> str:
    return f"{printed_name(end.name)}  {_module_path(end)}".rstrip()


def _group_summary(groups: Sequence[ShapeGroup], shown: int) -> str:
    pairs = sum(group.pairs for group in groups)
    text = f"{counted(len(groups), 'shape')} in both networks, {counted(pairs, 'pair')} in all"
    hidden = len(groups) - shown
    return f"{text}; {hidden} hidden: --limit {len(groups)} shows them" if hidden else text


def show_explanation(explanation: Explanation, format: str) -> None:
    """Print the ends of a pair, the parts of its score, and the reasons for and against it."""
    if format == "json":
        write_json({"schema": 1, "explanation": _explanation_data(explanation)})
        return
    console = results()
    _print_ends(console, explanation.pair)
    console.print()
    _print_parts(console, explanation)
    for line in _verdict(explanation):
        console.print(line, soft_wrap=True)


def _explanation_data(explanation: Explanation) -> dict[str, object]:
    nearest = explanation.nearest
    return {
        "pair": asdict(explanation.pair),
        "parts": list(map(asdict, explanation.parts)),
        "better": explanation.better,
        "among": explanation.among,
        "against": explanation.against,
        "suggested": explanation.is_suggested,
        "nearest": None if nearest is None else asdict(nearest),
    }


def _print_ends(console: Console, pair: Pair) -> None:
    ends = pair.teacher, pair.student
    columns = (
        Column(title="", cells=("teacher", "student"), style=TITLE),
        Column(title="Value", cells=[printed_name(end.name) for end in ends], least=12),
        Column(title="shape", cells=[shape_text(end.shape) for end in ends]),
        Column(title="operator", cells=[escaped_bounded(end.op or "-") for end in ends]),
        Column(title="layer or module", cells=[_module_path(end) or "-" for end in ends], least=12),
    )
    print_table(console, columns)


def _print_parts(console: Console, explanation: Explanation) -> None:
    parts = explanation.parts
    gains = [part.agreement * part.weight for part in parts]
    rows = [
        (part.name, part.teacher, part.student, f"{part.agreement:.2f}", f"{part.weight:.2f}")
        for part in parts
    ]
    rows.append(("score", "", "", "", ""))
    titles = "part", "teacher", "student", "agreement", "weight"
    columns = [
        Column(
            title=title,
            cells=[printable(row[index]) for row in rows],
            justify="right" if title in ("agreement", "weight") else "left",
        )
        for index, title in enumerate(titles)
    ]
    points = [*(f"{gain:.3f}" for gain in gains), f"{explanation.pair.score:.3f}"]
    columns.append(Column(title="gives", cells=points, justify="right"))
    print_table(console, columns)


def _verdict(explanation: Explanation) -> Iterator[str]:
    pair, nearest = explanation.pair, explanation.nearest
    yield ""
    among = f"{explanation.among:,} pairs of feature maps with as many axes"
    yield f"{explanation.better:,} of {among} fit better"
    for reason in pair.why:
        yield f"for: {printable(reason)}"
    for reason in explanation.against:
        yield f"against: {escaped_bounded(reason)}"
    if explanation.is_suggested:
        yield f"suggested as pair {pair.rank} of {len(explanation.suggested)}"
    elif nearest is not None:
        names = f"{printed_name(nearest.teacher.name)}={printed_name(nearest.student.name)}"
        yield f"not suggested; the nearest that is: pair {nearest.rank}, {names}, {nearest.score}"
    else:
        yield "not suggested, and nothing else is"
