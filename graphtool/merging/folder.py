"""Save a merged Program to a folder, and load it again to add losses and train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path

import msgspec

from graphtool.backend.counters import advance_counters, counted_names
from graphtool.backend.joining import BlockSnapshot, ValueMap
from graphtool.backend.layer_weights import Initialisation
from graphtool.backend.live import LiveProgram, open_legacy, open_pir, save_program
from graphtool.backend.paddle import Paddle, load_paddle, program_lock, static_mode
from graphtool.backend.parameter_attributes import set_attributes, unsaved_attributes
from graphtool.backend.problems import value_gone
from graphtool.backend.tensors import copy_from_scope, initialised_tensors, set_tensors
from graphtool.checks import MergePlan, persistable_names, plan_without_facts
from graphtool.checks.networks import already_minimized
from graphtool.checks.parameters import uninitialised_parameters
from graphtool.diagnostics import (
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
    os_errors_reported,
    resolve_links,
    unwritable_output,
)
from graphtool.graph import Graph, Origin, ProgramKind, Value, fits_shape
from graphtool.matching import Pair, PairSet
from graphtool.matching.recipe import is_configuration, read_recipe, recipe_text
from graphtool.merging._digests import missing_pairs_warnings, verified_tensors, with_digest
from graphtool.merging._manifest import (
    MANIFEST_FILE,
    ORIGINALS_FOLDER,
    PAIRS_FILE,
    PARAMETERS_FILE,
    Manifest,
    SavedNetwork,
    SavedTeacher,
    check_manifest,
    file_in,
    incomplete_folder,
    manifest_of,
    original_file,
    possible_entries,
    program_file,
    read_manifest,
    with_annotation,
    written_files,
)
from graphtool.merging._provenance import Provenance, from_file
from graphtool.merging._scope import Scopes
from graphtool.merging._whole import check_not_truncated
from graphtool.merging.merged import Merged, register
from graphtool.ops import is_training
from graphtool.paths import numbered_path
from graphtool.readers import problems as reading
from graphtool.readers.tensor_files import Tensor, write_tensors
from graphtool.sources import read
from graphtool.sources.layers import Network
from graphtool.staging import is_stage, tidy
from graphtool.text import shell_option

__all__ = ["check_target", "load_merged", "save_merged"]


_LISTED = 5


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
    from the Program, so that its name would load as another. Raises UsageError: GT604 for a folder
    that is not empty, or where files of something else would be replaced. Raises
    PairError for bad pairs.
    """
    folder = resolve_links(path)
    check_target(folder, force=force)
    current = LiveProgram.of(merged.program)
    graph = current.graph
    _check_program(graph, merged)
    _check_student_values(current, merged)
    recipe = _recipe(merged, pairs)
    with atomic_replace(folder, [folder / name for name in possible_entries()]) as temporary:
        _write(temporary, merged, graph, recipe)
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
    changed since it was saved.
    """
    folder = Path(fspath(path))
    try:
        manifest = read_manifest(folder)
        with static_mode(manifest.kind):
            return _load(folder, manifest, scope)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReadError(reading.unreadable(error.filename or str(folder), reason)) from None


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
            tidy(folder)
            names = sorted(entry.name for entry in folder.iterdir() if not is_stage(entry.name))
    # Checked first: `force` does not replace these either.
    foreign = _foreign_files(folder)
    if foreign:
        message = f"`{folder}` holds files that this graphtool has not written: "
        fix = shell_option("-o", numbered_path(str(folder)))
        raise UsageError(exists_already(message + listed(foreign, _LISTED), fix))
    if names and not force:
        message = f"`{folder}` is not empty: it holds {listed(names, _LISTED)}"
        fix = f"--force, or {shell_option('-o', numbered_path(str(folder)))}"
        raise UsageError(exists_already(message, fix))


def _foreign_files(folder: Path) -> list[str]:
    """List files under names of a merged program's files that were not written as such."""
    written: frozenset[str] = frozenset()
    with suppress(ReadError, OSError):
        written = frozenset(written_files(read_manifest(folder)))
    found = [name for name in possible_entries() if (folder / name).exists()]
    originals = folder / ORIGINALS_FOLDER
    if originals.is_dir() and not originals.is_symlink():
        found.remove(ORIGINALS_FOLDER)
        found += [f"{ORIGINALS_FOLDER}/{entry.name}" for entry in originals.iterdir()]
    return sorted(name for name in found if name not in written)


