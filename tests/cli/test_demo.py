"""`graphtool demo`, and the examples of every help in the folder that it makes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paddle
import pytest

from graphtool import demo
from graphtool.cli import _manual

Run = Callable[..., Any]
Done = subprocess.CompletedProcess[str]

EXAMPLES = [
    line
    for name in _manual.__all__
    for line in re.findall(r"^  ((?:graphtool|eval) .*)$", getattr(_manual, name), re.M)
]
# `python -m graphtool`, as what is on the path may be of another environment.
TOOL = f'graphtool() {{ "{sys.executable}" -m graphtool "$@"; }}'


def shell(line: str, folder: Path) -> Done:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{TOOL}\n{line}"],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the command was typed; what it printed is in `said`."""
    folder = tmp_path_factory.mktemp("home")
    done = shell("graphtool demo", folder)
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "said").write_text(done.stdout)
    return folder


@pytest.mark.slow
def test_each_step_says_what_it_does_what_to_type_and_what_came_out(home: Path) -> None:
    said = (home / "said").read_text()
    typed = re.findall(r"^  (?:\$|>>>) (.*)$", said, re.MULTILINE)

    assert [line.split()[1] for line in typed if line.startswith("graphtool")] == [
        *("suggest-pairs", "render", "check", "merge", "render")
    ]
    assert "nothing stands against it" in said
    assert re.search(r"(\d+) of \1 Values and (\d+) of \2 weights are bit-equal", said)
    assert re.findall(r"^step +(\d+):", said, re.MULTILINE) == ["1", "2", "20", "1", "2", "3"]
    made = {path.name for path in (home / "graphtool-demo").iterdir()} - {"__pycache__"}
    assert made == {
        *(
            f"{name}.{kind}"
            for name in ("teacher", "student", "distilled")
            for kind in (demo.ENDING, "pdiparams", "pdparams", "graphtool")
        ),
        *("demo.py", "samples.npz", "pairs.toml", "pairs.html", "pairs.svg", "merged"),
    }


@pytest.mark.nightly
def test_the_script_that_is_left_is_what_ran_and_gives_the_same_again(home: Path) -> None:
    script = home / "graphtool-demo" / "demo.py"
    before = (script.parent / "distilled.pdiparams").read_bytes()
    done = shell(f"{sys.executable} graphtool-demo/demo.py", home)
    said = (home / "said").read_text()

    assert script.read_bytes() == Path(demo.__file__).read_bytes()
    assert done.returncode == 0, done.stderr
    assert said.startswith(done.stdout)
    assert (script.parent / "distilled.pdiparams").read_bytes() == before


@pytest.mark.slow
@pytest.mark.pir
@pytest.mark.parametrize("line", [line for line in EXAMPLES if "demo" not in line.split()])
def test_every_example_of_a_help_runs(
    line: str, home: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(home / "graphtool-demo", tmp_path / "copy")
    if line.endswith("-o pairs.toml"):
        (folder / "pairs.toml").unlink()
    if re.search(r"[|>$]", line):
        done = shell(line, folder)
        status, said = done.returncode, done.stderr
    else:
        monkeypatch.chdir(folder)
        done = run(*shlex.split(line)[1:])
        status, said = done.status, done.err

    assert (status, "error[" in said) == (0, False), said


def test_every_help_has_examples() -> None:
    commands = {line.split()[1] for line in EXAMPLES}

    assert commands >= {
        *("inspect", "suggest-pairs", "check", "merge", "render"),
        *("doctor", "demo", "completion", "explain"),
    }


def test_a_folder_with_other_things_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    result = run("demo", tmp_path)

    assert (result.status, result.out) == (2, "")
    assert result.err == (
        f"error[GT604] exists-already: `{tmp_path}` is not empty: it holds `mine`\n"
        f"  = help: graphtool demo {tmp_path}-2\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("folder", ["", ".", "./inner/.."])
def test_the_folder_that_it_is_typed_in_is_left_alone(
    folder: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "inner").mkdir(parents=True)
    monkeypatch.chdir(home)

    assert run("demo", folder).err == (
        f"error[GT604] exists-already: `{folder}` is not empty: it holds `inner`\n"
        f"  = help: graphtool demo {home}-2\n"
    )


def test_an_earlier_demonstration_is_run_again_by_its_script(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "demo.py").touch()
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    by_name = run("demo", tmp_path).err
    # As a tool of its own has it, whose Python is not on the path.
    monkeypatch.setenv("PATH", str(tmp_path))
    by_path = run("demo", tmp_path).err

    assert by_name.endswith(f"  = help: python {tmp_path}/demo.py\n")
    assert by_path.endswith(f"  = help: {sys.executable} {tmp_path}/demo.py\n")


def test_a_folder_that_cannot_be_made_is_a_diagnostic(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    inside = run("demo", tmp_path / "file" / "folder")
    itself = run("demo", tmp_path / "file")

    assert (inside.status, itself.status) == (1, 1)
    assert inside.err.startswith("error[GT601] unwritable-output: ")
    assert itself.err.startswith("error[GT601] unwritable-output: ")


@pytest.mark.slow
def test_json_lists_what_was_written(tmp_path: Path) -> None:
    done = shell("graphtool demo somewhere/else --format json", tmp_path)
    found = json.loads(done.stdout)

    assert (done.returncode, found["schema"], found["folder"]) == (0, 1, "somewhere/else")
    assert "distilled.pdparams" in found["written"]
    assert "Merge the two." in done.stderr


def test_a_batch_has_the_shapes_that_its_docstring_says() -> None:
    found = demo.batch(demo.np.random.RandomState(0))

    assert {name: (array.shape, array.dtype.name) for name, array in found.items()} == {
        "image": ((16, 3, 32, 32), "float32"),
        "label": ((16, 1), "int64"),
    }
    assert paddle.in_dynamic_mode()
