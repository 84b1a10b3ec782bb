"""Save a merged Program to a folder, and load it again to add losses and train."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import cast

import msgspec

from graphtool.arguments import bad_argument, path_of
from graphtool.backend.generators import advance_counters, counted_names
from graphtool.backend.joining import BlockSnapshot, ValueMap
from graphtool.backend.layer_weights import Initialisation
from graphtool.backend.live import LiveProgram, open_saved, save_program, value_gone
from graphtool.backend.optimizers import set_attributes, unsaved_attributes
from graphtool.backend.paddle import Paddle, load_paddle, program_lock, static_mode
from graphtool.backend.tensors import copy_from_scope, initialised_tensors, set_tensors
from graphtool.checks import persistable_names, plan_without_facts
from graphtool.checks.networks import already_minimized
from graphtool.checks.parameters import uninitialised_parameters
from graphtool.diagnostics import (
    Call,
    Diagnostic,
    GraphtoolError,
    ReadError,
    Report,
    Severity,
    UsageError,
    Where,
    listed,
    rule,
)
from graphtool.files import (
    atomic_replace,
    exists_already,
    is_temporary,
    os_errors_reported,
    resolve_links,
    unwritable_output,
)
from graphtool.graph import ProgramKind
from graphtool.matching import Pair, PairSet
from graphtool.matching.recipe import recipe_text
from graphtool.merging._teacher import Provenance
from graphtool.merging.manifest import (
    MANIFEST_FILE,
    ORIGINALS_FOLDER,
    PAIRS_FILE,
    PARAMETERS_FILE,
    PROGRAM_FILES,
    Manifest,
    file_in,
    manifest_of,
    missing_pairs_warnings,
    no_program,
    original_file,
    read_manifest,
    restored_graph,
    verified_tensors,
    with_digest,
    written_files,
)
from graphtool.merging.merged import Merged, register
from graphtool.ops import is_training
from graphtool.paths import numbered_path
from graphtool.readers.files import read_errors_reported
from graphtool.readers.tensor_files import parameter_file_facts, write_tensors
from graphtool.sources import read
from graphtool.sources.layers import Network
from graphtool.text import printable
from graphtool.toolkits import is_configuration, read_recipe

__all__ = [
    "check_not_truncated",
    "check_target",
    "load_merged",
    "other_release",
    "require_initialised",
    "save_merged",
]

_LISTED = 5
_SAVE, _LOAD = 'gt.save_merged(merged, "merged")', 'gt.load_merged("merged")'
# Those of the originals apart.
_POSSIBLE_FILES = (MANIFEST_FILE, PAIRS_FILE, PARAMETERS_FILE, *PROGRAM_FILES.values())


@program_lock()
def save_merged(
    merged: Merged,
    path: str | PathLike[str],
    *,
    pairs: PairSet | str | PathLike[str] | None = None,
    force: bool = False,
) -> None:
    """Write a merged Program to a folder, atomically.

    The folder gets the Program and its parameters in Paddle's formats (`merged.json` or
    `merged.pdmodel`; `merged.pdiparams`, which holds only tensors), both networks as they were
    before the merge, `manifest.json` (old and new names, feed map, prefix, versions; no paths), and
    `pairs.toml` if `pairs`, a PairSet or a recipe, is given. `force` replaces an earlier merged
    program in the folder and leaves its other files alone.

    Raises GraphtoolError: GT601, GT231 if the Program has gradient or optimizer operators, GT235
    for uninitialised parameters. Raises ReadError: GT031 if a Value of the student's was removed
    from the Program, so that its name would load as another. Raises UsageError: GT248 for what is
    not a Merged or a path, GT604 for a folder that is not empty, or where files of something else
    would be replaced. Raises PairError for bad pairs.
    """
    if not isinstance(cast("object", merged), Merged):
        raise UsageError(bad_argument("merged", merged, "what `merge` returns", _SAVE))
    folder = resolve_links(path_of(path, _SAVE))
    check_target(folder, force=force)
    names = _checked_names(merged)
    recipe = _recipe(merged, pairs)
    with atomic_replace(folder, folder, {*_POSSIBLE_FILES, *_earlier_files(folder)}) as temporary:
        _write(temporary, merged, names, recipe)
        # Another process may have written to the folder meanwhile.
        check_target(folder, force=force)


@program_lock()
def load_merged(path: str | PathLike[str], *, scope: Paddle | None = None) -> Merged:
    """Load a merged Program and its parameters; add a loss to it and train.

    Parameters are set in `scope`, the global Scope if None. To read the pairs saved with it, call
    `gt.read_recipe(folder / "pairs.toml", teacher=merged.plan.teacher,
    student=merged.plan.student)`. Nothing in the folder is executed, and nothing outside it is
    read.

    `report` warns if the file of the pairs is gone (GT613), and of what the folder could not keep
    (GT617). It notes another release of Paddle (GT615).

    Raises ReadError: GT001, GT010, GT240, GT613 for a folder without a merged program or with a
    damaged one, or one that a newer graphtool wrote, GT618 if any file but the pairs has
    changed since it was saved. Raises UsageError: GT248 for what is not a path.
    """
    folder = path_of(path, _LOAD)
    try:
        with read_errors_reported(folder):
            manifest = read_manifest(folder)
            with static_mode(manifest.kind):
                return _load(folder, manifest, scope)
    except KeyError as error:
        # Only a manifest whose digests were made anew gets here.
        raise no_program(folder, f"its manifest and programs differ in {error}") from error


@rule("GT615", replaces=("GT628",))
def other_release(path: str, message: str, severity: Severity = Severity.NOTE) -> Diagnostic:
    """A folder or checkpoint was written under another release of Paddle, or on other devices.

    It was loaded, and results may differ in their last bits. Random state of other devices cannot
    be set: dropout goes on from the generator's present state.
    """
    return Diagnostic(message=message, severity=severity, where=(Where(program=path),))


@rule("GT617")
def attribute_left_behind(path: str, what: str) -> Diagnostic:
    """A parameter had something of the user's that a folder cannot hold.

    Learning rate, `need_clip`, `L1Decay` and `L2Decay` of a `ParamAttr` are kept. A regularizer of
    a class of your own, or a learning rate that is a Variable, is code: give it to the parameter
    again before `minimize`, which goes without it otherwise.
    """
    return Diagnostic(
        message=f"the folder could not keep the {what}",
        severity=Severity.WARNING,
        where=(Where(program=path),),
        help="for p in merged.program.global_block().all_parameters(): p.regularizer = ...",
    )


def check_target(path: str | PathLike[str], *, force: bool) -> None:
    """Check that a folder can be written to, before anything is computed.

    Raises GraphtoolError: GT601 for a file. Raises UsageError: GT604 for a folder that is not empty
    without `force`, or where files of something else would be replaced.
    """
    folder = Path(path)
    names: list[str] = []
    with os_errors_reported(folder):
        if folder.exists():
            if not folder.is_dir():
                raise GraphtoolError(unwritable_output(str(folder), "it is a file"))
            names = sorted(file.name for file in folder.iterdir() if not is_temporary(file.name))
    found = [name for name in (*_POSSIBLE_FILES, ORIGINALS_FOLDER) if (folder / name).exists()]
    originals = folder / ORIGINALS_FOLDER
    if originals.is_dir() and not originals.is_symlink():
        found.remove(ORIGINALS_FOLDER)
        found += [f"{ORIGINALS_FOLDER}/{entry.name}" for entry in originals.iterdir()]
    foreign = sorted(set(found) - _earlier_files(folder))
    # Checked first: `force` does not replace these either.
    if foreign:
        message = f"`{folder}` holds files that belong to no merged program: "
        fix = Call(None, path=numbered_path(str(folder)))
        raise UsageError(exists_already(message + listed(foreign, _LISTED), fix))
    if names and not force:
        message = f"`{folder}` is not empty: it holds {listed(names, _LISTED)}"
        other = printable(numbered_path(str(folder)))
        fix = Call(None, f"  # or another folder: {other}", force=True)
        raise UsageError(exists_already(message, fix))


def _earlier_files(folder: Path) -> frozenset[str]:
    """Return the files of the merged program that a folder holds, if it holds one."""
    with suppress(ReadError, OSError):
        return written_files(read_manifest(folder))
    return frozenset()


def require_initialised(
    scope: Paddle, names: Sequence[str], help: str, role: str | None = None
) -> None:
    """Raise GraphtoolError unless a Scope holds all Variables of these names: GT235."""
    held = initialised_tensors(scope, names)
    empty = [name for name in names if name not in held]
    if empty:
        message = f"{len(empty)} of {len(names)} parameters are uninitialised: {listed(empty)}"
        where = [Where(role=role, value=name) for name in empty[:_LISTED]]
        raise GraphtoolError(uninitialised_parameters(message, where, help=help))


def _checked_names(merged: Merged) -> list[str]:
    """Return the names of a merged Program's parameters in the order in which Paddle saves them."""
    current = LiveProgram.of(merged.program)
    graph = current.graph
    operator = next(filter(is_training, graph.operators.values()), None)
    if operator is not None:
        message = f"the merged Program already has gradients: `{operator.name}`"
        where = (Where(role="merged", value=operator.name),)
        fix = "gt.save_merged(merged, folder), then minimize"
        raise GraphtoolError(already_minimized(message, where=where, help=fix))
    names = sorted(persistable_names(graph))
    fix = "executor.run(startup), merged.load_teacher(...)"
    require_initialised(merged.scope, names, fix, "merged")
    for before in (earlier.before for earlier in merged.teachers):
        for name in before.graph.values:
            # Under PIR, removing operators renumbers names.
            if name not in graph.values or current.keys.get(name) != before.keys.get(name):
                raise ReadError(value_gone(before.graph.source, name))
    return names


