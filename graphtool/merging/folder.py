"""Merged programs on disk: a folder that loads again into what one can add a loss to and train."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeAlias

import msgspec

from graphtool.checks import ParametersWhen, persistable_names, plan_of
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    ReadError,
    Report,
    Severity,
    UsageError,
    Where,
    rule,
)
from graphtool.files import unwritable_output
from graphtool.graph import Graph, ProgramKind
from graphtool.matching import PairSet
from graphtool.matching.recipe import read_recipe, recipe_text
from graphtool.merging._backend import Extent, Joined, Scopes
from graphtool.merging._manifest import (
    MANIFEST,
    Manifest,
    SavedNetwork,
    annotated,
    check_names,
    inside,
    manifest_of,
    not_a_merged_folder,
    read_manifest,
)
from graphtool.merging._teacher import working_on
from graphtool.merging.merged import Merged, register
from graphtool.readers import problems as reading
from graphtool.readers import read
from graphtool.readers._paddle import load_paddle
from graphtool.readers.facts import scope_facts
from graphtool.readers.live import LiveProgram
from graphtool.readers.tensors import read_tensors, scope_tensors, set_tensors, write_tensors
from graphtool.structure import is_training

__all__ = ["check_target", "load_merged", "save_merged"]

# Programs and Scopes are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

_PAIRS = "pairs.toml"
_PARAMETERS = "merged.pdiparams"
_ORIGINALS = "originals"
_ENDINGS = {ProgramKind.PIR: ".json", ProgramKind.LEGACY: ".pdmodel"}
_OURS = frozenset(
    {MANIFEST, _PAIRS, _PARAMETERS, _ORIGINALS, *(f"merged{end}" for end in _ENDINGS.values())}
)
_LISTED = 5


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
    are not there. Raises UsageError: GT610 for a folder that is not empty. Raises PairError for bad
    pairs.
    """
    folder = Path(fspath(path))
    check_target(folder, force=force)
    graph = LiveProgram.of(merged.program).graph
    _check_program(graph, merged)
    recipe = _recipe(merged, pairs)
    try:
        with _placed(folder) as temporary:
            _write(temporary, merged, graph, recipe)
    except OSError as error:
        reason = error.strerror or str(error)
        raise GraphtoolError(unwritable_output(str(folder), reason)) from None


def load_merged(path: str | PathLike[str], *, scope: _Paddle | None = None) -> Merged:
    """Load a merged Program and its parameters; add a loss to it and train.

    Parameters are set in `scope`, the global one unless given. The pairs saved with it are read by
    `gt.read_recipe(folder / "pairs.toml", teacher=merged.plan.teacher,
    student=merged.plan.student)`. Nothing in the folder is executed, and nothing outside of it is
    read.

    Raises ReadError: GT001, GT010, GT240, GT613 for a folder that holds no merged program or a
    damaged one, GT614 for one that a newer graphtool wrote.
    """
    folder = Path(fspath(path))
    try:
        manifest = read_manifest(folder)
        with working_on(manifest.kind):
            return _load(folder, manifest, scope)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReadError(reading.unreadable(error.filename or str(folder), reason)) from None


