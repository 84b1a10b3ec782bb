"""`graphtool suggest-pairs`: suggest feature maps of a teacher and a student to pair."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
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

__all__ = ["print_pairs", "run"]

# On a narrower terminal, the reasons are below the table, so that names are not broken.
_MIN_WIDTH_FOR_REASONS = 130


def run(args: Namespace) -> int:
    """Read two models, and print their pairs, partners, shapes or one explained pair."""
    check_networks(args)
    check_picture(args.render)
    _check_recipe(args)
    if args.evidence is not None:
        from graphtool.evidence.samples import check_samples

        check_samples(args.evidence)
    teacher, student = read_networks(args)
    if args.match == "shape":
        return _match(teacher, student, args)
    if args.explain is not None:
        return _explain(teacher, student, args)
    with progress("comparing both networks"):
        if args.partners_of is None:
            options = {"limit": args.limit, "tap": args.tap, "recipe": args.recipe}
            pairs = suggest_pairs(teacher, student, **options)
        else:
            options = {} if args.limit is None else {"limit": args.limit}
            pairs = partners(teacher, student, args.partners_of, **options)
    _check_written(pairs, args)
    evidence, interrupted = _measure(pairs, args)
    if evidence is not None:
        pairs = rerank(pairs, evidence)
    show_report(pairs.report)
    if interrupted:
        _show_pairs(pairs, args.format)
        sys.stdout.flush()
        raise KeyboardInterrupt
    # First, so that nothing is written if the configuration can express none of the pairs.
    config = None if args.config is None else _configuration(pairs, args.config)
    if args.output is not None:
        from graphtool.matching.recipe import write_recipe

        verb = verb_for(args.output)
        write_recipe(pairs, args.output)
        line = f"{verb} {printable(args.output)}: {counted(len(pairs), 'pair')}"
        errors().print(line, soft_wrap=True)
    if config is None:
        _show_pairs(pairs, args.format)
    else:
        sys.stdout.write(config)
    return 0 if write_picture(pairs, args.render) and not pairs.report.errors else 1


def _check_recipe(args: Namespace) -> None:
    """Check that no recipe is overwritten, as it may have been edited.

    Raises UsageError: GT604. Raises GraphtoolError: GT601 if it can't be written.
    """
    if args.output is not None:
        check_writable(args.output)
        recipe = Path(args.output)
        if not args.force and recipe.is_file() and recipe.stat().st_size:
            message = f"`{args.output}` is there already, and may have been edited"
            fix = f"--force, or {shell_option('-o', numbered_path(args.output))}"
            raise UsageError(exists_already(message, fix))


def _check_written(pairs: PairSet, args: Namespace) -> None:
    """Check, before evidence is measured, that the pairs can be written as asked.

    Alternative partners are not written as pairs, which would pull one map apart. Raises
    UsageError: GT600, GT320.
    """
    if args.partners_of is not None and len(pairs) > 1 and (args.config or args.output):
        option = "--as" if args.config is not None else "--output"
        message = (
            f"argument --for: {len(pairs)} partners to choose from are not written with {option}"
        )
        raise UsageError(wrong_usage(message, help="add --limit 1, which keeps the first"))
    if args.config is not None:
        from graphtool.toolkits import check_export

        check_export(pairs, args.config)


def _configuration(pairs: PairSet, name: str) -> str:
    from graphtool.toolkits import check_export, export

    text = export(pairs, name)
    show_report(check_export(pairs, name))
    return text


def _measure(pairs: PairSet, args: Namespace) -> tuple[Evidence | None, bool]:
    """Run both networks on the samples of `--evidence`; return what was measured, if anything.

    An interrupt stops it, with a line on stderr, and makes the second result True; the evidence is
    that of the finished batches.

    Raises GraphtoolError as `gather` does.
    """
    if args.evidence is None:
        return None, False
    from graphtool.evidence.cka import gather

    evidence, interrupted, batches = None, False, args.batches or BATCHES
    shapes = args.input or ()
    try:
        with _progress_bar(batches) as advance, stdout_to_stderr():
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
        interrupted, done = True, 0 if evidence is None else evidence.batches
        errors().print(f"interrupted after {done} of {batches} batches at most", soft_wrap=True)
    return evidence, interrupted


@contextmanager
def _progress_bar(batches: int) -> Generator[Callable[[int], None]]:
    """Show a progress bar on a terminal; yields a function that sets the number of batches run."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=errors(), transient=True) as bar:
        task = bar.add_task("running both networks", total=batches)
        yield lambda done: bar.update(task, completed=done)


