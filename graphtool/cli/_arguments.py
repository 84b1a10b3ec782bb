"""Parse the command line with argparse; rich is imported only to format help.

The examples in a command's help run in a folder with a `teacher.json` and a `student.json`.
"""

from __future__ import annotations

import os
import re
import sys
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, NoReturn

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
# Repeated here, as `--help` does not import graphtool.matching.
_PRESETS = "logits", "features", "transformer", "overhaul", "attention", "fitnet", "minilm"
_TAPS = "after-activation", "before-activation", "before-norm", "last-convolution"

# Options, and those that they cannot be combined with; then those that need another argument.
_ONLY_FOR_PAIRS = "--for", "--recipe", "--tap", "--as", "--output", "--render"
_EXCLUDED = {
    "--match": ("--explain", "--evidence", *_ONLY_FOR_PAIRS),
    "--explain": ("--limit", *_ONLY_FOR_PAIRS),
    "--for": ("--recipe", "--tap"),
    "--params": ("--op", "--stage"),
}
_NEEDED = {
    "--force": "--output",
    "--batches": "--evidence",
    "--allow-random": "--evidence",
    "--radius": "--focus",
    **dict.fromkeys(("--pairs", "--teacher-input", "--student-input"), "STUDENT"),
}


class _Command(NamedTuple):
    """A command: its summary, what its help says before and after the arguments, and those."""

    summary: str
    about: str
    arguments: Mapping[str, str]


_MODEL = """
MODEL is a path (.json, .pdmodel, __model__, or a folder with one of them; the
first two also without their ending), read without Paddle and never executed;
or module:callable, which runs that code: it returns an nn.Layer (a class does)
or a Program, and the working directory is on its path.
"""
_MODEL_IN_SHORT = """
MODEL is a path (.json, .pdmodel, __model__, or a folder with one of them),
never executed; or module:callable, which is (see graphtool inspect --help).
"""
_ABOUT = """\
Find the feature maps worth pairing when one Paddle network teaches another.

examples:
  graphtool suggest-pairs teacher.json student.json
  graphtool inspect paddle.vision.models:resnet18 --input 3,224,224
  graphtool explain GT001

exit status: 0 done, 1 an error was found, 2 wrong usage
"""

