"""`graphtool check` and `graphtool merge`: what prevents a merge, and the merged program saved."""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphtool.checks import MergePlan, check_pairs, plan_without_facts
from graphtool.cli._arguments import PREFIX
from graphtool.cli._console import (
    errors,
    feed_text,
    progress,
    report_data,
    results,
    show_report,
    tally,
    write_json,
)
from graphtool.cli._render import check_picture, write_picture
from graphtool.cli._source import (
    check_networks,
    feed_map_of,
    read_networks,
    reader_report,
    stdout_to_stderr,
)
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    MergeError,
    PairError,
    Report,
    Severity,
    counted,
    listed,
)
from graphtool.graph import Graph
from graphtool.matching import PairSet
from graphtool.merging import check_merge, merge
from graphtool.paths import path_exists
from graphtool.selectors import unescape_name
from graphtool.sources import read
from graphtool.text import escaped_bounded, path_argument, printed_name, shell_command, shell_option

if TYPE_CHECKING:
    from graphtool.training.trainable import Model

__all__ = ["run_check", "run_merge"]

_MAX_RENAMES = 3


def run_check(args: Namespace) -> int:
    """Read two models, and print the diagnostics of `check_merge` and `check_pairs`."""
    check_networks(args)
    check_picture(args.render)
    teacher, student = read_networks(args, train=True)
    feed_map = feed_map_of(args.feed, teacher, student, prefix=args.prefix)
    teacher_is_saved, student_is_saved = map(path_exists, (args.teacher, args.student))
    with progress("checking the merge"):
        merge_report = check_merge(
            # As paths, so that their parameter files are checked as well.
            args.teacher if teacher_is_saved else teacher,
            args.student if student_is_saved else student,
            feed_map,
            name_prefix=args.prefix,
            parameters=args.parameters,
            shared=[unescape_name(name, student.values) for name in args.shared],
            # As in `graphtool merge`: a saved student is made trainable first, and code is built
            # with its weights.
            restored=student_is_saved,
            built=not teacher_is_saved,
        )
    merge_report = _with_helps(merge_report, args)
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
        return _with_helps(error.report, args), None
    # As for the merge: a saved student is made trainable first.
    restored = path_exists(args.student)
    report = check_pairs(pairs, teacher, student, name_prefix=args.prefix, restored=restored)
    return _with_helps((*pairs.report, *report), args), pairs


def run_merge(args: Namespace) -> int:
    """Open two models, merge them and write the folder; a dry run only checks the merge."""
    from graphtool.merging.folder import check_target, save_merged

    check_networks(args)
    check_picture(args.render, folder=args.output)
    check_target(args.output, force=args.force)
    teacher = _open(args, "teacher", args.teacher_input, args.teacher_weights)
    student = _open(args, "student", args.student_input, args.student_weights)
    feed_map = feed_map_of(args.feed, teacher.graph, student.graph, prefix=args.prefix)
    recipe = None if args.pairs is None else _recipe_source(Path(args.pairs))
    pairs = None if recipe is None else _read_pairs(args, recipe, teacher, student)
    reports = (reader_report(teacher.graph), reader_report(student.graph))
    reports += (teacher.report, student.report, *((pairs.report,) if pairs else ()))
    opened = Report.of(diagnostic for report in reports for diagnostic in report)
    shared = [unescape_name(name, student.graph.values) for name in args.shared]
    names: dict[str, Any] = {"name_prefix": args.prefix, "shared": shared}
    plan = written = None
    if args.dry_run or opened.errors:
        with progress("checking the merge"):
            graphs, scopes = (teacher.graph, student.graph), (student.scope, teacher.scope)
            merge_report = check_merge(*graphs, feed_map, *scopes, **names)
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
                    **names,
                    # Nothing else uses the Scope that the teacher was opened into.
                    share=True,
                )
        except MergeError as error:
            merge_report = error.report
        else:
            plan, merge_report, written = merged.plan, merged.report, args.output
            with progress(f"writing {args.output}"):
                save_merged(merged, args.output, pairs=recipe, force=args.force)
    if plan is None:
        graphs = teacher.graph, student.graph
        plan = plan_without_facts(*graphs, feed_map, prefix=args.prefix, shared=shared)
    report = Report.of((*opened, *_with_helps(merge_report, args)))
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


