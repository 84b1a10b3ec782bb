"""Digests of a merged Program's folder, which show whether anything but its pairs has changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from graphtool.diagnostics import Diagnostic, ReadError, Severity
from graphtool.merging._manifest import (
    MANIFEST_FILE,
    PAIRS_FILE,
    PARAMETERS_FILE,
    Manifest,
    file_in,
    incomplete_folder,
    original_file,
    program_files,
)
from graphtool.merging.problems import changed_folder
from graphtool.readers.tensor_files import Tensor, digest, read_tensors
from graphtool.text import path_argument, shell_command

__all__ = ["changed_files", "missing_pairs_warnings", "verified_tensors", "with_digest"]


def with_digest(folder: Path, manifest: Manifest, tensors: Iterable[Tensor]) -> Manifest:
    """Return a manifest with the digests of itself, of its program files and of its parameters."""
    digests = (*_digests(folder, manifest), digest(manifest.parameters, tensors))
    return msgspec.structs.replace(manifest, digest=" ".join(digests))


def _digests(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Yield the digests of a manifest and of its program files."""
    yield digest((), (), head=msgspec.json.encode(msgspec.structs.replace(manifest, digest="")))
    for file in program_files(manifest):
        yield digest((), (), head=file_in(folder, Path(file)).read_bytes())


def changed_files(
    folder: Path, manifest: Manifest, tensors: Sequence[Tensor] | None = None
) -> list[str]:
    """List the files that have changed since they were written.

    The parameters file is checked only if its `tensors` are given.

    Raises ReadError: GT613 for a missing file.
    """
    files = (MANIFEST_FILE, *program_files(manifest), PARAMETERS_FILE)
    saved = manifest.digest.split(" ")
    if len(saved) != len(files):
        return [MANIFEST_FILE]
    current = list(_digests(folder, manifest))
    if tensors is not None:
        current.append(digest(manifest.parameters, tensors))
    # Without tensors, the digest of the parameters is left over.
    rows = zip(files, saved, current, strict=False)
    return [file for file, before, after in rows if before != after]


def missing_pairs_warnings(folder: Path, manifest: Manifest) -> Iterator[Diagnostic]:
    """Yield a warning if pairs were saved with the Program and their file is gone."""
    if manifest.pairs and not (folder / PAIRS_FILE).is_file():
        last = len(manifest.teachers) - 1
        networks = [
            str(original_file("teacher", last, manifest.kind)),
            str(original_file("student", 0, manifest.kind)),
        ]
        originals = (path_argument(str(folder / network)) for network in networks)
        recipe = path_argument(str(folder / PAIRS_FILE))
        suggest = shell_command("graphtool", "suggest-pairs", *originals, "-o", recipe)
        missing = incomplete_folder(str(folder), "", suggest)
        message = f"the merged program was saved with pairs, and `{PAIRS_FILE}` is gone"
        yield replace(missing, message=message, severity=Severity.WARNING)


def verified_tensors(folder: Path, manifest: Manifest) -> tuple[Tensor, ...]:
    """Read a folder's parameters, in the order of the manifest, after checking all digests.

    Raises ReadError: GT240, GT613, GT618 if anything in the folder but its pairs has changed.
    """
    tensors = read_tensors(file_in(folder, Path(PARAMETERS_FILE)))
    names = manifest.parameters
    if len(tensors) != len(names):
        reason = f"it holds {len(tensors)} parameters, and its manifest names {len(names)}"
        raise ReadError(incomplete_folder(str(folder), reason))
    files = changed_files(folder, manifest, tensors)
    if files:
        raise ReadError(changed_folder(str(folder), files))
    return tensors