def _show_pairs(pairs: PairSet, format: str) -> None:
    if format == "json":
        write_json({"schema": 1, "pairs": pairs.pairs})
    else:
        print_pairs(results(), pairs)


def print_pairs(console: Console, pairs: PairSet) -> None:
    """Print the two networks and their pairs, with reasons and warnings."""
    columns = (
        Column("", TITLE),
        Column("network", least=20),
        Column("parameters", justify="right"),
        Column("multiply-adds", justify="right"),
    )
    networks = (("teacher", pairs.teacher), ("student", pairs.student))
    print_table(console, columns, [_network_row(*network) for network in networks])
    if not pairs.pairs:
        return
    console.print()
    # A column in which every cell is empty is not shown.
    no_cka = "-" if any(pair.cka is not None for pair in pairs) else ""
    cka = [no_cka if pair.cka is None else cka_text(pair.cka) for pair in pairs]
    if console.is_terminal:
        _print_stacked(console, pairs, cka)
    else:
        _print_flat(console, pairs, cka)
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


def _network_row(role: str, graph: Graph) -> tuple[str, ...]:
    """Return a network's role, source, and numbers of parameters and of multiply-adds."""
    from graphtool.structure import analyse

    structure = analyse(graph)
    about = "" if structure.is_cost_exact else "≈ "
    cost = f"{about}{magnitude(structure.multiply_adds)}"
    return role, escaped_bounded(graph.source), magnitude(structure.parameters), cost


def _print_flat(console: Console, pairs: PairSet, cka: Sequence[str]) -> None:
    """Print one line per pair, for programs that read lines."""
    no_teacher = "-" if any(_module_path(pair.teacher) for pair in pairs) else ""
    no_student = "-" if any(_module_path(pair.student) for pair in pairs) else ""
    end = ("shape", "layer or module")
    right = Column("rank", justify="right"), Column("CKA", justify="right")
    titles = ("teacher", *end, "student", *end, "relation", "adapter", "loss")
    rows = [
        (
            str(pair.rank),
            pair.kind.value,
            printed_name(pair.teacher.name),
            shape_text(pair.teacher.shape),
            _module_path(pair.teacher) or no_teacher,
            printed_name(pair.student.name),
            shape_text(pair.student.shape),
            _module_path(pair.student) or no_student,
            pair.relation.value,
            pair.adapter or "-",
            pair.loss,
            similarity,
            printable("; ".join(pair.why)),
        )
        for pair, similarity in zip(pairs, cka, strict=True)
    ]
    print_table(console, (right[0], "kind", *titles, right[1], "why"), rows)


