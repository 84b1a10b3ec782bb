"""Saved programs of both kinds and their folders, and what people do with them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from zlib import crc32

import networkx as nx

import graphtool as gt
from graphtool.checks import guess_feed_map
from graphtool.cli import main
from graphtool.diagnostics import Diagnostic, GraphtoolError
from graphtool.graph import Graph
from graphtool.matching.fingerprint import program_fingerprint
from graphtool.merging import check_merge
from graphtool.readers.weights import read_weights
from tests.fuzzing.cases import Exercise, Mutator, Subject
from tests.fuzzing.json_edits import ANY_JSON, PIR_JSON
from tests.fuzzing.protobuf_edits import PROTOBUF
from tests.fuzzing.spoiling import BYTES

FIXTURES = Path(__file__).parents[1] / "fixtures"
_PARTNER = gt.read(FIXTURES / "3.3.1" / "cnn.json")
_CONTROL = gt.read(FIXTURES / "3.3.1" / "control.json")
_NAMES = (
    *("inference.json", "model.json", "model.pdmodel", "__model__", "model.pdiparams", "params"),
    *("__params__", "model.pdparams", "config.json", "a b.json", "-x.json", "\u202e.json"),
    *("\udcff.json", "'\".pdmodel", "fc_0.w_0", ".json", "x" * 200),
)


def all_of(*steps: Callable[[], object]) -> None:
    """Take every step, also after one that a Diagnostic stops; then raise all Diagnostics."""
    found: list[Diagnostic] = []
    for step in steps:
        try:
            step()
        except GraphtoolError as error:  # noqa: PERF203  # each is taken
            found += error.report
    if found:
        raise GraphtoolError(*found)


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


def with_model(path: Path, partner: Graph = _PARTNER) -> None:
    """Do with a saved model what people do, with itself and with an honest partner.

    Of what takes longest, its bytes choose one thing to do.
    """
    graph = gt.read(path)
    _check(graph)
    name, choice = str(path), crc32(path.read_bytes())
    longest = (
        lambda: gt.render(graph),
        lambda: gt.render(graph, "alone.html"),
        lambda: gt.render(gt.suggest_pairs(partner, graph), "pairs.html"),
        lambda: command("inspect", name, "--all", "--format", "json"),
        lambda: command("inspect", name, "--limit", "12"),
    )
    all_of(
        lambda: program_fingerprint(graph),
        lambda: _pair(graph, graph),
        lambda: _pair(graph, partner) if choice % 2 else _pair(partner, graph),
        lambda: check_merge(graph, graph, _feeds(graph, graph)),
        lambda: check_merge(name, partner, _feeds(graph, partner)),
        lambda: gt.render(graph, level="op"),
        longest[choice % 5],
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


def _packed(members: Mapping[str, bytes], *others: tarfile.TarInfo) -> bytes:
    """Write a folder down as a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in others:
            archive.addfile(member)
    return buffer.getvalue()


def _members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {
            member.name: held.read()
            for member in archive
            if (held := archive.extractfile(member)) is not None
        }


def _rearranged(change: Callable[[Random, dict[str, bytes]], None]) -> Mutator:
    def mutate(random: Random, data: bytes) -> bytes:
        members = _members(data)
        for _ in range(random.choice((1, 1, 2, 3))):
            change(random, members)
        return _packed(members)

    return mutate


def _renamed(random: Random, members: dict[str, bytes]) -> None:
    """Rename, copy, empty or take out a file."""
    name = random.choice(sorted(members)) if members else "x"
    data = members.get(name, b"")
    way = random.randrange(4)
    if way != 1:
        members.pop(name, None)
    if way < 2:
        members[random.choice(_NAMES)] = data
    elif way == 2:
        members[name] = random.choice((b"", data[: len(data) // 2], b"{}", b"\0" * 40))


def _crossed(random: Random, members: dict[str, bytes]) -> None:
    """Give files each other's content."""
    names = sorted(members)
    if len(names) > 1:
        a, b = random.sample(names, 2)
        members[a], members[b] = members[b], members[a]


def _linked(random: Random, data: bytes) -> bytes:
    """Put links, folders and pipes where files are looked for."""
    members = _members(data)
    name = random.choice((*_NAMES, *members))
    kept = {other: held for other, held in members.items() if other != name}
    link = tarfile.TarInfo(name)
    link.mode = 0o755
    link.type = random.choice((*[tarfile.SYMTYPE] * 2, tarfile.DIRTYPE, tarfile.FIFOTYPE))
    targets = name, "/dev/zero", "/etc/passwd", "..", ".", "nowhere", *kept
    link.linkname = random.choice(targets)
    return _packed(kept, link)


def _with_folder(data: bytes, folder: Path) -> None:
    inner = folder / "model"
    inner.mkdir()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        # The archive is of this module's own making, and links are part of what is tried.
        archive.extractall(inner, filter="fully_trusted")
    name, feeds = str(inner), {feed: feed for feed in _CONTROL.feeds}
    all_of(
        lambda: gt.read(inner),
        lambda: gt.suggest_pairs(inner, _CONTROL),
        lambda: read_weights(inner, _CONTROL),
        lambda: check_merge(name, _CONTROL, feeds),
        lambda: check_merge(_CONTROL, name, feeds, restored=True),
        lambda: command("inspect", name),
    )


def _with_program(ending: str) -> Exercise:
    def exercise(data: bytes, folder: Path) -> None:
        path = folder / f"model.{ending}"
        path.write_bytes(data)
        with_model(path)

    return exercise


def _honest(*names: str) -> dict[str, bytes]:
    return {Path(name).name: (FIXTURES / name).read_bytes() for name in names}


def _folder(model: str, parameters: str, program: str) -> bytes:
    path = FIXTURES / program
    weights = path.with_suffix(".pdiparams")
    return _packed({model: path.read_bytes(), parameters: weights.read_bytes()})


SUBJECTS = (
    Subject(
        "pir",
        _honest("3.3.1/cnn.json", "3.3.1/control.json", "3.3.1/encoder.json"),
        {**BYTES, **ANY_JSON, **PIR_JSON},
        _with_program("json"),
    ),
    Subject(
        "legacy",
        _honest("2.6.2/cnn.pdmodel", "3.3.1-legacy/control.pdmodel", "2.6.2/encoder.pdmodel"),
        {**BYTES, **PROTOBUF},
        _with_program("pdmodel"),
    ),
    Subject(
        "folder",
        {
            "pir": _folder("model.json", "model.pdiparams", "3.3.1/control.json"),
            "old": _folder("__model__", "__params__", "3.3.1-legacy/control.pdmodel"),
        },
        {"names": _rearranged(_renamed), "contents": _rearranged(_crossed), "links": _linked},
        _with_folder,
    ),
)
