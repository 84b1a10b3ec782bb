"""What a file holds never runs: parameters, samples, checkpoints, recipes and manifests."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import graphtool as gt
from graphtool.cli import main
from graphtool.diagnostics import GraphtoolError, PairError, ReadError
from graphtool.evidence.samples import check_samples, read_arrays
from graphtool.graph import Graph
from graphtool.merging.manifest import file_in
from graphtool.readers.files import find_parameters
from graphtool.readers.tensor_files import Tensor, read_tensors, write_tensors
from graphtool.readers.weights import persistable_values, read_weights
from graphtool.training.checkpoints import read_checkpoint
from tests.fuzzing import saved
from tests.hostile.names import legacy
from tests.refused import refused
from tests.security.payloads import MARKER, archives, arrays, pickles

# What Python's own reader says, and the library's that Python 3.10 reads TOML by.
_TOO_DEEP = (
    "maximum recursion depth exceeded"
    if sys.version_info >= (3, 11)
    else "TOML inline arrays/tables are nested more than the allowed 400 levels"
)

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
BIAS = "linear_0.b_0"


@pytest.fixture(autouse=True)
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the folder that a payload would make; none does."""
    planted = tmp_path / "planted"
    monkeypatch.setenv(MARKER, str(planted))
    monkeypatch.chdir(tmp_path)
    yield planted
    assert not planted.exists()
    assert not Path("x").exists()


@pytest.fixture(scope="module")
def graph() -> Graph:
    return gt.read(FIXTURES / "3.3.1" / "cnn.json")


def codes(act: Callable[[], object]) -> set[str]:
    with pytest.raises(GraphtoolError) as raised:
        act()
    return {found.code for found in raised.value.report}


def test_the_trap_works(planted: Path) -> None:
    pickle.loads(pickles()["reduce 4"])

    assert planted.is_dir()
    planted.rmdir()


def test_no_pickle_of_parameters_runs(tmp_path: Path, graph: Graph) -> None:
    found = {
        name: refusal(tmp_path / "net.pdparams", data, graph) for name, data in pickles().items()
    }

    assert {name for name, code in found.items() if code == "GT240"} >= {"reduce 0", "reduce 1"}
    assert {name for name, code in found.items() if code == "GT502"} >= {
        *(f"reduce {number}" for number in (2, 3, 4, 5)),
        *("stack global", "getattr", "eval", "function of numpy", "inside numpy"),
    }
    assert set(found.values()) == {"GT240", "GT502"}


def refusal(path: Path, data: bytes, graph: Graph) -> str:
    path.write_bytes(data)
    return refused(GraphtoolError, read_weights, path, graph).code


@pytest.mark.parametrize("ending", [".pdopt", ".pdiparams", ".pdparams"])
def test_a_pickle_is_told_by_its_content_whatever_its_name(
    tmp_path: Path, graph: Graph, ending: str
) -> None:
    assert refusal(tmp_path / f"net{ending}", pickles()["reduce 4"], graph) == "GT502"


def test_no_file_of_samples_runs_or_takes_the_memory_that_it_asks_for(tmp_path: Path) -> None:
    files = {f"{name}.npy": data for name, data in arrays().items()}
    files |= {f"{name}.npz": data for name, data in archives().items()}
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert codes(lambda path=path: read_arrays(path)) == {"GT370"}, name


def test_a_checkpoint_is_no_pickle(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    for name, data in pickles().items():
        path.write_bytes(data)
        assert codes(lambda: read_checkpoint(path)) == {"GT621"}, name


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir [x]\n",
        "--- !!python/object/new:os.mkdir\nargs: [x]\n",
        "Arch: {name: !!python/name:os.mkdir }\n",
        "%TAG ! tag:yaml.org,2002:python/\n---\n!module:os x\n",
        "import os; os.mkdir('x')\n",
    ],
)
def test_a_recipe_is_neither_yaml_nor_python(text: str, graph: Graph) -> None:
    with pytest.raises(PairError) as raised:
        gt.read_recipe(text, teacher=graph, student=graph)

    assert raised.value.report.errors[0].code == "GT310"


