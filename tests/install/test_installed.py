"""What was built, installed where nothing else is, and used from there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.install.conftest import Built, Install, uv

pytestmark = pytest.mark.slow

all_ways = pytest.mark.skipif(
    "GRAPHTOOL_INSTALL" not in os.environ, reason="takes minutes: `nox -s install` runs it"
)


def facts(text: str) -> dict[str, str]:
    return {fact["name"]: fact["found"] for fact in json.loads(text)["facts"]}


def test_without_paddle_files_are_read_paired_checked_and_drawn(
    built: Built, install: Install, model: Path
) -> None:
    there = install(built.wheel)
    suggested = there.run("graphtool", "suggest-pairs", model, model, "-o", "pairs.toml")
    check = there.run("graphtool", "check", model, model, "--parameters", "later")
    drawn = there.run("graphtool", "render", model, model, "-o", "pairs.html")

    assert not there.distributions() & {"numpy", "paddlepaddle", "paddlepaddle-gpu"}
    assert there.run("graphtool", "--version").stdout == "graphtool 0.1.0\n"
    assert "449, and 24 running statistics" in there.run("graphtool", "inspect", model).stdout
    assert (suggested.returncode, (there.folder / "pairs.toml").exists()) == (0, True)
    assert check.returncode == 0, check.stderr
    assert (drawn.returncode, drawn.stderr) == (0, "wrote pairs.html: level block\n")


def test_without_paddle_doctor_is_content_and_code_is_refused_with_what_to_install(
    built: Built, install: Install
) -> None:
    there = install(built.wheel)
    doctor = there.run("graphtool", "doctor", "--json")
    live = there.run("graphtool", "inspect", "paddle.vision.models:resnet18", "--input", "3,64,64")

    assert doctor.returncode == 0
    assert facts(doctor.stdout)["Paddle"].startswith("not installed: ")
    assert live.returncode == 1
    assert live.stderr.startswith("error[GT030] no-paddle: ")
    assert live.stderr.endswith("  = help: pip install paddlepaddle\n")
    assert list(there.folder.iterdir()) == []


def test_a_paddle_of_another_name_will_do_and_none_is_brought_along(
    built: Built, install: Install, model: Path, this_paddle: Path, tmp_path: Path
) -> None:
    there = install(built.wheel, gpu_wheel(tmp_path, this_paddle))
    doctor = there.run("graphtool", "doctor", "--json")
    merged = there.run("graphtool", "merge", model, model, "-o", "merged", "--dry-run")

    assert "paddlepaddle-gpu" in there.distributions()
    assert "paddlepaddle" not in there.distributions()
    assert doctor.returncode == 0, doctor.stdout
    assert facts(doctor.stdout)["Paddle"] == "paddlepaddle-gpu 3.3.1"
    assert "GT030" not in merged.stderr


def gpu_wheel(folder: Path, paddle: Path) -> Path:
    """Write a wheel that is called `paddlepaddle-gpu`, and leads to another Paddle."""
    path = folder / "paddlepaddle_gpu-3.3.1-py3-none-any.whl"
    info = "paddlepaddle_gpu-3.3.1.dist-info"
    files = {
        "paddle_stand_in.pth": f"{paddle}\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: paddlepaddle-gpu\nVersion: 3.3.1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


@all_ways
def test_with_the_extra_paddle_networks_of_paddle_are_paired(
    built: Built, install: Install
) -> None:
    there = install(f"{built.wheel}[paddle]")
    networks = "paddle.vision.models:resnet18", "paddle.vision.models:mobilenet_v1"
    done = there.run("graphtool", "suggest-pairs", *networks, "--input", "3,64,64", "--json")

    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["pairs"]) == 8


@all_ways
@pytest.mark.parametrize("way", ["sdist", "editable"])
def test_other_ways_to_install_give_the_same(
    built: Built, install: Install, model: Path, way: str
) -> None:
    checkout = Path(__file__).parents[2]
    there = install(built.sdist) if way == "sdist" else install("--editable", checkout)

    assert there.run("graphtool", "doctor").returncode == 0
    assert there.run("graphtool", "suggest-pairs", model, model).returncode == 0


@all_ways
def test_as_a_tool_of_its_own(
    built: Built, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_TOOL_DIR", str(tmp_path / "tools"))
    monkeypatch.setenv("UV_TOOL_BIN_DIR", str(tmp_path / "bin"))
    uv("tool", "install", f"{built.wheel}[dot]")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    drawn = tmp_path / "model.svg"
    status = os.spawnlp(os.P_WAIT, "graphtool", "graphtool", "render", str(model), "-o", str(drawn))

    assert status == 0
    assert drawn.read_text().startswith("<?xml")
