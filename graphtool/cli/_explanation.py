"""`graphtool suggest-pairs --explain T=S`: print the score of one pair, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from graphtool.cli._console import TITLE, Column, print_table, results, write_json
from graphtool.cli._formatting import shape_text
from graphtool.matching import End, Explanation, Pair
from graphtool.text import escaped_bounded, printable, printed_name

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["show_explanation"]


def show_explanation(explanation: Explanation, format: str) -> None:
    """Print the ends of a pair, the parts of its score, and the reasons for and against it."""
    if format == "json":
        write_json({"schema": 1, "explanation": _explanation_data(explanation)})
        return
    console = results()
    _print_ends(console, explanation.pair)
    console.print()
    _print_parts(console, explanation)
    for line in _verdict(explanation):
        console.print(line, soft_wrap=True)


def _explanation_data(explanation: Explanation) -> dict[str, object]:
    nearest = explanation.nearest
    return {
        "pair": asdict(explanation.pair),
        "parts": list(map(asdict, explanation.parts)),
        "better": explanation.better,
        "among": explanation.among,
        "against": explanation.against,
        "suggested": explanation.is_suggested,
        "nearest": None if nearest is None else asdict(nearest),
    }


def _print_ends(console: Console, pair: Pair) -> None:
    ends = pair.teacher, pair.student
    columns = (
        Column(title="", cells=("teacher", "student"), style=TITLE),
        Column(title="Value", cells=[printed_name(end.name) for end in ends], least=12),
        Column(title="shape", cells=[shape_text(end.shape) for end in ends]),
        Column(title="operator", cells=[escaped_bounded(end.op or "-") for end in ends]),
        Column(title="layer or module", cells=[_module_path(end) for end in ends], least=12),
    )
    print_table(console, columns)


def _module_path(end: End) -> str:
    return escaped_bounded(end.layer or end.module or "-")


def _print_parts(console: Console, explanation: Explanation) -> None:
    parts = explanation.parts
    gains = [part.agreement * part.weight for part in parts]
    rows = [
        (part.name, part.teacher, part.student, f"{part.agreement:.2f}", f"{part.weight:.2f}")
        for part in parts
    ]
    rows.append(("score", "", "", "", ""))
    titles = "part", "teacher", "student", "agreement", "weight"
    columns = [
        Column(
            title=title,
            cells=[printable(row[index]) for row in rows],
            justify="right" if title in ("agreement", "weight") else "left",
        )
        for index, title in enumerate(titles)
    ]
    points = [*(f"{gain:.3f}" for gain in gains), f"{explanation.pair.score:.3f}"]
    columns.append(Column(title="gives", cells=points, justify="right"))
    print_table(console, columns)


def _verdict(explanation: Explanation) -> Iterator[str]:
    pair, nearest = explanation.pair, explanation.nearest
    yield ""
    among = f"{explanation.among:,} pairs of feature maps with as many axes"
    yield f"{explanation.better:,} of {among} fit better"
    for reason in pair.why:
        yield f"for: {printable(reason)}"
    for reason in explanation.against:
        yield f"against: {escaped_bounded(reason)}"
    if explanation.is_suggested:
        yield f"suggested as pair {pair.rank} of {len(explanation.suggested)}"
    elif nearest is not None:
        names = f"{printed_name(nearest.teacher.name)}={printed_name(nearest.student.name)}"
        yield f"not suggested; the nearest that is: pair {nearest.rank}, {names}, {nearest.score}"
    else:
        yield "not suggested, and nothing else is"