def test_what_a_recipe_names_is_never_imported(graph: Graph, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("import os\nos.mkdir('x')\n")
    recipe = """
        schema = 1
        teacher = {source = "evil:build", kind = "PIR"}
        student = {source = "../../etc/passwd"}
        [[pairs]]
        kind = "feature"
        loss = "l2"
        teacher.name = "evil:build"
        student.name = "evil:build"
    """
    with pytest.raises(PairError) as raised:
        gt.read_recipe(recipe, teacher=graph, student=graph)

    assert {found.code for found in raised.value.report} == {"GT101"}
    assert "evil" not in sys.modules


def test_a_command_runs_only_code_that_is_typed(tmp_path: Path, graph: Graph) -> None:
    (tmp_path / "evil.py").write_text("import os\nos.mkdir('x')\n")
    file = tmp_path / "evil:build"
    file.write_bytes((FIXTURES / "3.3.1" / "cnn.json").read_bytes())

    assert main(["inspect", "evil:build"]) == 0
    assert gt.read("evil:build").operators.keys() == graph.operators.keys()
    assert "evil" not in sys.modules


def with_variable(folder: Path, name: str) -> Graph:
    """Write a model in which the bias of the last layer has another name, and read it."""
    return gt.read(legacy(folder / "__model__", {BIAS: name}).parent)


@pytest.mark.parametrize("name", ["../secret", "{outside}/secret", "inner/../../secret", "link"])
def test_no_name_and_no_link_leads_out_of_a_folder_of_parameters(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    bias = Tensor(np.full(5, 7, "float32"), "float32")
    write_tensors(tmp_path / "secret", [bias])
    (folder / "link").symlink_to(tmp_path / "secret")
    graph = with_variable(folder, name.format(outside=tmp_path))
    for other, value in persistable_values(graph).items():
        if other.startswith(("conv", "batch", "linear")):
            write_tensors(
                folder / other, [Tensor(np.zeros(value.shape or (), "float32"), "float32")]
            )

    weights = read_weights(folder, graph)

    assert len(weights.tensors) == len(persistable_values(graph)) - 1
    assert find_parameters(folder / "__model__", list(persistable_values(graph))) is None
    (folder / "link").unlink()
    write_tensors(folder / BIAS, [bias])
    graph = with_variable(folder, BIAS)
    assert find_parameters(folder / "__model__", list(persistable_values(graph))) == folder


def test_a_name_that_is_too_long_for_a_file_is_the_name_of_none(tmp_path: Path) -> None:
    graph = with_variable(tmp_path, "x" * 5000)

    assert find_parameters(tmp_path / "__model__", list(persistable_values(graph))) is None
    assert codes(lambda: read_weights(tmp_path, graph)) == {"GT240"}


@pytest.mark.parametrize(
    ("link", "file"),
    [
        *((file, file) for file in ("manifest.json", "merged.json", "originals/teacher-0.json")),
        ("originals", "originals/teacher-0.json"),
    ],
)
def test_no_link_leads_out_of_a_merged_folder(tmp_path: Path, link: str, file: str) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "merged"
    for home in (outside, folder):
        (home / link).parent.mkdir(parents=True)
    secret = outside / file
    secret.parent.mkdir(exist_ok=True)
    secret.write_text('{"schema": 1, "password": "1234"}')
    (folder / link).symlink_to(outside / link)

    found = refused(ReadError, file_in, folder, Path(file))
    assert (found.code, found.message) == (
        "GT613",
        f"the folder holds no merged program: `{file}` leads out of it",
    )


def test_a_manifest_that_names_feeds_of_no_program_is_not_drawn(tmp_path: Path) -> None:
    (data,) = next(one for one in saved.SUBJECTS if one.name == "manifest").honest.values()
    (tmp_path / "originals").mkdir()
    for name in ("merged.json", "originals/teacher-0.json", "originals/student-0.json"):
        (tmp_path / name).write_bytes((FIXTURES / "3.3.1" / "cnn.json").read_bytes())
    manifest = json.loads(data)
    (tmp_path / "manifest.json").write_bytes(data)
    assert gt.render(tmp_path).dot
    manifest["teachers"][0]["student"]["feeds"] = ["layer"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))

    found = refused(ReadError, gt.render, tmp_path)
    assert found.code == "GT613"
    assert found.message.endswith("its manifest and programs differ in `layer`")


@pytest.mark.parametrize(
    "act",
    [
        lambda path, graph: read_weights(path, graph),
        lambda path, _: read_tensors(path),
        lambda path, graph: gt.read_recipe(path, teacher=graph, student=graph),
        lambda path, _: read_checkpoint(path),
        lambda path, _: check_samples(path),
        lambda path, _: gt.read(path),
    ],
)
def test_nothing_waits_for_a_pipe_or_reads_a_device_to_its_end(
    tmp_path: Path, graph: Graph, act: Callable[[Path, Graph], object]
) -> None:
    pipe = tmp_path / "pipe.npy"
    os.mkfifo(pipe)
    endless = tmp_path / "endless.npy"
    endless.symlink_to("/dev/zero")

    assert codes(lambda: act(pipe, graph)) == {"GT010"}
    assert codes(lambda: act(endless, graph)) == {"GT010"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a." * 60_000 + "a = 1", "a key has more than 100 parts"),
        ('"a".' * 60_000 + "a = 1", "a key has more than 100 parts"),
        ('x = """\n"""\ny = {' + "a." * 60_000 + "a = 1}", "a key has more than 100 parts"),
        ("schema = 0x" + "f" * 100_000, "a `schema` of another kind"),
        ("x = " + "[" * 100_000, _TOO_DEEP),
    ],
)
def test_a_recipe_takes_no_time_that_grows_with_its_square(
    text: str, reason: str, graph: Graph
) -> None:
    found = refused(PairError, gt.read_recipe, f"{text}\n", teacher=graph, student=graph)
    assert found.code == "GT310"
    assert reason in found.message


def test_dots_in_texts_and_comments_are_not_counted(graph: Graph) -> None:
    name = f"a'\"{'.' * 500}\\"
    text = f"# {'.' * 500}\nschema = 1\nteacher.source = {json.dumps(name)}\n"

    with pytest.raises(gt.GraphtoolError, match="GT367"):  # read, and without pairs
        gt.read_recipe(text, teacher=graph, student=graph)


@pytest.mark.nightly
def test_no_bomb_goes_off() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.security.payloads"], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout).values()) == {"diagnosed GT240", "diagnosed GT370"}
