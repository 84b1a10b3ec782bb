"""What graphtool saves, and samples: merged folders, checkpoints, `.npy` and `.npz`."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import msgspec
import numpy as np

import graphtool as gt
from graphtool.backend.generators import GeneratorState as RandomState
from graphtool.evidence.samples import check_samples, read_arrays
from graphtool.graph import ProgramKind
from graphtool.merging.manifest import Annotation, Manifest, SavedNetwork, SavedTeacher
from graphtool.readers.tensor_files import Tensor, read_tensors, write_tensors
from graphtool.rendering.scenes import subject_of
from graphtool.training.checkpoints import Manifest as CheckpointManifest
from graphtool.training.checkpoints import SavedTeacher as CheckpointTeacher
from graphtool.training.checkpoints import read_checkpoint, write_checkpoint
from tests.fuzzing.cases import Mutator, Subject
from tests.fuzzing.json_edits import ANY_JSON
from tests.fuzzing.models import FIXTURES, all_of, command
from tests.fuzzing.spoiling import BYTES, number, text
from tests.security.payloads import header

_PROGRAM = FIXTURES / "3.3.1" / "cnn.json"
_GRAPH = gt.read(_PROGRAM)


def _manifest() -> bytes:
    """Write a manifest for a folder that has one program in the place of all three."""
    names = {name: name for name in _GRAPH.values}
    noted = {name: Annotation(("old",), "layer", ("layer.out",)) for name in list(names)[:3]}
    network = SavedNetwork("cnn.json", _GRAPH.feeds, _GRAPH.fetches, noted)
    teacher = SavedTeacher(
        prefix="",
        feed_map={name: name for name in _GRAPH.feeds},
        names={},
        values=names,
        teacher=network,
        student=network,
    )
    manifest = Manifest(
        schema=1,
        graphtool="0.1.0",
        paddle="3.3.1",
        kind=ProgramKind.PIR,
        parameters=(),
        pairs=False,
        teachers=(teacher,),
        digest="",
    )
    return msgspec.json.encode(manifest)


def _with_manifest(data: bytes, folder: Path) -> None:
    merged = folder / "merged"
    (merged / "originals").mkdir(parents=True)
    program = _PROGRAM.read_bytes()
    for name in ("merged.json", "originals/teacher-0.json", "originals/student-0.json"):
        (merged / name).write_bytes(program)
    (merged / "manifest.json").write_bytes(data)
    all_of(
        lambda: subject_of(merged),
        lambda: gt.render(merged),
        lambda: command("render", str(merged), "-o", "drawn.html"),
    )


MANIFEST = CheckpointManifest(
    schema=1,
    graphtool="0.1.0",
    paddle="3.3.1",
    step=3,
    keys=("linear_0.w_0", "linear_0.w_0:moment1", ":learning_rate"),
    optimizer="Adam",
    schedule="StepDecay",
    rate=None,
    rates={"last_epoch": 3, "last_lr": 0.1},
    random=(RandomState(-1, 1, 2, "1 2 3"),),
    teachers=(CheckpointTeacher("teacher.json", "0" * 32),),
    operators={"pd_op.matmul": 2},
)


def _checkpoint() -> bytes:
    arrays = np.ones((3, 2), "float32"), np.zeros((3, 2), "float32"), np.array([0.1], "float32")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        write_checkpoint(path, MANIFEST, lambda: [Tensor(one, "float32") for one in arrays])
        return path.read_bytes()


def inner(edit: Mutator, seal: Callable[[bytes, list[Tensor]], bytes] | None = None) -> Mutator:
    """Make an edit of JSON one of a checkpoint's manifest, which is its first tensor."""

    def mutate(random: Random, data: bytes) -> bytes:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint"
            path.write_bytes(data)
            manifest, *tensors = read_tensors(path)
            spelt = edit(random, manifest.array.tobytes())
            if seal is not None:
                spelt = seal(spelt, tensors)
            write_tensors(path, [Tensor(np.frombuffer(spelt, "uint8"), "uint8"), *tensors])
            return path.read_bytes()

    return mutate


def _with_checkpoint(data: bytes, folder: Path) -> None:
    path = folder / "checkpoint"
    path.write_bytes(data)
    read_checkpoint(path)


def _arrays() -> dict[str, bytes]:
    def written(save: Callable[..., None], *given: object, **named: object) -> bytes:
        buffer = io.BytesIO()
        save(buffer, *given, **named)
        return buffer.getvalue()

    images = np.arange(96, dtype="float32").reshape(8, 3, 2, 2)
    several = {"image": images, "label": np.arange(8), "names": np.array(["a"] * 8)}
    return {
        "float.npy": written(np.save, images),
        "columns.npy": written(np.save, np.asfortranarray(images.astype(">i2"))),
        "plain.npz": written(np.savez, **several),
        "packed.npz": written(np.savez_compressed, **several),
    }


_DTYPES = (
    *("'<f4'", "'|O'", "'<U9'", "'|V8'", "[('a', '<f4')]"),
    *("'f4'", "'<f16'", "'<M8[s]'", "'<f4,<f4'"),
)


def _header(random: Random, data: bytes) -> bytes:
    """Put a header that may say anything before data, alone or as the member of an archive."""
    dims = ", ".join(
        str(random.choice((1, 4, 8, number(random)))) for _ in range(random.randrange(4))
    )
    shape = random.choice((f"({dims})", f"({dims},)", dims, text(random)[:9000], "(" * 3000))
    array = header(random.choice(_DTYPES), shape[:9000], data[:200]) if shape.isascii() else data
    if not data.startswith(b"PK"):
        return array
    buffer = io.BytesIO()
    way = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    members = {"image.npy": array, random.choice(("label.npy", "image.npy", "x")): data}
    with zipfile.ZipFile(buffer, "w", way) as archive:
        for name, held in members.items():
            archive.writestr(name, held)
    return buffer.getvalue()


def _fields(random: Random, data: bytes) -> bytes:
    """Overwrite a field of an archive's directory, or of whatever there is."""
    at = data.rfind(random.choice((b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"NUMPY")))
    at = max(at, 0) + random.randrange(4, 46)
    return data[:at] + struct.pack("<I", number(random) & (2**32 - 1)) + data[at + 4 :]


def _with_samples(data: bytes, folder: Path) -> None:
    path = folder / ("x.npz" if data.startswith(b"PK") else "x.npy")
    path.write_bytes(data)
    check_samples(path)
    for array in read_arrays(path).values():
        assert array.dtype.kind in "biufc"
        array.tobytes()


_CHECKPOINT: dict[str, Mutator] = {
    **BYTES,
    **{name: inner(edit) for name, edit in ANY_JSON.items()},
    "manifest": inner(BYTES["flips"]),
}
_SAMPLES: dict[str, Mutator] = {**BYTES, "header": _header, "fields": _fields}
SUBJECTS = (
    Subject("manifest", {"manifest.json": _manifest()}, {**BYTES, **ANY_JSON}, _with_manifest),
    Subject("checkpoint", {"checkpoint": _checkpoint()}, _CHECKPOINT, _with_checkpoint),
    Subject("samples", _arrays(), _SAMPLES, _with_samples),
)
