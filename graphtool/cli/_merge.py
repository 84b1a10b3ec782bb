"""`graphtool merge`: merge a teacher into a student and save the program."""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from graphtool.checks import MergePlan, check_pairs, plan_without_facts
from graphtool.cli._check import with_merge_helps, with_pair_helps
from graphtool.cli._console import (
    errors,
    progress,
    report_data,
    results,
    show_report,
    tally,
    write_json,
)
from graphtool.cli._render import check_picture, write_picture
from graphtool.cli._source import check_networks, feed_map_of, reader_report, stdout_to_stderr
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    MergeError,
    Report,
    Severity,
    counted,
    listed,
)
from graphtool.matching import PairSet
from graphtool.matching.recipe import is_of_other_program, load_text
from graphtool.merging import check_merge, merge
from graphtool.merging.folder import check_target, save_merged
from graphtool.paths import path_exists
from graphtool.selectors import unescape_name
from graphtool.sources import read
from graphtool.text import escaped_bounded, printed_name, shell_option
from graphtool.toolkits import is_configuration, read_recipe
from graphtool.training.trainable import Model, open_model

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
    reports = (reader_report(teacher.graph), reader_report(student.graph))
    reports += (teacher.report, student.report, *((pairs.report,) if pairs else ()))
    opened = Report.of(diagnostic for report in reports for diagnostic in report)
    shared = [unescape_name(name, student.graph.values) for name in args.shared]
    plan = plan_without_facts(
        teacher.graph, student.graph, feed_map, prefix=args.prefix, shared=shared
    )
    written = None
    if args.dry_run or opened.errors:
        with progress("checking the merge"):
            merge_report = check_merge(
                teacher.graph,
                student.graph,
                feed_map,
                student.scope,
                teacher.scope,
                name_prefix=args.prefix,
                shared=shared,
            )
    else:
        try:
            # The report has the warnings.
            with progress("merging"), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                merged = merge(
                    teacher.live,
                    student.network or student.live,
                    feed_map,
                    scope=student.scope,
                    teacher_scope=teacher.scope,
                    name_prefix=args.prefix,
                    shared=shared,
                    # Nothing else uses the Scope that the teacher was opened into.
                    share=True,
                )
        except MergeError as error:
            merge_report = error.report
        else:
            plan, merge_report, written = merged.plan, merged.report, args.output
            with progress(f"writing {args.output}"):
                save_merged(merged, args.output, pairs=recipe, force=args.force)
    report = Report.of((*opened, *with_merge_helps(merge_report, args)))
    if args.format == "json":
        data = {
            "schema": 1,
            "teacher": plan.teacher.source,
            "student": plan.student.source,
            "feed_map": dict((*plan.feed_map, *plan.unmapped_feeds)),
            "prefix": args.prefix,
            "operators": len(plan.teacher.operators),
            "parameters": dict(plan.weights),
            "pairs": None if pairs is None else len(pairs),
            "dry_run": args.dry_run,
            "written": written,
            "diagnostics": report_data(report),
        }
        write_json(data)
    else:
        show_report(report)
        if report.errors:
            errors().print(f"nothing was written: {tally(report)}", soft_wrap=True)
        else:
            for line in _lines(args, plan, pairs):
                results().print(line, soft_wrap=True)
    return 0 if _draw(args.render, plan, pairs, report) and not report.errors else 1


def _draw(path: str | None, plan: MergePlan, pairs: PairSet | None, report: Report) -> bool:
    """Draw the report if it has errors, else the merge; return whether that succeeded."""
    if path is None:
        return True
    from graphtool.rendering.scenes import scene_of_plan

    if report.errors:
        return write_picture(replace(report, about=(plan.teacher, plan.student)), path)
    return write_picture(scene_of_plan(plan, pairs), path)


def _open(
    args: Namespace, role: str, source: str, inputs: Sequence[str] | None, weights: str | None
) -> Model:
    def with_helps(report: Report) -> Report:
        return Report.of(replace(found, help=help_of(found)) for found in report)

    def help_of(found: Diagnostic) -> str | None:
        if found.code == "GT508":
            return f"MODULE:CALLABLE as the {role}, with --{role}-input"
        if found.code == "GT501":
            return shell_option(f"--{role}-weights", found.where[0].program or "FILE")
        # Of misfits, only a combined file that does not fit its model has a help.
        if found.code == "GT250" or (found.code == "GT237" and not found.help):
            return f"--{role}-weights FILE"
        return found.help

    try:
        with progress(f"opening {source}"), stdout_to_stderr():
            model = open_model(
                source, role=role, inputs=inputs or args.input or (), weights=weights
            )
    except GraphtoolError as error:
        raise type(error)(*with_helps(error.report)) from None
    return replace(model, report=with_helps(model.report))


def _recipe_source(path: Path) -> str | Path:
    """Return the path of a recipe, or its text if it can be read only once, as a pipe."""
    if path.is_file() or is_configuration(path):
        return path
    text = load_text(path)
    # A string with a line end is not taken for a path.
    return text if "\n" in text else f"{text}\n"


def _read_pairs(args: Namespace, recipe: str | Path, teacher: Model, student: Model) -> PairSet:
    # Opening makes a saved program trainable and may translate it. It then differs from the
    # program of the recipe, so the saved files decide whether that is reported.
    saved_teacher, saved_student = (
        read(source) if path_exists(source) else model.graph
        for source, model in ((args.teacher, teacher), (args.student, student))
    )
    with progress(f"reading {args.pairs}"):
        pairs = read_recipe(recipe, teacher=teacher.graph, student=student.graph).pairs
        saved = read_recipe(recipe, teacher=saved_teacher, student=saved_student).pairs.report
        misfits = check_pairs(pairs, teacher.graph, student.graph, name_prefix=args.prefix)
    diagnostics = [
        diagnostic
        for diagnostic in pairs.report
        if not is_of_other_program(diagnostic) or diagnostic in saved
    ]
    # Only warnings: they don't prevent the merge, and `distill_loss` has options to make them fit.
    warned = (replace(misfit, severity=Severity.WARNING) for misfit in misfits)
    return replace(pairs, report=with_pair_helps(Report.of((*diagnostics, *warned)), args))


def _lines(args: Namespace, plan: MergePlan, pairs: PairSet | None) -> Iterator[str]:
    """Yield the lines of output: what was done, or would be by a merge."""
    teacher, student = plan.teacher, plan.student
    yield (
        f"{'would merge' if args.dry_run else 'merged'} "
        f"{counted(len(teacher.operators), 'operator')} of {escaped_bounded(teacher.source)} "
        f"into {escaped_bounded(student.source)}, "
        f"{counted(len(plan.weights), 'parameter')} as {escaped_bounded(args.prefix)}*"
    )
    if args.dry_run:

        def renames(pairs: Sequence[tuple[str, str]]) -> str:
            texts = [f"{printed_name(old)} -> {printed_name(new)}" for old, new in pairs]
            return listed(texts, _MAX_RENAMES, quote="") or "none"

        # Teacher and student have separate Scopes; the merge shares the teacher's tensors.
        yield f"  parameters, shared and not copied: {renames(plan.weights)}"
        yield f"  feeds: {renames((*plan.feed_map, *plan.unmapped_feeds))}"
        if pairs is not None:
            yield f"  pairs: {len(pairs)} of {escaped_bounded(args.pairs)}"
    yield f"{'would write' if args.dry_run else 'wrote'} {escaped_bounded(args.output)}"
