"""Merged programs on disk: a folder that loads again into what one can add a loss to and train."""

from __future__ import annotations

import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from graphtool.checks import persistable_names
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    ReadError,
    UsageError,
    Where,
    listed,
    rule,
)
from graphtool.files import replacing, reported, resolved, unwritable_output
from graphtool.graph import Graph, ProgramKind
from graphtool.matching import PairSet
from graphtool.matching.recipe import is_configuration, read_recipe, recipe_text
from graphtool.merging import _layout
from graphtool.merging._loading import load_merged
from graphtool.merging._manifest import MANIFEST, manifest_of, read_manifest
from graphtool.merging._seal import sealed
from graphtool.merging._whole import check_whole
from graphtool.merging.merged import Merged
from graphtool.paths import free_beside
from graphtool.readers import problems as reading
from graphtool.readers._paddle import load_paddle, one_at_a_time
from graphtool.readers.live import LiveProgram
from graphtool.readers.tensors import held_tensors, scope_tensors, write_tensors
from graphtool.staging import is_stage, tidy
from graphtool.structure import is_training
from graphtool.text import option

__all__ = ["check_target", "load_merged", "save_merged"]

# Programs and Scopes are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

_LISTED = 5


@one_at_a_time()
def save_merged(
    merged: Merged,
    path: str | PathLike[str],
    *,
    pairs: PairSet | str | PathLike[str] | None = None,
    force: bool = False,
) -> None:
    """Write a merged Program to a folder, whole or not at all.

    The folder gets the Program and its parameters as Paddle keeps them (`merged.json` or
    `merged.pdmodel`, `merged.pdiparams`: tensors and nothing else), both networks as they were,
    `manifest.json` (names old -> new, feed map, prefix, versions; no paths) and `pairs.toml` where
    `pairs`, a PairSet or a recipe, is given. With `force`, an earlier merged program in the folder
    is replaced; other files in it are left alone.

    Raises GraphtoolError: GT601, GT611 where the Program trains already, GT612 for parameters that
    are not there. Raises ReadError: GT031 where a Value of the student's has left the Program, so
    that a reader would take another for it. Raises UsageError: GT610 for a folder that is not
    empty, GT616 for one in which files of something else would be replaced. Raises PairError for
    bad pairs.
    """
    folder = resolved(path)
    check_target(folder, force=force)
    now = LiveProgram.of(merged.program)
    graph = now.graph
    _check_program(graph, merged)
    _check_students(now, merged)
    recipe = _recipe(merged, pairs)
    with replacing(folder, [folder / name for name in _layout.names()]) as temporary:
        _write(temporary, merged, graph, recipe)
        # Another process may have written there meanwhile.
        check_target(folder, force=force)


@rule("GT610")
def folder_not_empty(path: str, names: list[str]) -> Diagnostic:
    """The folder to write holds something already; it is left as it is.

    `--force` (`force=True`) replaces an earlier merged program in it and leaves other files alone.
    """
    return Diagnostic(
        message=f"`{path}` is not empty: it holds {listed(names, _LISTED)}",
        help=f"--force, or {option('-o', free_beside(path))}",
    )


@rule("GT616")
def not_graphtools(path: str, names: list[str]) -> Diagnostic:
    """Only files of an earlier merged program are replaced, and with `force` alone.

    The folder holds others under names that a merged program's files get. They are left as they
    are, and nothing was written.
    """
    strange = listed(names, _LISTED)
    return Diagnostic(
        message=f"`{path}` holds files that this graphtool has not written: {strange}",
        help=option("-o", free_beside(path)),
    )


@rule("GT611")
def already_training(operator: str) -> Diagnostic:
    """The merged Program has gradient or optimizer operators by now, and was not saved.

    Save it before `minimize`: Paddle ends the process where it saves a PIR program that trains and
    has control flow, and a loss added after loading would never train.
    """
    return Diagnostic(
        message=f"the merged Program trains already: `{operator}`",
        where=(Where(role="merged", value=operator),),
        help="gt.save_merged(merged, folder), then minimize",
    )


@rule("GT612")
def parameters_not_there(names: list[str], total: int) -> Diagnostic:
    """Parameters hold nothing yet: a startup program has not run, or weights are to come later.

    Run the student's startup program, and load the teacher's weights (`merged.load_teacher`).
    """
    return Diagnostic(
        message=f"{len(names)} of {total} parameters hold nothing yet",
        where=tuple(Where(role="merged", value=name) for name in names[:_LISTED]),
        help="executor.run(startup), merged.load_teacher(...)",
    )


