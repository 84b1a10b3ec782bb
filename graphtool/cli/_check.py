"""`graphtool check`: check whether a teacher can be merged into a student."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import starmap
from pathlib import Path

from graphtool.checks import check_pairs
from graphtool.cli._arguments import PREFIX
from graphtool.cli._console import (
    feed_text,
    progress,
    report_data,
    results,
    show_report,
    tally,
    write_json,
)
from graphtool.cli._render import check_picture, write_picture
from graphtool.cli._source import check_networks, feed_map_of, read_networks
from graphtool.diagnostics import Diagnostic, PairError, Report, Severity
from graphtool.graph import Graph
from graphtool.matching import PairSet
from graphtool.merging import check_merge
from graphtool.paths import path_exists
from graphtool.selectors import unescape_name
from graphtool.text import escaped_bounded, path_argument, shell_command, shell_option

__all__ = ["run", "with_merge_helps", "with_pair_helps"]


def run(args: Namespace) -> int:
    """Read two models, and print the diagnostics of `check_merge` and `check_pairs`."""
    check_networks(args)
    check_picture(args.render)
    teacher, student = read_networks(args, train=True)
    feed_map = feed_map_of(args.feed, teacher, student, prefix=args.prefix)
    teacher_is_saved, student_is_saved = map(path_exists, (args.teacher, args.student))
    shared = [unescape_name(name, student.values) for name in args.shared]
    with progress("checking the merge"):
        merge_report = check_merge(
            # As paths, so that their parameter files are checked as well.
            args.teacher if teacher_is_saved else teacher,
            args.student if student_is_saved else student,
            feed_map,
            name_prefix=args.prefix,
            parameters=args.parameters,
            shared=shared,
            # As in `graphtool merge`: a saved student is made trainable first, and code is built
            # with its weights.
            restored=student_is_saved,
            built=not teacher_is_saved,
        )
    merge_report = with_merge_helps(merge_report, args)
    pairs_report, pairs = _check_pairs(args, teacher, student)
    report = Report.of((*merge_report, *pairs_report), about=(teacher, student))
    if args.format == "json":
        data = {
            "schema": 1,
            "teacher": teacher.source,
            "student": student.source,
            "feed_map": feed_map,
            "prefix": args.prefix,
            "mergeable": not merge_report.errors,
            **({} if pairs is None else {"pairs": pairs.pairs}),
            "diagnostics": report_data(report),
        }
        write_json(data)
    else:
        show_report(report)
        console = results()
        if pairs is not None:
            from graphtool.cli._suggest import print_pairs

            print_pairs(console, pairs)
            console.print()
        verdict = "cannot be merged" if merge_report.errors else "can be merged"
        networks = map(escaped_bounded, (teacher.source, student.source))
        lines = {f" {verdict} into ".join(networks): merge_report}
        if args.pairs is not None:
            path = escaped_bounded(args.pairs)
            verdict = f"the pairs of {path} fit" if pairs else f"there are no pairs in {path}"
            failed = f"the pairs of {path} do not all fit"
            lines[failed if pairs_report.errors else verdict] = pairs_report
        for line, found in lines.items():
            console.print(f"{line}: {tally(found)}" if found else line, soft_wrap=True)
    return 0 if write_picture(report, args.render) and not report.errors else 1


def _check_pairs(args: Namespace, teacher: Graph, student: Graph) -> tuple[Report, PairSet | None]:
    if args.pairs is None:
        return Report(), None
    from graphtool.toolkits import read_recipe

    try:
        # A Path, as a string of several lines is taken for the text of a recipe.
        pairs = read_recipe(Path(args.pairs), teacher=teacher, student=student).pairs
    except PairError as error:
        return with_pair_helps(error.report, args), None
    # As for the merge: a saved student is made trainable first.
    restored = path_exists(args.student)
    report = check_pairs(pairs, teacher, student, name_prefix=args.prefix, restored=restored)
    return with_pair_helps(Report.of((*pairs.report, *report)), args), pairs


def with_merge_helps(report: Report, args: Namespace) -> Report:
    """Give the Diagnostics of a merge the help that this command line takes."""

    def help_of(found: Diagnostic) -> str | None:
        is_note = found.severity is Severity.NOTE
        if found.code == "GT244" and is_note and found.help:
            networks = map(path_argument, (args.teacher, args.student))
            merge = shell_command("graphtool", "merge", *networks, "-o", "DIR", "--dry-run")
            prefix = () if args.prefix == PREFIX else (shell_option("--prefix", args.prefix),)
            feeds = _repeated("--feed", starmap(feed_text, args.feed or ()))
            shared = _repeated("--shared", args.shared)
            return " ".join([merge, *_inputs(args), *feeds, *shared, *prefix])
        if found.code == "GT235" and not is_note and found.help:
            return "--teacher-weights FILE" if args.command == "merge" else "--parameters later"
        return found.help

    return Report.of(replace(found, help=help_of(found)) for found in report)


def with_pair_helps(report: Report, args: Namespace) -> Report:
    """Add the inputs that code needs to commands which read a network again."""

    def help_of(text: str | None) -> str | None:
        def is_command(name: str, model: str) -> bool:
            start = shell_command("graphtool", name, path_argument(model))
            return f"{text} ".startswith(f"{start} ")

        if is_command("suggest-pairs", args.teacher):
            return " ".join((text or "", *_inputs(args)))
        networks = (args.teacher, args.teacher_input), (args.student, args.student_input)
        for model, inputs in networks:
            if is_command("inspect", model) and not path_exists(model):
                return " ".join((text or "", *_repeated("--input", inputs or args.input)))
        return text

    return Report.of(replace(found, help=help_of(found.help)) for found in report)


def _inputs(args: Namespace) -> Iterator[str]:
    yield from _repeated("--input", args.input)
    yield from _repeated("--teacher-input", args.teacher_input)
    yield from _repeated("--student-input", args.student_input)


def _repeated(name: str, values: Iterable[str] | None) -> Iterator[str]:
    return (shell_option(name, value) for value in values or ())