@rule("GT610")
def folder_not_empty(path: str, names: list[str]) -> Diagnostic:
    """The folder to write holds something already; it is left as it is.

    `--force` (`force=True`) replaces an earlier merged program in it and leaves other files alone.
    """
    listed = ", ".join(f"`{name}`" for name in names[:_LISTED])
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return Diagnostic(
        message=f"`{path}` is not empty: it holds {listed}{more}",
        help="--force, or another folder",
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


@rule("GT615")
def other_release(path: str, was: str, now: str) -> Diagnostic:
    """The folder was written under another release of Paddle, which may compute otherwise."""
    return Diagnostic(
        message=f"written under Paddle {was}, loaded under {now}",
        severity=Severity.NOTE,
        where=(Where(program=path),),
    )


def check_target(path: str | PathLike[str], *, force: bool) -> None:
    """Refuse a folder that can't be written to before work is put into what goes there.

    Raises GraphtoolError: GT601 for a file. Raises UsageError: GT610 for a folder that is not empty
    without `force`.
    """
    folder = Path(path)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise GraphtoolError(unwritable_output(str(folder), "it is a file"))
    names = sorted(entry.name for entry in folder.iterdir())
    if names and not force:
        raise UsageError(folder_not_empty(str(folder), names))


def _check_program(graph: Graph, merged: Merged) -> None:
    for operator in graph.operators.values():
        if is_training(operator):
            raise GraphtoolError(already_training(operator.name))
    names = _kept(graph)
    found = scope_facts(merged.scopes.student, names).variables
    empty = [name for name in names if name not in found or not found[name].initialised]
    if empty:
        raise GraphtoolError(parameters_not_there(empty, len(names)))


def _kept(graph: Graph) -> list[str]:
    """Return the names of a Program's parameters in the order in which Paddle saves them."""
    return sorted(persistable_names(graph))


def _recipe(merged: Merged, pairs: PairSet | str | PathLike[str] | None) -> str | None:
    if pairs is None:
        return None
    if isinstance(pairs, PairSet):
        return recipe_text(pairs)
    read_recipe(pairs, teacher=merged.plan.teacher, student=merged.plan.student)
    given = fspath(pairs)
    return given if "\n" in given else Path(given).read_text("utf-8", "surrogatepass")


@contextmanager
def _placed(folder: Path) -> Generator[Path]:
    """Hand out a new folder beside `folder`, whose contents go there unless the body raises."""
    target = folder.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".graphtool-{token_hex(8)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            _exchange(temporary, target)
        else:
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _exchange(new: Path, target: Path) -> None:
    """Put the new files in the place of those of an earlier save; undone where that fails."""
    old = new / ".earlier"
    old.mkdir()
    moved: list[tuple[Path, Path]] = []
    try:
        for name in sorted(_OURS):
            if (target / name).exists():
                _move(target / name, old / name, moved)
        for name in sorted(_OURS):
            if (new / name).exists():
                _move(new / name, target / name, moved)
    except BaseException:
        for source, destination in reversed(moved):
            destination.rename(source)
        raise


def _move(source: Path, destination: Path, moved: list[tuple[Path, Path]]) -> None:
    source.rename(destination)
    moved.append((source, destination))


def _write(folder: Path, merged: Merged, graph: Graph, recipe: str | None) -> None:
    kind = graph.kind
    (folder / _ORIGINALS).mkdir()
    _save_program(merged.program, folder / f"merged{_ENDINGS[kind]}", kind)
    for number, one in enumerate(merged.teachers):
        for role, program in zip(("teacher", "student"), one.originals, strict=True):
            _save_program(program, _original(folder, role, number, kind), kind)
    names = _kept(graph)
    write_tensors(folder / _PARAMETERS, scope_tensors(merged.scopes.student, names))
    if recipe is not None:
        (folder / _PAIRS).write_bytes(recipe.encode("utf-8", "surrogatepass"))
    manifest = msgspec.json.encode(manifest_of(merged, names, kind, pairs=recipe is not None))
    (folder / MANIFEST).write_bytes(msgspec.json.format(manifest))


def _original(folder: Path, role: str, number: int, kind: ProgramKind) -> Path:
    return folder / _ORIGINALS / f"{role}-{number}{_ENDINGS[kind]}"


def _save_program(program: _Paddle, path: Path, kind: ProgramKind) -> None:
    if kind is ProgramKind.LEGACY:
        path.write_bytes(program.desc.serialize_to_string())
        return
    serialise = load_paddle().base.core.serialize_pir_program
    try:
        serialise(program, str(path))
    except TypeError:
        # Paddle 3.0 wants the version of the format, of which it knows one.
        serialise(program, str(path), pir_version=1)


def _load(folder: Path, manifest: Manifest, scope: _Paddle | None) -> Merged:
    if not manifest.teachers:
        raise ReadError(not_a_merged_folder(str(folder), "its manifest names no teacher"))
    live = _open(folder, Path(f"merged{_ENDINGS[manifest.kind]}"), manifest.kind)
    held = load_paddle().static.global_scope() if scope is None else scope
    merges = [
        _merged(folder, manifest, number, live, held) for number in range(len(manifest.teachers))
    ]
    _load_parameters(folder, manifest, live.graph, held)
    if manifest.kind is ProgramKind.LEGACY:
        _freeze(live.program, [new for merged in merges for _, new in merged.plan.weights])
    return [register(merged) for merged in merges][-1]


def _open(folder: Path, file: Path, kind: ProgramKind) -> LiveProgram:
    paddle, path = load_paddle(), inside(folder, file)
    # Reading it as plain data first gives a Diagnostic where Paddle would end the process.
    read(path)
    if kind is ProgramKind.LEGACY:
        return LiveProgram.of(paddle.static.Program.parse_from_string(path.read_bytes()))
    program = paddle.static.Program()
    paddle.base.core.deserialize_pir_program(str(path), program)
    return LiveProgram.of(program)


def _freeze(program: _Paddle, names: list[str]) -> None:
    """Take teachers' parameters from the optimizer again: a ProgramDesc does not keep that."""
    for name in names:
        variable = program.global_block().vars[name]
        variable.stop_gradient = True
        variable.trainable = False


def _merged(
    folder: Path, manifest: Manifest, number: int, live: LiveProgram, scope: _Paddle
) -> Merged:
    record = manifest.teachers[number]
    teacher = _opened_original(folder, manifest, number, "teacher", record.teacher)
    student = _opened_original(folder, manifest, number, "student", record.student)
    check_names(folder, record, (teacher.graph, student.graph, live.graph))
    plan = plan_of(
        teacher.graph,
        student.graph,
        record.feed_map,
        prefix=record.prefix,
        parameters=ParametersWhen.NOW,
        prefixes=tuple(earlier.prefix for earlier in manifest.teachers[:number]),
    )
    return Merged(
        plan=plan,
        report=Report.of(_said(folder, manifest)),
        scopes=Scopes(teacher=scope, student=scope),
        place=None,
        joined=Joined(live=live, names=record.values, extent=Extent.of(live.program)),
        originals=(teacher.program, student.program),
        before=replace(live, graph=student.graph),
        source=teacher,
    )


def _opened_original(
    folder: Path, manifest: Manifest, number: int, role: str, network: SavedNetwork
) -> LiveProgram:
    file = _original(Path(), role, number, manifest.kind)
    live = _open(folder, file, manifest.kind)
    values = dict(live.graph.values)
    for name, noted in network.annotations.items():
        if name in values:
            values[name] = annotated(values[name], noted)
    graph = replace(
        live.graph,
        source=network.source,
        values=values,
        feeds=network.feeds,
        fetches=network.fetches,
    )
    return replace(live, graph=graph)


def _load_parameters(folder: Path, manifest: Manifest, graph: Graph, scope: _Paddle) -> None:
    names = _kept(graph)
    if list(manifest.parameters) != names:
        reason = "its manifest lists other parameters than its program has"
        raise ReadError(not_a_merged_folder(str(folder), reason))
    tensors = read_tensors(inside(folder, Path(_PARAMETERS)))
    shapes = [tensor.shape for tensor in tensors]
    if shapes != [graph.values[name].shape for name in names]:
        raise ReadError(not_a_merged_folder(str(folder), f"`{_PARAMETERS}` doesn't fit it"))
    set_tensors(dict(zip(names, tensors, strict=True)), scope)


def _said(folder: Path, manifest: Manifest) -> Iterator[Diagnostic]:
    now = str(load_paddle().__version__)
    if manifest.paddle != now:
        yield other_release(str(folder), manifest.paddle, now)
