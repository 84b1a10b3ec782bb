"""What a folder's manifest says: names old and new, feed maps, versions; read with validation."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import msgspec

from graphtool.diagnostics import Diagnostic, ReadError, Where, rule
from graphtool.graph import Graph, Origin, ProgramKind, Value
from graphtool.merging._inputs import feed_names
from graphtool.merging.merged import Merged
from graphtool.readers import problems as reading
from graphtool.readers._paddle import load_paddle
from graphtool.readers.layers import Network
from graphtool.readers.parameter_attributes import ParameterAttributes, attributes_of
from graphtool.readers.weights import persistables
from graphtool.staging import finish_exchanges
from graphtool.version import UPGRADE, version

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
    """A network as it was before it was merged; `keys` are a Layer's names of its Variables."""

    source: str
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    annotations: dict[str, Annotation] = {}
    keys: dict[str, str] = {}


class SavedTeacher(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One merge: the teacher, the student that it was merged into, and how names changed."""

    prefix: str
    feed_map: dict[str, str]
    names: dict[str, str]
    values: dict[str, str]
    teacher: SavedNetwork
    student: SavedNetwork
    shared: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the folder's programs do not say themselves; `digest` seals them, and it.

    It holds no paths.
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
    """Describe all merges into a Program; `names` are its parameters in the order of their file.

    It is not sealed yet.
    """
    return Manifest(
        schema=_SCHEMA,
        graphtool=version(),
        paddle=str(load_paddle().__version__),
        kind=kind,
        parameters=tuple(names),
        pairs=pairs,
        teachers=tuple(map(_teacher, merged.teachers)),
        attributes=_attributes(merged),
        digest="",
    )


def _attributes(merged: Merged) -> dict[str, ParameterAttributes]:
    """Return how the student's parameters train, those left out that train as any does."""
    teachers = {new for one in merged.teachers for _, new in one.plan.weights}
    return {
        name: held
        for name, held in attributes_of(merged.program).items()
        if name not in teachers and held != ParameterAttributes()
    }


def _teacher(merged: Merged) -> SavedTeacher:
    return SavedTeacher(
        prefix=merged.prefix,
        feed_map=dict(merged.feed_map),
        names=dict(merged.names),
        values=dict(merged.values),
        teacher=_network(merged.source.graph),
        student=_network(merged.before.graph, merged.network),
        shared=merged.plan.shared,
    )


def _network(graph: Graph, network: Network | None = None) -> SavedNetwork:
    return SavedNetwork(
        # Where a file lay on the writer's machine is of no use to a reader on another.
        # What of its name is no text is written out, for JSON holds text.
        source=re.split(r"[/\\]", graph.source)[-1].encode("utf-8", "backslashreplace").decode(),
        feeds=graph.feeds,
        fetches=graph.fetches,
        annotations={
            name: Annotation(value.aliases, value.layer, value.layer_outputs)
            for name, value in graph.values.items()
            if value.aliases or value.layer or value.layer_outputs
        },
        keys={} if network is None else _keys(network, graph),
    )


def _keys(network: Network, graph: Graph) -> dict[str, str]:
    # A Layer may hold what its Program never reads.
    held = persistables(graph)
    return {key: name for key, name in network.parameters.items() if name in held}


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest; a save that was killed while it moved its files is ended first.

    Raises ReadError: GT001, GT613, GT614.
    """
    finish_exchanges(folder)
    if not folder.exists():
        raise ReadError(reading.no_such_path(str(folder)))
    file = inside(folder, Path(MANIFEST))
    try:
        data = file.read_bytes()
        schema = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("schema")
        if schema is None:
            raise ReadError(not_a_merged_folder(str(folder), f"its {MANIFEST} is another's"))
        if bytes(schema) != str(_SCHEMA).encode():
            raise ReadError(unknown_manifest(str(folder), bytes(schema).decode()))
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
    teacher, student, merged = graphs
    theirs, ours = teacher.values.keys(), student.values.keys()
    # What the student is fed stands in for what the teacher was.
    values = {old: new for old, new in record.values.items() if old not in record.feed_map}
    strangers = [
        *(record.feed_map.keys() ^ feed_names(teacher)),
        *(name for name in record.feed_map.values() if not _is_fed(merged, name)),
        *(new for old, new in values.items() if not _is_same(teacher, merged, old, new)),
        *({*ours, *record.values.values()} - merged.values.keys()),
        *({*record.teacher.feeds, *record.teacher.fetches} - theirs),
        *({*record.student.feeds, *record.student.fetches} - ours),
        *(set(record.student.keys.values()) - persistables(student).keys()),
    ]
    if strangers:
        reason = f"its manifest and programs differ in `{min(strangers)}`"
        raise ReadError(not_a_merged_folder(str(folder), reason))
    if teacher.operators and not values:
        raise ReadError(not_a_merged_folder(str(folder), "its manifest names no Value"))


def _is_fed(graph: Graph, name: str) -> bool:
    value = graph.values.get(name)
    if value is None or value.persistable or value.origin is Origin.PARAMETER:
        return False
    operator = graph.producer(name)
    return operator is None or operator.kind in ("data", "feed")


def _is_same(teacher: Graph, merged: Graph, old: str, new: str) -> bool:
    """Tell whether operators of one type make both."""
    if old not in teacher.values or new not in merged.values:
        return False
    theirs, ours = teacher.producer(old), merged.producer(new)
    return getattr(theirs, "type", None) == getattr(ours, "type", None)


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
        help=UPGRADE,
    )