def _print_stacked(console: Console, pairs: PairSet, cka: Sequence[str]) -> None:
    """Print several lines per pair on a terminal, with the reasons beside or below them."""

    def stacked(*lines: str | None) -> str:
        return "\n".join(line for line in lines if line)

    is_wide = console.width >= _MIN_WIDTH_FOR_REASONS
    rank, why = Column("#", justify="right"), Column("why", least=30)
    reasons = ["\n".join(map(printable, pair.why)) for pair in pairs]
    columns = (
        rank,
        Column("kind", order=1),
        Column("teacher", least=12),
        Column("student", least=12),
        Column("relation", least=12, order=2),
        Column("CKA", justify="right", order=1),
        why,
    )
    rows = [
        (
            str(pair.rank),
            pair.kind.value,
            *(
                stacked(printed_name(end.name), shape_text(end.shape), _module_path(end))
                for end in (pair.teacher, pair.student)
            ),
            stacked(pair.relation.value, pair.adapter, f"loss {pair.loss}"),
            similarity,
            reason if is_wide else "",
        )
        for pair, similarity, reason in zip(pairs, cka, reasons, strict=True)
    ]
    print_table(console, columns, rows, spaced=True)
    if not is_wide:
        console.print()
        rows = [(str(pair.rank), reason) for pair, reason in zip(pairs, reasons, strict=True)]
        print_table(console, (rank, why), rows)


def _module_path(end: End) -> str:
    return escaped_bounded(end.layer or end.module or "")


def _match(teacher: Graph, student: Graph, args: Namespace) -> int:
    """Print the feature maps of both networks by shape."""
    with progress("comparing shapes"):
        groups = match_shapes(teacher, student)
    shown = groups[: args.limit]
    if args.format == "json":
        data = [
            {
                "shape": [UNKNOWN_DIM, *group.shape],
                "teacher": group.teacher,
                "student": group.student,
            }
            for group in shown
        ]
        write_json({"schema": 1, "groups": data})
        return 0
    rows: list[tuple[str, str, str]] = []
    for group in shown:
        shape = shape_text((UNKNOWN_DIM, *group.shape))
        for ends in zip_longest(group.teacher, group.student):
            teacher_text, student_text = (
                f"{printed_name(end.name)}  {_module_path(end)}".rstrip() if end else ""
                for end in ends
            )
            rows.append((shape, teacher_text, student_text))
            shape = ""
    console = results()
    columns = [Column(title, least=12) for title in ("shape", "teacher", "student")]
    print_table(console, columns, rows)
    pairs = counted(sum(group.pairs for group in groups), "pair")
    text = f"{counted(len(groups), 'shape')} in both networks, {pairs} in all"
    if hidden := len(groups) - len(shown):
        text += f"; {hidden} hidden: --limit {len(groups)} shows them"
    console.print(text, style="dim", soft_wrap=True)
    return 0


def _explain(teacher: Graph, student: Graph, args: Namespace) -> int:
    """Print the ends of a pair, the parts of its score, and the reasons for and against it."""
    with progress("comparing both networks"):
        explanation = explain_pair(teacher, student, args.explain)
    evidence, interrupted = _measure(as_pair_set(explanation), args)
    if evidence is not None:
        show_report(evidence.report)
        explanation = with_evidence(explanation, evidence)
    if args.format == "json":
        keys = ("pair", "parts", "better", "among", "against", "suggested", "nearest")
        data = {key: getattr(explanation, key) for key in keys}
        write_json({"schema": 1, "explanation": data | {"suggested": explanation.is_suggested}})
    else:
        _print_explanation(results(), explanation)
    if interrupted:
        sys.stdout.flush()
        raise KeyboardInterrupt
    return 0


def _print_explanation(console: Console, explanation: Explanation) -> None:
    pair, nearest = explanation.pair, explanation.nearest
    ends = [
        (
            role,
            printed_name(end.name),
            shape_text(end.shape),
            escaped_bounded(end.op or "-"),
            _module_path(end) or "-",
        )
        for role, end in (("teacher", pair.teacher), ("student", pair.student))
    ]
    value, path = Column("Value", least=12), Column("layer or module", least=12)
    print_table(console, (Column("", TITLE), value, "shape", "operator", path), ends)
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
        better = f"the nearest that is: pair {nearest.rank}, {names}, {nearest.score}"
        lines.append(f"not suggested; {better}")
    else:
        lines.append("not suggested, and nothing else is")
    for line in lines:
        console.print(line, soft_wrap=True)
