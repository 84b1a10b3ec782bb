"""What tells that a folder has changed since it was written: digests of all but its pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from graphtool.diagnostics import Diagnostic, ReadError
from graphtool.merging import _layout
from graphtool.merging._manifest import MANIFEST, Manifest, inside, not_a_merged_folder
from graphtool.merging.problems import changed_folder, pairs_gone
from graphtool.readers.tensors import Tensor, digest, read_tensors

__all__ = ["changed", "missing_pairs", "sealed", "sealed_tensors"]


def sealed(folder: Path, manifest: Manifest, tensors: Iterable[Tensor]) -> Manifest:
    """Return a manifest with digests: its own, of the programs beside it, and of parameters."""
    marks = (*_marks(folder, manifest), digest(manifest.parameters, tensors))
    return msgspec.structs.replace(manifest, digest=" ".join(marks))


def _marks(folder: Path, manifest: Manifest) -> Iterator[str]:
    yield digest((), (), head=msgspec.json.encode(msgspec.structs.replace(manifest, digest="")))
    for file in _layout.programs(manifest):
        yield digest((), (), head=inside(folder, Path(file)).read_bytes())


def changed(folder: Path, manifest: Manifest, tensors: Sequence[Tensor] | None = None) -> list[str]:
    """List the files that are not as they were written; parameters only where they are given.

    Raises ReadError: GT613 for a file that is not there.
    """
    files = (MANIFEST, *_layout.programs(manifest), _layout.PARAMETERS)
    known = manifest.digest.split(" ")
    if len(known) != len(files):
        return [MANIFEST]
    found = list(_marks(folder, manifest))
    if tensors is not None:
        found.append(digest(manifest.parameters, tensors))
    marks = zip(files, known, found, strict=False)
    return [file for file, was, now in marks if was != now]


def missing_pairs(folder: Path, manifest: Manifest) -> Iterator[Diagnostic]:
    """Warn of pairs that were saved with the Program, and whose file is gone."""
    if manifest.pairs and not (folder / _layout.PAIRS).is_file():
        last = len(manifest.teachers) - 1
        networks = [
            str(_layout.original(role, number, manifest.kind))
            for role, number in (("teacher", last), ("student", 0))
        ]
        yield pairs_gone(str(folder), _layout.PAIRS, networks)


def sealed_tensors(folder: Path, manifest: Manifest) -> tuple[Tensor, ...]:
    """Read a folder's parameters, in the order of the manifest.

    Raises ReadError: GT240, GT613, GT618 where anything in the folder but its pairs has changed.
    """
    tensors = read_tensors(inside(folder, Path(_layout.PARAMETERS)))
    known = manifest.parameters
    if len(tensors) != len(known):
        reason = f"it holds {len(tensors)} parameters, and its manifest names {len(known)}"
        raise ReadError(not_a_merged_folder(str(folder), reason))
    files = changed(folder, manifest, tensors)
    if files:
        raise ReadError(changed_folder(str(folder), files))
    return tensors