def _recipe(merged: Merged, pairs: PairSet | str | PathLike[str] | None) -> str | None:
    """Return the text of a recipe with the pairs, None if there are none."""
    if pairs is None:
        return None
    if isinstance(pairs, PairSet):
        return recipe_text(pairs) if pairs else None
    recipe = read_recipe(pairs, teacher=merged.plan.teacher, student=merged.plan.student)
    if is_configuration(pairs):
        return recipe_text(recipe.pairs)
    if isinstance(pairs, str) and "\n" in pairs:
        return pairs
    return Path(pairs).read_text("utf-8", "surrogatepass")


def _write(folder: Path, merged: Merged, names: Sequence[str], recipe: str | None) -> None:
    kind = merged.source.kind
    programs = {PROGRAM_FILES[kind]: merged.program}
    for number, merge in enumerate(merged.teachers):
        for role, program in zip(("teacher", "student"), merge.originals, strict=True):
            programs[original_file(role, number, kind)] = program
    (folder / ORIGINALS_FOLDER).mkdir()
    for file, program in programs.items():
        save_program(program, folder / file)
        check_not_truncated(folder / file)
    write_tensors(folder / PARAMETERS_FILE, copy_from_scope(merged.scope, names))
    if recipe is not None:
        (folder / PAIRS_FILE).write_bytes(recipe.encode("utf-8", "surrogatepass"))
    manifest = manifest_of(merged, names, kind, pairs=recipe is not None)
    manifest = with_digest(folder, manifest, copy_from_scope(merged.scope, names))
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))