# An argument as usage shows it, with its help. `_SETTINGS` says what it takes.
_FORMAT = {"--format FORMAT": "text (default) or json", "--json": "short for --format json"}
_INPUT = {
    "--input SHAPE": "shape of a sample for module:callable: 3,224,224 or "
    "NAME=3,224,224:float32, NAME as in forward"
}
_INPUTS = {
    **_INPUT,
    "--teacher-input SHAPE": "the teacher's, if it differs",
    "--student-input SHAPE": "the student's, if it differs",
}
_NETWORKS = {
    "TEACHER": "the network that teaches",
    "STUDENT": "the network that is taught",
    **_INPUTS,
}
_RENDER = {"--render FILE": "draw the result: .svg, .png, .pdf, .html or .dot"}
_MERGE = {
    **_NETWORKS,
    "--feed T=S": "feed map, teacher=student; guessed if clear",
    "--prefix TEXT": f"put before teacher names ({PREFIX})",
    "--shared NAME": "a parameter that the teacher takes from the student",
}
_COMMANDS = {
    "inspect": _Command(
        "show a program, its network and its Values",
        f"""\
Show what a program is, the stages and heads of its network, and its Values:
those worth pairing, or those that fit all of --name, --op, --shape and --stage.
{_MODEL}
examples:
  graphtool inspect teacher.json
  graphtool inspect teacher.json --shape '?,64,4,4'
  graphtool inspect teacher.json --op relu --stage 3
  graphtool inspect teacher.json --name 'relu_*'
  graphtool inspect paddle.vision.models:resnet18 --input 3,224,224
""",
        {
            "MODEL": "the model to inspect",
            **_INPUT,
            "--shape DIMS": "Values of this shape; ? fits any size",
            "--op TYPE": "results of operators of this type, or pattern",
            "--stage STAGE": "Values on the main line of a stage: its number, or stem",
            "--name GLOB": "Values of this name, legacy name, layer or module path",
            "--params": "parameters only",
            "--all": "every Value, and all rows",
            "--limit N": f"show at most N rows ({ROWS})",
        },
    ),
    "suggest-pairs": _Command(
        "suggest which feature maps to pair",
        f"""\
Suggest which feature maps of a teacher and a student to pair, best first, and
say why. TEACHER and STUDENT are each a MODEL.
{_MODEL_IN_SHORT}
examples:
  graphtool suggest-pairs teacher.json student.json -o pairs.toml
  graphtool suggest-pairs teacher.json student.json --evidence samples.npz
  graphtool suggest-pairs teacher.json student.json --explain relu_7=relu_3
""",
        {
            **_NETWORKS,
            "--limit N": "show at most N pairs, or shapes",
            "--for NAME": "list the student partners of one teacher Value",
            "--match shape": "list all feature maps of equal shape instead",
            "--explain T=S": "say what speaks for and against one pair",
            "--recipe FORM": "a published form: logits (gains most), "
            f"{', '.join(_PRESETS[1:-1])} or {_PRESETS[-1]}",
            "--tap TAP": f"{', '.join(_TAPS[:-1])} or {_TAPS[-1]}",
            "--evidence SOURCE": "weigh by data: .npy, .npz, module:callable or random",
            "--batches N": "run at most N batches of evidence (4)",
            "--allow-random": "run networks that were never trained, too",
            "--as TOOLKIT": "print a configuration: paddleclas or paddleocr",
            "-o --output FILE": "also write the pairs to a recipe (.toml)",
            "--force": "replace an existing recipe",
            **_RENDER,
        },
    ),
    "check": _Command(
        "find what prevents a merge",
        f"""\
Find everything that prevents merging a teacher into a student, and change
nothing. TEACHER and STUDENT are each a MODEL. Files are checked without Paddle.
{_MODEL}
examples:
  graphtool check teacher.json student.json
  graphtool check teacher.json student.json --feed image=image --format json
  graphtool check teacher.json student.json --prefix big_ --pairs pairs.toml
""",
        {
            **_MERGE,
            "--parameters WHEN": "now, or later: load the teacher's after the merge",
            "--pairs FILE": "also check pairs: a recipe, or a .yml of PaddleClas or PaddleOCR",
            **_RENDER,
        },
    ),
    "merge": _Command(
        "merge a teacher into a student",
        f"""\
Merge a frozen teacher into a student, which is made trainable again, and save
the program: gt.load_merged(DIR) loads it, to add a loss and train.
{_MODEL_IN_SHORT}
examples:
  graphtool merge teacher.json student.json --pairs pairs.toml -o both
  graphtool merge teacher.json student.json -o both --dry-run
""",
        {
            **_MERGE,
            "--pairs FILE": "a recipe of pairs to keep with the program",
            "--teacher-weights FILE": "the teacher's parameters",
            "--student-weights FILE": "the student's parameters",
            "--dry-run": "say what would happen and write nothing",
            "--force": "replace an earlier merged program in DIR",
            **_RENDER,
            "-o --output DIR": "the folder to write",
        },
    ),
    "render": _Command(
        "draw a network, or two with their pairs",
        f"""\
Draw a network; a teacher and a student side by side with their pairs; or what
`graphtool merge` wrote.
{_MODEL_IN_SHORT}
examples:
  graphtool render teacher.json -o teacher.svg
  graphtool render teacher.json student.json --pairs pairs.toml -o pairs.png
  graphtool render teacher.json --focus relu_7 --radius 3
  graphtool render teacher.json student.json -o - | dot -Tsvg > both.svg
  graphtool render merged/ -o merged.svg
""",
        {
            "TEACHER": "the network to draw, the teacher, or a merged DIR",
            "[STUDENT]": "the network that is taught",
            **_INPUTS,
            "--pairs FILE": "draw a recipe's pairs, not the suggested ones",
            "--level LEVEL": "a box is a stage, block, module or op (default: by size)",
            "--focus NAME": "draw all operators around one Value",
            "--radius N": "up to N edges away from it (2)",
            "-o --output FILE": "a .svg (default: TEACHER-STUDENT.svg), .png, .pdf, "
            ".html or .dot; - prints DOT",
        },
    ),
    "doctor": _Command(
        "print what is installed",
        """\
Print the versions of what is installed here, and what to type for what is
missing. The exit status is 1 if a required library is missing.

examples:
  graphtool doctor
  graphtool doctor --json
""",
        {},
    ),
    "completion": _Command(
        "print a shell's completion script",
        """\
Print a script that lets a shell complete commands, options, choices and files.
Each shell looks for it here:

  bash  ~/.local/share/bash-completion/completions/graphtool
  zsh   a file _graphtool in a folder of $fpath
  fish  ~/.config/fish/completions/graphtool.fish

examples:
  graphtool completion bash > graphtool.bash
  eval "$(graphtool completion bash)"
""",
        {"SHELL": "bash, zsh or fish"},
    ),
    "explain": _Command(
        "say what a diagnostic means",
        """\
Say what a diagnostic means and what to do about it; without CODE, list all.

examples:
  graphtool explain GT001
  graphtool explain no-such-path
""",
        {"[CODE]": "a code or a slug"},
    ),
}


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
    joined = list(argv)
    if "--shape" in joined[:-1]:
        # argparse takes `-1,512,7,7` for an option, unless both are one argument.
        place = joined.index("--shape")
        joined[place : place + 2] = [f"--shape={joined[place + 1]}"]
    try:
        args, unknown = parser.parse_known_args(joined)
        command = commands[args.command]
        if unknown:
            command.error(f"unrecognized arguments: {' '.join(unknown)}")
        message = _contradiction(args)
        if message is not None:
            command.error(message)
    except UsageError as error:
        (diagnostic,) = error.report
        raise UsageError(_with_suggestions(diagnostic, argv)) from None
    return args


