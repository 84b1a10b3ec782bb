"""Parse the command line with argparse; rich is imported only to format help.

The examples in a command's help run in a folder with a `teacher.json` and a `student.json`.
"""

from __future__ import annotations

import os
import re
import sys
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import NamedTuple, NoReturn

from graphtool.cli._console import STEM, TITLE, WARNING
from graphtool.diagnostics import Diagnostic, UsageError, rule
from graphtool.graph import UNKNOWN_DIM, Shape
from graphtool.paths import resolve_model_prefix
from graphtool.text import closest, elided, near_notes

__all__ = ["PREFIX", "ROWS", "parse", "parsers", "wrong_usage"]

ROWS = 40
PREFIX = "teacher_"
_HELP_COLUMN = 26
_SIMILARITY_CUTOFF = 0.6
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
# Instead of rich-argparse's orange, cyan and grey, which are illegible on a light background.
_STYLES = {
    "argparse.args": TITLE,
    "argparse.groups": f"bold {WARNING}",
    "argparse.metavar": "default",
    "argparse.prog": TITLE,
}
_LEVELS = ("stage", "block", "module", "op")
_SHARED_HELP = "a parameter to have in common: the student's"
_RENDER_HELP = "also draw what is printed, as FILE ends (.svg)"
_OUTPUT_HELP = "a .svg (default: TEACHER-STUDENT.svg), .png, .pdf, .html or .dot; - prints DOT"
_PAIRS_HELP = "pairs to check as well: a recipe, or a .yml of PaddleClas or PaddleOCR"
_FEED_HELP = "feed map, teacher=student; guessed if clear"
_INPUT_HELP = (
    "shape of a sample for module:callable: 3,224,224 or NAME=3,224,224:float32, NAME as in forward"
)
_EVIDENCE_HELP = "weigh by data: .npy, .npz, module:callable or random"
# Repeated here, as `--help` does not import graphtool.matching.
_PRESETS = "logits", "features", "transformer", "overhaul", "attention", "fitnet", "minilm"
_TAPS = "after-activation", "before-activation", "before-norm", "last-convolution"
_PRESET_HELP = f"a published form: {_PRESETS[0]} (gains most), {', '.join(_PRESETS[1:])}"
_TAP_HELP = f"{', '.join(_TAPS[:-1])} or {_TAPS[-1]}"
_CONFIG_HELP = "print a configuration: paddleclas or paddleocr"

# Options, and those that they cannot be combined with; then those that need another one.
_EXCLUDED = {
    "--match": ("--tap", "--evidence", "--as", "--output", "--render"),
    "--explain": ("--tap", "--limit", "--as", "--output", "--render"),
    "--for": ("--tap",),
    "--params": ("--op", "--stage"),
}
_NEEDED = {
    "--force": "--output",
    "--batches": "--evidence",
    "--allow-random": "--evidence",
    "--radius": "--focus",
}
_NEED_STUDENT = "--pairs", "--teacher-input", "--student-input"
# The `dest` of options that argparse stores under another name.
_DESTINATIONS = {"--for": "partners_of", "--as": "config"}

_ABOUT = """\
Find the feature maps worth pairing when one Paddle network teaches another.
"""

_EXAMPLES = (
    "graphtool suggest-pairs teacher.json student.json",
    "graphtool inspect paddle.vision.models:resnet18 --input 3,224,224",
    "graphtool explain GT001",
)
_EXIT_STATUS = """
exit status: 0 done, 1 an error was found, 2 wrong usage
"""

_MODEL = """\
MODEL is a path (.json, .pdmodel, __model__, or a folder with one of them; the
first two also without their ending), read without Paddle and never executed;
or module:callable, which runs that code: it returns an nn.Layer (a class does)
or a Program, and the working directory is on its path.
"""

_MODEL_IN_SHORT = """\
MODEL is a path (.json, .pdmodel, __model__, or a folder with one of them),
never executed; or module:callable, which is (see graphtool inspect --help).
"""


@rule("GT600")
def wrong_usage(message: str, help: str) -> Diagnostic:
    """The command line asks for something that the command does not take; the exit status is 2.

    `graphtool COMMAND --help` lists what a command takes and shows examples.
    """
    return Diagnostic(message=message, help=help)


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
    _check_combination(args)
    return args