def _open(args: Namespace, role: str, inputs: Sequence[str] | None, weights: str | None) -> Model:
    from graphtool.training.trainable import open_model

    source = getattr(args, role)
    try:
        with progress(f"opening {source}"), stdout_to_stderr():
            shapes = inputs or args.input or ()
            model = open_model(source, role=role, inputs=shapes, weights=weights)
    except GraphtoolError as error:
        raise type(error)(*_with_helps(error.report, args, role)) from None
    return replace(model, report=_with_helps(model.report, args, role))


def _recipe_source(path: Path) -> str | Path:
    """Return the path of a recipe, or its text if it can be read only once, as a pipe."""
    from graphtool.matching.recipe import load_text
    from graphtool.toolkits import is_configuration

    if path.is_file() or is_configuration(path):
        return path
    text = load_text(path)
    # A string with a line end is not taken for a path.
    return text if "\n" in text else f"{text}\n"


def _read_pairs(args: Namespace, recipe: str | Path, teacher: Model, student: Model) -> PairSet:
    from graphtool.matching.recipe import is_of_other_program
    from graphtool.toolkits import read_recipe

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
    diagnostics = [one for one in pairs.report if not is_of_other_program(one) or one in saved]
    # Only warnings: they don't prevent the merge, and `distill_loss` has options to make them fit.
    warned = (replace(misfit, severity=Severity.WARNING) for misfit in misfits)
    return replace(pairs, report=_with_helps((*diagnostics, *warned), args))


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


def _with_helps(found: Iterable[Diagnostic], args: Namespace, role: str | None = None) -> Report:
    """Give Diagnostics the helps that a command line takes; `role` is that of a network opened."""
    reading = dict(_commands_that_read(args))

    def help_of(one: Diagnostic) -> str | None:
        is_note = one.severity is Severity.NOTE
        if one.code == "GT244" and is_note and one.help:
            models = path_argument(args.teacher), path_argument(args.student)
            merging = shell_command("graphtool", "merge", *models, "-o", "DIR", "--dry-run")
            feeds = _options("--feed", starmap(feed_text, args.feed or ()))
            prefix = _options("--prefix", () if args.prefix == PREFIX else (args.prefix,))
            options = *feeds, *_options("--shared", args.shared), *prefix
            return " ".join([merging, *_inputs(args), *options])
        if one.code == "GT235" and not is_note and one.help:
            return "--teacher-weights FILE" if args.command == "merge" else "--parameters later"
        if role is not None:
            if one.code == "GT508":
                return f"MODULE:CALLABLE as the {role}, with --{role}-input"
            if one.code == "GT501":
                return shell_option(f"--{role}-weights", one.where[0].program or "FILE")
            # Of misfits, only a combined file that does not fit its model has a help.
            if one.code == "GT250" or (one.code == "GT237" and not one.help):
                return f"--{role}-weights FILE"
        inputs = [words for start, words in reading.items() if f"{one.help} ".startswith(start)]
        return " ".join((one.help, *inputs[0])) if one.help and inputs else one.help

    return Report.of(replace(one, help=help_of(one)) for one in found)


def _commands_that_read(args: Namespace) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield how helps begin that read a network again, and the options that code needs there."""
    networks = (args.teacher, args.teacher_input), (args.student, args.student_input)
    # The teacher's come last, and replace the student's for the same model.
    for model, inputs in reversed(networks):
        if not path_exists(model):
            command = shell_command("graphtool", "inspect", path_argument(model))
            yield f"{command} ", _options("--input", inputs or args.input)
    command = shell_command("graphtool", "suggest-pairs", path_argument(args.teacher))
    yield f"{command} ", _inputs(args)


def _inputs(args: Namespace) -> list[str]:
    names = "input", "teacher_input", "student_input"
    given = [_options(f"--{name.replace('_', '-')}", getattr(args, name)) for name in names]
    return list(chain.from_iterable(given))


def _options(name: str, values: Iterable[str] | None) -> list[str]:
    return [shell_option(name, value) for value in values or ()]
