"""What a folder's manifest says: names old and new, feed maps, versions; read with validation."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import msgspec

from graphtool.diagnostics import Diagnostic, ReadError, Where, rule
from graphtool.graph import Graph, ProgramKind, Value
from graphtool.merging.merged import Merged
from graphtool.readers import problems as reading
from graphtool.readers._paddle import load_paddle
from graphtool.version import version

__all__ = [
    "MANIFEST",
    "Annotation",
    "Manifest",
    "SavedNetwork",
    "SavedTeacher",
    "annotated",
    "check_names",
    "inside",
    "manifest_of",
    "not_a_merged_folder",
    "read_manifest",
    "unknown_manifest",
]

MANIFEST = "manifest.json"
_SCHEMA = 1


class Annotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file of Paddle's does not keep of a Value: the other names that it is found by."""

    aliases: tuple[str, ...] = ()
    layer: str | None = None
    layer_outputs: tuple[str, ...] = ()


class SavedNetwork(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network as it was before it was merged."""

    source: str
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    annotations: dict[str, Annotation] = {}


class SavedTeacher(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One merge: the teacher, the student that it was merged into, and how names changed."""

    prefix: str
    feed_map: dict[str, str]
    names: dict[str, str]
    values: dict[str, str]
    teacher: SavedNetwork
    student: SavedNetwork


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the folder's programs do not say themselves; it holds no paths."""

    schema: int
    graphtool: str
    paddle: str
    kind: ProgramKind
    parameters: tuple[str, ...]
    pairs: bool
    teachers: tuple[SavedTeacher, ...]


def manifest_of(merged: Merged, names: list[str], kind: ProgramKind, *, pairs: bool) -> Manifest:
    """Describe all merges into a Program; `names` are its parameters in the order of their file."""
    return Manifest(
        schema=_SCHEMA,
        graphtool=version(),
        paddle=str(load_paddle().__version__),
        kind=kind,
        parameters=tuple(names),
        pairs=pairs,
        teachers=tuple(map(_teacher, merged.teachers)),
    )


def _teacher(merged: Merged) -> SavedTeacher:
    return SavedTeacher(
        prefix=merged.prefix,
        feed_map=dict(merged.feed_map),
        names=dict(merged.names),
        values=dict(merged.values),
        teacher=_network(merged.source.graph),
        student=_network(merged.before.graph),
    )


def _network(graph: Graph) -> SavedNetwork:
    return SavedNetwork(
        # Where a file lay on the writer's machine is of no use to a reader on another.
        source=re.split(r"[/\\]", graph.source)[-1],
        feeds=graph.feeds,
        fetches=graph.fetches,
        annotations={
            name: Annotation(value.aliases, value.layer, value.layer_outputs)
            for name, value in graph.values.items()
            if value.aliases or value.layer or value.layer_outputs
        },
    )


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises ReadError: GT001, GT613, GT614.
    """
    if not folder.exists():
        raise ReadError(reading.no_such_path(str(folder)))
    file = inside(folder, Path(MANIFEST))
    try:
        data = file.read_bytes()
        schema = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("schema")
        if schema is None or bytes(schema) != str(_SCHEMA).encode():
            raise ReadError(unknown_manifest(str(folder), bytes(schema or b"missing").decode()))
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReadError(not_a_merged_folder(str(folder), f"{MANIFEST}: {error}")) from None


def inside(folder: Path, file: Path) -> Path:
    """Return a file of the folder; a link that leads out of it is refused."""
    path = folder / file
    if not path.is_file():
        raise ReadError(not_a_merged_folder(str(folder), f"it has no `{file}`"))
    if folder.resolve() not in path.resolve().parents:
        raise ReadError(not_a_merged_folder(str(folder), f"`{file}` leads out of it"))
    return path


def annotated(value: Value, noted: Annotation) -> Value:
    """Give a Value back the names that its file does not keep."""
    return replace(
        value, aliases=noted.aliases, layer=noted.layer, layer_outputs=noted.layer_outputs
    )


def check_names(folder: Path, record: SavedTeacher, graphs: tuple[Graph, Graph, Graph]) -> None:
    """Refuse a manifest that names what its programs don't have."""
    teacher, student, merged = (graph.values.keys() for graph in graphs)
    strangers = [
        *(record.values.keys() - teacher),
        *(set(record.values.values()) - merged),
        *(student - merged),
        *({*record.teacher.feeds, *record.teacher.fetches} - teacher),
        *({*record.student.feeds, *record.student.fetches} - student),
    ]
    if strangers:
        reason = f"its manifest and programs differ in `{min(strangers)}`"
        raise ReadError(not_a_merged_folder(str(folder), reason))


@rule("GT613")
def not_a_merged_folder(path: str, reason: str) -> Diagnostic:
    """The folder holds no merged program, or one that is damaged.

    `graphtool merge TEACHER STUDENT -o DIR` and `gt.save_merged` write one.
    """
    return Diagnostic(
        message=f"the folder holds no merged program: {reason}",
        where=(Where(program=path),),
        help="graphtool merge TEACHER STUDENT -o DIR",
    )


@rule("GT614")
def unknown_manifest(path: str, schema: object) -> Diagnostic:
    """The manifest is of a version that this graphtool does not know."""
    return Diagnostic(
        message=f"the manifest's `schema` is {schema}; this graphtool reads {_SCHEMA}",
        where=(Where(program=path),),
        help="pip install --upgrade paddle-graphtool",
    )
