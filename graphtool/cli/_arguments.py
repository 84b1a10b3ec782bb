"""Parse the command line with argparse; rich is imported only to format help."""

from __future__ import annotations

import os
import sys
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NoReturn

from graphtool.cli import _manual
from graphtool.cli._console import TITLE, WARNING
from graphtool.cli._options import (
    INPUT_HELP,
    MODEL,
    MODEL_IN_SHORT,
    PREFIX,
    add_inputs,
    add_json,
    add_networks,
    feed_pair,
    shape,
    stage,
    whole_number,
)
from graphtool.cli._suggest_options import (
    add_suggest,
    check_suggest,
)
from graphtool.cli.problems import wrong_usage
from graphtool.diagnostics import Diagnostic, UsageError
from graphtool.lookalikes import closest, near_notes
from graphtool.paths import resolve_model_prefix

__all__ = ["ROWS", "parse", "parsers", "summary"]

ROWS = 40
_HELP_COLUMN = 26
_SIMILARITY_CUTOFF = 0.6
# Instead of rich-argparse's orange, cyan and grey, which are illegible on a light background.
_STYLES = {
    "argparse.args": TITLE,
    "argparse.groups": f"bold {WARNING}",
    "argparse.metavar": "default",
    "argparse.prog": TITLE,
}
_LEVELS = ("stage", "block", "module", "op")
_SHELLS = ("bash", "zsh", "fish")
_DEMO_FOLDER = "graphtool-demo"
_DEMO_HELP = f"a folder that is empty, or not there yet ({_DEMO_FOLDER})"
_SHARED_HELP = "a parameter to have in common: the student's"
_RENDER_HELP = "also draw what is printed, as FILE ends (.svg)"
_OUTPUT_HELP = "a .svg (default: TEACHER-STUDENT.svg), .png, .pdf, .html or .dot; - prints DOT"
_PAIRS_HELP = "pairs to check as well: a recipe, or a .yml of PaddleClas, PaddleOCR, PaddleSlim"
_FEED_HELP = "feed map, teacher=student; guessed if clear"


class _Parser(ArgumentParser):
    """An ArgumentParser that raises UsageError, and imports rich only to format help."""

    def format_help(self) -> str:
        from rich_argparse import RawDescriptionRichHelpFormatter

        RawDescriptionRichHelpFormatter.styles.update(_STYLES)

        self.formatter_class = partial(
            RawDescriptionRichHelpFormatter, max_help_position=_HELP_COLUMN
        )
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise UsageError(wrong_usage(message, help=f"{self.prog} --help"))


class _Version(Action):
    """Prints the version, which is looked up only here as that takes longer than most runs."""

    def __call__(self, parser: ArgumentParser, *_: object) -> NoReturn:
        import graphtool

        sys.stdout.write(f"graphtool {graphtool.__version__}\n")
        parser.exit()


