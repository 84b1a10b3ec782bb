"""Options shared by several commands, and the parsers of their values."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError

from graphtool.cli._formatting import STEM
from graphtool.graph import UNKNOWN_DIM, Shape
from graphtool.paths import resolve_model_prefix

__all__ = [
    "INPUT_HELP",
    "MODEL",
    "MODEL_IN_SHORT",
    "PREFIX",
    "add_inputs",
    "add_json",
    "add_networks",
    "feed_pair",
    "shape",
    "stage",
    "whole_number",
]

MODEL = """\
MODEL is a path (.json, .pdmodel, __model__, or a folder with one of them; the
first two also without their ending), read without Paddle and never executed;
or module:callable, which runs that code: it returns an nn.Layer (a class does)
or a Program, and the working directory is on its path.
"""

MODEL_IN_SHORT = """\
MODEL is a path (.json, .pdmodel, __model__, or a folder with one of them),
never executed; or module:callable, which is (see graphtool inspect --help).
"""

PREFIX = "teacher_"
INPUT_HELP = (
    "shape of a sample for module:callable: 3,224,224 or NAME=3,224,224:float32, NAME as in forward"
)


def add_networks(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("teacher", type=resolve_model_prefix, metavar="TEACHER", help="the network that teaches")
    add("student", type=resolve_model_prefix, metavar="STUDENT", help="the network that is taught")
    add_inputs(parser)


def add_json(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        dest="format",
        action="store_const",
        const="json",
        help="short for --format json",
    )


def add_inputs(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--input", action="append", metavar="SHAPE", help=INPUT_HELP)
    add("--teacher-input", action="append", metavar="SHAPE", help="the teacher's, where it differs")
    add("--student-input", action="append", metavar="SHAPE", help="the student's, where it differs")


def whole_number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"`{text}` is no whole number from 1")
    return int(text)


def stage(text: str) -> int:
    """Parse the number of a stage; `stem` is 0."""
    return 0 if text == STEM else whole_number(text)


def feed_pair(text: str) -> tuple[str, str]:
    teacher, sign, student = text.partition("=")
    if not (teacher and sign and student):
        raise ArgumentTypeError(f"`{text}` is no TEACHER_FEED=STUDENT_FEED")
    return teacher, student


def shape(text: str) -> Shape:
    """Parse a shape: `?,512,7,7`, or `[?, 512, 7, 7]` as printed."""
    dims = text.strip().removeprefix("[").removesuffix("]").strip()
    return tuple(_dim(dim.strip(), text) for dim in dims.split(",")) if dims else ()


def _dim(dim: str, text: str) -> int:
    if dim in ("?", "-1"):
        return UNKNOWN_DIM
    if not dim.isdecimal():
        raise ArgumentTypeError(f"`{text}` is no shape: write dims as in `?,512,7,7`")
    return int(dim)
