"""`graphtool render`: a picture of a network, of two with their pairs, or of a merged program."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from graphtool.cli._console import progress, report_data, show_report, write_json
from graphtool.cli._picture import check_picture, draw, print_written, verb_for
from graphtool.cli._source import check_inputs, check_networks, read_source
from graphtool.graph import Graph
from graphtool.matching import PairSet, suggest_pairs
from graphtool.rendering import Picture
from graphtool.rendering.scenes import Scene, Subject, is_merged_folder, network_name, subject_of

__all__ = ["run"]

_STDOUT, _RADIUS = "-", 2


def run(args: Namespace) -> int:
    """Read the networks, draw them and print the path of the picture."""
    if args.output != _STDOUT:
        check_picture(args.output)
    subject = _subject(args)
    path = _default_path(subject) if args.output is None else args.output
    path = None if path == _STDOUT else path
    radius = args.radius or _RADIUS
    verb = "" if path is None else verb_for(path)
    picture = draw(subject, path, level=args.level, focus=args.focus, radius=radius)
    show_report(picture.report)
    if args.format == "json":
        write_json(_data(picture, path))
    elif path is None:
        sys.stdout.write(picture.dot)
    else:
        print_written(picture, path, verb)
    return 0


def _subject(args: Namespace) -> Subject:
    if args.student is None:
        check_inputs("--input", args.input, args.teacher)
        if is_merged_folder(args.teacher):
            with progress(f"reading {args.teacher}"):
                subject, report = subject_of(args.teacher)
            show_report(report)
            return subject
        return read_source(args.teacher, args.input)
    check_networks(args)
    teacher = read_source(args.teacher, args.teacher_input or args.input)
    student = read_source(args.student, args.student_input or args.input)
    with progress("comparing both networks"):
        pairs = _pairs(teacher, student, args.pairs)
    show_report(pairs.report)
    return Scene(pairs=pairs)


def _pairs(teacher: Graph, student: Graph, recipe: str | None) -> PairSet:
    if recipe is None:
        return suggest_pairs(teacher, student)
    from graphtool.toolkits import read_recipe

    # A Path, as a string of several lines is taken for the text of a recipe.
    return read_recipe(Path(recipe), teacher=teacher, student=student).pairs


def _default_path(subject: Subject) -> str:
    """Return a path in the working directory, named after the networks."""
    graphs = subject.graphs if isinstance(subject, Scene) else (subject,)
    return f"{'-'.join(map(network_name, graphs))}.svg"


def _data(picture: Picture, path: str | None) -> dict[str, object]:
    return {
        "schema": 1,
        "written": path,
        "level": picture.level.value,
        "diagnostics": report_data(picture.report),
        **({"dot": picture.dot} if path is None else {}),
    }