def parse(argv: Sequence[str]) -> Namespace:
    """Parse a command line.

    Raises UsageError for an invalid one, SystemExit after `--help` and `--version`.
    """
    parser, commands = parsers()
    try:
        args, unknown = parser.parse_known_args(_with_joined_shapes(argv))
        if unknown:
            commands[args.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    except UsageError as error:
        (diagnostic,) = error.report
        raise UsageError(_with_suggestions(diagnostic, argv, commands)) from None
    if args.command == "suggest-pairs":
        check_suggest(args)
    if args.command == "render":
        _check_render(args)
    return args


def _with_suggestions(
    diagnostic: Diagnostic, argv: Sequence[str], commands: Mapping[str, _Parser]
) -> Diagnostic:
    """Add notes with similar commands or options, and with files taken for options."""
    notes = tuple(_file_notes(argv))
    command = next((word for word in argv if not word.startswith("-")), "")
    if command in commands:
        return replace(diagnostic, notes=(*_near_options(argv, commands[command]), *notes))
    near = closest(command, commands, cutoff=_SIMILARITY_CUTOFF)
    fix = f"graphtool {near[0]} --help" if near else diagnostic.help
    return replace(diagnostic, notes=(*near_notes(command, near), *notes), help=fix)


def _near_options(argv: Sequence[str], parser: _Parser) -> Iterator[str]:
    # argparse has no public list of a parser's options.
    known = parser._option_string_actions  # noqa: SLF001
    for word in argv:
        option, _, _ = word.partition("=")
        if option.startswith("--") and option not in known:
            yield from near_notes(option, closest(option, known, cutoff=_SIMILARITY_CUTOFF))


def _file_notes(argv: Sequence[str]) -> Iterator[str]:
    for argument in argv:
        if argument.startswith("-") and os.path.lexists(argument):
            yield f"`{argument}` is a file here, and was taken for an option: `./{argument}`"


def _with_joined_shapes(argv: Sequence[str]) -> list[str]:
    """Join `--shape -1,512,7,7` into one argument, or argparse takes the shape for an option."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] == "--shape":
            joined[-1] = f"--shape={argument}"
        else:
            joined.append(argument)
    return joined


def parsers() -> tuple[_Parser, Mapping[str, _Parser]]:
    """Return the parser of the command line, and the parser of each command."""
    parser = _Parser(
        prog="graphtool", description=_manual.ABOUT, epilog=_manual.EXAMPLES, allow_abbrev=False
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, prog="graphtool"
    )
    command_parsers: dict[str, _Parser] = {}
    for name, (summary, about, examples, add_arguments) in _COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=about, epilog=examples, allow_abbrev=False
        )
        command.add_argument(
            "--format", choices=("text", "json"), default="text", help="text (default) or json"
        )
        add_json(command)
        add_arguments(command)
        command_parsers[name] = command
    return parser, command_parsers


def summary(command: str) -> str:
    """Return the summary of a command."""
    return _COMMANDS[command][0]


def _add_inspect(parser: _Parser) -> None:
    parser.add_argument(
        "model", type=resolve_model_prefix, metavar="MODEL", help="the model to look at"
    )
    add = parser.add_argument
    add("--input", action="append", metavar="SHAPE", help=INPUT_HELP)
    add("--shape", type=shape, metavar="DIMS", help="Values of this shape; ? fits any size")
    add("--op", metavar="TYPE", help="results of operators of this type, or pattern")
    add("--stage", type=stage, metavar="N", help="Values on the main line of a stage, or stem")
    add("--name", metavar="GLOB", help="Values of this name, legacy name, layer or module path")
    add("--params", action="store_true", help="parameters only")
    add("--all", action="store_true", help="every Value, and as many rows as there are")
    add("--limit", type=whole_number, metavar="N", help=f"show at most N rows ({ROWS})")


def _add_merge_options(parser: _Parser) -> None:
    add_networks(parser)
    add = parser.add_argument
    add("--feed", action="append", type=feed_pair, metavar="T=S", help=_FEED_HELP)
    add("--prefix", default=PREFIX, metavar="TEXT", help=f"put before teacher names ({PREFIX})")
    add("--shared", action="append", default=[], metavar="NAME", help=_SHARED_HELP)


def _add_check(parser: _Parser) -> None:
    parser.usage = "graphtool check TEACHER STUDENT [options]"
    _add_merge_options(parser)
    parser.add_argument(
        "--parameters",
        choices=("now", "later"),
        default="now",
        help="later: the teacher's are loaded after the merge",
    )
    parser.add_argument("--pairs", metavar="FILE", help=_PAIRS_HELP)
    parser.add_argument("--render", metavar="FILE", help=_RENDER_HELP)


def _add_merge(parser: _Parser) -> None:
    parser.usage = "graphtool merge TEACHER STUDENT -o DIR [options]"
    _add_merge_options(parser)
    add = parser.add_argument
    add("--pairs", metavar="FILE", help="a recipe of pairs to keep with the program")
    add("--teacher-weights", metavar="FILE", help="the teacher's parameters")
    add("--student-weights", metavar="FILE", help="the student's parameters")
    add("--dry-run", action="store_true", help="say what would happen and write nothing")
    add("--force", action="store_true", help="replace an earlier merged program in DIR")
    add("--render", metavar="FILE", help=_RENDER_HELP)
    add("-o", "--output", metavar="DIR", required=True, help="the folder to write")


def _add_render(parser: _Parser) -> None:
    add = parser.add_argument
    teacher_help = "the network to draw, the TEACHER, or a merged DIR"
    add("teacher", type=resolve_model_prefix, metavar="MODEL", help=teacher_help)
    student_help = "the network that is taught"
    add("student", type=resolve_model_prefix, metavar="STUDENT", nargs="?", help=student_help)
    add_inputs(parser)
    add("--pairs", metavar="FILE", help="draw a recipe's pairs, not those suggested")
    add("--level", choices=_LEVELS, help="what a box stands for; chosen by size if left out")
    add("--focus", metavar="NAME", help="draw all operators around one Value")
    add("--radius", type=whole_number, metavar="N", help="up to N edges away from it (2)")
    add("-o", "--output", metavar="FILE", help=_OUTPUT_HELP)


def _add_doctor(_: _Parser) -> None:
    """Add nothing: `doctor` has only the common options."""


def _add_demo(parser: _Parser) -> None:
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", default=_DEMO_FOLDER, help=_DEMO_HELP
    )


def _add_completion(parser: _Parser) -> None:
    parser.add_argument("shell", choices=_SHELLS, help="the shell to print it for")


def _add_explain(parser: _Parser) -> None:
    parser.add_argument("code", metavar="CODE", nargs="?", help="a code or a slug")


def _check_render(args: Namespace) -> None:
    """Check that options go together.

    Raises UsageError: GT600.
    """
    need_student = [
        option
        for option, value in (
            ("--pairs", args.pairs),
            ("--teacher-input", args.teacher_input),
            ("--student-input", args.student_input),
        )
        if value and args.student is None
    ]
    if need_student:
        message = f"argument {need_student[0]}: one network has no pairs: a STUDENT is needed"
    elif args.radius and args.focus is None:
        message = "argument --radius: needs argument --focus"
    elif args.focus is not None and args.level not in (None, "op"):
        message = f"argument --focus: not allowed with argument --level {args.level}"
    else:
        return
    raise UsageError(wrong_usage(message, help="graphtool render --help"))


_COMMANDS = {
    "inspect": (
        "show a program, its network and its Values",
        f"{_manual.INSPECT}\n{MODEL}",
        _manual.INSPECT_EXAMPLES,
        _add_inspect,
    ),
    "suggest-pairs": (
        "suggest which feature maps to pair",
        f"{_manual.SUGGEST}\n{MODEL_IN_SHORT}",
        _manual.SUGGEST_EXAMPLES,
        add_suggest,
    ),
    "check": (
        "find what stands against a merge",
        f"{_manual.CHECK}\n{MODEL}",
        _manual.CHECK_EXAMPLES,
        _add_check,
    ),
    "merge": (
        "merge a teacher into a student",
        f"{_manual.MERGE}\n{MODEL_IN_SHORT}",
        _manual.MERGE_EXAMPLES,
        _add_merge,
    ),
    "render": (
        "draw a network, or two with their pairs",
        f"{_manual.RENDER}\n{MODEL_IN_SHORT}",
        _manual.RENDER_EXAMPLES,
        _add_render,
    ),
    "doctor": ("say what works here", _manual.DOCTOR, _manual.DOCTOR_EXAMPLES, _add_doctor),
    "demo": ("distil a small network", _manual.DEMO, _manual.DEMO_EXAMPLES, _add_demo),
    "completion": (
        "print a shell's completion",
        _manual.COMPLETION,
        _manual.COMPLETION_EXAMPLES,
        _add_completion,
    ),
    "explain": (
        "say what a diagnostic means",
        _manual.EXPLAIN,
        _manual.EXPLAIN_EXAMPLES,
        _add_explain,
    ),
}
