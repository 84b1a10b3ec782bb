"""Through every command and every function that reads files, a stranger's folder runs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import paddle
import pytest
from paddle import nn

from graphtool.merging.folder import save_merged
from graphtool.merging.manifest import read_manifest, with_digest
from graphtool.readers.tensor_files import read_tensors
from tests.merging import networks
from tests.security.payloads import MARKER, arrays, pickles

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
EVIL = "evil:build"


def saved(folder: Path) -> None:
    """Save a small network with its parameters as `good.json`."""
    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        image = paddle.static.data("image", [-1, 3, 8, 8])
        first = nn.ReLU()(nn.BatchNorm2D(4)(nn.Conv2D(3, 4, 3)(image)))
        second = nn.ReLU()(nn.BatchNorm2D(8)(nn.Conv2D(4, 8, 3, stride=2)(first)))
        logits = nn.Linear(8, 5)(second.mean([2, 3]))
    executor = paddle.static.Executor()
    executor.run(startup)
    paddle.static.save_inference_model(
        str(folder / "good"), [image], [logits], executor, program=main
    )


def spoilt(text: str, treasure: Path) -> str:
    """Let a program name files and modules wherever it has texts."""
    document = json.loads(text)
    for op in document["program"]["regions"][0]["blocks"][0]["ops"]:
        held: Any = op.get("A", [])
        for attribute in held if isinstance(held, list) else ():
            if isinstance(attribute, dict) and attribute.get("N") == "struct_name":
                attribute["AT"]["D"] = f"/{treasure}/../{EVIL}"
        if isinstance(held, list) and op["#"] != "p":
            stack = {"#": "0.a_str", "D": f'File "{treasure}", line 1, in {EVIL}'}
            held.append({"N": "op_callstack", "AT": {"#": "0.a_array", "D": [stack]}})
    return json.dumps(document)


def named(folder: Path) -> None:
    """Let the manifest name modules and files, and seal it anew."""
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["graphtool"] = manifest["paddle"] = EVIL
    for side in ("teacher", "student"):
        manifest["teachers"][0][side]["source"] = EVIL
        for noted in manifest["teachers"][0][side]["annotations"].values():
            noted["layer"] = "../../treasure"
    file.write_text(json.dumps(manifest))
    tensors = read_tensors(folder / "merged.pdiparams")
    file.write_bytes(msgspec.json.encode(with_digest(folder, read_manifest(folder), tensors)))


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(MARKER, str(tmp_path / "planted"))
    folder = tmp_path / "stranger"
    folder.mkdir()
    treasure = tmp_path / "treasure"
    (tmp_path / "treasure.json").write_text("{}")
    saved(folder)
    text = (folder / "good.json").read_text()
    (folder / "net.json").write_text(spoilt(text, treasure))
    (folder / "writer.json").write_text(text.replace("1.relu", "1.save_combine", 1))
    (folder / "net.pdparams").write_bytes(pickles()["reduce 4"])
    np.savez(folder / "samples.npz", image=np.array([None], dtype=object))
    (folder / "objects.npy").write_bytes(arrays()["objects"])
    (folder / "pairs.yml").write_text("!!python/object/apply:os.mkdir [planted]\n")
    (folder / "pairs.toml").write_text(
        f'schema = 1\nteacher.source = "{EVIL}"\n[[pairs]]\nkind = "feature"\nloss = "l2"\n'
        f'teacher.name = "{EVIL}"\nstudent.name = "{EVIL}"\n'
    )
    (folder / "evil.py").write_text("import os\nos.mkdir(os.environ['GRAPHTOOL_PLANTED'])\n")
    old = folder / "old"
    old.mkdir()
    (old / "__model__").write_bytes((FIXTURES / "2.6.2" / "cnn.pdmodel").read_bytes())
    treasure.write_bytes(bytes(12))
    (old / "linear_0.b_0").symlink_to(treasure)
    for name in ("linked", "named"):
        plain = networks.plain
        merged = networks.merge_built(networks.small(plain, "image"), networks.small(plain))
        save_merged(merged, folder / name)
    named(folder / "named")
    (folder / "linked" / "merged.json").unlink()
    (folder / "linked" / "merged.json").symlink_to(tmp_path / "treasure.json")
    return folder


@pytest.mark.nightly
def test_a_strangers_folder_runs_nothing_whatever_reads_it(stranger: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.security.watching"],
        cwd=stranger,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])

    assert found["asked"] == []
    assert found["ran"]
    assert (stranger.parent / "planted").is_dir()
    assert not (stranger / "out").exists()
    assert found["said"] == found["wanted"]
