"""`graphtool merge`: merge a teacher into a student and save the program."""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from graphtool.checks import MergePlan, check_pairs, plan_without_facts
from graphtool.cli._console import (
    errors,
    progress,
    report_data,
    results,
    show_report,
    tally,
    write_json,
)
from graphtool.cli._helps import with_merge_helps, with_opening_helps, with_pair_helps
from graphtool.cli._picture import check_picture, write_picture
from graphtool.cli._source import check_networks, feed_map_of, reader_report, stdout_to_stderr
from graphtool.diagnostics import (
    GraphtoolError,
    MergeError,
    Report,
    Severity,
    counted,
    listed,
)
from graphtool.graph import Graph
from graphtool.matching import PairSet
from graphtool.matching.recipe import is_of_other_program, load_text
from graphtool.merging import Merged, check_merge, merge
from graphtool.merging.folder import check_target, save_merged
from graphtool.paths import path_exists
from graphtool.selectors import unescape_name
from graphtool.sources import read
from graphtool.text import escaped_bounded, printed_name
from graphtool.toolkits import is_configuration, read_recipe
from graphtool.training.trainable import Model, open_model

if TYPE_CHECKING:
    from graphtool.rendering.scenes import Scene

__all__ = ["run"]

_MAX_RENAMES = 3


def run(args: Namespace) -> int:
    """Open two models, merge them and write the folder; a dry run only checks the merge."""
    check_networks(args)
    check_picture(args.render, folder=args.output)
    check_target(args.output, force=args.force)
    teacher = _open(args, "teacher", args.teacher, args.teacher_input, args.teacher_weights)
    student = _open(args, "student", args.student, args.student_input, args.student_weights)
    feed_map = feed_map_of(args.feed, teacher.graph, student.graph, prefix=args.prefix)
    recipe = None if args.pairs is None else _recipe_source(Path(args.pairs))
    pairs = None if recipe is None else _read_pairs(args, recipe, teacher, student)
    reports = (
        reader_report(teacher.graph),
        reader_report(student.graph),
        teacher.report,
        student.report,
        pairs.report if pairs else (),
    )
    opened = Report.of(diagnostic for report in reports for diagnostic in report)
    if args.dry_run or opened.errors:
        outcome = _dry_run(args, teacher, student, feed_map)
    else:
        outcome = _merge_and_save(args, teacher, student, feed_map, recipe)
    outcome = replace(outcome, pairs=None if pairs is None else len(pairs))
    report = Report.of((*opened, *with_merge_helps(outcome.report, args, outcome.plan)))
    _show(args, outcome, report)
    drawn = args.render is None or write_picture(_scene(outcome.plan, pairs, report), args.render)
    return 0 if drawn and not report.errors else 1


def _scene(plan: MergePlan, pairs: PairSet | None, report: Report) -> Report | Scene:
    """Return what to draw: the report if it has errors, else the merge."""
    from graphtool.rendering.scenes import scene_of_plan

    if report.errors:
        return replace(report, about=(plan.teacher, plan.student))
    return scene_of_plan(plan, pairs)


def _open(
    args: Namespace, role: str, source: str, inputs: Sequence[str] | None, weights: str | None
) -> Model:
    try:
        with progress(f"opening {source}"), stdout_to_stderr():
            model = open_model(
                source, role=role, inputs=inputs or args.input or (), weights=weights
            )
    except GraphtoolError as error:
        raise type(error)(*with_opening_helps(error.report, role)) from None
    return replace(model, report=with_opening_helps(model.report, role))


@dataclass(frozen=True, slots=True, kw_only=True)
class _MergeOutcome:
    """The outcome of a merge or a dry run; `pairs` is their number, `written` the folder."""

    plan: MergePlan
    report: Report
    written: str | None = None
    pairs: int | None = None


def _recipe_source(path: Path) -> str | Path:
    """Return the path of a recipe, or its text if it can be read only once, as a pipe."""
    if path.is_file() or is_configuration(path):
        return path
    text = load_text(path)
    # A string with a line end is not taken for a path.
    return text if "\n" in text else f"{text}\n"


def _read_pairs(args: Namespace, recipe: str | Path, teacher: Model, student: Model) -> PairSet:
    with progress(f"reading {args.pairs}"):
        pairs = read_recipe(recipe, teacher=teacher.graph, student=student.graph).pairs
        # Opening makes a saved program trainable and may translate it. It then differs from the
        # program of the recipe, so the saved files decide whether that is reported.
        saved_report = read_recipe(
            recipe,
            teacher=_saved_graph(args.teacher, teacher),
            student=_saved_graph(args.student, student),
        ).pairs.report
        misfits = check_pairs(pairs, teacher.graph, student.graph, name_prefix=args.prefix)
    diagnostics = [
        diagnostic
        for diagnostic in pairs.report
        if not is_of_other_program(diagnostic) or diagnostic in saved_report
    ]
    # Only warnings: they don't prevent the merge, and `distill_loss` has options to make them fit.
    warned = (replace(misfit, severity=Severity.WARNING) for misfit in misfits)
    return replace(pairs, report=with_pair_helps(Report.of((*diagnostics, *warned)), args))


