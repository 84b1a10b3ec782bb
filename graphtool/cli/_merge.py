"""`graphtool merge`: a teacher and a student in, one saved program out."""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from graphtool.checks import MergePlan, check_merge, check_pairs, plan_of
from graphtool.cli._console import errors, progress, results, show_report, write_json
from graphtool.cli._feeds import feed_map_of
from graphtool.cli._helps import typed, typed_opening, typed_pairs
from graphtool.cli._picture import check_picture, write_picture
from graphtool.cli._report import report_data, tally
from graphtool.cli._source import aside, check_networks, said_by_reader
from graphtool.diagnostics import GraphtoolError, MergeError, Report, Severity, counted, listed
from graphtool.graph import Graph
from graphtool.matching import PairSet
from graphtool.matching.recipe import is_configuration, read_recipe, recipe_in
from graphtool.merging import Merged, merge
from graphtool.merging.folder import check_target, save_merged
from graphtool.paths import is_there
from graphtool.readers import read
from graphtool.selectors import meant
from graphtool.text import bounded, named
from graphtool.training.models import Model, open_model

if TYPE_CHECKING:
    from graphtool.rendering.scenes import Scene

__all__ = ["run"]

_LISTED = 3
_OTHER_PROGRAM = "GT318"


def run(args: Namespace) -> int:
    """Open two models, merge them and write the folder; a dry run stops before the merge."""
    check_networks(args)
    check_picture(args.render, folder=args.output)
    check_target(args.output, force=args.force)
    teacher = _opened(args, "teacher", args.teacher, args.teacher_input, args.teacher_weights)
    student = _opened(args, "student", args.student, args.student_input, args.student_weights)
    feed_map = feed_map_of(args.feed, teacher.graph, student.graph, prefix=args.prefix)
    recipe = None if args.pairs is None else _recipe(Path(args.pairs))
    pairs = None if recipe is None else _pairs(args, recipe, teacher, student)
    read_of = (said_by_reader(teacher.graph), said_by_reader(student.graph))
    opened = Report.of(
        found
        for said in (*read_of, teacher.report, student.report, pairs.report if pairs else ())
        for found in said
    )
    if args.dry_run or opened.errors:
        outcome = _checked(args, teacher, student, feed_map)
    else:
        outcome = _merged(args, teacher, student, feed_map, recipe)
    outcome = replace(outcome, pairs=None if pairs is None else len(pairs))
    report = Report.of((*opened, *typed(outcome.report, args, outcome.plan)))
    _show(args, outcome, report)
    drawn = args.render is None or write_picture(_scene(outcome.plan, pairs, report), args.render)
    return 0 if drawn and not report.errors else 1


def _scene(plan: MergePlan, pairs: PairSet | None, report: Report) -> Report | Scene:
    """Return what a picture shows: what stands against the merge, else what it makes."""
    from graphtool.rendering.scenes import scene_of_plan

    if report.errors:
        return replace(report, about=(plan.teacher, plan.student))
    return scene_of_plan(plan, pairs)