def _check_program(graph: Graph, merged: Merged) -> None:
    """Refuse a Program that trains already, or has uninitialised parameters."""
    for operator in graph.operators.values():
        if is_training(operator):
            raise GraphtoolError(
                already_minimized(
                    f"the merged Program already has gradients: `{operator.name}`",
                    where=(Where(role="merged", value=operator.name),),
                    help="gt.save_merged(merged, folder), then minimize",
                )
            )
    names = _saved_order(graph)
    initialised = initialised_tensors(merged.scopes.student, names)
    uninitialised = [name for name in names if name not in initialised]
    if uninitialised:
        raise GraphtoolError(
            uninitialised_parameters(
                f"{len(uninitialised)} of {len(names)} parameters are uninitialised",
                [Where(role="merged", value=name) for name in uninitialised[:_LISTED]],
                help="executor.run(startup), merged.load_teacher(...)",
            )
        )


def _check_student_values(current: LiveProgram, merged: Merged) -> None:
    """Refuse a Program where a name of the student's is unknown or means another Value."""
    for before in (earlier.before for earlier in merged.teachers):
        for name in before.graph.values:
            # Under PIR, removing operators renumbers names.
            if name not in current.graph.values or current.keys.get(name) != before.keys.get(name):
                raise ReadError(value_gone(before.graph.source, name))


def _saved_order(graph: Graph) -> list[str]:
    """Return the names of a Program's parameters in the order in which Paddle saves them."""
    return sorted(persistable_names(graph))


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


def _write(folder: Path, merged: Merged, graph: Graph, recipe: str | None) -> None:
    kind = graph.kind
    (folder / ORIGINALS_FOLDER).mkdir()
    _save_program(merged.program, folder / program_file(kind))
    for number, merge in enumerate(merged.teachers):
        for role, program in zip(("teacher", "student"), merge.originals, strict=True):
            _save_program(program, folder / original_file(role, number, kind))
    names = _saved_order(graph)
    write_tensors(folder / PARAMETERS_FILE, copy_from_scope(merged.scopes.student, names))
    if recipe is not None:
        (folder / PAIRS_FILE).write_bytes(recipe.encode("utf-8", "surrogatepass"))
    manifest = manifest_of(merged, names, kind, pairs=recipe is not None)
    manifest = with_digest(folder, manifest, copy_from_scope(merged.scopes.student, names))
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))


def _save_program(program: Paddle, path: Path) -> None:
    save_program(program, path)
    check_not_truncated(path)


def _load(folder: Path, manifest: Manifest, scope: Paddle | None) -> Merged:
    if not manifest.teachers:
        raise ReadError(incomplete_folder(str(folder), "its manifest names no teacher"))
    tensors = verified_tensors(folder, manifest)
    live = _open_program(folder, program_file(manifest.kind), manifest.kind)
    student_scope = load_paddle().static.global_scope() if scope is None else scope
    merges = [
        _loaded_merge(folder, manifest, number, live, student_scope)
        for number in range(len(manifest.teachers))
    ]
    set_tensors(_parameters(folder, manifest, live.graph, tensors), student_scope)
    teacher_names = [new for merged in merges for _, new in merged.plan.weights]
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


def _open_program(folder: Path, file: Path, kind: ProgramKind) -> LiveProgram:
    path = file_in(folder, file)
    # Read as plain data first, which gives a Diagnostic where Paddle would abort the process.
    graph = read(path)
    return open_legacy(str(path)) if kind is ProgramKind.LEGACY else open_pir(str(path), graph)


def _loaded_merge(
    folder: Path, manifest: Manifest, number: int, live: LiveProgram, scope: Paddle
) -> Merged:
    """Return one of the merges that a manifest records."""
    record = manifest.teachers[number]
    teacher = _open_original(folder, manifest, number, "teacher", record.teacher)
    student = _open_original(folder, manifest, number, "student", record.student)
    check_manifest(folder, record, teacher.graph, student.graph, live.graph)
    before = replace(live, graph=student.graph)
    prefixes = tuple(earlier.prefix for earlier in manifest.teachers[:number])
    plan = _plan(folder, record, teacher.graph, student.graph)
    return Merged(
        plan=replace(plan, prefixes=prefixes),
        report=Report.of(_diagnostics(folder, manifest)),
        scopes=Scopes(teacher=scope, student=scope),
        place=None,
        joined=ValueMap(live=live, names=record.values, extent=BlockSnapshot.of(live.program)),
        originals=(teacher.program, student.program),
        provenance=_provenance(folder, plan.weights, live.graph),
        before=before,
        source=teacher,
        network=_network(before, record.student),
        losses=_read_losses(record, plan),
    )


