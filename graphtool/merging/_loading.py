"""Load a merged program from its folder; nothing in it is executed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

from graphtool.checks import MergePlan, persistable_names, plan_of
from graphtool.diagnostics import Diagnostic, ReadError, Report, Severity, Where, rule
from graphtool.graph import Graph, Origin, ProgramKind, Value, keeps_shape
from graphtool.merging import _layout
from graphtool.merging._backend import Extent, Joined, Scopes
from graphtool.merging._manifest import (
    Manifest,
    SavedNetwork,
    SavedTeacher,
    annotated,
    check_names,
    inside,
    not_a_merged_folder,
    read_manifest,
)
from graphtool.merging._provenance import Provenance, from_file
from graphtool.merging._seal import missing_pairs, sealed_tensors
from graphtool.merging.merged import Merged, register
from graphtool.readers import problems as reading
from graphtool.readers import read
from graphtool.readers._paddle import load_paddle, one_at_a_time, static_mode
from graphtool.readers.counters import count_past, user_names
from graphtool.readers.layer_weights import Initialisation
from graphtool.readers.layers import Network
from graphtool.readers.live import LiveProgram, deserialise, parse
from graphtool.readers.parameter_attributes import left_behind, set_attributes
from graphtool.readers.tensors import Tensor, set_tensors

__all__ = ["load_merged"]

# Programs and Scopes are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@one_at_a_time()
def load_merged(path: str | PathLike[str], *, scope: _Paddle | None = None) -> Merged:
    """Load a merged Program and its parameters; add a loss to it and train.

    Parameters are set in `scope`, the global one unless given. The pairs saved with it are read by
    `gt.read_recipe(folder / "pairs.toml", teacher=merged.plan.teacher,
    student=merged.plan.student)`. Nothing in the folder is executed, and nothing outside of it is
    read.

    `report` warns of pairs whose file is gone (GT637) and of what the folder could not keep
    (GT617), and notes another release of Paddle (GT615).

    Raises ReadError: GT001, GT010, GT240, GT613 for a folder that holds no merged program or a
    damaged one, GT614 for one that a newer graphtool wrote, GT618 for one whose files have changed
    since it was saved, its pairs apart.
    """
    folder = Path(fspath(path))
    try:
        manifest = read_manifest(folder)
        with static_mode(manifest.kind):
            return _load(folder, manifest, scope)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReadError(reading.unreadable(error.filename or str(folder), reason)) from None


@rule("GT615")
def other_release(path: str, was: str, now: str) -> Diagnostic:
    """The folder was written under another release of Paddle, which may compute otherwise."""
    return Diagnostic(
        message=f"written under Paddle {was}, loaded under {now}",
        severity=Severity.NOTE,
        where=(Where(program=path),),
    )


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


def _load(folder: Path, manifest: Manifest, scope: _Paddle | None) -> Merged:
    if not manifest.teachers:
        raise ReadError(not_a_merged_folder(str(folder), "its manifest names no teacher"))
    tensors = sealed_tensors(folder, manifest)
    live = _open(folder, _layout.program(manifest.kind), manifest.kind)
    held = load_paddle().static.global_scope() if scope is None else scope
    merges = [
        _merged(folder, manifest, number, live, held) for number in range(len(manifest.teachers))
    ]
    set_tensors(_parameters(folder, manifest, live.graph, tensors), held)
    teachers = [new for merged in merges for _, new in merged.plan.weights]
    _set_attributes(live.program, manifest, teachers)
    count_past(live.program, user_names(live.graph))
    return [register(merged) for merged in merges][-1]


def _open(folder: Path, file: Path, kind: ProgramKind) -> LiveProgram:
    path = inside(folder, file)
    # Reading it as plain data first gives a Diagnostic where Paddle would end the process.
    graph = read(path)
    return parse(str(path)) if kind is ProgramKind.LEGACY else deserialise(str(path), graph)


def _set_attributes(program: _Paddle, manifest: Manifest, teachers: list[str]) -> None:
    ours = {name: one for name, one in manifest.attributes.items() if name not in teachers}
    set_attributes(program, ours)
    if manifest.kind is ProgramKind.LEGACY:
        _freeze(program, teachers)


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
    before = replace(live, graph=student.graph)
    prefixes = tuple(earlier.prefix for earlier in manifest.teachers[:number])
    plan = _plan(folder, record, teacher.graph, student.graph)
    return Merged(
        plan=replace(plan, prefixes=prefixes),
        report=Report.of(_said(folder, manifest)),
        scopes=Scopes(teacher=scope, student=scope),
        place=None,
        joined=Joined(live=live, names=record.values, extent=Extent.of(live.program)),
        originals=(teacher.program, student.program),
        provenance=_provenance(folder, plan.weights, live.graph),
        before=before,
        source=teacher,
        network=_network(before, record.student),
    )


def _network(before: LiveProgram, student: SavedNetwork) -> Network | None:
    """Return the student as a Network whose Layer's names are known, None where they are not."""
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
    home = folder.absolute()

    def load(own: _Paddle) -> None:
        manifest = read_manifest(home)
        set_tensors(_parameters(home, manifest, merged, sealed_tensors(home, manifest)), own)

    return from_file(load, {new: new for _, new in weights})


def _plan(folder: Path, record: SavedTeacher, teacher: Graph, student: Graph) -> MergePlan:
    plan = plan_of(teacher, student, record.feed_map, prefix=record.prefix, shared=record.shared)
    if not dict(plan.weights).items() <= record.names.items():
        reason = f"its manifest's prefix `{record.prefix}` is not that of its names"
        raise ReadError(not_a_merged_folder(str(folder), reason))
    return plan


def _opened_original(
    folder: Path, manifest: Manifest, number: int, role: str, network: SavedNetwork
) -> LiveProgram:
    live = _open(folder, _layout.original(role, number, manifest.kind), manifest.kind)
    graph = replace(
        live.graph,
        source=network.source,
        values=dict(_annotated(live.graph.values, network)),
        feeds=network.feeds,
        fetches=network.fetches,
    )
    return replace(live, graph=graph)


def _annotated(values: Mapping[str, Value], network: SavedNetwork) -> Iterator[tuple[str, Value]]:
    """Yield Values with all that their file does not keep: what they are called, what is fed."""
    feeds = frozenset(network.feeds)
    for name, value in values.items():
        noted = network.annotations.get(name)
        known = value if noted is None else annotated(value, noted)
        yield name, replace(known, origin=Origin.FEED) if name in feeds else known


def _parameters(
    folder: Path, manifest: Manifest, graph: Graph, tensors: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Name the tensors of a folder as its Program does."""
    names = sorted(persistable_names(graph))
    if list(manifest.parameters) != names or not manifest.attributes.keys() <= set(names):
        reason = "its manifest lists other parameters than its program has"
        raise ReadError(not_a_merged_folder(str(folder), reason))
    pairs = [(graph.values[name], tensor) for name, tensor in zip(names, tensors, strict=True)]
    if not all(keeps_shape(x, held.shape) and x.dtype == held.dtype for x, held in pairs):
        raise ReadError(not_a_merged_folder(str(folder), f"`{_layout.PARAMETERS}` doesn't fit it"))
    return dict(zip(names, tensors, strict=True))


def _said(folder: Path, manifest: Manifest) -> Iterator[Diagnostic]:
    now = str(load_paddle().__version__)
    if manifest.paddle != now:
        yield other_release(str(folder), manifest.paddle, now)
    yield from missing_pairs(folder, manifest)
    for what in left_behind(manifest.attributes):
        yield attribute_left_behind(str(folder), what)