def _with_suggestions(
    diagnostic: Diagnostic, argv: Sequence[str], commands: Mapping[str, _Parser]
) -> Diagnostic:
    """Add notes with similar commands or options, and with files taken for options."""
    notes: list[str] = []
    fix, command = diagnostic.help, next((word for word in argv if word[:1] != "-"), "")
    if command in commands:
        # argparse has no public list of a parser's options.
        known = commands[command]._option_string_actions  # noqa: SLF001
        for word in argv:
            option, _, _ = word.partition("=")
            if option.startswith("--") and option not in known:
                notes += near_notes(closest(option, known, cutoff=_SIMILARITY_CUTOFF))
    elif near := closest(command, commands, cutoff=_SIMILARITY_CUTOFF):
        notes += near_notes(near)
        fix = f"graphtool {near[0]} --help"
    notes += (
        f"`{argument}` is a file here, and was taken for an option: `./{argument}`"
        for argument in argv
        if argument.startswith("-") and os.path.lexists(argument)
    )
    return replace(diagnostic, notes=tuple(notes), help=fix)


def _with_joined_shapes(argv: Sequence[str]) -> list[str]:
    """Join `--shape -1,512,7,7` into one argument, or argparse takes the shape for an option."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] == "--shape":
            joined[-1] = f"--shape={argument}"
        else:
            joined.append(argument)
    return joined


def parsers(*, brief: bool = False) -> tuple[_Parser, Mapping[str, _Parser]]:
    """Return the parser of the command line and those of each command; `brief` for completion."""
    epilog = f"{_examples(*_EXAMPLES)}{_EXIT_STATUS}"
    parser = _Parser(prog="graphtool", description=_ABOUT, epilog=epilog, allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, prog="graphtool"
    )
    command_parsers: dict[str, _Parser] = {}
    for command in _COMMANDS:
        command_parser = commands.add_parser(
            command.name,
            help=command.summary,
            description=command.summary if brief else command.about,
            epilog=_examples(*command.examples),
            allow_abbrev=False,
        )
        add = command_parser.add_argument
        add("--format", choices=("text", "json"), default="text", help="text (default) or json")
        json_help = "short for --format json"
        add("--json", dest="format", action="store_const", const="json", help=json_help)
        command.add_arguments(command_parser)
        command_parsers[command.name] = command_parser
    return parser, command_parsers


def _examples(*examples: str) -> str:
    return "examples:\n" + "".join(f"  {example}\n" for example in examples)


def _add_inspect(parser: _Parser) -> None:
    parser.add_argument(
        "model", type=resolve_model_prefix, metavar="MODEL", help="the model to look at"
    )
    add = parser.add_argument
    add("--input", action="append", metavar="SHAPE", help=_INPUT_HELP)
    add("--shape", type=_shape, metavar="DIMS", help="Values of this shape; ? fits any size")
    add("--op", metavar="TYPE", help="results of operators of this type, or pattern")
    add("--stage", type=_stage, metavar="N", help="Values on the main line of a stage, or stem")
    add("--name", metavar="GLOB", help="Values of this name, legacy name, layer or module path")
    add("--params", action="store_true", help="parameters only")
    add("--all", action="store_true", help="every Value, and as many rows as there are")
    add("--limit", type=_whole_number, metavar="N", help=f"show at most N rows ({ROWS})")


def _add_merge_options(parser: _Parser) -> None:
    _add_networks(parser)
    add = parser.add_argument
    add("--feed", action="append", type=_feed_pair, metavar="T=S", help=_FEED_HELP)
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
    _add_inputs(parser)
    add("--pairs", metavar="FILE", help="draw a recipe's pairs, not those suggested")
    add("--level", choices=_LEVELS, help="what a box stands for; chosen by size if left out")
    add("--focus", metavar="NAME", help="draw all operators around one Value")
    add("--radius", type=_whole_number, metavar="N", help="up to N edges away from it (2)")
    add("-o", "--output", metavar="FILE", help=_OUTPUT_HELP)


def _add_completion(parser: _Parser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell to print it for")


def _add_explain(parser: _Parser) -> None:
    parser.add_argument("code", metavar="CODE", nargs="?", help="a code or a slug")


def _add_suggest(parser: ArgumentParser) -> None:
    parser.usage = "graphtool suggest-pairs TEACHER STUDENT [options]"
    _add_networks(parser)
    add = parser.add_argument
    add("--limit", type=_whole_number, metavar="N", help="show at most N pairs, or shapes")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--for", dest="partners_of", metavar="NAME", help="student partners of one teacher Value"
    )
    which.add_argument(
        "--match", choices=("shape",), help="list all feature maps of equal shape instead"
    )
    which.add_argument(
        "--explain", metavar="T=S", help="say what speaks for and against any one pair"
    )
    which.add_argument("--recipe", choices=_PRESETS, metavar="FORM", help=_PRESET_HELP)
    add("--tap", choices=_TAPS, metavar="TAP", help=_TAP_HELP)
    add("--evidence", metavar="SOURCE", help=_EVIDENCE_HELP)
    add("--batches", type=_whole_number, metavar="N", help="run at most N batches of evidence (4)")
    add("--allow-random", action="store_true", help="run networks that were never trained, too")
    add("--as", dest="config", metavar="NAME", help=_CONFIG_HELP)
    add("-o", "--output", metavar="FILE", help="also write the pairs to a recipe (.toml)")
    add("--force", action="store_true", help="replace a recipe that is there already")
    add("--render", metavar="FILE", help=_RENDER_HELP)


def _check_combination(args: Namespace) -> None:
    """Check that options go together, and that a recipe is a `.toml`.

    Raises UsageError: GT600.
    """
    message, advice = _contradiction(args), f"graphtool {args.command} --help"
    if message is None and args.command == "suggest-pairs" and args.output is not None:
        is_recipe = args.output not in ("", "-") and PurePath(args.output).suffix in ("", ".toml")
        if not is_recipe:
            message = f"argument --output: `{args.output}` is not a `.toml`, as a recipe is"
            advice = "-o pairs.toml, or --as paddleclas > clas.yml for a configuration"
    if message is not None:
        raise UsageError(wrong_usage(message, help=advice))


def _contradiction(args: Namespace) -> str | None:
    def is_given(option: str) -> bool:
        name = _DESTINATIONS.get(option, option.removeprefix("--").replace("-", "_"))
        return getattr(args, name, None) not in (None, False)

    for option, excluded in _EXCLUDED.items():
        others = list(filter(is_given, excluded))
        if is_given(option) and others:
            return f"argument {option}: not allowed with argument {others[0]}"
    for option, needed in _NEEDED.items():
        if is_given(option) and not is_given(needed):
            return f"argument {option}: needs argument {needed}"
    if args.command == "render":
        alone = list(filter(is_given, _NEED_STUDENT))
        if args.student is None and alone:
            return f"argument {alone[0]}: needs a TEACHER and a STUDENT"
        if args.focus is not None and args.level not in (None, "op"):
            return f"argument --focus: not allowed with argument --level {args.level}"
    if is_given("--as") and args.format == "json":
        return "argument --as: not allowed with --format json"
    return None


def _add_networks(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("teacher", type=resolve_model_prefix, metavar="TEACHER", help="the network that teaches")
    add("student", type=resolve_model_prefix, metavar="STUDENT", help="the network that is taught")
    _add_inputs(parser)


def _add_inputs(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--input", action="append", metavar="SHAPE", help=_INPUT_HELP)
    add("--teacher-input", action="append", metavar="SHAPE", help="the teacher's, where it differs")
    add("--student-input", action="append", metavar="SHAPE", help="the student's, where it differs")


def _whole_number(text: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) < 1:
        raise ArgumentTypeError(f"`{elided(text, 40)}` is not a whole number from 1 to 999999999")
    return int(text)


def _stage(text: str) -> int:
    """Parse the number of a stage; `stem` is 0."""
    return 0 if text == STEM else _whole_number(text)


def _feed_pair(text: str) -> tuple[str, str]:
    teacher, sign, student = text.partition("=")
    if not (teacher and sign and student):
        raise ArgumentTypeError(f"`{text}` is not TEACHER_FEED=STUDENT_FEED")
    return teacher, student


def _shape(text: str) -> Shape:
    """Parse a shape: `?,512,7,7`, or `[?, 512, 7, 7]` as printed."""
    dims = text.strip().removeprefix("[").removesuffix("]").strip()
    return tuple(_dim(dim.strip(), text) for dim in dims.split(",")) if dims else ()


def _dim(dim: str, text: str) -> int:
    if dim in ("?", "-1"):
        return UNKNOWN_DIM
    if not _NUMBER.fullmatch(dim):
        shown = elided(text, 40)
        raise ArgumentTypeError(f"`{shown}` is not a shape: write dims as in `?,512,7,7`")
    return int(dim)


class _Command(NamedTuple):
    """A command, the parts of its help, and what adds its arguments to a parser."""

    name: str
    summary: str
    about: str
    examples: Sequence[str]
    add_arguments: Callable[[_Parser], None] = lambda _: None


_COMMANDS = (
    _Command(
        "inspect",
        "show a program, its network and its Values",
        f"""\
