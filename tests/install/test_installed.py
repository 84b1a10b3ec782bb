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


def findings(text: str) -> dict[str, tuple[str, str]]:
    return {
        found["name"]: (found["state"], found["found"]) for found in json.loads(text)["findings"]
    }


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
    demo = there.run("graphtool", "demo")

    assert doctor.returncode == 0
    assert findings(doctor.stdout)["Paddle"][0] == "missing"
    assert findings(doctor.stdout)["self-test"][1].startswith("5 pairs in a saved model; ")
    for done in (live, demo):
        assert done.returncode == 1
        assert done.stderr.startswith("error[GT030] no-paddle: ")
        assert done.stderr.endswith("  = help: pip install paddlepaddle\n")
    assert list(there.folder.iterdir()) == []


def test_a_paddle_of_another_name_will_do_and_none_is_brought_along(
    built: Built, install: Install, this_paddle: Path, tmp_path: Path
) -> None:
    there = install(built.wheel, gpu_wheel(tmp_path, this_paddle))
    doctor = there.run("graphtool", "doctor", "--json")

    assert "paddlepaddle-gpu" in there.distributions()
    assert "paddlepaddle" not in there.distributions()
    assert doctor.returncode == 0, doctor.stdout
    assert findings(doctor.stdout)["Paddle"][0] == "ok"
    assert "14 of 14 Values and weights bit-equal" in findings(doctor.stdout)["self-test"][1]


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
def test_with_the_extra_paddle_the_demonstration_runs(built: Built, install: Install) -> None:
    there = install(f"{built.wheel}[paddle]")
    demo = there.run("graphtool", "demo")

    assert demo.returncode == 0, demo.stderr
    assert "bit-equal" in demo.stdout
    assert (there.folder / "graphtool-demo" / "distilled.pdparams").exists()


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
