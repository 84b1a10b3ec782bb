"""The folder of a merged Program: its files, and a manifest of names, feed maps and digests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from graphtool.backend.optimizers import ParameterAttributes, attributes_of
from graphtool.backend.paddle import load_paddle
from graphtool.diagnostics import Diagnostic, ReadError, Severity, Where, listed, rule
from graphtool.graph import Graph, Origin, ProgramKind
from graphtool.matching import PairSet
from graphtool.matching.recipe import recipe_text
from graphtool.merging.merged import Merged
from graphtool.readers import problems as reading
from graphtool.readers.tensor_files import Tensor, digest, read_tensors
from graphtool.readers.weights import persistable_values
from graphtool.sources.layers import Network
from graphtool.text import path_argument, shell_command
from graphtool.version import UPGRADE, version

__all__ = [
    "MANIFEST_FILE",
    "ORIGINALS_FOLDER",
    "PAIRS_FILE",
    "PARAMETERS_FILE",
    "PROGRAM_FILES",
    "SCHEMA",
    "Annotation",
    "Manifest",
    "SavedNetwork",
    "SavedTeacher",
    "changed_files",
    "changed_folder",
    "decode_manifest",
    "file_in",
    "manifest_of",
    "missing_pairs_warnings",
    "named_tensors",
    "no_program",
    "original_file",
    "read_manifest",
    "restored_graph",
    "undigested",
    "verified_tensors",
    "with_digest",
    "written_files",
]

MANIFEST_FILE = "manifest.json"
PAIRS_FILE = "pairs.toml"
PARAMETERS_FILE = "merged.pdiparams"
ORIGINALS_FOLDER = "originals"
# The merged Program, by its kind.
PROGRAM_FILES = {ProgramKind.PIR: "merged.json", ProgramKind.LEGACY: "merged.pdmodel"}
# Of the manifests of folders and of checkpoints.
SCHEMA = 1
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


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


def manifest_of(
    merged: Merged, names: Sequence[str], kind: ProgramKind, *, pairs: bool
) -> Manifest:
    """Describe all merges into a Program, without the digest.

    `names` lists its parameters in file order.
    """
    teacher_names = {new for earlier in merged.teachers for _, new in earlier.plan.weights}
    return Manifest(
        schema=SCHEMA,
        graphtool=version(),
        paddle=str(load_paddle().__version__),
        kind=kind,
        parameters=tuple(names),
        pairs=pairs,
        teachers=tuple(
            SavedTeacher(
                prefix=one.prefix,
                feed_map=dict(one.feed_map),
                names=dict(one.names),
                values=dict(one.values),
                teacher=_saved_network(one.source.graph),
                student=_saved_network(one.before.graph, one.network),
                shared=one.plan.shared,
                losses=_saved_losses(one),
            )
            for one in merged.teachers
        ),
        attributes={
            name: attributes
            for name, attributes in attributes_of(merged.program).items()
            if name not in teacher_names and attributes != ParameterAttributes()
        },
        digest="",
    )


def _saved_losses(merged: Merged) -> str | msgspec.UnsetType:
    teacher, student = merged.source.graph, merged.teachers[0].before.graph
    known = tuple(pair for pair in merged.losses if pair.student.name in student.values)
    losses = PairSet(
        teacher=replace(teacher, source=_file_name(teacher)),
        student=replace(student, source=_file_name(student)),
        pairs=known,
    )
    return recipe_text(losses) if known else msgspec.UNSET


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


def original_file(role: str, number: int, kind: ProgramKind) -> str:
    """Return the file of a network before a merge, relative to the folder."""
    return f"{ORIGINALS_FOLDER}/{role}-{number}{Path(PROGRAM_FILES[kind]).suffix}"


def _program_files(manifest: Manifest) -> list[str]:
    """List the files of the merged Program and of the networks before each merge."""
    numbers = range(len(manifest.teachers))
    originals = [
        original_file(role, number, manifest.kind)
        for number in numbers
        for role in ("teacher", "student")
    ]
    return [PROGRAM_FILES[manifest.kind], *originals]


def written_files(manifest: Manifest) -> frozenset[str]:
    """Return all files that were written with a manifest."""
    pairs = [PAIRS_FILE] if manifest.pairs else []
    return frozenset((MANIFEST_FILE, PARAMETERS_FILE, *pairs, *_program_files(manifest)))


def with_digest(folder: Path, manifest: Manifest, tensors: Iterable[Tensor]) -> Manifest:
    """Return a manifest with the digests of itself, of its program files and of its parameters."""
    return msgspec.structs.replace(
        manifest, digest=" ".join(_digests(folder, manifest, tensors).values())
    )


def _digests(folder: Path, manifest: Manifest, tensors: Iterable[Tensor] | None) -> dict[str, str]:
    """Return the digest of each file; that of the parameters only if its tensors are given."""
    found = {MANIFEST_FILE: digest((), (), head=undigested(manifest))}
    for file in _program_files(manifest):
        found[file] = digest((), (), head=file_in(folder, file).read_bytes())
    if tensors is not None:
        found[PARAMETERS_FILE] = digest(manifest.parameters, tensors)
    return found


def changed_files(
    folder: Path, manifest: Manifest, tensors: Sequence[Tensor] | None = None
) -> list[str]:
    """List the files that have changed since they were written; for parameters give `tensors`.

    Raises ReadError: GT613 for a missing file.
    """
    saved, now = manifest.digest.split(" "), _digests(folder, manifest, tensors)
    if len(saved) != len(now) + (tensors is None):
        return [MANIFEST_FILE]
    return [file for (file, one), before in zip(now.items(), saved, strict=False) if one != before]


def verified_tensors(folder: Path, manifest: Manifest) -> dict[str, Tensor]:
    """Read a folder's parameters by name, after checking all digests.

    Raises ReadError: GT240, GT613, GT618 if anything in the folder but its pairs has changed.
    """
    tensors = read_tensors(file_in(folder, PARAMETERS_FILE))
    named = named_tensors(manifest.parameters, tensors, partial(no_program, folder))
    files = changed_files(folder, manifest, tensors)
    if files:
        raise ReadError(changed_folder(str(folder), files))
    return named


def undigested(manifest: msgspec.Struct) -> bytes:
    """Return what the digest of a manifest covers: all of it but the digest."""
    return msgspec.json.encode(msgspec.structs.replace(manifest, digest=""))


def decode_manifest(data: bytes, kind: type[_Struct], refusal: Callable[..., ReadError]) -> _Struct:
    """Decode a manifest of a folder or checkpoint; raises `refusal(reason, help)`."""
    try:
        schema = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("schema")
        if schema is not None and bytes(schema) != str(SCHEMA).encode():
            reason = f"its `schema` is {bytes(schema).decode()}; this graphtool reads {SCHEMA}"
            raise refusal(reason, UPGRADE)
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refusal(f"its manifest: {error}") from None


def named_tensors(
    names: Sequence[str], tensors: Sequence[Tensor], refusal: Callable[..., ReadError]
) -> dict[str, Tensor]:
    """Return the tensors of a file by the names of its manifest; raises `refusal(reason)`."""
    if len({*names}) != len(tensors) or len(names) != len(tensors):
        raise refusal(f"it holds {len(tensors)} tensors, and its manifest names {len(names)}")
    return dict(zip(names, tensors, strict=True))


def missing_pairs_warnings(folder: Path, manifest: Manifest) -> Iterator[Diagnostic]:
    """Yield a warning if pairs were saved with the Program and their file is gone."""
    if manifest.pairs and not (folder / PAIRS_FILE).is_file():
        last = len(manifest.teachers) - 1
        networks = (("teacher", last), ("student", 0))
        files = [folder / original_file(*network, manifest.kind) for network in networks]
        originals = (path_argument(str(file)) for file in files)
        recipe = path_argument(str(folder / PAIRS_FILE))
        yield incomplete_folder(
            folder,
            f"the merged program was saved with pairs, and `{PAIRS_FILE}` is gone",
            help=shell_command("graphtool", "suggest-pairs", *originals, "-o", recipe),
            severity=Severity.WARNING,
        )


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises ReadError: GT001, GT613.
    """
    if not folder.exists():
        raise ReadError(reading.no_such_path(str(folder)))
    data = file_in(folder, MANIFEST_FILE).read_bytes()
    return decode_manifest(data, Manifest, partial(no_program, folder))