def check_not_truncated(file: Path) -> None:
    """Check that a PIR program or parameter file is whole: Paddle does not report a full disk."""
    try:
        if file.suffix == ".json":
            json.loads(file.read_bytes())
        elif file.suffix == ".pdiparams":
            parameter_file_facts(file)
    except (ValueError, ReadError):
        raise OSError(errno.EIO, "Paddle wrote a part of it: the disk may be full") from None


def _load(folder: Path, manifest: Manifest, scope: Paddle | None) -> Merged:
    if not manifest.teachers:
        raise no_program(folder, "its manifest names no teacher")
    tensors = verified_tensors(folder, manifest)
    live = _open_program(folder, PROGRAM_FILES[manifest.kind], manifest)
    if list(manifest.parameters) != sorted(persistable_names(live.graph)):
        raise no_program(folder, "its manifest lists other parameters than its program has")
    student_scope = load_paddle().static.global_scope() if scope is None else scope
    report = Report.of(_diagnostics(folder, manifest))
    merges = [
        _loaded_merge(folder, manifest, number, live, student_scope, report)
        for number in range(len(manifest.teachers))
    ]
    set_tensors(tensors, student_scope)
    teacher_names = {new for merged in merges for _, new in merged.plan.weights}
    attributes = {
        name: held for name, held in manifest.attributes.items() if name not in teacher_names
    }
    set_attributes(live.program, attributes)
    if manifest.kind is ProgramKind.LEGACY:
        # Freeze the teachers' parameters again: a ProgramDesc does not keep that.
        for name in teacher_names:
            variable = live.program.global_block().vars[name]
            variable.stop_gradient = True
            variable.trainable = False
    advance_counters(live.program, counted_names(live.graph))
    return [register(merged) for merged in merges][-1]