def _opened(
    args: Namespace, role: str, source: str, inputs: Sequence[str] | None, weights: str | None
) -> Model:
    try:
        with progress(f"opening {source}"), aside():
            given = inputs or args.input or ()
            model = open_model(source, role=role, inputs=given, weights=weights)
    except GraphtoolError as error:
        raise type(error)(*typed_opening(error.report, role)) from None
    return replace(model, report=typed_opening(model.report, role))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What a merge or a dry run of it came to."""

    plan: MergePlan
    report: Report
    written: str | None = None
    pairs: int | None = None


def _recipe(path: Path) -> str | Path:
    """Return the path of a recipe; of what can be read once only, such as a pipe, the text."""
    if path.is_file() or is_configuration(path):
        return path
    text = recipe_in(path)
    # With a line end, it is taken for no path.
    return text if "\n" in text else f"{text}\n"


def _pairs(args: Namespace, recipe: str | Path, teacher: Model, student: Model) -> PairSet:
    with progress(f"reading {args.pairs}"):
        pairs = read_recipe(recipe, teacher=teacher.graph, student=student.graph).pairs
        # Made trainable or translated, a file is another program than the recipe was made from.
        files = _as_saved(args.teacher, teacher), _as_saved(args.student, student)
        saved = read_recipe(recipe, teacher=files[0], student=files[1]).pairs.report
        misfits = check_pairs(pairs, teacher.graph, student.graph, name_prefix=args.prefix)
    said = [found for found in pairs.report if found.code != _OTHER_PROGRAM or found in saved]
    # They do not stand against the merge, and options of `distill_loss` may make them fit.
    doubts = (replace(found, severity=Severity.WARNING) for found in misfits)
    return replace(pairs, report=typed_pairs(Report.of((*said, *doubts)), args))


def _as_saved(source: str, model: Model) -> Graph:
    return read(source) if is_there(source) else model.graph


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
            shared=_shared(args, student),
        )
    return _Outcome(plan=_plan(args, teacher, student, feed_map), report=report)


def _merged(
    args: Namespace,
    teacher: Model,
    student: Model,
    feed_map: Mapping[str, str],
    recipe: str | Path | None,
) -> _Outcome:
    try:
        with progress("merging"):
            merged = _merge(args, teacher, student, feed_map)
    except MergeError as error:
        return _Outcome(plan=_plan(args, teacher, student, feed_map), report=error.report)
    with progress(f"writing {args.output}"):
        save_merged(merged, args.output, pairs=recipe, force=args.force)
    return _Outcome(plan=merged.plan, report=merged.report, written=args.output)


def _merge(args: Namespace, teacher: Model, student: Model, feed_map: Mapping[str, str]) -> Merged:
    # What is warned of is in the report.
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
            # Nothing else holds the Scope that the teacher was opened into.
            share=True,
        )


def _plan(
    args: Namespace, teacher: Model, student: Model, feed_map: Mapping[str, str]
) -> MergePlan:
    shared = _shared(args, student)
    return plan_of(teacher.graph, student.graph, feed_map, prefix=args.prefix, shared=shared)


def _shared(args: Namespace, student: Model) -> list[str]:
    return [meant(name, student.graph.values) for name in args.shared]


def _show(args: Namespace, outcome: _Outcome, report: Report) -> None:
    if args.format == "json":
        write_json(_data(args, outcome, report))
        return
    show_report(report)
    if report.errors:
        errors().print(f"nothing was written: {tally(report)}", soft_wrap=True)
        return
    for line in _lines(args, outcome):
        results().print(line, soft_wrap=True)


def _data(args: Namespace, outcome: _Outcome, report: Report) -> dict[str, object]:
    plan = outcome.plan
    return {
        "schema": 1,
        "teacher": plan.teacher.source,
        "student": plan.student.source,
        "feed_map": dict((*plan.feed_map, *plan.own_feeds)),
        "prefix": args.prefix,
        "operators": len(plan.teacher.operators),
        "parameters": dict(plan.weights),
        "pairs": outcome.pairs,
        "dry_run": args.dry_run,
        "written": outcome.written,
        "diagnostics": report_data(report),
    }


def _lines(args: Namespace, outcome: _Outcome) -> Iterator[str]:
    """Yield what was done, or would be, in the order of the merge."""
    plan = outcome.plan
    yield (
        f"{'would merge' if args.dry_run else 'merged'} "
        f"{counted(len(plan.teacher.operators), 'operator')} of {bounded(plan.teacher.source)} "
        f"into {bounded(plan.student.source)}, {counted(len(plan.weights), 'parameter')} as "
        f"{bounded(args.prefix)}*"
    )
    if args.dry_run:
        # Each network was opened into a Scope of its own: the student's gets the same tensors.
        yield f"  parameters, shared and not copied: {_renamed(plan.weights)}"
        yield f"  feeds: {_renamed((*plan.feed_map, *plan.own_feeds))}"
        if outcome.pairs is not None:
            yield f"  pairs: {outcome.pairs} of {bounded(args.pairs)}"
    yield f"{'would write' if args.dry_run else 'wrote'} {bounded(args.output)}"


def _renamed(names: Sequence[tuple[str, str]]) -> str:
    return (
        listed([f"{named(old)} -> {named(new)}" for old, new in names], _LISTED, quote="") or "none"
    )