Show what a program is, the stages and heads of its network, and its Values:
those worth pairing, or those that fit all of --name, --op, --shape and --stage.

{_MODEL}""",
        (
            "graphtool inspect teacher.json",
            "graphtool inspect teacher.json --shape '?,64,4,4'",
            "graphtool inspect teacher.json --op relu --stage 3",
            "graphtool inspect teacher.json --name 'relu_*'",
            "graphtool inspect paddle.vision.models:resnet18 --input 3,224,224",
        ),
        _add_inspect,
    ),
    _Command(
        "suggest-pairs",
        "suggest which feature maps to pair",
        f"""\
Suggest which feature maps of a teacher and a student to pair, best first, and
say why. TEACHER and STUDENT are each a MODEL.

{_MODEL_IN_SHORT}""",
        (
            "graphtool suggest-pairs teacher.json student.json -o pairs.toml",
            "graphtool suggest-pairs teacher.json student.json --evidence samples.npz",
            "graphtool suggest-pairs teacher.json student.json --explain relu_7=relu_3",
        ),
        _add_suggest,
    ),
    _Command(
        "check",
        "find what prevents a merge",
        f"""\
Find everything that prevents merging a teacher into a student, before anything
is touched. TEACHER and STUDENT are each a MODEL. Files are checked
without Paddle.

