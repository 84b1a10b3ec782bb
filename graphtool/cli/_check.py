"""`graphtool check`: check whether a teacher can be merged into a student."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from graphtool.checks import check_pairs, plan_without_facts
from graphtool.cli._console import progress, report_data, results, show_report, tally, write_json
from graphtool.cli._helps import with_merge_helps, with_pair_helps
from graphtool.cli._picture import check_picture, write_picture
from graphtool.cli._source import check_networks, feed_map_of, read_source
from graphtool.diagnostics import PairError, Report
from graphtool.graph import Graph
from graphtool.matching import PairSet
from graphtool.merging import check_merge
from graphtool.paths import path_exists
from graphtool.selectors import unescape_name
from graphtool.text import escaped_bounded

__all__ = ["run"]


def run(args: Namespace) -> int:
    """Read two models, and print the diagnostics of `check_merge` and `check_pairs`."""
    check_networks(args)
    check_picture(args.render)
    teacher = read_source(args.teacher, args.teacher_input or args.input)
    student = read_source(args.student, args.student_input or args.input, train=True)
    feed_map = feed_map_of(args.feed, teacher, student, prefix=args.prefix)
    teacher_is_saved, student_is_saved = map(path_exists, (args.teacher, args.student))
    shared = [unescape_name(name, student.values) for name in args.shared]
    with progress("checking the merge"):
        report = check_merge(
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
    plan = plan_without_facts(teacher, student, feed_map, prefix=args.prefix, shared=shared)
    report = replace(with_merge_helps(report, args, plan), about=(teacher, student))
    result = _CheckResult(report, *_check_pairs(args, teacher, student))
    if args.format == "json":
        write_json(_json_data(args, teacher, student, feed_map, result))
    else:
        show_report(result.report)
        _print(args, teacher, student, result)
    drawn = args.render is None or write_picture(result.report, args.render)
    return 0 if drawn and not result.report.errors else 1


@dataclass(frozen=True, slots=True)
class _CheckResult:
    """The diagnostics of the merge and of the pairs, and the pairs of `--pairs`."""

    merge_report: Report
    pairs_report: Report
    pairs: PairSet | None

    @property
    def report(self) -> Report:
        return Report.of((*self.merge_report, *self.pairs_report), about=self.merge_report.about)


def _check_pairs(args: Namespace, teacher: Graph, student: Graph) -> tuple[Report, PairSet | None]:
    if args.pairs is None:
        return Report(), None
    from graphtool.toolkits import read_recipe

    try:
        # A Path, as a string of several lines is taken for the text of a recipe.
        pairs = read_recipe(Path(args.pairs), teacher=teacher, student=student).pairs
    except PairError as error:
        return with_pair_helps(error.report, args), None
    report = check_pairs(
        pairs,
        teacher,
        student,
        name_prefix=args.prefix,
        # As for the merge: a saved student is made trainable first.
        restored=path_exists(args.student),
    )
    return with_pair_helps(Report.of((*pairs.report, *report)), args), pairs


def _json_data(
    args: Namespace,
    teacher: Graph,
    student: Graph,
    feed_map: Mapping[str, str],
    result: _CheckResult,
) -> dict[str, object]:
    return {
        "schema": 1,
        "teacher": teacher.source,
        "student": student.source,
        "feed_map": feed_map,
        "prefix": args.prefix,
        "mergeable": not result.merge_report.errors,
        **({} if result.pairs is None else {"pairs": list(map(asdict, result.pairs))}),
        "diagnostics": report_data(result.report),
    }


def _print(args: Namespace, teacher: Graph, student: Graph, result: _CheckResult) -> None:
    console = results()
    if result.pairs is not None:
        from graphtool.cli._suggest import print_pairs

        print_pairs(console, result.pairs)
        console.print()
    verdict = "cannot be merged" if result.merge_report.errors else "can be merged"
    line = f"{escaped_bounded(teacher.source)} {verdict} into {escaped_bounded(student.source)}"
    console.print(f"{line}{_tally_suffix(result.merge_report)}", soft_wrap=True)
    if args.pairs is not None:
        verdict = _pairs_verdict(escaped_bounded(args.pairs), result)
        line = f"{verdict}{_tally_suffix(result.pairs_report)}"
        console.print(line, soft_wrap=True)


def _pairs_verdict(path: str, result: _CheckResult) -> str:
    if result.pairs_report.errors:
        return f"the pairs of {path} do not all fit"
    return f"the pairs of {path} fit" if result.pairs else f"there are no pairs in {path}"


def _tally_suffix(report: Report) -> str:
    return f": {tally(report)}" if report else ""
