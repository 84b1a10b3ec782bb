"""What tells that a folder has changed since it was written: a digest of all but its pairs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from graphtool.diagnostics import ReadError
from graphtool.merging import _layout
from graphtool.merging._manifest import Manifest, inside, not_a_merged_folder
from graphtool.readers.tensors import Tensor, digest, read_tensors

__all__ = ["sealed", "sealed_tensors"]


def sealed(folder: Path, manifest: Manifest, tensors: Iterable[Tensor]) -> Manifest:
    """Return a manifest with the digest of itself, of the programs beside it and of parameters."""
    bare = msgspec.structs.replace(manifest, digest="")
    programs = [inside(folder, Path(file)).read_bytes() for file in _layout.programs(manifest)]
    head = b"\n".join((msgspec.json.encode(bare), *programs))
    found = digest(manifest.parameters, tensors, head=head)
    return msgspec.structs.replace(manifest, digest=found)


def sealed_tensors(folder: Path, manifest: Manifest) -> tuple[Tensor, ...]:
    """Read a folder's parameters, in the order of the manifest.

    Raises ReadError: GT240, GT613 where anything in the folder but its pairs has changed.
    """
    tensors = read_tensors(inside(folder, Path(_layout.PARAMETERS)))
    known = manifest.parameters
    if len(tensors) != len(known):
        reason = f"it holds {len(tensors)} parameters, and its manifest names {len(known)}"
        raise ReadError(not_a_merged_folder(str(folder), reason))
    if sealed(folder, manifest, tensors) != manifest:
        raise ReadError(not_a_merged_folder(str(folder), "it has changed since it was written"))
    return tensors
