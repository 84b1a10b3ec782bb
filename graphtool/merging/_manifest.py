"""The files in the folder of a merged Program, and its manifest: names, feed maps, versions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from graphtool.backend.paddle import load_paddle
from graphtool.backend.parameter_attributes import ParameterAttributes, attributes_of
from graphtool.diagnostics import Diagnostic, ReadError, Where, rule
from graphtool.graph import Graph, Origin, ProgramKind, Value
from graphtool.matching import PairSet
from graphtool.matching.recipe import recipe_text
from graphtool.merging._generated_inputs import feed_names
from graphtool.merging.merged import Merged
from graphtool.readers import problems as reading
from graphtool.readers.weights import persistable_values
from graphtool.sources.layers import Network
from graphtool.staging import finish_exchanges
from graphtool.version import UPGRADE, version

__all__ = [
    "MANIFEST_FILE",
    "ORIGINALS_FOLDER",
    "PAIRS_FILE",
    "PARAMETERS_FILE",
    "Annotation",
    "Manifest",
    "SavedNetwork",
    "SavedTeacher",
    "check_manifest",
    "file_in",
    "incomplete_folder",
    "manifest_of",
    "original_file",
    "possible_entries",
    "program_file",
    "program_files",
    "read_manifest",
    "with_annotation",
    "written_files",
]

MANIFEST_FILE = "manifest.json"
PAIRS_FILE = "pairs.toml"
PARAMETERS_FILE = "merged.pdiparams"
ORIGINALS_FOLDER = "originals"
_PROGRAM_SUFFIXES = {ProgramKind.PIR: ".json", ProgramKind.LEGACY: ".pdmodel"}
_SCHEMA = 1


class Annotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The other names of a Value, which Paddle's file formats do not keep."""

    aliases: tuple[str, ...] = ()
    layer: str | None = None
    layer_outputs: tuple[str, ...] = ()


