"""`graphtool check`: all that stands against merging a teacher into a student."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from graphtool.checks import check_merge, plan_of
from graphtool.cli._console import progress, results, show_report, write_json
from graphtool.cli._feeds import feed_map_of
from graphtool.cli._helps import typed
from graphtool.cli._picture import check_picture, write_picture
from graphtool.cli._report import report_data, tally
from graphtool.cli._source import check_networks, read_source
from graphtool.diagnostics import Report
from graphtool.graph import Graph
from graphtool.selectors import meant
from graphtool.text import bounded

__all__ = ["run"]


def run(args: Namespace) -> int:
    """Read two models and print what `check_merge` finds."""
    check_networks(args)
    check_picture(args.render)
    teacher = read_source(args.teacher, args.teacher_input or args.input)
    student = read_source(args.student, args.student_input or args.input, train=True)
    feed_map = feed_map_of(args.feed, teacher, student, prefix=args.prefix)
    is_file, is_saved = Path(args.teacher).exists(), Path(args.student).exists()
    shared = [meant(name, student.values) for name in args.shared]
    with progress("checking the merge"):
        report = check_merge(
            # Files bring their parameter files along, which are checked as well.
            args.teacher if is_file else teacher,
            args.student if is_saved else student,
            feed_map,
            name_prefix=args.prefix,
            parameters=args.parameters,
            shared=shared,
            # `graphtool merge` makes a saved student trainable first, and builds code's weights.
            restored=is_saved,
            built=not is_file,
        )
    plan = plan_of(teacher, student, feed_map, prefix=args.prefix, shared=shared)
    report = typed(report, args, plan)
    if args.format == "json":
        write_json(_data(args, teacher, student, feed_map, report))
    else:
        show_report(report)
        _print(teacher, student, report)
    found = replace(report, about=(teacher, student))
    drawn = args.render is None or write_picture(found, args.render)
    return 0 if drawn and not report.errors else 1


def _data(
    args: Namespace, teacher: Graph, student: Graph, feed_map: Mapping[str, str], report: Report
) -> dict[str, object]:
    return {
        "schema": 1,
        "teacher": teacher.source,
        "student": student.source,
        "feed_map": feed_map,
        "prefix": args.prefix,
        "mergeable": not report.errors,
        "diagnostics": report_data(report),
    }


def _print(teacher: Graph, student: Graph, report: Report) -> None:
    verdict = "cannot be merged" if report.errors else "can be merged"
    found = f": {tally(report)}" if report else ""
    line = f"{bounded(teacher.source)} {verdict} into {bounded(student.source)}{found}"
    results().print(line, soft_wrap=True)