def file_in(folder: Path, file: str) -> Path:
    """Return the path of a file in the folder.

    Raises ReadError: GT613 for a missing file, or a link that leads out of the folder.
    """
    path = folder / file
    if not path.is_file():
        raise no_program(folder, f"it has no `{file}`")
    if folder.resolve() not in path.resolve().parents:
        raise no_program(folder, f"`{file}` leads out of it")
    return path


def restored_graph(folder: Path, graph: Graph, network: SavedNetwork) -> Graph:
    """Restore what the program file of a network does not keep.

    Raises ReadError: GT613 for names that the program does not have.
    """
    unknown = {*network.feeds, *network.fetches} - graph.values.keys()
    if unknown:
        raise no_program(folder, f"its manifest and programs differ in `{min(unknown)}`")
    values = dict(graph.values)
    # A picture is drawn of changed programs too.
    for name in network.annotations.keys() & values.keys():
        annotation = msgspec.structs.asdict(network.annotations[name])
        values[name] = replace(values[name], **annotation)
    for name in network.feeds:
        values[name] = replace(values[name], origin=Origin.FEED)
    return replace(
        graph,
        source=network.source,
        values=values,
        feeds=network.feeds,
        fetches=network.fetches,
    )


@rule("GT618")
def changed_folder(path: str, files: Sequence[str]) -> Diagnostic:
    """Files of a merged program are not as they were saved: they were edited, damaged or exchanged.

    Such a folder is not loaded; a picture of it is drawn, with a warning. Its `pairs.toml` may be
    edited. Merge again, or copy the folder again from where it is whole.
    """
    return Diagnostic(
        message=f"changed since the merged program was saved: {listed(files, 5)}",
        where=(Where(program=path),),
        help="graphtool merge TEACHER STUDENT -o DIR",
    )


@rule("GT613", replaces=("GT614", "GT637"))
def incomplete_folder(
    folder: Path, message: str, help: str, severity: Severity = Severity.ERROR
) -> Diagnostic:
    """The folder holds no merged program, or one that is damaged or of a newer version.

    `graphtool merge TEACHER STUDENT -o DIR` and `gt.save_merged` write one. If only the file of the
    pairs is missing, the folder loads, and a picture of it shows no pairs: put the file back, or
    have pairs suggested again.
    """
    where = (Where(program=str(folder)),)
    return Diagnostic(message=message, where=where, help=help, severity=severity)


def no_program(
    folder: Path, reason: str, help: str = "graphtool merge TEACHER STUDENT -o DIR"
) -> ReadError:
    """Return the error that a folder holds no merged program, for a reason."""
    message = f"the folder holds no merged program: {reason}"
    return ReadError(incomplete_folder(folder, message, help))