def _read_losses(record: SavedTeacher, plan: MergePlan) -> list[Pair]:
    if not record.losses:
        return []
    # A string of several lines is the text of a recipe, not the path of one.
    recipe = read_recipe(f"\n{record.losses}", teacher=plan.teacher, student=plan.student)
    return list(recipe.pairs)


def _network(before: LiveProgram, student: SavedNetwork) -> Network | None:
    """Return the student as a Network, None if its Layer's parameter names are not known."""
    if not student.keys:
        return None
    return Network(
        live=before,
        initialisation=Initialisation(load_paddle().static.Program(), None),
        layer=None,
        feeds=student.feeds,
        fetches=student.fetches,
        parameters=student.keys,
    )


def _provenance(folder: Path, weights: Sequence[tuple[str, str]], merged: Graph) -> Provenance:
    path = folder.absolute()

    def load(scope: Paddle) -> None:
        manifest = read_manifest(path)
        tensors = verified_tensors(path, manifest)
        set_tensors(_parameters(path, manifest, merged, tensors), scope)

    return from_file(load, {new: new for _, new in weights})


def _plan(folder: Path, record: SavedTeacher, teacher: Graph, student: Graph) -> MergePlan:
    plan = plan_without_facts(
        teacher, student, record.feed_map, prefix=record.prefix, shared=record.shared
    )
    if not dict(plan.weights).items() <= record.names.items():
        reason = f"its manifest's prefix `{record.prefix}` is not that of its names"
        raise ReadError(incomplete_folder(str(folder), reason))
    return plan


def _open_original(
    folder: Path, manifest: Manifest, number: int, role: str, network: SavedNetwork
) -> LiveProgram:
    """Open a network as it was before a merge, with everything that its file does not keep."""
    live = _open_program(folder, original_file(role, number, manifest.kind), manifest.kind)
    graph = replace(
        live.graph,
        source=network.source,
        values=dict(_annotated_values(live.graph.values, network)),
        feeds=network.feeds,
        fetches=network.fetches,
    )
    return replace(live, graph=graph)


def _annotated_values(
    values: Mapping[str, Value], network: SavedNetwork
) -> Iterator[tuple[str, Value]]:
    """Yield Values with the saved other names, and marked as feeds where they are fed."""
    feeds = frozenset(network.feeds)
    for name, value in values.items():
        annotation = network.annotations.get(name)
        known = value if annotation is None else with_annotation(value, annotation)
        yield name, replace(known, origin=Origin.FEED) if name in feeds else known


def _parameters(
    folder: Path, manifest: Manifest, graph: Graph, tensors: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Return the tensors of a folder by the parameter names of its Program.

    Raises ReadError: GT613 if they do not fit.
    """
    names = _saved_order(graph)
    if list(manifest.parameters) != names or not manifest.attributes.keys() <= set(names):
        reason = "its manifest lists other parameters than its program has"
        raise ReadError(incomplete_folder(str(folder), reason))
    rows = [(graph.values[name], tensor) for name, tensor in zip(names, tensors, strict=True)]
    if not all(fits_shape(x, tensor.shape) and x.dtype == tensor.dtype for x, tensor in rows):
        raise ReadError(incomplete_folder(str(folder), f"`{PARAMETERS_FILE}` doesn't fit it"))
    return dict(zip(names, tensors, strict=True))


def _diagnostics(folder: Path, manifest: Manifest) -> Iterator[Diagnostic]:
    current = str(load_paddle().__version__)
    if manifest.paddle != current:
        message = f"written under Paddle {manifest.paddle}, loaded under {current}"
        yield other_release(str(folder), message)
    yield from missing_pairs_warnings(folder, manifest)
    for what in unsaved_attributes(manifest.attributes):
        yield attribute_left_behind(str(folder), what)
