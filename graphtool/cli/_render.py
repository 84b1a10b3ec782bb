"""`graphtool render`: a picture of a network, or of two with their pairs."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import replace

from graphtool.cli._console import errors, progress, show_report, write_json
from graphtool.cli._report import report_data
from graphtool.cli._source import check_inputs, check_networks, read_source
from graphtool.diagnostics import GraphtoolError, Report
from graphtool.graph import Graph
from graphtool.matching import PairSet, suggest_pairs
from graphtool.rendering import Picture, render
from graphtool.rendering.names import network_name
from graphtool.text import visible

__all__ = ["run"]

_STDOUT, _RADIUS = "-", 2
# What to type, where a rule's help is an argument of a call.
_HELPS = {"GT404": "--focus NAME", "GT405": "--focus NAME"}


def run(args: Namespace) -> int:
    """Read what is to be drawn, draw it and say where the picture is."""
    subject = _subject(args)
    path = None if args.output == _STDOUT else args.output or _default_path(subject)
    try:
        with progress("laying out the picture"):
            picture = render(
                subject, path, level=args.level, focus=args.focus, radius=args.radius or _RADIUS
            )
    except GraphtoolError as error:
        raise type(error)(*_typed(error.report)) from None
    report = _typed(picture.report)
    show_report(report)
    if args.format == "json":
        write_json(_data(picture, path, report))
    elif path is None:
        sys.stdout.write(picture.dot)
    else:
        errors().print(f"wrote {visible(path)}: level {picture.level.value}", soft_wrap=True)
    return 0


def _subject(args: Namespace) -> Graph | PairSet:
    if args.student is None:
        check_inputs("--input", args.input, args.teacher)
        return read_source(args.teacher, args.input)
    check_networks(args)
    teacher = read_source(args.teacher, args.teacher_input or args.input)
    student = read_source(args.student, args.student_input or args.input)
    with progress("comparing both networks"):
        pairs = _pairs(teacher, student, args.pairs)
    show_report(pairs.report)
    return pairs


def _pairs(teacher: Graph, student: Graph, recipe: str | None) -> PairSet:
    if recipe is None:
        return suggest_pairs(teacher, student)
    from graphtool.matching.recipe import read_recipe

    return read_recipe(recipe, teacher=teacher, student=student).pairs


def _default_path(subject: Graph | PairSet) -> str:
    """Name the picture after what it shows, in the working directory."""
    graphs = (subject.teacher, subject.student) if isinstance(subject, PairSet) else (subject,)
    return f"{'-'.join(map(network_name, graphs))}.svg"


def _typed(report: Report) -> Report:
    return Report.of(replace(found, help=_HELPS.get(found.code, found.help)) for found in report)


def _data(picture: Picture, path: str | None, report: Report) -> dict[str, object]:
    return {
        "schema": 1,
        "written": path,
        "level": picture.level.value,
        "diagnostics": report_data(report),
        **({"dot": picture.dot} if path is None else {}),
    }
