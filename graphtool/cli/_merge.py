"""`graphtool merge`: a teacher and a student in, one saved program out."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass

from graphtool.checks import check_merge, persistable_names
from graphtool.cli._console import errors, progress, results, show_report, write_json
from graphtool.cli._feeds import feed_map_of
from graphtool.cli._report import report_data, tally
from graphtool.cli._text import counted, visible
from graphtool.diagnostics import MergeError, Report
from graphtool.matching.recipe import read_recipe
from graphtool.merging import Merged, merge
from graphtool.merging.folder import check_target, save_merged
from graphtool.training.models import Model, open_model

__all__ = ["run"]


def run(args: Namespace) -> int:
    """Open two models, merge them and write the folder; a dry run stops before the merge."""
    check_target(args.output, force=args.force)
    with progress(f"opening {args.teacher}"):
        teacher = open_model(
            args.teacher,
            role="teacher",
            inputs=args.teacher_input or args.input or (),
            weights=args.teacher_weights,
        )
    with progress(f"opening {args.student}"):
        student = open_model(
            args.student,
            role="student",
            inputs=args.student_input or args.input or (),
            weights=args.student_weights,
        )
    feed_map = feed_map_of(args.feed, teacher.graph, student.graph)
    opened = (*teacher.report, *student.report, *_pairs_report(args, teacher, student))
    outcome = (_checked if args.dry_run else _merged)(args, teacher, student, feed_map)
    report = Report.of((*opened, *outcome.report))
    _show(args, outcome, report, feed_map)
    return 1 if report.errors else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What a merge or a dry run of it came to."""

    teacher: str
    student: str
    parameters: int
    operators: int
    report: Report
    written: str | None = None


def _pairs_report(args: Namespace, teacher: Model, student: Model) -> Report:
    if args.pairs is None:
        return Report()
    with progress(f"reading {args.pairs}"):
        return read_recipe(args.pairs, teacher=teacher.graph, student=student.graph).pairs.report


def _checked(
    args: Namespace, teacher: Model, student: Model, feed_map: Mapping[str, str]
) -> _Outcome:
    with progress("checking the merge"):
        report = check_merge(
            teacher.graph,
            student.graph,
            feed_map,
            student.scope,
            teacher.scope,
            name_prefix=args.prefix,
        )
    return _outcome(teacher, student, report)


def _merged(
    args: Namespace, teacher: Model, student: Model, feed_map: Mapping[str, str]
) -> _Outcome:
    try:
        with progress("merging"):
            merged = _merge(args, teacher, student, feed_map)
    except MergeError as error:
        return _outcome(teacher, student, error.report)
    with progress(f"writing {args.output}"):
        save_merged(merged, args.output, pairs=args.pairs, force=args.force)
    return _outcome(teacher, student, merged.report, written=args.output)


def _merge(args: Namespace, teacher: Model, student: Model, feed_map: Mapping[str, str]) -> Merged:
    return merge(
        teacher.live,
        student.live,
        feed_map,
        scope=student.scope,
        teacher_scope=teacher.scope,
        name_prefix=args.prefix,
    )


def _outcome(
    teacher: Model, student: Model, report: Report, *, written: str | None = None
) -> _Outcome:
    return _Outcome(
        teacher=teacher.graph.source,
        student=student.graph.source,
        parameters=len(persistable_names(teacher.graph)),
        operators=len(teacher.graph.operators),
        report=report,
        written=written,
    )


def _show(args: Namespace, outcome: _Outcome, report: Report, feed_map: Mapping[str, str]) -> None:
    if args.format == "json":
        write_json(
            {
                "schema": 1,
                "teacher": outcome.teacher,
                "student": outcome.student,
                "feed_map": feed_map,
                "prefix": args.prefix,
                "dry_run": args.dry_run,
                "written": outcome.written,
                "diagnostics": report_data(report),
            }
        )
        return
    show_report(report)
    if report.errors:
        errors().print(f"nothing was written: {tally(report)}", soft_wrap=True)
        return
    verb = "would merge" if args.dry_run else "merged"
    line = (
        f"{verb} {counted(outcome.operators, 'operator')} of {outcome.teacher} into "
        f"{outcome.student}, {counted(outcome.parameters, 'parameter')} as {args.prefix}*"
    )
    results().print(visible(line), soft_wrap=True)
    where = f"{'would write' if args.dry_run else 'wrote'} {args.output}"
    results().print(visible(where), soft_wrap=True)