def _with_suggestions(diagnostic: Diagnostic, argv: Sequence[str]) -> Diagnostic:
    """Add notes with similar commands or options, and with files taken for options."""
    notes: list[str] = []
    fix, command = diagnostic.help, next((word for word in argv if word[:1] != "-"), "")
    if command in _COMMANDS:
        known = " ".join({**_FORMAT, **_COMMANDS[command].arguments}).split()
        for word in argv:
            option, _, _ = word.partition("=")
            if option.startswith("--") and option not in known:
                notes += near_notes(closest(option, known, cutoff=_SIMILARITY_CUTOFF))
    elif near := closest(command, _COMMANDS, cutoff=_SIMILARITY_CUTOFF):
        notes += near_notes(near)
        fix = f"graphtool {near[0]} --help"
    notes += (
        f"`{argument}` is a file here, and was taken for an option: `./{argument}`"
        for argument in argv
        if argument.startswith("-") and os.path.lexists(argument)
    )
    return replace(diagnostic, notes=tuple(notes), help=fix)


def parsers(*, brief: bool = False) -> tuple[ArgumentParser, Mapping[str, ArgumentParser]]:
    """Return the parser of the command line and those of each command; `brief` for completion."""
    about, epilog = _parts(_ABOUT)
    parser = _Parser(prog="graphtool", description=about, epilog=epilog, allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, prog="graphtool"
    )
    for name, command in _COMMANDS.items():
        about, epilog = _parts(command.about)
        places = [argument for argument in command.arguments if argument[0] != "-"]
        required = ["-o DIR"] if "-o --output DIR" in command.arguments else []
        one = commands.add_parser(
            name,
            usage=" ".join(["graphtool", name, *places, *required, "[options]"]),
            help=command.summary,
            description=command.summary if brief else about,
            epilog=epilog,
            allow_abbrev=False,
        )
        for argument, text in {**_FORMAT, **command.arguments}.items():
            _add_argument(one, argument, text)
    return parser, commands.choices


def _parts(text: str) -> tuple[str, str]:
    about, heading, examples = text.partition("examples:\n")
    return about, heading + examples


def _add_argument(parser: ArgumentParser, argument: str, help: str) -> None:
    """Add an argument that is written as usage shows it: `MODEL`, `[CODE]`, `-o --output FILE`."""
    *flags, name = argument.split()
    settings: dict[str, Any] = {"help": help, **_SETTINGS.get(name.strip("[]"), {})}
    if name.startswith("--"):
        settings.setdefault("action", "store_true")
        parser.add_argument(name, **settings)
    elif flags:
        settings |= _SETTINGS.get(flags[-1], {})
        parser.add_argument(*flags, metavar=name, **settings)
    else:
        if name.startswith("["):
            settings["nargs"] = "?"
        parser.add_argument(name.strip("[]").lower(), metavar=name.strip("[]"), **settings)


def _contradiction(args: Namespace) -> str | None:
    def is_given(argument: str) -> bool:
        default = argument.strip("-").lower().replace("-", "_")
        name = _SETTINGS.get(argument, {}).get("dest", default)
        return getattr(args, name, None) not in (None, False)

    for option, excluded in _EXCLUDED.items():
        others = list(filter(is_given, excluded))
        if is_given(option) and others:
            return f"argument {option}: not allowed with argument {others[0]}"
    for option, needed in _NEEDED.items():
        if is_given(option) and not is_given(needed):
            return f"argument {option}: needs argument {needed}"
    if is_given("--focus") and args.level not in (None, "op"):
        return f"argument --focus: not allowed with argument --level {args.level}"
    if is_given("--as") and args.format == "json":
        return "argument --as: not allowed with --format json"
    return None


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
    words = [word.strip() for word in dims.split(",")] if dims else []
    if not all(word in ("?", "-1") or _NUMBER.fullmatch(word) for word in words):
        shown = elided(text, 40)
        raise ArgumentTypeError(f"`{shown}` is not a shape: write dims as in `?,512,7,7`")
    return tuple(UNKNOWN_DIM if word in ("?", "-1") else int(word) for word in words)


# What an option, or all arguments with a metavar, take: settings of `add_argument`.
_SETTINGS: Mapping[str, dict[str, Any]] = {
    **{model: {"type": resolve_model_prefix} for model in ("MODEL", "TEACHER", "STUDENT")},
    "DIMS": {"type": _shape},
    "DIR": {"required": True},
    "N": {"type": _whole_number},
    "SHAPE": {"action": "append"},
    "SHELL": {"choices": ("bash", "zsh", "fish")},
    "STAGE": {"type": _stage},
    "--as": {"dest": "config"},
    "--feed": {"action": "append", "type": _feed_pair},
    "--for": {"dest": "partners_of"},
    "--format": {"choices": ("text", "json"), "default": "text"},
    "--json": {"dest": "format", "action": "store_const", "const": "json"},
    "--level": {"choices": ("stage", "block", "module", "op")},
    "--match": {"choices": ("shape",)},
    "--parameters": {"choices": ("now", "later"), "default": "now"},
    "--prefix": {"default": PREFIX},
    "--recipe": {"choices": _PRESETS},
    "--shared": {"action": "append", "default": []},
    "--tap": {"choices": _TAPS},
}
