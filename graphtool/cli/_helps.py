"""Helps that depend on the command line; those that are a `Call` are printed as options anyway."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import starmap

from graphtool.checks import MergePlan
from graphtool.cli._arguments import PREFIX
from graphtool.cli._console import feed_text
from graphtool.diagnostics import Diagnostic, Report, Severity
from graphtool.paths import path_exists
from graphtool.text import path_argument, shell_command, shell_option

__all__ = ["with_merge_helps", "with_opening_helps", "with_pair_helps"]


def with_merge_helps(report: Report, args: Namespace, plan: MergePlan) -> Report:
    """Give the Diagnostics of a merge the help that this command line takes."""

    def help_of(found: Diagnostic) -> str | None:
        if found.help is None:
            return None
        if found.severity is Severity.NOTE:
            return _dry_run(args) if found.code == "GT244" else found.help
        if found.code == "GT235":
            return "--teacher-weights FILE" if args.command == "merge" else "--parameters later"
        if found.code == "GT208":
            wrong = {place.value for place in found.where}
            left = _repeated("--shared", (name for name in plan.shared if name not in wrong))
            return " ".join(left) or "leave --shared out"
        return found.help

    return Report.of(replace(found, help=help_of(found)) for found in report)


def with_opening_helps(report: Report, role: str) -> Report:
    """Give the Diagnostics of opening the teacher or the student the help that `merge` takes."""

    def help_of(found: Diagnostic) -> str | None:
        if found.code == "GT508":
            return f"MODULE:CALLABLE as the {role}, with --{role}-input"
        if found.code == "GT501":
            return shell_option(f"--{role}-weights", found.where[0].program or "FILE")
        # Of misfits, only a combined file that does not fit its model has a help.
        if found.code in ("GT250", "GT551") or (found.code == "GT237" and not found.help):
            return f"--{role}-weights FILE"
        return found.help

    return Report.of(replace(found, help=help_of(found)) for found in report)


def with_pair_helps(report: Report, args: Namespace) -> Report:
    """Add the inputs that code needs to commands which read a network again."""

    def help_of(text: str | None) -> str | None:
        if text is None:
            return None
        if _is_command(text, "suggest-pairs", args.teacher):
            return " ".join((text, *_inputs(args)))
        networks = (args.teacher, args.teacher_input), (args.student, args.student_input)
        for model, inputs in networks:
            if _is_command(text, "inspect", model) and not path_exists(model):
                return " ".join((text, *_repeated("--input", inputs or args.input)))
        return text

    return Report.of(replace(found, help=help_of(found.help)) for found in report)


def _is_command(text: str, name: str, model: str) -> bool:
    return f"{text} ".startswith(f"{shell_command('graphtool', name, path_argument(model))} ")


def _dry_run(args: Namespace) -> str:
    networks = map(path_argument, (args.teacher, args.student))
    merge = shell_command("graphtool", "merge", *networks, "-o", "DIR", "--dry-run")
    prefix = () if args.prefix == PREFIX else (shell_option("--prefix", args.prefix),)
    feeds = _repeated("--feed", starmap(feed_text, args.feed or ()))
    options = (*_inputs(args), *feeds, *_repeated("--shared", args.shared), *prefix)
    return " ".join([merge, *options])


def _inputs(args: Namespace) -> Iterator[str]:
    yield from _repeated("--input", args.input)
    yield from _repeated("--teacher-input", args.teacher_input)
    yield from _repeated("--student-input", args.student_input)


def _repeated(name: str, values: Iterable[str] | None) -> Iterator[str]:
    return (shell_option(name, value) for value in values or ())
