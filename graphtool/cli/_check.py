"""`graphtool check`: all that stands against merging a teacher into a student."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from graphtool.checks import check_merge, check_pairs, plan_of
from graphtool.cli._console import progress, results, show_report, write_json
from graphtool.cli._feeds import feed_map_of
from graphtool.cli._helps import typed, typed_pairs
from graphtool.cli._picture import check_picture, write_picture
from graphtool.cli._report import report_data, tally
from graphtool.cli._source import check_networks, read_source
from graphtool.diagnostics import PairError, Report
from graphtool.graph import Graph
from graphtool.matching import PairSet
from graphtool.paths import is_there
from graphtool.selectors import meant
from graphtool.text import bounded

__all__ = ["run"]


def run(args: Namespace) -> int:
    """Read two models and print what `check_merge` finds, and what `check_pairs` does."""
    check_networks(args)
    check_picture(args.render)
    teacher = read_source(args.teacher, args.teacher_input or args.input)
    student = read_source(args.student, args.student_input or args.input, train=True)
    feed_map = feed_map_of(args.feed, teacher, student, prefix=args.prefix)
    teacher_is_saved, student_is_saved = map(is_there, (args.teacher, args.student))
    shared = [meant(name, student.values) for name in args.shared]
    with progress("checking the merge"):
        report = check_merge(
            # Files bring their parameter files along, which are checked as well.
            args.teacher if teacher_is_saved else teacher,
            args.student if student_is_saved else student,
            feed_map,
            name_prefix=args.prefix,
            parameters=args.parameters,
            shared=shared,
            # `graphtool merge` makes a saved student trainable first, and builds code's weights.
            restored=student_is_saved,
            built=not teacher_is_saved,
        )
    plan = plan_of(teacher, student, feed_map, prefix=args.prefix, shared=shared)
    report = replace(typed(report, args, plan), about=(teacher, student))
    found = _Found(report, *_pairs(args, teacher, student))
    if args.format == "json":
        write_json(_data(args, teacher, student, feed_map, found))
    else:
        show_report(found.report)
        _print(args, teacher, student, found)
    drawn = args.render is None or write_picture(found.report, args.render)
    return 0 if drawn and not found.report.errors else 1


@dataclass(frozen=True, slots=True)
class _Found:
    """What stands against the merge, and against the pairs where there are any to check."""

    of_merge: Report
    of_pairs: Report
    pairs: PairSet | None

    @property
    def report(self) -> Report:
        return Report.of((*self.of_merge, *self.of_pairs), about=self.of_merge.about)


def _pairs(args: Namespace, teacher: Graph, student: Graph) -> tuple[Report, PairSet | None]:
    if args.pairs is None:
        return Report(), None
    from graphtool.matching.recipe import read_recipe

    try:
        # As a path: text of several lines would be a recipe itself.
        pairs = read_recipe(Path(args.pairs), teacher=teacher, student=student).pairs
    except PairError as error:
        return typed_pairs(error.report, args), None
    told = check_pairs(
        pairs,
        teacher,
        student,
        name_prefix=args.prefix,
        # As for the merge: a saved student is made trainable first.
        restored=is_there(args.student),
    )
    return typed_pairs(Report.of((*pairs.report, *told)), args), pairs


def _data(
    args: Namespace,
    teacher: Graph,
    student: Graph,
    feed_map: Mapping[str, str],
    found: _Found,
) -> dict[str, object]:
    return {
        "schema": 1,
        "teacher": teacher.source,
        "student": student.source,
        "feed_map": feed_map,
        "prefix": args.prefix,
        "mergeable": not found.of_merge.errors,
        **({} if found.pairs is None else {"pairs": list(map(asdict, found.pairs))}),
        "diagnostics": report_data(found.report),
    }


def _print(args: Namespace, teacher: Graph, student: Graph, found: _Found) -> None:
    console = results()
    if found.pairs is not None:
        from graphtool.cli._suggest import print_pairs

        print_pairs(console, found.pairs)
        console.print()
    verdict = "cannot be merged" if found.of_merge.errors else "can be merged"
    line = f"{bounded(teacher.source)} {verdict} into {bounded(student.source)}"
    console.print(f"{line}{_tallied(found.of_merge)}", soft_wrap=True)
    if args.pairs is not None:
        line = f"{_fit(bounded(args.pairs), found)}{_tallied(found.of_pairs)}"
        console.print(line, soft_wrap=True)


def _fit(path: str, found: _Found) -> str:
    if found.of_pairs.errors:
        return f"the pairs of {path} do not all fit"
    return f"the pairs of {path} fit" if found.pairs else f"there are no pairs in {path}"


def _tallied(report: Report) -> str:
    return f": {tally(report)}" if report else ""