{_MODEL}""",
        (
            "graphtool check teacher.json student.json",
            "graphtool check teacher.json student.json --feed image=image --format json",
            "graphtool check teacher.json student.json --prefix big_ --pairs pairs.toml",
        ),
        _add_check,
    ),
    _Command(
        "merge",
        "merge a teacher into a student",
        f"""\
Merge a frozen teacher into a student, which is made trainable again, and save
the program: gt.load_merged(DIR) gives it back, to add a loss to and train.

{_MODEL_IN_SHORT}""",
        (
            "graphtool merge teacher.json student.json --pairs pairs.toml -o both",
            "graphtool merge teacher.json student.json -o both --dry-run",
        ),
        _add_merge,
    ),
    _Command(
        "render",
        "draw a network, or two with their pairs",
        f"""\
Draw a network; a teacher and a student side by side with their pairs; or what
`graphtool merge` wrote.

{_MODEL_IN_SHORT}""",
        (
            "graphtool render teacher.json -o teacher.svg",
            "graphtool render teacher.json student.json --pairs pairs.toml -o pairs.png",
            "graphtool render teacher.json --focus relu_7 --radius 3",
            "graphtool render teacher.json student.json -o - | dot -Tsvg > both.svg",
            "graphtool render merged/ -o merged.svg",
        ),
        _add_render,
    ),
    _Command(
        "doctor",
        "print what is installed",
        """\
Print the versions of what is installed here, and what to type for what is
missing. The exit status is 1 if a required library is missing.
""",
        ("graphtool doctor", "graphtool doctor --json"),
    ),
    _Command(
        "completion",
        "print a shell's completion",
        """\
Print a script that lets a shell complete commands, options, choices and files.
Where each shell looks for it:

  bash  ~/.local/share/bash-completion/completions/graphtool
  zsh   a file _graphtool in a folder of $fpath
  fish  ~/.config/fish/completions/graphtool.fish
""",
        (
            "graphtool completion bash > graphtool.bash",
            'eval "$(graphtool completion bash)"',
        ),
        _add_completion,
    ),
    _Command(
        "explain",
        "say what a diagnostic means",
        """\
Say what a diagnostic means and what to do about it; without CODE, list all.
""",
        ("graphtool explain GT001", "graphtool explain no-such-path"),
        _add_explain,
    ),
)
