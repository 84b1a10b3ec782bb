"""`graphtool render`, and the pictures that other commands draw of their results."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphtool.cli._arguments import wrong_usage
from graphtool.cli._console import errors, progress, report_data, show_report, write_json
from graphtool.cli._source import check_inputs, check_networks, read_networks, read_source
from graphtool.diagnostics import GraphtoolError, UsageError
from graphtool.files import check_writable
from graphtool.text import printable

if TYPE_CHECKING:
    from graphtool.rendering import Picture
    from graphtool.rendering.scenes import Drawable, Subject

__all__ = ["check_picture", "run_render", "verb_for", "write_picture"]

_STDOUT, _RADIUS = "-", 2


def run_render(args: Namespace) -> int:
    """Read the networks, draw them and print the path of the picture."""
    from graphtool.rendering.scenes import network_name, networks_of

    if args.output != _STDOUT:
        check_picture(args.output)
    subject = _subject(args)
    path = args.output
    if path is None:
        path = f"{'-'.join(network_name(graph) for _, graph in networks_of(subject))}.svg"
    path = None if path == _STDOUT else path
    options = {"level": args.level, "focus": args.focus, "radius": args.radius or _RADIUS}
    picture = _draw(subject, path, quiet=args.format == "json", **options)
    if args.format == "json":
        data = {
            "schema": 1,
            "written": path,
            "level": picture.level.value,
            "diagnostics": report_data(picture.report),
        }
        write_json(data if path else data | {"dot": picture.dot})
    elif path is None:
        sys.stdout.write(picture.dot)
    return 0


def _subject(args: Namespace) -> Subject:
    """Return the network, merged program or pairs to draw."""
    from graphtool.matching import suggest_pairs
    from graphtool.rendering.scenes import Scene, is_merged_folder, subject_of

    if args.student is None:
        check_inputs("--input", args.input, args.teacher)
        if is_merged_folder(args.teacher):
            with progress(f"reading {args.teacher}"):
                subject, report = subject_of(args.teacher)
            show_report(report)
            return subject
        return read_source(args.teacher, args.input)
    check_networks(args)
    teacher, student = read_networks(args)
    with progress("comparing both networks"):
        if args.pairs is None:
            pairs = suggest_pairs(teacher, student)
        else:
            from graphtool.toolkits import read_recipe

            # A Path, as a string of several lines is taken for the text of a recipe.
            pairs = read_recipe(Path(args.pairs), teacher=teacher, student=student).pairs
    show_report(pairs.report)
    return Scene(pairs=pairs)


def check_picture(path: str | None, *, folder: str | None = None) -> None:
    """Check that a picture can be drawn and written, before the networks are read.

    It may be inside `folder`, which need not exist yet. Raises UsageError: GT402, GT600. Raises
    GraphtoolError: GT401 if no engine draws it, GT601 if it can't be written.
    """
    if path is None:
        return
    if path == _STDOUT:
        message = "argument --render: a picture goes to a file, not to stdout"
        raise UsageError(wrong_usage(message, help="--render picture.svg"))
    from graphtool.rendering.engine import engine_for
    from graphtool.rendering.picture import extension_of

    extension = extension_of(path)
    if extension != ".dot":
        engine_for(extension)
    if folder is None or Path(path).absolute().parent != Path(folder).absolute():
        check_writable(path)


def write_picture(x: Drawable, path: str | None) -> bool:
    """Draw the result of a command, if a path is given; return whether nothing failed."""
    if path is not None:
        try:
            _draw(x, path)
        except GraphtoolError as error:
            show_report(error.report)
            return False
    return True


def _draw(x: Drawable, path: str | None, *, quiet: bool = False, **options: Any) -> Picture:
    """Call `gt.render`, show its report and, unless `quiet`, where the picture is."""
    from graphtool.rendering import render

    verb = "" if path is None else verb_for(path)
    with progress("laying out the picture"):
        picture = render(x, path, **options)
    show_report(picture.report)
    if path is not None and not quiet:
        line = f"{verb} {printable(path)}: level {picture.level.value}"
        errors().print(line, soft_wrap=True)
    return picture


def verb_for(path: str) -> str:
    """Return the verb for writing a file: `replaced` if it exists, else `wrote`."""
    return "replaced" if Path(path).is_file() else "wrote"
