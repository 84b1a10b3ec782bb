"""Folders of a model: files of other names, kinds and places than a saved model has."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import graphtool as gt
from graphtool.merging import check_merge
from graphtool.readers.weights import read_weights
from tests.fuzzing.cases import Mutator, Subject
from tests.fuzzing.exercises import all_of, command
from tests.fuzzing.subjects.programs import FIXTURES

__all__ = ["SUBJECTS"]

_OLD = FIXTURES / "3.3.1-legacy"
_NEW = FIXTURES / "3.3.1"
_NAMES = (
    *("inference.json", "model.json", "model.pdmodel", "__model__", "model.pdiparams", "params"),
    *("__params__", "model.pdparams", "config.json", "a b.json", "-x.json", "\u202e.json"),
    *("\udcff.json", "'\".pdmodel", "fc_0.w_0", ".json", "x" * 200),
)


def _packed(
    members: Mapping[str, bytes], links: Mapping[str, str], kinds: Mapping[str, bytes]
) -> bytes:
    """Write a folder down as a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, kind in kinds.items():
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o755
            member.linkname = links.get(name, "")
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
        return _packed(members, {}, {})

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
    kind = random.choice((tarfile.SYMTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE))
    target = random.choice((name, "/dev/zero", "/etc/passwd", "..", ".", "nowhere", *kept))
    return _packed(kept, {name: target}, {name: kind})


def _with_folder(data: bytes, folder: Path) -> None:
    inner = folder / "model"
    inner.mkdir()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        # The archive is of this module's own making, and links are part of what is tried.
        archive.extractall(inner, filter="fully_trusted")
    _use(inner)


def _use(folder: Path) -> None:
    name = str(folder)
    graph = gt.read(FIXTURES / "3.3.1" / "control.json")
    feeds = {name: name for name in graph.feeds}
    all_of(
        [
            lambda: gt.read(folder),
            lambda: gt.suggest_pairs(folder, graph),
            lambda: read_weights(folder, graph),
            lambda: check_merge(name, graph, feeds),
            lambda: check_merge(graph, name, feeds, restored=True),
            lambda: command("inspect", name),
        ]
    )


def _folders() -> dict[str, bytes]:
    new = {
        "model.json": (_NEW / "control.json").read_bytes(),
        "model.pdiparams": (_NEW / "control.pdiparams").read_bytes(),
    }
    old = {
        "__model__": (_OLD / "control.pdmodel").read_bytes(),
        "__params__": (_OLD / "control.pdiparams").read_bytes(),
    }
    return {"pir": _packed(new, {}, {}), "old": _packed(old, {}, {})}


_MUTATORS: dict[str, Mutator] = {
    "names": _rearranged(_renamed),
    "contents": _rearranged(_crossed),
    "links": _linked,
}
SUBJECTS = (Subject("folder", _folders(), _MUTATORS, _with_folder),)
