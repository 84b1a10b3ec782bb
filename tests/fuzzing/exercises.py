"""What people do with a model: read, list, pair, check and draw it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from zlib import crc32

import networkx as nx

import graphtool as gt
from graphtool.checks import guess_feed_map
from graphtool.cli import main
from graphtool.diagnostics import Diagnostic, GraphtoolError
from graphtool.graph import Graph
from graphtool.matching.fingerprint import fingerprints, program_fingerprint
from graphtool.merging import check_merge

__all__ = ["Step", "all_of", "command", "with_model"]

Step = Callable[[], object]


def all_of(steps: Iterable[Step]) -> None:
    """Take every step, also after one that a Diagnostic stops; then raise what was said."""
    said: list[Diagnostic] = []
    for step in steps:
        said += _said(step)
    if said:
        raise GraphtoolError(*said)


def _said(step: Step) -> Iterable[Diagnostic]:
    try:
        step()
    except GraphtoolError as error:
        return error.report
    return ()


def command(*argv: str) -> str:
    """Run a command line and return what it prints.

    Raises AssertionError where it fails without a coded Diagnostic, or with another exit status.
    """
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(argv)
    assert status in (0, 1, 2), status
    said = err.getvalue() + out.getvalue()
    # In brackets for people, in quotes in JSON.
    assert status == 0 or "[GT" in said or '"GT' in said, said
    return out.getvalue()


def with_model(path: Path, partner: Graph) -> None:
    """Do with a saved model what people do, with itself and with an honest partner.

    Of what takes longest, its bytes choose one thing to do.
    """
    graph = gt.read(path)
    _check(graph)
    name, choice = str(path), crc32(path.read_bytes())
    all_of(
        [
            lambda: program_fingerprint(graph, fingerprints(graph)),
            lambda: _pair(graph, graph),
            lambda: _pair(graph, partner) if choice % 2 else _pair(partner, graph),
            lambda: check_merge(graph, graph, _feeds(graph, graph)),
            lambda: check_merge(name, partner, _feeds(graph, partner)),
            lambda: gt.render(graph, level="op"),
            _views(graph, partner, name)[choice % 5],
        ]
    )


def _views(graph: Graph, partner: Graph, path: str) -> tuple[Step, ...]:
    """Return what takes longest."""
    return (
        lambda: gt.render(graph),
        lambda: gt.render(graph, "alone.html"),
        lambda: gt.render(gt.suggest_pairs(partner, graph), "pairs.html"),
        lambda: command("inspect", path, "--all", "--format", "json"),
        lambda: command("inspect", path, "--limit", "12"),
    )


def _pair(teacher: Graph, student: Graph) -> None:
    pairs = gt.suggest_pairs(teacher, student)
    gt.check_pairs(pairs, teacher, student)
    gt.write_recipe(pairs, "pairs.toml")
    gt.render(pairs)


def _feeds(teacher: Graph, student: Graph) -> dict[str, str]:
    guessed = guess_feed_map(teacher, student)
    return dict(guessed or zip(teacher.feeds, student.feeds, strict=False))


def _check(graph: Graph) -> None:
    """Assert what every Graph promises: no name leads nowhere, and it has no cycle."""
    for operator in graph.operators.values():
        assert {name for name in operator.operands if name is not None} <= graph.values.keys()
        assert set(operator.results) <= graph.values.keys()
        assert set(operator.blocks) <= graph.blocks.keys()
    for block in graph.blocks.values():
        assert set(block.operators) <= graph.operators.keys()
        assert {*block.arguments, *block.results} <= graph.values.keys()
    for value in graph.values.values():
        assert value.producer is None or value.name in graph.operators[value.producer].results
        assert value.shape is None or all(type(dim) is int and dim >= -1 for dim in value.shape)
    assert {*graph.feeds, *graph.fetches} <= graph.values.keys()
    assert nx.is_directed_acyclic_graph(graph.nx)
