"""Folders of merged programs and checkpoints: spoilt, sealed anew, and loaded by Paddle.

The seal is no secret: whoever writes a file can compute it. Paddle is imported and runs nothing
before workers are forked: `python -m tests.fuzzing.loaded FOLDER` writes what is spoilt.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from graphtool.diagnostics import GraphtoolError
from graphtool.merging import manifest as folder_seal
from graphtool.merging.folder import load_merged, save_merged
from graphtool.merging.manifest import read_manifest
from graphtool.readers.tensor_files import Tensor, read_tensors
from graphtool.training import checkpoints as checkpoint_file
from graphtool.training.checkpoints import load_checkpoint, save_checkpoint
from tests.fuzzing.cases import Limits, Mutator, Subject
from tests.fuzzing.json_edits import ANY_JSON, PIR_JSON
from tests.fuzzing.protobuf_edits import PROTOBUF
from tests.fuzzing.saved import inner
from tests.fuzzing.spoiling import BYTES

# Loading maps Paddle's own pools.
LIMITS = Limits(30.0, 1 << 30)


def _in_file(name: str, edit: Mutator) -> Mutator:
    """Make an edit of one file's bytes one of a folder, which is sealed anew."""

    def mutate(random: Random, data: bytes) -> bytes:
        files: dict[str, bytes] = pickle.loads(data)
        files[name] = edit(random, files[name])
        return pickle.dumps(_sealed(files))

    return mutate


def _sealed(files: dict[str, bytes]) -> dict[str, bytes]:
    with TemporaryDirectory() as home, suppress(GraphtoolError, ValueError):
        folder = _written(files, Path(home))
        tensors = read_tensors(folder / "merged.pdiparams")
        manifest = folder_seal.with_digest(folder, read_manifest(folder), tensors)
        return {**files, "manifest.json": msgspec.json.encode(manifest)}
    return files


def _written(files: dict[str, bytes], home: Path) -> Path:
    folder = home / "merged"
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def _load_folder(data: bytes, home: Path) -> None:
    import paddle

    folder = _written(pickle.loads(data), home)
    scope = paddle.static.Scope()
    try:
        merged = load_merged(folder, scope=scope)
    except GraphtoolError:
        assert scope.local_var_names() == []
        raise
    for name in list(merged.values)[:5]:
        merged.teacher(name)
    str(merged.report)


def _sealed_manifest(spelt: bytes, tensors: list[Tensor]) -> bytes:
    with suppress(msgspec.DecodeError, ValueError, RecursionError):
        manifest = msgspec.json.decode(spelt, type=checkpoint_file.Manifest)
        seal = checkpoint_file._manifest_digest(manifest, tensors)
        return msgspec.json.encode(msgspec.structs.replace(manifest, digest=seal))
    return spelt


def _training() -> tuple[Any, Any, Any]:
    import paddle
    from paddle import nn

    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        loss = nn.Linear(3, 2)(paddle.static.data("x", [-1, 3])).mean()
        rate = paddle.optimizer.lr.CosineAnnealingDecay(0.1, 10)
        optimizer = paddle.optimizer.Adam(rate)
        optimizer.minimize(loss)
    return main, startup, optimizer


def _random_state() -> str:
    import paddle

    return str([state.__getstate__() for state in paddle.get_rng_state()])


def _load_checkpoint(data: bytes, home: Path) -> None:
    import paddle

    path = home / "checkpoint"
    path.write_bytes(data)
    program, _, optimizer = _training()
    scope = paddle.static.Scope()
    random = _random_state()
    try:
        loaded = load_checkpoint(path, program, optimizer, scope=scope)
    except GraphtoolError:
        assert scope.local_var_names() == []
        assert random == _random_state()
        raise
    assert loaded.step >= 0
    str(loaded.report)
    # Numbers of the right kind may still be none that a cosine is taken of.
    with suppress(ArithmeticError, ValueError):
        optimizer._learning_rate.step()


def _write(home: Path) -> None:
    """Write what is spoilt; Paddle runs here."""
    import paddle

    from tests.merging import networks

    fc = paddle.static.nn.fc
    for kind, forward in (
        ("pir", networks.plain),
        ("legacy", lambda x: fc(fc(x, 8, activation="relu"), 4)),
    ):
        teacher, student = (networks.small(forward, feed, kind=kind) for feed in ("image", "data"))
        save_merged(networks.merge_built(teacher, student), home / kind)
    program, (startup, optimizer) = _training()
    paddle.static.Executor().run(startup)
    save_checkpoint(home / "checkpoint", program, optimizer, step=3)


def subjects() -> list[Subject]:
    """Write what is spoilt in another process, and import Paddle."""
    import paddle

    with TemporaryDirectory() as home:
        subprocess.run([sys.executable, "-m", __name__, home], check=True)
        folders = {
            kind: pickle.dumps(
                {
                    path.relative_to(Path(home, kind)).as_posix(): path.read_bytes()
                    for path in sorted(Path(home, kind).rglob("*"))
                    if path.is_file()
                }
            )
            for kind in ("pir", "legacy")
        }
        checkpoint = Path(home, "checkpoint").read_bytes()
    paddle.enable_static()
    manifest = {f"manifest-{name}": _in_file("manifest.json", e) for name, e in ANY_JSON.items()}
    tensors = {f"tensors-{name}": _in_file("merged.pdiparams", e) for name, e in BYTES.items()}
    found: list[Subject] = []
    kinds = ("pir", "json", {**ANY_JSON, **PIR_JSON}), ("legacy", "pdmodel", PROTOBUF)
    for kind, ending, edits in kinds:
        programs = {
            f"{role}-{name}": _in_file(f"{file}.{ending}", edit)
            for role, file in (("merged", "merged"), ("teacher", "originals/teacher-0"))
            for name, edit in edits.items()
        }
        mutators = {**manifest, **programs, **tensors}
        found.append(Subject(f"merged-{kind}", {"folder": folders[kind]}, mutators, _load_folder))
    edits = {**ANY_JSON, "flips": BYTES["flips"]}
    mutators = {name: inner(edit, _sealed_manifest) for name, edit in edits.items()}
    return [*found, Subject("checkpoint", {"file": checkpoint}, mutators, _load_checkpoint)]


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