def check_target(path: str | PathLike[str], *, force: bool) -> None:
    """Refuse a folder that can't be written to before work is put into what goes there.

    Raises GraphtoolError: GT601 for a file. Raises UsageError: GT610 for a folder that is not empty
    without `force`, GT616 for one in which files of something else would be replaced.
    """
    folder = Path(path)
    with reported(folder):
        names = _entries(folder)
    # First, for these `force` doesn't replace either.
    strangers = _strangers(folder)
    if strangers:
        raise UsageError(not_graphtools(str(folder), strangers))
    if names and not force:
        raise UsageError(folder_not_empty(str(folder), names))


def _entries(folder: Path) -> list[str]:
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise GraphtoolError(unwritable_output(str(folder), "it is a file"))
    tidy(folder)
    return sorted(entry.name for entry in folder.iterdir() if not is_stage(entry.name))


def _strangers(folder: Path) -> list[str]:
    """List what has a name that a merged program's files get, but was not written as one."""
    ours = frozenset(_ours(folder))
    found = [name for name in _layout.names() if (folder / name).exists()]
    originals = folder / _layout.ORIGINALS
    if originals.is_dir() and not originals.is_symlink():
        found.remove(_layout.ORIGINALS)
        found += [f"{_layout.ORIGINALS}/{inner.name}" for inner in originals.iterdir()]
    return sorted(name for name in found if name not in ours)


def _ours(folder: Path) -> Iterator[str]:
    try:
        yield from _layout.files(read_manifest(folder))
    except (ReadError, OSError):
        return


def _check_program(graph: Graph, merged: Merged) -> None:
    for operator in graph.operators.values():
        if is_training(operator):
            raise GraphtoolError(already_training(operator.name))
    names = _kept(graph)
    held = held_tensors(merged.scopes.student, names)
    empty = [name for name in names if name not in held]
    if empty:
        raise GraphtoolError(parameters_not_there(empty, len(names)))


def _check_students(now: LiveProgram, merged: Merged) -> None:
    """Refuse a Program in which names of the student's mean nothing, or others, by now."""
    for before in (one.before for one in merged.teachers):
        for name in before.graph.values:
            # Under PIR names move where operators were removed.
            if name not in now.graph.values or now.keys.get(name) != before.keys.get(name):
                raise ReadError(reading.value_gone(before.graph.source, name))


def _kept(graph: Graph) -> list[str]:
    """Return the names of a Program's parameters in the order in which Paddle saves them."""
    return sorted(persistable_names(graph))


def _recipe(merged: Merged, pairs: PairSet | str | PathLike[str] | None) -> str | None:
    if pairs is None:
        return None
    if isinstance(pairs, PairSet):
        return recipe_text(pairs) if pairs else None
    found = read_recipe(pairs, teacher=merged.plan.teacher, student=merged.plan.student)
    if is_configuration(pairs):
        return recipe_text(found.pairs)
    if isinstance(pairs, str) and "\n" in pairs:
        return pairs
    return Path(pairs).read_text("utf-8", "surrogatepass")


def _write(folder: Path, merged: Merged, graph: Graph, recipe: str | None) -> None:
    kind = graph.kind
    (folder / _layout.ORIGINALS).mkdir()
    _save_program(merged.program, folder / _layout.program(kind), kind)
    for number, one in enumerate(merged.teachers):
        for role, program in zip(("teacher", "student"), one.originals, strict=True):
            _save_program(program, folder / _layout.original(role, number, kind), kind)
    names = _kept(graph)
    write_tensors(folder / _layout.PARAMETERS, scope_tensors(merged.scopes.student, names))
    if recipe is not None:
        (folder / _layout.PAIRS).write_bytes(recipe.encode("utf-8", "surrogatepass"))
    manifest = manifest_of(merged, names, kind, pairs=recipe is not None)
    manifest = sealed(folder, manifest, scope_tensors(merged.scopes.student, names))
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))


def _save_program(program: _Paddle, path: Path, kind: ProgramKind) -> None:
    if kind is ProgramKind.LEGACY:
        path.write_bytes(program.desc.serialize_to_string())
        return
    serialise = load_paddle().base.core.serialize_pir_program
    # As bytes, which need not be UTF-8.
    encoded = os.fsencode(path)
    try:
        serialise(program, encoded)
    except TypeError:
        # Paddle 3.0 wants the version of the format, of which it knows one.
        serialise(program, encoded, pir_version=1)
    check_whole(path)
