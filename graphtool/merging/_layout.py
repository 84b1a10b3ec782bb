"""Which files the folder of a merged program has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from graphtool.graph import ProgramKind
from graphtool.merging._manifest import MANIFEST, Manifest

__all__ = ["ORIGINALS", "PAIRS", "PARAMETERS", "files", "names", "original", "program", "programs"]

PAIRS = "pairs.toml"
PARAMETERS = "merged.pdiparams"
ORIGINALS = "originals"
_ENDINGS = {ProgramKind.PIR: ".json", ProgramKind.LEGACY: ".pdmodel"}


def program(kind: ProgramKind) -> Path:
    """Return the file of the merged Program."""
    return Path(f"merged{_ENDINGS[kind]}")


def original(role: str, number: int, kind: ProgramKind) -> Path:
    """Return the file of a network as it was before a merge."""
    return Path(ORIGINALS, f"{role}-{number}{_ENDINGS[kind]}")


def names() -> tuple[str, ...]:
    """List all that such a folder may have, the manifest last: without it, it holds nothing."""
    programs = (str(program(kind)) for kind in _ENDINGS)
    return (*sorted((PAIRS, PARAMETERS, ORIGINALS, *programs)), MANIFEST)


def files(manifest: Manifest) -> Iterator[str]:
    """Yield the files that were written with a manifest."""
    yield from (MANIFEST, PARAMETERS)
    if manifest.pairs:
        yield PAIRS
    yield from programs(manifest)


def programs(manifest: Manifest) -> Iterator[str]:
    """Yield the files of the merged Program and of the networks as they were before."""
    yield program(manifest.kind).as_posix()
    for number in range(len(manifest.teachers)):
        yield original("teacher", number, manifest.kind).as_posix()
        yield original("student", number, manifest.kind).as_posix()