class SavedNetwork(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network before it was merged; `keys` maps a Layer's state dict keys to Variables."""

    source: str
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    annotations: dict[str, Annotation] = {}
    keys: dict[str, str] = {}


class SavedTeacher(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One merge: the teacher, the student that it was merged into, and the renamed names."""

    prefix: str
    feed_map: dict[str, str]
    names: dict[str, str]
    values: dict[str, str]
    teacher: SavedNetwork
    student: SavedNetwork
    shared: tuple[str, ...] = ()
    # A recipe of the pairs that losses were built from. Unset, it leaves old digests as they are.
    losses: str | msgspec.UnsetType = msgspec.UNSET


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about a merge that its program files do not hold; it contains no paths.

    `digest` holds the digests of the manifest itself and of the other files.
    """

    schema: int
    graphtool: str
    paddle: str
    kind: ProgramKind
    parameters: tuple[str, ...]
    pairs: bool
    teachers: tuple[SavedTeacher, ...]
    attributes: dict[str, ParameterAttributes] = {}
    digest: str


def manifest_of(merged: Merged, names: list[str], kind: ProgramKind, *, pairs: bool) -> Manifest:
    """Describe all merges into a Program, without the digest.

    `names` lists its parameters in file order.
    """
    return Manifest(
        schema=_SCHEMA,
        graphtool=version(),
        paddle=str(load_paddle().__version__),
        kind=kind,
        parameters=tuple(names),
        pairs=pairs,
        teachers=tuple(map(_saved_teacher, merged.teachers)),
        attributes=_attributes(merged),
        digest="",
    )


def _attributes(merged: Merged) -> dict[str, ParameterAttributes]:
    """Return the training attributes of the student's parameters, except default ones."""
    teacher_names = {new for earlier in merged.teachers for _, new in earlier.plan.weights}
    return {
        name: attributes
        for name, attributes in attributes_of(merged.program).items()
        if name not in teacher_names and attributes != ParameterAttributes()
    }


def _saved_teacher(merged: Merged) -> SavedTeacher:
    teacher, student = merged.source.graph, merged.teachers[0].before.graph
    known = tuple(pair for pair in merged.losses if pair.student.name in student.values)
    losses = PairSet(
        teacher=replace(teacher, source=_file_name(teacher)),
        student=replace(student, source=_file_name(student)),
        pairs=known,
    )
    return SavedTeacher(
        prefix=merged.prefix,
        feed_map=dict(merged.feed_map),
        names=dict(merged.names),
        values=dict(merged.values),
        teacher=_saved_network(merged.source.graph),
        student=_saved_network(merged.before.graph, merged.network),
        shared=merged.plan.shared,
        losses=recipe_text(losses) if known else msgspec.UNSET,
    )


def _file_name(graph: Graph) -> str:
    """Return the file name of a network: a path of this machine is of no use on another.

    Bytes that are not text are escaped, because JSON holds text.
    """
    return re.split(r"[/\\]", graph.source)[-1].encode("utf-8", "backslashreplace").decode()


def _saved_network(graph: Graph, network: Network | None = None) -> SavedNetwork:
    keys: dict[str, str] = {}
    if network is not None:
        # A Layer may have parameters that its Program never reads.
        known = persistable_values(graph)
        keys = {key: name for key, name in network.parameters.items() if name in known}
    return SavedNetwork(
        source=_file_name(graph),
        feeds=graph.feeds,
        fetches=graph.fetches,
        annotations={
            name: Annotation(value.aliases, value.layer, value.layer_outputs)
            for name, value in graph.values.items()
            if value.aliases or value.layer or value.layer_outputs
        },
        keys=keys,
    )


def program_file(kind: ProgramKind) -> Path:
    """Return the file of the merged Program, relative to the folder."""
    return Path(f"merged{_PROGRAM_SUFFIXES[kind]}")


def original_file(role: str, number: int, kind: ProgramKind) -> Path:
    """Return the file of a network before a merge, relative to the folder."""
    return Path(ORIGINALS_FOLDER, f"{role}-{number}{_PROGRAM_SUFFIXES[kind]}")


def program_files(manifest: Manifest) -> Iterator[str]:
    """Yield the files of the merged Program and of the networks before each merge."""
    yield program_file(manifest.kind).as_posix()
    for number in range(len(manifest.teachers)):
        yield original_file("teacher", number, manifest.kind).as_posix()
        yield original_file("student", number, manifest.kind).as_posix()


def written_files(manifest: Manifest) -> Iterator[str]:
    """Yield all files that were written with a manifest."""
    yield from (MANIFEST_FILE, PARAMETERS_FILE)
    if manifest.pairs:
        yield PAIRS_FILE
    yield from program_files(manifest)


def possible_entries() -> tuple[str, ...]:
    """List all entries that a folder may have, the manifest last: the folder needs it to load."""
    programs = (str(program_file(kind)) for kind in _PROGRAM_SUFFIXES)
    return (*sorted((PAIRS_FILE, PARAMETERS_FILE, ORIGINALS_FOLDER, *programs)), MANIFEST_FILE)


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest, after completing a save that was killed while it moved files.

    Raises ReadError: GT001, GT613.
    """
    finish_exchanges(folder)
    if not folder.exists():
        raise ReadError(reading.no_such_path(str(folder)))
    file = file_in(folder, Path(MANIFEST_FILE))
    try:
        data = file.read_bytes()
        schema = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("schema")
        if schema is None:
            raise ReadError(incomplete_folder(str(folder), f"its {MANIFEST_FILE} is another's"))
        if bytes(schema) != str(_SCHEMA).encode():
            reason = f"its `schema` is {bytes(schema).decode()}; this graphtool reads {_SCHEMA}"
            raise ReadError(incomplete_folder(str(folder), reason, UPGRADE))
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReadError(incomplete_folder(str(folder), f"{MANIFEST_FILE}: {error}")) from None


def file_in(folder: Path, file: Path) -> Path:
    """Return the path of a file in the folder.

    Raises ReadError: GT613 for a missing file, or a link that leads out of the folder.
    """
    path = folder / file
    if not path.is_file():
        raise ReadError(incomplete_folder(str(folder), f"it has no `{file}`"))
    if folder.resolve() not in path.resolve().parents:
        raise ReadError(incomplete_folder(str(folder), f"`{file}` leads out of it"))
    return path


def with_annotation(value: Value, annotation: Annotation) -> Value:
    """Restore the names of a Value that its file does not keep."""
    return replace(
        value,
        aliases=annotation.aliases,
        layer=annotation.layer,
        layer_outputs=annotation.layer_outputs,
    )


def check_manifest(
    folder: Path, record: SavedTeacher, teacher: Graph, student: Graph, merged: Graph
) -> None:
    """Refuse a manifest with names that its programs do not have.

    Raises ReadError: GT613.
    """
    # The teacher's feeds were replaced by the student's.
    values = {old: new for old, new in record.values.items() if old not in record.feed_map}
    unknown = [
        *(record.feed_map.keys() ^ feed_names(teacher)),
        *(name for name in record.feed_map.values() if not _is_feed(merged, name)),
        *(new for old, new in values.items() if not _is_same_operator(teacher, merged, old, new)),
        *({*student.values, *record.values.values()} - merged.values.keys()),
        *({*record.teacher.feeds, *record.teacher.fetches} - teacher.values.keys()),
        *({*record.student.feeds, *record.student.fetches} - student.values.keys()),
        *(set(record.student.keys.values()) - persistable_values(student).keys()),
    ]
    if unknown:
        reason = f"its manifest and programs differ in `{min(unknown)}`"
        raise ReadError(incomplete_folder(str(folder), reason))
    if teacher.operators and not values:
        raise ReadError(incomplete_folder(str(folder), "its manifest names no Value"))


def _is_feed(graph: Graph, name: str) -> bool:
    value = graph.values.get(name)
    if value is None or value.persistable or value.origin is Origin.PARAMETER:
        return False
    operator = graph.producer(name)
    return operator is None or operator.kind in ("data", "feed")


def _is_same_operator(teacher: Graph, merged: Graph, old: str, new: str) -> bool:
    """Return whether both Values are produced by operators of the same type."""
    if old not in teacher.values or new not in merged.values:
        return False
    original, copied = teacher.producer(old), merged.producer(new)
    return getattr(original, "type", None) == getattr(copied, "type", None)


@rule("GT613", replaces=("GT614", "GT637"))
def incomplete_folder(path: str, reason: str, help: str | None = None) -> Diagnostic:
    """The folder holds no merged program, or one that is damaged or of a newer version.

    `graphtool merge TEACHER STUDENT -o DIR` and `gt.save_merged` write one. If only the file of the
    pairs is missing, the folder loads, and a picture of it shows no pairs: put the file back, or
    have pairs suggested again.
    """
    return Diagnostic(
        message=f"the folder holds no merged program: {reason}",
        where=(Where(program=path),),
        help=help or "graphtool merge TEACHER STUDENT -o DIR",
    )
