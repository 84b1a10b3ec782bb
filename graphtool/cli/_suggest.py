"""`graphtool suggest-pairs`: suggest feature maps of a teacher and a student to pair."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

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
    show_report,
    write_json,
)
from graphtool.cli._render import check_picture, verb_for, write_picture
from graphtool.cli._source import check_networks, read_networks, stdout_to_stderr
from graphtool.diagnostics import UsageError, counted
from graphtool.evidence import (
    BATCHES,
    Evidence,
    cka_text,
    names_to_measure,
    rerank,
    with_evidence,
)
from graphtool.files import check_writable, exists_already
from graphtool.graph import UNKNOWN_DIM, Graph, shape_text
from graphtool.matching import (
    End,
    Explanation,
    PairSet,
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

__all__ = ["print_pairs", "run_suggest"]

# On a narrower terminal, the reasons are below the table, so that names are not broken.
_MIN_WIDTH_FOR_REASONS = 130


def run_suggest(args: Namespace) -> int:
    """Read two models, and print their pairs, partners, shapes or one explained pair."""
    check_networks(args)
    check_picture(args.render)
    if args.output is not None:
        _check_recipe(args.output, force=args.force)
    if args.evidence is not None:
        from graphtool.evidence.samples import check_samples

        check_samples(args.evidence)
    teacher, student = read_networks(args)
    if args.match == "shape":
        return _match(teacher, student, args)
    with progress("comparing both networks"):
        pairs, explanation = _compare(teacher, student, args)
    _check_written(pairs, args)
    evidence, interrupted = _measure(pairs, args)
    if evidence is not None:
        pairs = rerank(pairs, evidence)
        explanation = explanation and with_evidence(explanation, evidence)
    show_report(pairs.report)
    config = None if interrupted else _write(pairs, args)
    if config is not None:
        sys.stdout.write(config)
    elif args.format == "json":
        write_json({"schema": 1, **_json_data(pairs, explanation)})
    elif explanation is not None:
        _print_explanation(results(), explanation)
    else:
        print_pairs(results(), pairs)
    if interrupted:
        sys.stdout.flush()
        raise KeyboardInterrupt
    return 0 if write_picture(pairs, args.render) and not pairs.report.errors else 1


def _compare(teacher: Graph, student: Graph, args: Namespace) -> tuple[PairSet, Explanation | None]:
    if args.explain is not None:
        explanation = explain_pair(teacher, student, args.explain)
        return as_pair_set(explanation), explanation
    limit = {} if args.limit is None else {"limit": args.limit}
    if args.partners_of is not None:
        return partners(teacher, student, args.partners_of, **limit), None
    return suggest_pairs(teacher, student, tap=args.tap, recipe=args.recipe, **limit), None


def _check_recipe(path: str, *, force: bool) -> None:
    """Check that a recipe can be written and none is overwritten, as it may have been edited.

    Raises UsageError: GT600, GT604. Raises GraphtoolError: GT601 if it can't be written.
    """
    if path in ("", "-") or PurePath(path).suffix not in ("", ".toml"):
        message = f"argument --output: a recipe is a `.toml`, and `{path}` is not"
        fix = "-o pairs.toml, or --as paddleclas > clas.yml for a configuration"
        raise UsageError(wrong_usage(message, help=fix))
    check_writable(path)
    recipe = Path(path)
    if not force and recipe.is_file() and recipe.stat().st_size:
        message = f"`{path}` exists, and may have been edited"
        fix = f"--force, or {shell_option('-o', numbered_path(path))}"
        raise UsageError(exists_already(message, fix))


def _check_written(pairs: PairSet, args: Namespace) -> None:
    """Check, before evidence is measured, that the pairs can be written as asked.

    Alternative partners are not written as pairs, which would pull one map apart. Raises
    UsageError: GT600, GT320.
    """
    option = "--as" if args.config is not None else "--output"
    if args.partners_of is not None and len(pairs) > 1 and (args.config or args.output):
        message = f"argument --for: {option} would write {len(pairs)} partners of one Value"
        raise UsageError(wrong_usage(message, help="add --limit 1, which keeps the first"))
    if args.config is not None:
        from graphtool.toolkits import check_export

        check_export(pairs, args.config)


def _write(pairs: PairSet, args: Namespace) -> str | None:
    """Write the recipe, if one is wanted, and return the text of the configuration, if any."""
    config = None
    if args.config is not None:
        from graphtool.toolkits import check_export, export

        # First, so that nothing is written if the configuration can express none of the pairs.
        config = export(pairs, args.config)
        show_report(check_export(pairs, args.config))
    if args.output is not None:
        from graphtool.matching.recipe import write_recipe

        verb = verb_for(args.output)
        write_recipe(pairs, args.output)
        line = f"{verb} {printable(args.output)}: {counted(len(pairs), 'pair')}"
        errors().print(line, soft_wrap=True)
    return config


def _measure(pairs: PairSet, args: Namespace) -> tuple[Evidence | None, bool]:
    """Run both networks on the samples of `--evidence`; return what was measured, if anything.

    An interrupt stops it, with a line on stderr, and makes the second result True; the evidence is
    that of the finished batches.

    Raises GraphtoolError as `gather` does.
    """
    if args.evidence is None:
        return None, False
    from graphtool.evidence.cka import gather

    evidence, batches, shapes = None, args.batches or BATCHES, args.input or ()
    try:
        with progress("running both networks", total=batches) as advance, stdout_to_stderr():
            for evidence in gather(
                args.teacher,
                args.student,
                names_to_measure(pairs),
                args.evidence,
                batches=batches,
                allow_random=args.allow_random,
                inputs=(args.teacher_input or shapes, args.student_input or shapes),
            ):
                advance(evidence.batches)
    except KeyboardInterrupt:
        done = 0 if evidence is None else evidence.batches
        errors().print(f"interrupted after {done} of at most {batches} batches", soft_wrap=True)
        return evidence, True
    return evidence, False


def print_pairs(console: Console, pairs: PairSet) -> None:
    """Print the two networks and their pairs, with reasons and warnings."""
    from rich.text import Text

    from graphtool.structure import analyse

    networks: list[tuple[str, ...]] = []
    for role, graph in (("teacher", pairs.teacher), ("student", pairs.student)):
        structure = analyse(graph)
        cost = "" if structure.is_cost_exact else "≈ "
        cost += magnitude(structure.multiply_adds)
        source, parameters = escaped_bounded(graph.source), magnitude(structure.parameters)
        networks.append((role, source, parameters, cost, structure.description))
    numbers = [Column(title, justify="right") for title in ("parameters", "multiply-adds")]
    columns = Column("", TITLE), Column("network", least=20), *numbers, Column("read as", order=1)
    print_table(console, columns, networks)
    if not pairs.pairs:
        return
    console.print()
    print_rows = _print_stacked if console.is_terminal else _print_flat
    print_rows(console, pairs)
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


def _print_flat(console: Console, pairs: PairSet) -> None:
    """Print one line per pair, for programs that read lines."""
    rank, cka = (Column(title, justify="right") for title in ("rank", "CKA"))
    end = ("shape", "layer or module")
    titles = ("kind", "teacher", *end, "student", *end, "relation", "adapter", "loss")
    rows = [
        (
            str(pair.rank),
            pair.kind.value,
            *_end_lines(pair.teacher),
            *_end_lines(pair.student),
            pair.relation.value,
            pair.adapter or "-",
            pair.loss,
            "" if pair.cka is None else cka_text(pair.cka),
            printable("; ".join(pair.why)),
        )
        for pair in pairs
    ]
    # No cell is empty, unless its whole column is, which is not shown then.
    filled = [
        [cell or "-" for cell in cells] if any(cells) else cells
        for cells in zip(*rows, strict=True)
    ]
    print_table(console, (rank, *titles, cka, "why"), list(zip(*filled, strict=True)))


def _print_stacked(console: Console, pairs: PairSet) -> None:
    """Print several lines per pair on a terminal, with the reasons beside or below them."""

    def stacked(lines: Iterable[str | None]) -> str:
        return "\n".join(filter(None, lines))

    rank, why = Column("#", justify="right"), Column("why", least=30)
    columns = (
        rank,
        Column("kind", order=1),
        Column("teacher", least=12),
        Column("student", least=12),
        Column("relation", least=12, order=2),
        Column("CKA", justify="right", order=1),
    )
    rows = [
        (
            str(pair.rank),
            pair.kind.value,
            stacked(_end_lines(pair.teacher)),
            stacked(_end_lines(pair.student)),
            stacked((pair.relation.value, pair.adapter, f"loss {pair.loss}")),
            "" if pair.cka is None else cka_text(pair.cka),
        )
        for pair in pairs
    ]
    reasons = [(str(pair.rank), stacked(map(printable, pair.why))) for pair in pairs]
    if console.width >= _MIN_WIDTH_FOR_REASONS:
        whole = [(*row, reason) for row, (_, reason) in zip(rows, reasons, strict=True)]
        print_table(console, (*columns, why), whole, spaced=True)
    else:
        print_table(console, columns, rows, spaced=True)
        console.print()
        print_table(console, (rank, why), reasons)


def _end_lines(end: End) -> tuple[str, str, str]:
    return printed_name(end.name), shape_text(end.shape), _module_path(end)


def _module_path(end: End) -> str:
    return escaped_bounded(end.layer or end.module or "")


def _match(teacher: Graph, student: Graph, args: Namespace) -> int:
    """Print the feature maps of both networks by shape."""
    with progress("comparing shapes"):
        groups = match_shapes(teacher, student)
    shown = groups[: args.limit]
    shapes = [(UNKNOWN_DIM, *group.shape) for group in shown]
    if args.format == "json":
        data = [
            {"shape": shape, "teacher": group.teacher, "student": group.student}
            for shape, group in zip(shapes, shown, strict=True)
        ]
        write_json({"schema": 1, "groups": data})
        return 0

    def end_text(end: End | None) -> str:
        return f"{printed_name(end.name)}  {_module_path(end)}".rstrip() if end else ""

    rows: list[tuple[str, ...]] = []
    for shape, group in zip(shapes, shown, strict=True):
        for index, ends in enumerate(zip_longest(group.teacher, group.student)):
            rows.append(("" if index else shape_text(shape), *map(end_text, ends)))
    console = results()
    print_table(console, [Column(one, least=12) for one in ("shape", "teacher", "student")], rows)
    pairs = counted(sum(group.pairs for group in groups), "pair")
    text = f"{counted(len(groups), 'shape')} in both networks, {pairs} in all"
    if hidden := len(groups) - len(shown):
        text += f"; {hidden} hidden: --limit {len(groups)} shows them"
    console.print(text, style="dim", soft_wrap=True)
    return 0


def _json_data(pairs: PairSet, explanation: Explanation | None) -> dict[str, object]:
    if explanation is None:
        return {"pairs": pairs.pairs}
    keys = ("pair", "parts", "better", "among", "against", "suggested", "nearest")
    data = {key: getattr(explanation, key) for key in keys}
    return {"explanation": data | {"suggested": explanation.is_suggested}}


def _print_explanation(console: Console, explanation: Explanation) -> None:
    """Print the ends of a pair, the parts of its score, and the reasons for and against it."""
    pair, nearest = explanation.pair, explanation.nearest
    ends: list[tuple[str, ...]] = []
    for role, end in (("teacher", pair.teacher), ("student", pair.student)):
        name, shape, path = _end_lines(end)
        ends.append((role, name, shape, escaped_bounded(end.op or "-"), path or "-"))
    value, module = Column("Value", least=12), Column("layer or module", least=12)
    print_table(console, (Column("", TITLE), value, "shape", "operator", module), ends)
    console.print()
    numbers = [Column(title, justify="right") for title in ("agreement", "weight", "gives")]
    parts = [
        (
            *map(printable, (part.name, part.teacher, part.student)),
            *(f"{part.agreement:.2f}", f"{part.weight:.2f}"),
            f"{part.agreement * part.weight:.3f}",
        )
        for part in explanation.parts
    ]
    score = ("score", "", "", "", "", f"{pair.score:.3f}")
    print_table(console, ("part", "teacher", "student", *numbers), [*parts, score])
    among = f"{explanation.among:,} pairs of feature maps with as many axes"
    lines = ["", f"{explanation.better:,} of {among} fit better"]
    lines += (f"for: {printable(reason)}" for reason in pair.why)
    lines += (f"against: {escaped_bounded(reason)}" for reason in explanation.against)
    if explanation.is_suggested:
        lines.append(f"suggested as pair {pair.rank} of {len(explanation.suggested)}")
    elif nearest is not None:
        names = f"{printed_name(nearest.teacher.name)}={printed_name(nearest.student.name)}"
        closest = f"pair {nearest.rank}, {names}, score {nearest.score}"
        lines.append(f"not suggested; closest suggestion: {closest}")
    else:
        lines.append("not suggested, and nothing else is")
    for line in lines:
        console.print(line, soft_wrap=True)