def _saved_graph(source: str, model: Model) -> Graph:
    return read(source) if path_exists(source) else model.graph


def _dry_run(
    args: Namespace, teacher: Model, student: Model, feed_map: Mapping[str, str]
) -> _MergeOutcome:
    with progress("checking the merge"):
        report = check_merge(
            teacher.graph,
            student.graph,
            feed_map,
            student.scope,
            teacher.scope,
            name_prefix=args.prefix,
            shared=_shared(args, student),
        )
    return _MergeOutcome(plan=_plan(args, teacher, student, feed_map), report=report)


def _merge_and_save(
    args: Namespace,
    teacher: Model,
    student: Model,
    feed_map: Mapping[str, str],
    recipe: str | Path | None,
) -> _MergeOutcome:
    try:
        with progress("merging"):
            merged = _merge(args, teacher, student, feed_map)
    except MergeError as error:
        return _MergeOutcome(plan=_plan(args, teacher, student, feed_map), report=error.report)
    with progress(f"writing {args.output}"):
        save_merged(merged, args.output, pairs=recipe, force=args.force)
    return _MergeOutcome(plan=merged.plan, report=merged.report, written=args.output)


def _merge(args: Namespace, teacher: Model, student: Model, feed_map: Mapping[str, str]) -> Merged:
    # The report has the warnings.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return merge(
            teacher.live,
            student.network or student.live,
            feed_map,
            scope=student.scope,
            teacher_scope=teacher.scope,
            name_prefix=args.prefix,
            shared=_shared(args, student),
            # Nothing else uses the Scope that the teacher was opened into.
            share=True,
        )


def _plan(
    args: Namespace, teacher: Model, student: Model, feed_map: Mapping[str, str]
) -> MergePlan:
    shared = _shared(args, student)
    return plan_without_facts(
        teacher.graph, student.graph, feed_map, prefix=args.prefix, shared=shared
    )


def _shared(args: Namespace, student: Model) -> list[str]:
    return [unescape_name(name, student.graph.values) for name in args.shared]


def _show(args: Namespace, outcome: _MergeOutcome, report: Report) -> None:
    if args.format == "json":
        write_json(_json_data(args, outcome, report))
        return
    show_report(report)
    if report.errors:
        errors().print(f"nothing was written: {tally(report)}", soft_wrap=True)
        return
    for line in _lines(args, outcome):
        results().print(line, soft_wrap=True)


def _json_data(args: Namespace, outcome: _MergeOutcome, report: Report) -> dict[str, object]:
    plan = outcome.plan
    return {
        "schema": 1,
        "teacher": plan.teacher.source,
        "student": plan.student.source,
        "feed_map": dict((*plan.feed_map, *plan.unmapped_feeds)),
        "prefix": args.prefix,
        "operators": len(plan.teacher.operators),
        "parameters": dict(plan.weights),
        "pairs": outcome.pairs,
        "dry_run": args.dry_run,
        "written": outcome.written,
        "diagnostics": report_data(report),
    }


def _lines(args: Namespace, outcome: _MergeOutcome) -> Iterator[str]:
    """Yield the lines of output: what was done, or would be by a merge."""
    plan = outcome.plan
    yield (
        f"{'would merge' if args.dry_run else 'merged'} "
        f"{counted(len(plan.teacher.operators), 'operator')} of "
        f"{escaped_bounded(plan.teacher.source)} into {escaped_bounded(plan.student.source)}, "
        f"{counted(len(plan.weights), 'parameter')} as {escaped_bounded(args.prefix)}*"
    )
    if args.dry_run:
        # Teacher and student have separate Scopes; the merge shares the teacher's tensors.
        yield f"  parameters, shared and not copied: {_renames_text(plan.weights)}"
        yield f"  feeds: {_renames_text((*plan.feed_map, *plan.unmapped_feeds))}"
        if outcome.pairs is not None:
            yield f"  pairs: {outcome.pairs} of {escaped_bounded(args.pairs)}"
    yield f"{'would write' if args.dry_run else 'wrote'} {escaped_bounded(args.output)}"


def _renames_text(names: Sequence[tuple[str, str]]) -> str:
    return (
        listed(
            [f"{printed_name(old)} -> {printed_name(new)}" for old, new in names],
            _MAX_RENAMES,
            quote="",
        )
        or "none"
    )
