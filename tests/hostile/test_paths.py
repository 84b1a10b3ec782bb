"""Models, recipes, pictures and folders at paths that are hard to write."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from graphtool.cli import main
from graphtool.matching import suggest_pairs
from graphtool.matching.recipe import read_recipe
from graphtool.sources import read
from tests.hostile.names import FIXTURES
from tests.hostile.test_names import is_harmless

Run = Callable[..., tuple[int, str, str]]

_FEW = {"quotes", "new line", "dash", "bytes"}
PATHS = {
    "blanks": "a  b ",
    "quotes": 'it\'s "x"',
    "not ASCII": "模型-é",
    "decomposed": "mode\u0300le",
    "new line": "a\nb",
    "dash": "-v",
    "option": "--help",
    "home": "~",
    "expansion": "$(touch evil)`touch evil`$HOME",
    "escape": "\x1b]0;x\x07",
    "bidi": "\u202egnp",
    "backslash": "a\\x1bb\\",
    "comment": "#c",
    "glob": "*[a]?",
    "equals": "=a=b",
    "colon": "a:b",
    "long": "x" * 240,
    "bytes": "\udcff\udc80",
}


each_path = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, id=key, marks=() if key in _FEW else pytest.mark.nightly)
        for key, name in PATHS.items()
    ],
)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*argv: str) -> tuple[int, str, str]:
        status = main(list(argv))
        captured = capsys.readouterr()
        assert is_harmless(captured.out)
        assert is_harmless(captured.err)
        return status, captured.out, captured.err

    return call


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(line: str) -> list[str]:
    """Return the words that a shell makes of a help."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    script = f"set -- {line}\nprintf '%s\\0' \"$@\""
    said = subprocess.run([bash], input=script.encode(), capture_output=True, check=True).stdout
    return os.fsdecode(said).split("\0")[:-1]


def follow(run: Run, err: str) -> str:
    """Type the one help of an error; return the program, which found nothing to complain of."""
    (line,) = (part[10:] for part in err.splitlines() if part.startswith("  = help: "))
    program, *rest = typed(line)
    if program == "graphtool":
        assert run(*rest)[0] == 0, line
    else:
        subprocess.run([program, *rest], capture_output=True, check=True)
    return program


def model(name: str) -> str:
    """Copy the small network into the working directory, under a name."""
    shutil.copy(FIXTURES / "3.3.1" / "cnn.json", f"./{name}.json")
    return f"{name}.json"


@each_path
def test_any_path_is_read_from_and_written_to(run: Run, here: Path, name: str) -> None:
    path, recipe, picture = f"./{model(name)}", f"{name}.toml", f"{name}.dot"

    assert run("inspect", "--", f"{name}.json")[0] == 0
    assert run("suggest-pairs", path, path, f"--output={recipe}")[0] == 0
    assert run("render", path, path, f"--pairs={recipe}", f"--output={picture}")[0] == 0
    assert run("check", path, path, "--parameters", "later")[0] in (0, 1)
    graph = read(path)
    recipe_pairs = read_recipe(Path(recipe), teacher=graph, student=graph).pairs
    assert len(recipe_pairs) == len(suggest_pairs(graph, graph))
    assert Path(picture).read_text("utf-8").startswith("digraph")
    assert sorted(found.name for found in here.iterdir()) == sorted([path[2:], recipe, picture])


@each_path
@pytest.mark.nightly
def test_what_helps_say_can_be_typed(run: Run, here: Path, name: str) -> None:
    path, folder = f"./{model(name)}", f"./{name}"
    Path(folder).mkdir()
    missing, beyond = f"{folder}/none.json", f"{folder}/sub/sub/x"
    followed = [
        follow(run, run(*argv)[2])
        for argv in (
            ("inspect", missing),
            ("inspect", f"{beyond}.json"),
            ("inspect", path, "--name", "nothing"),
            ("suggest-pairs", path, path, "--for", "nothing"),
            ("suggest-pairs", path, path, f"--output={beyond}.toml"),
            ("render", path, f"--output={folder}/other/x.dot"),
            ("render", path, path, f"--pairs={beyond}.toml", "-o", "x.dot"),
        )
    ]

    assert followed == ["ls", "ls", "graphtool", "graphtool", "mkdir", "mkdir", "ls"]
    assert {path.name for path in Path(folder).iterdir()} == {"sub", "other"}
    assert sorted(path.name for path in here.iterdir()) == sorted([name, f"{name}.json"])


@pytest.mark.usefixtures("here")
def test_a_file_that_looks_like_an_option_is_told(run: Run) -> None:
    path = model("-v")
    status, out, err = run("inspect", path)

    assert (status, out) == (2, "")
    assert err == (
        "error[GT600] wrong-usage: the following arguments are required: MODEL\n"
        "  = note: `-v.json` is a file here, and was taken for an option: `./-v.json`\n"
        "  = help: graphtool inspect --help\n"
    )
