"""Helps that depend on the command line; those that are a `Call` are printed as options anyway."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import starmap

from graphtool.checks import MergePlan
from graphtool.cli._arguments import PREFIX
from graphtool.cli._console import feed_text
from graphtool.diagnostics import Diagnostic, Report, Severity
from graphtool.paths import path_exists
from graphtool.text import path_argument, shell_command, shell_option

__all__ = ["typed", "typed_opening", "typed_pairs"]


@dataclass(frozen=True, slots=True)
class _Case:
    found: Diagnostic
    args: Namespace
    plan: MergePlan


def typed(report: Report, args: Namespace, plan: MergePlan) -> Report:
    """Give Diagnostics of a merge the help that this command line takes."""
    return Report.of(_typed(_Case(found, args, plan)) for found in report)


def _typed(case: _Case) -> Diagnostic:
    found = case.found
    if found.help is None:
        return found
    spell = (_OF_NOTES if found.severity is Severity.NOTE else _HELPS).get(found.code)
    return found if spell is None else replace(found, help=spell(case))


def typed_opening(report: Report, role: str) -> Report:
    """Give Diagnostics of opening the teacher or the student the help that `merge` takes."""
    return Report.of(
        replace(found, help=_OF_OPENING[found.code](found, role))
        if found.code in _OF_OPENING
        else found
        for found in report
    )


def typed_pairs(report: Report, args: Namespace) -> Report:
    """Give Diagnostics of pairs the inputs that code needs, so that their help reads it again."""
    return Report.of(replace(found, help=_with_inputs(found.help, args)) for found in report)


def _with_inputs(help: str | None, args: Namespace) -> str | None:
    if help is None:
        return None
    if _begins(help, "suggest-pairs", args.teacher):
        return " ".join((help, *_inputs(args)))
    for model, own in (args.teacher, args.teacher_input), (args.student, args.student_input):
        if _begins(help, "inspect", model) and not path_exists(model):
            return " ".join((help, *_repeated("--input", own or args.input)))
    return help


def _begins(help: str, name: str, model: str) -> bool:
    """Return whether a help is this command of graphtool, on this MODEL."""
    return f"{help} ".startswith(f"{shell_command('graphtool', name, path_argument(model))} ")


def _weights_file(found: Diagnostic, role: str) -> str:
    # Of misfits, only a combined file that does not fit its model has a help.
    if found.code == "GT237" and found.help:
        return found.help
    return f"--{role}-weights FILE"


def _one_of_them(found: Diagnostic, role: str) -> str:
    return shell_option(f"--{role}-weights", found.where[0].program or "FILE")


def _built_from_code(_: Diagnostic, role: str) -> str:
    return f"MODULE:CALLABLE as the {role}, with --{role}-input"


def _weights(case: _Case) -> str:
    return "--teacher-weights FILE" if case.args.command == "merge" else "--parameters later"


def _unshared(case: _Case) -> str:
    wrong = {place.value for place in case.found.where}
    left = [name for name in case.plan.shared if name not in wrong]
    return " ".join(shell_option("--shared", name) for name in left) or "leave --shared out"


def _dry_run(case: _Case) -> str:
    args = case.args
    networks = map(path_argument, (args.teacher, args.student))
    merge = shell_command("graphtool", "merge", *networks, "-o", "DIR", "--dry-run")
    return " ".join([merge, *_given(args)])


def _given(args: Namespace) -> Iterator[str]:
    """Yield again what was typed of the options that say how to merge."""
    yield from _inputs(args)
    yield from _repeated("--feed", starmap(feed_text, args.feed or ()))
    yield from _repeated("--shared", args.shared)
    if args.prefix != PREFIX:
        yield shell_option("--prefix", args.prefix)


def _inputs(args: Namespace) -> Iterator[str]:
    """Yield again the inputs that were typed for code."""
    yield from _repeated("--input", args.input)
    yield from _repeated("--teacher-input", args.teacher_input)
    yield from _repeated("--student-input", args.student_input)


def _repeated(name: str, values: Iterable[str] | None) -> Iterator[str]:
    return (shell_option(name, value) for value in values or ())


_HELPS: dict[str, Callable[[_Case], str]] = {
    "GT235": _weights,
    "GT208": _unshared,
}
_OF_OPENING: dict[str, Callable[[Diagnostic, str], str]] = {
    **dict.fromkeys(("GT237", "GT250", "GT551"), _weights_file),
    "GT501": _one_of_them,
    "GT508": _built_from_code,
}
_OF_NOTES: dict[str, Callable[[_Case], str]] = {"GT244": _dry_run}
