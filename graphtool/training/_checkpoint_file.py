"""A checkpoint as a file: tensors as Paddle keeps them, the first of which spells a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec

from graphtool.diagnostics import ReadError
from graphtool.files import placed
from graphtool.readers import problems as reading
from graphtool.readers._kinds import check_kind
from graphtool.readers.tensors import Tensor, digest, read_tensors, write_tensors
from graphtool.training import checkpoint_problems as problems

__all__ = [
    "SCHEMA",
    "Contents",
    "Manifest",
    "Random",
    "SavedTeacher",
    "Schedule",
    "read_checkpoint",
    "write_checkpoint",
]

SCHEMA = 1
# Others are no numbers of NumPy's or Paddle's.
_Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Number: TypeAlias = bool | _Whole | float | str | None
# What schedules keep are numbers, and the state of a schedule inside another.
Schedule: TypeAlias = dict[str, _Number | dict[str, _Number]]


class Random(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state of a generator: its device, what seeded it, how far it is, and its engine."""

    device: int
    seed: int
    offset: int
    engine: str


class SavedTeacher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A teacher by reference: what it was called, and a digest of its weights."""

    source: str
    digest: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is no tensor. `keys` says what the tensors are; `digest` seals them and this.

    `rate` is the learning rate that the optimizer was given, where it was given a number.
    """

    schema: int
    graphtool: str
    paddle: str
    step: _Count
    keys: tuple[str, ...]
    optimizer: str
    schedule: str | None
    rate: float | None
    rates: Schedule
    random: tuple[Random, ...]
    teachers: tuple[SavedTeacher, ...]
    operators: dict[str, _Count]
    digest: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What a file holds: its manifest, and its tensors by key."""

    manifest: Manifest
    tensors: Mapping[str, Tensor]


def write_checkpoint(
    path: Path, manifest: Manifest, tensors: Callable[[], Iterable[Tensor]]
) -> None:
    """Write a checkpoint, whole or not at all; one that is there is replaced in one go.

    `tensors` gives them in the order of the keys, twice: to seal them, and to write them.

    Raises GraphtoolError: GT601.
    """
    import numpy as np

    sealed = msgspec.structs.replace(manifest, digest=_seal(manifest, tensors()))
    spelt = np.frombuffer(msgspec.json.encode(sealed), "uint8")
    with placed(path) as temporary:
        write_tensors(temporary, chain([Tensor(spelt, "uint8")], tensors()))


def _seal(manifest: Manifest, tensors: Iterable[Tensor]) -> str:
    bare = msgspec.structs.replace(manifest, digest="")
    return digest(manifest.keys, tensors, head=msgspec.json.encode(bare))


def read_checkpoint(path: Path) -> Contents:
    """Read a checkpoint.

    Raises ReadError: GT001, GT017, GT240, GT621, GT622.
    """
    name = str(path)
    check_kind(path)
    if not path.exists():
        raise ReadError(reading.no_such_path(name))
    if path.is_dir():
        raise ReadError(problems.not_a_checkpoint(name, "it is a folder"))
    first, *tensors = read_tensors(path) or (None,)
    if first is None or first.dtype != "uint8" or len(first.shape) != 1:
        raise ReadError(problems.not_a_checkpoint(name, "it does not start with a manifest"))
    manifest = _manifest(name, first.array.tobytes())
    if len(manifest.keys) != len(tensors) or len(set(manifest.keys)) != len(tensors):
        reason = f"it holds {len(tensors)} tensors, and its manifest names {len(manifest.keys)}"
        raise ReadError(problems.not_a_checkpoint(name, reason))
    if _seal(manifest, tensors) != manifest.digest:
        raise ReadError(problems.not_a_checkpoint(name, "it has changed since it was written"))
    return Contents(manifest, dict(zip(manifest.keys, tensors, strict=True)))


def _manifest(path: str, data: bytes) -> Manifest:
    try:
        schema = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("schema")
        if schema is not None and bytes(schema) != str(SCHEMA).encode():
            raise ReadError(problems.newer_checkpoint(path, bytes(schema).decode(), SCHEMA))
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReadError(problems.not_a_checkpoint(path, f"its manifest: {error}")) from None