def _open_program(folder: Path, file: str, manifest: Manifest) -> LiveProgram:
    # Read as plain data first, which gives a Diagnostic where Paddle would abort the process.
    return open_saved(read(file_in(folder, file)), manifest.kind)


def _loaded_merge(
    folder: Path,
    manifest: Manifest,
    number: int,
    live: LiveProgram,
    scope: Paddle,
    report: Report,
) -> Merged:
    """Return one of the merges that a manifest records."""
    record = manifest.teachers[number]
    teacher, student = (
        replace(opened, graph=restored_graph(folder, opened.graph, network))
        for role, network in (("teacher", record.teacher), ("student", record.student))
        for opened in [_open_program(folder, original_file(role, number, manifest.kind), manifest)]
    )
    plan = plan_without_facts(
        teacher.graph, student.graph, record.feed_map, prefix=record.prefix, shared=record.shared
    )
    before, path = replace(live, graph=student.graph), folder.absolute()

    def load_weights(into: Paddle) -> None:
        set_tensors(verified_tensors(path, read_manifest(path)), into)

    network = None
    if record.student.keys:
        network = Network(
            live=before,
            initialisation=Initialisation(load_paddle().static.Program(), None),
            layer=None,
            feeds=record.student.feeds,
            fetches=record.student.fetches,
            parameters=record.student.keys,
        )
    losses: list[Pair] = []
    if record.losses:
        # A string of several lines is the text of a recipe, not the path of one.
        recipe = read_recipe(f"\n{record.losses}", teacher=plan.teacher, student=plan.student)
        losses = list(recipe.pairs)
    return Merged(
        plan=replace(plan, prefixes=tuple(one.prefix for one in manifest.teachers[:number])),
        report=report,
        scope=scope,
        place=None,
        joined=ValueMap(live=live, names=record.values, extent=BlockSnapshot.of(live.program)),
        originals=(teacher.program, student.program),
        provenance=Provenance({new: new for _, new in plan.weights}, load=load_weights),
        before=before,
        source=teacher,
        network=network,
        losses=losses,
    )


def _diagnostics(folder: Path, manifest: Manifest) -> Iterator[Diagnostic]:
    current = str(load_paddle().__version__)
    if manifest.paddle != current:
        message = f"written under Paddle {manifest.paddle}, loaded under {current}"
        yield other_release(str(folder), message)
    yield from missing_pairs_warnings(folder, manifest)
    for what in unsaved_attributes(manifest.attributes):
        yield attribute_left_behind(str(folder), what)
