"""The checkpoint file format: a tensor file whose first tensor is a JSON manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec

from graphtool.backend.generators import GeneratorState
from graphtool.diagnostics import ReadError
from graphtool.files import atomic_write
from graphtool.readers import problems as reading
from graphtool.readers.files import check_not_special
from graphtool.readers.tensor_files import Tensor, digest, read_tensors, write_tensors
from graphtool.training import checkpoint_problems as problems
from graphtool.version import UPGRADE

__all__ = [
    "SCHEMA",
    "CheckpointContents",
    "Manifest",
    "SavedTeacher",
    "SchedulerState",
    "read_checkpoint",
    "write_checkpoint",
]

SCHEMA = 1
# Larger integers overflow in NumPy and Paddle.
_Int64: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Scalar: TypeAlias = bool | _Int64 | float | str | None
# A learning rate scheduler keeps scalars, and the state of a scheduler that it wraps.
SchedulerState: TypeAlias = dict[str, _Scalar | dict[str, _Scalar]]


class SavedTeacher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A merged teacher by reference: the name of its source, and a digest of its weights."""

    source: str
    digest: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything in a checkpoint except the tensors.

    `keys` names the tensors in file order. `digest` covers the tensors and the rest of the
    manifest. `rate` is the optimizer's learning rate if it is a number, not a scheduler.
    """

    schema: int
    graphtool: str
    paddle: str
    step: _Count
    keys: tuple[str, ...]
    optimizer: str
    schedule: str | None
    rate: float | None
    rates: SchedulerState
    random: tuple[GeneratorState, ...]
    teachers: tuple[SavedTeacher, ...]
    operators: dict[str, _Count]
    digest: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class CheckpointContents:
    """A checkpoint's manifest, and its tensors by key."""

    manifest: Manifest
    tensors: Mapping[str, Tensor]


def write_checkpoint(
    path: Path, manifest: Manifest, tensors: Callable[[], Iterable[Tensor]]
) -> None:
    """Write a checkpoint atomically, replacing an existing one.

    `tensors` yields them in the order of the keys. It is called twice: for the digest, then to
    write them.

    Raises GraphtoolError: GT601.
    """
    import numpy as np

    manifest = msgspec.structs.replace(manifest, digest=_manifest_digest(manifest, tensors()))
    encoded = np.frombuffer(msgspec.json.encode(manifest), "uint8")
    with atomic_write(path) as temporary:
        write_tensors(temporary, chain([Tensor(encoded, "uint8")], tensors()))


def _manifest_digest(manifest: Manifest, tensors: Iterable[Tensor]) -> str:
    """Return the digest of the tensors and of the manifest without its own digest."""
    undigested = msgspec.structs.replace(manifest, digest="")
    return digest(manifest.keys, tensors, head=msgspec.json.encode(undigested))


def read_checkpoint(path: Path) -> CheckpointContents:
    """Read a checkpoint and verify its digest.

    Raises ReadError: GT001, GT010, GT240, GT621.
    """
    name = str(path)
    check_not_special(path)
    if not path.exists():
        raise ReadError(reading.no_such_path(name))
    if path.is_dir():
        raise ReadError(problems.not_a_checkpoint(name, "it is a folder"))
    first, *tensors = read_tensors(path) or (None,)
    if first is None or first.dtype != "uint8" or len(first.shape) != 1:
        raise ReadError(problems.not_a_checkpoint(name, "it does not start with a manifest"))
    manifest = _decode_manifest(name, first.array.tobytes())
    if len(manifest.keys) != len(tensors) or len(set(manifest.keys)) != len(tensors):
        reason = f"it holds {len(tensors)} tensors, and its manifest names {len(manifest.keys)}"
        raise ReadError(problems.not_a_checkpoint(name, reason))
    if _manifest_digest(manifest, tensors) != manifest.digest:
        raise ReadError(problems.not_a_checkpoint(name, "it has changed since it was written"))
    return CheckpointContents(manifest, dict(zip(manifest.keys, tensors, strict=True)))


def _decode_manifest(path: str, data: bytes) -> Manifest:
    try:
        schema = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("schema")
        if schema is not None and bytes(schema) != str(SCHEMA).encode():
            reason = f"its `schema` is {bytes(schema).decode()}; this graphtool reads {SCHEMA}"
            raise ReadError(problems.not_a_checkpoint(path, reason, UPGRADE))
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReadError(problems.not_a_checkpoint(path, f"its manifest: {error}")) from None
