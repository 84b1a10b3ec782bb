"""`export_student`: the student alone, as if it had never been merged."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

import graphtool as gt
from graphtool.backend.layer_weights import copy_layer_tensors
from tests.merging.networks import Built, build, run
from tests.training import legacy
from tests.training.networks import FEED, IMAGE, Distilled, Half, Net, Recurrent, Teacher


def student() -> Any:
    return gt.from_layer(Net, [IMAGE], train=True)


@pytest.fixture(scope="module")
def distilled() -> Distilled:
    return Distilled(student())


@pytest.fixture(scope="module")
def exported(distilled: Distilled, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("exported")
    return folder, gt.export_student(distilled.merged, folder / "student")


@pytest.mark.pir
def test_it_writes_a_model_with_its_state_dict_and_nothing_of_the_teacher(exported: Any) -> None:
    folder, found = exported

    assert sorted(path.name for path in folder.iterdir()) == [
        "student.graphtool",
        *_names("student"),
    ]
    assert set(found.files) == set(folder.iterdir()) - {folder / "student.graphtool"}
    assert (found.feeds, len(found.fetches), len(found.report)) == (("image",), 1, 0)
    assert str(found).splitlines()[-1] == f"image -> {found.fetches[0]}"
    graph = gt.read(folder / "student.json")
    operators = graph.operators.values()
    kinds = [operator.kind for operator in operators]
    assert not {"adam", "square", "mse_loss", "subtract", "squared_l2_norm"}.intersection(kinds)
    assert not [kind for kind in kinds if kind.endswith("_grad")]
    assert kinds.count("conv2d") == 1
    assert not [name for name in graph.values if name.startswith("teacher_")]
    modes = [op.attributes["is_test"] for op in operators if "is_test" in op.attributes]
    assert modes == [True] * 7


@pytest.mark.pir
@pytest.mark.slow
def test_the_files_are_those_that_paddle_writes_of_a_student_never_merged(tmp_path: Path) -> None:
    distilled = Distilled(gt.from_layer(legacy.Student, [IMAGE], train=True))
    found = gt.export_student(distilled.merged, tmp_path / "student")
    alone, scope = gt.from_layer(legacy.Student, [IMAGE], train=True), paddle.static.Scope()
    gt.load_parameters(alone, tmp_path / "student.pdparams", scope=scope)
    paddle.enable_static()
    with paddle.static.scope_guard(scope):
        feeds, fetches = ([alone.live.value(*names)] for names in (alone.feeds, alone.fetches))
        executor = paddle.static.Executor()
        paddle.static.save_inference_model(
            str(tmp_path / "alone"), feeds, fetches, executor, program=alone.program
        )
    paddle.disable_static()
    with paddle.utils.unique_name.guard():
        layer = legacy.Student()
    layer.set_state_dict(paddle.load(str(tmp_path / "student.pdparams")))
    paddle.save(layer.state_dict(), str(tmp_path / "alone.pdparams"))

    ours = [_uncounted(file) for file in found.files]
    assert ours == [_uncounted(tmp_path / f"alone{file.suffix}") for file in found.files]


def _uncounted(file: Path) -> bytes:
    """Read a file without the root's counter, which grows with every network of a process."""
    return re.sub(rb"/Student(_\d+)?/", b"/Student/", file.read_bytes())


@pytest.mark.slow
def test_a_fresh_process_loads_it_with_paddle_alone_and_gets_the_same_bytes(
    exported: Any, distilled: Distilled, tmp_path: Path
) -> None:
    folder, _ = exported
    paddle.enable_static()
    np.save(tmp_path / "image.npy", FEED["image"])
    script = f"""
import numpy, paddle
paddle.enable_static()
executor = paddle.static.Executor(paddle.CPUPlace())
program, feeds, fetches = paddle.static.load_inference_model({str(folder / "student")!r}, executor)
image = numpy.load({str(tmp_path / "image.npy")!r})
numpy.save({str(tmp_path / "out.npy")!r}, executor.run(program, {{feeds[0]: image}}, fetches)[0])
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)

    want = distilled.outputs()
    assert np.load(tmp_path / "out.npy").tobytes() == want.tobytes()
    assert want.std() > 0


@pytest.mark.pir
def test_the_layer_goes_on_in_dynamic_mode_with_the_same_bytes(
    exported: Any, distilled: Distilled
) -> None:
    folder, _ = exported
    paddle.enable_static()
    want = distilled.outputs()
    paddle.disable_static()
    layer = Net()
    missing, unexpected = layer.set_state_dict(paddle.load(str(folder / "student.pdparams")))
    layer.eval()

    assert (missing, unexpected) == ([], [])
    assert layer(paddle.to_tensor(FEED["image"])).numpy().tobytes() == want.tobytes()


@pytest.mark.slow
def test_before_minimize_it_writes_the_same(tmp_path: Path) -> None:
    distilled = Distilled(student(), train=False)
    merged, pupil = distilled.merged, distilled.student
    gt.export_student(merged.program, tmp_path / "before")
    with paddle.static.program_guard(merged.program, pupil.startup):
        loss = F.mse_loss(merged.student(pupil.fetches[0]), merged.teacher("add_1"))
        paddle.optimizer.SGD(0.1).minimize(loss)
    gt.export_student(merged.program, tmp_path / "after")

    for before, after in zip(_names("before"), _names("after"), strict=True):
        assert (tmp_path / before).read_bytes() == (tmp_path / after).read_bytes()


def plain() -> Built:
    """Build a student Program with a label, a loss and an accuracy, as scripts do."""

    def network(image: Any, label: Any) -> tuple[Any, Any]:
        hidden = F.relu(nn.BatchNorm2D(4)(nn.Conv2D(3, 4, 3)(image)))
        logits = nn.Linear(4, 5)(hidden.mean([2, 3]))
        nn.Linear(4, 5)(F.relu(hidden.mean([2, 3])))
        paddle.static.accuracy(F.softmax(logits), label)
        return logits, F.cross_entropy(logits, label).mean()

    feeds = ("image", [-1, 3, 8, 8], "float32"), ("label", [-1, 1], "int64")
    return build(network, *feeds, names="pupil_")


def taught(student: Built) -> gt.Merged:
    teacher = gt.from_layer(Teacher, [IMAGE], train=False)
    paddle.enable_static()
    run(teacher.startup, student.scope, {})
    return gt.merge(teacher, student.program, {"image": "image"}, scope=student.scope)


def test_of_a_plain_program_outputs_are_found_or_asked_for(tmp_path: Path) -> None:
    student = plain()
    merged, (logits, loss) = taught(student), student.output

    with pytest.warns(UserWarning, match="GT631"):
        found = gt.export_student(merged, tmp_path / "found")
    values = merged.before.graph.values
    assert [values[name].shape for name in found.fetches] == [(-1, 5), (-1, 5)]
    assert (found.feeds, [said.code for said in found.report]) == (("image",), ["GT631"])
    labelled = gt.export_student(merged, tmp_path / "loss", fetch=[loss])
    assert labelled.feeds == ("image", "label")
    asked = gt.export_student(merged, tmp_path / "student", fetch=[logits])
    assert asked.report.diagnostics == ()
    parameters = list(gt.read(next(iter(asked.files))).parameters)
    assert len(parameters) == 8
    paddle.disable_static()
    # Its keys are the names of Variables.
    state = paddle.load(str(tmp_path / "student.pdparams"))
    assert len(state) == 10
    for name, value in state.items():
        assert student.held(name).tobytes() == value.numpy().tobytes()


@pytest.mark.slow
def test_paddle_itself_loads_the_state_dict_into_a_program_that_was_never_merged(
    tmp_path: Path,
) -> None:
    student, other = plain(), plain()
    gt.export_student(taught(student), tmp_path / "student", fetch=[student.output[0]])

    with paddle.static.scope_guard(other.scope):
        paddle.static.load(other.program, str(tmp_path / "student"))

    program = gt.read(other.program)
    name = next(value.name for value in program.parameters if "conv2d" in value.name)
    assert student.held(name).tobytes() == other.held(name).tobytes()


@pytest.mark.pir
@pytest.mark.slow
def test_of_a_clone_of_the_merged_program_the_student_alone_is_exported(
    distilled: Distilled, exported: Any, tmp_path: Path
) -> None:
    folder, whole = exported
    clone = distilled.merged.program.clone()

    found = gt.export_student(clone, tmp_path / "clone", fetch=whole.fetches)

    sizes = [[file.stat().st_size for file in made.files[:2]] for made in (whole, found)]
    assert sizes[0] == sizes[1]
    parameters = [path.read_bytes() for path in (folder / "student.pdiparams", found.files[1])]
    assert parameters[0] == parameters[1]


class Asking(Teacher):
    """It answers otherwise in training, as heads for texts and for detection do."""

    def forward(self, x: Any) -> Any:
        logits = super().forward(x)
        return (logits, logits.mean(1)) if self.training else F.softmax(logits / 2)


@pytest.mark.pir
def test_a_forward_that_asks_whether_it_trains_is_exported_as_it_evaluates(tmp_path: Path) -> None:
    layer = Asking()
    distilled = Distilled(gt.from_layer(lambda: layer, [IMAGE], train=True))
    made = gt.export_student(distilled.merged, tmp_path / "student")
    assert (made.feeds, len(made.fetches), layer.training) == (("image",), 1, True)

    paddle.disable_static()
    layer.set_state_dict(paddle.load(str(tmp_path / "student.pdparams")))
    layer.eval()
    image = paddle.to_tensor(FEED["image"])
    exported = paddle.jit.load(str(tmp_path / "student"))
    exported.eval()
    assert exported(image).numpy().tobytes() == layer(image).numpy().tobytes()


def test_a_layer_that_the_program_was_built_from_names_the_keys(tmp_path: Path) -> None:
    with paddle.utils.unique_name.guard():
        layer = Teacher()
    net = gt.from_layer(layer, [IMAGE], train=True)
    scope = paddle.static.Scope()
    paddle.save(layer.state_dict(), str(tmp_path / "layer.pdparams"))
    gt.load_parameters(net, tmp_path / "layer.pdparams", net, scope=scope)

    gt.export_student(
        net.program, tmp_path / "student", fetch=net.fetches, layer=layer, scope=scope
    )

    theirs, ours = (tmp_path / f"{name}.pdparams" for name in ("layer", "student"))
    assert ours.read_bytes() == theirs.read_bytes()


def _refused(*arguments: Any, **options: Any) -> gt.Diagnostic:
    with pytest.raises(gt.GraphtoolError) as raised:
        gt.export_student(*arguments, **options)
    return raised.value.report.errors[0]


def _exported(distilled: Distilled, target: Path, **options: Any) -> tuple[list[str], list[str]]:
    """Export, and return the names of the files and the codes of what was warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = gt.export_student(distilled.merged, target, **options)
    return [file.name for file in found.files], [said.code for said in found.report]


def _names(stem: str) -> list[str]:
    return [f"{stem}{ending}" for ending in (".json", ".pdiparams", ".pdparams")]


@pytest.mark.pir
@pytest.mark.slow
def test_files_of_others_stay_and_the_student_is_written_beside_them(
    distilled: Distilled, tmp_path: Path
) -> None:
    (tmp_path / "student.pdmodel").write_text("of another student")
    (tmp_path / "student-2.pdparams").write_text("of a third one")
    (tmp_path / "notes.txt").write_text("mine")

    for _ in range(2):
        with pytest.warns(UserWarning, match=r"GT604.*student-3") as warned:
            found = gt.export_student(distilled.merged, tmp_path / "student")
        assert [file.name for file in found.files] == _names("student-3")
        assert "student.pdmodel` is not of an earlier export" in str(warned[0].message)
    assert (tmp_path / "student.pdmodel").read_text() == "of another student"
    assert (tmp_path / "student-2.pdparams").read_text() == "of a third one"

    assert _exported(distilled, tmp_path / "student", force=True) == (_names("student"), [])
    assert sorted(path.name for path in tmp_path.glob("student.*")) == [
        "student.graphtool",
        *_names("student"),
    ]
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.pir
@pytest.mark.slow
def test_an_earlier_export_is_replaced_unless_its_files_have_changed(
    distilled: Distilled, tmp_path: Path
) -> None:
    target = tmp_path / "student"
    gt.export_student(distilled.merged, target)
    (tmp_path / "student.pdparams").unlink()

    # What is not there any more is in nobody's way.
    assert _exported(distilled, target) == (_names("student"), [])
    paddle.save({"mine": 1}, f"{target}.pdparams")
    assert _exported(distilled, target) == (_names("student-2"), ["GT604"])
    (tmp_path / "student.graphtool").write_text("no record")
    assert _exported(distilled, target) == (_names("student-2"), ["GT604"])
    assert paddle.load(f"{target}.pdparams") == {"mine": 1}


@pytest.mark.pir
@pytest.mark.slow
def test_an_export_that_would_be_lost_goes_into_the_folder_or_beside_it(
    distilled: Distilled, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "taken.json").mkdir()

    assert _exported(distilled, tmp_path / "ending.pdiparams") == (_names("ending"), [])
    assert _exported(distilled, tmp_path / "folder") == (_names("student"), ["GT604"])
    assert (tmp_path / "folder" / "student.json").is_file()
    for force in (False, True):
        found = _exported(distilled, tmp_path / "taken", force=force)
        assert found == (_names("taken-2"), ["GT604"])


@pytest.mark.pir
@pytest.mark.slow
def test_nothing_is_written_where_something_is_wrong(distilled: Distilled, tmp_path: Path) -> None:
    merged, target = distilled.merged, tmp_path / "student"
    (tmp_path / "file").write_text("")
    empty, other = paddle.static.Scope(), gt.from_layer(Half, [(4,)])

    def export(**options: Any) -> str:
        return _refused(merged, target, **options).code

    found = [
        export(fetch=["teacher_relu_0"]),
        export(fetch=[distilled.adapted]),
        export(fetch=[distilled.loss]),
        export(fetch=["relu_100"]),
        export(fetch="relu_0"),
        export(fetch=[]),
        export(scope=empty),
        export(layer=other),
        _refused(merged, tmp_path / "file" / "x").code,
        _refused("student", target).code,
    ]

    assert found == [
        *("GT632", "GT632", "GT632", "GT101", "GT248", "GT253", "GT235", "GT634", "GT601", "GT248")
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def _misfit(program: Any, layer: Any, folder: Path, **options: Any) -> tuple[str, str | None]:
    found = _refused(program, folder / "x", layer=layer, **options)
    assert list(folder.iterdir()) == []
    return found.message.partition(" does not fit the student: ")[2], found.help


def test_a_layer_with_a_programs_names_has_to_fit_it_whole(tmp_path: Path) -> None:
    with paddle.utils.unique_name.guard():
        net = gt.from_layer(Teacher(), [IMAGE])

    def misfit(*layers: Any) -> tuple[str, str | None]:
        with paddle.utils.unique_name.guard():
            other = nn.Sequential(*(make() for make in layers))
        return _misfit(net.program, other, tmp_path, fetch=net.fetches)

    found = [
        misfit(lambda: nn.Conv2D(3, 9, 3), lambda: nn.BatchNorm2D(16), lambda: nn.Linear(16, 5)),
        misfit(lambda: nn.Conv2D(3, 16, 3), lambda: nn.BatchNorm2D(16)),
        misfit(lambda: nn.Conv2D(3, 16, 3), lambda: nn.Conv2D(16, 5, 1)),
    ]
    assert {fix for _, fix in found} == {"gt.export_student(merged, path, layer=network)"}
    assert [message for message, _ in found] == [
        "`0.weight` is [9, 3, 3, 3], the student's `conv2d_0.w_0` [16, 3, 3, 3], and 1 more",
        "2 of its 8 tensors have no key",
        "the student has no `conv2d_1.w_0`, `conv2d_1.b_0`; 6 of its 8 tensors have no key",
    ]


class Chain(nn.Layer):
    """Linear layers of one shape, which run by the alphabet, however they were made."""

    def __init__(self, names: str = "abc", width: int = 4) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, nn.Linear(width, width))

    def forward(self, x: Any) -> Any:
        for _, layer in sorted(self.named_children()):
            x = paddle.tanh(layer(x))
        return x


def _chain(*arguments: Any) -> Any:
    with paddle.utils.unique_name.guard():
        return Chain(*arguments)


def test_another_layer_gets_what_the_students_own_has_under_its_keys(tmp_path: Path) -> None:
    layer, other = _chain("abc"), _chain("bca")
    assert layer.a.weight.name == other.b.weight.name
    net, scope = gt.from_layer(layer, [(4,)]), paddle.static.Scope()
    copy_layer_tensors(layer, scope)

    gt.export_student(net, tmp_path / "student", layer=other, scope=scope)

    missing, unexpected = other.set_state_dict(paddle.load(str(tmp_path / "student.pdparams")))
    x = paddle.to_tensor(FEED["image"][0, 0, :, :4])
    assert (missing, unexpected) == ([], [])
    assert other(x).numpy().tobytes() == layer(x).numpy().tobytes()


def test_a_layer_with_other_keys_than_the_students_own_is_refused(tmp_path: Path) -> None:
    net = gt.from_layer(_chain("abc"), [(4,)])
    tied = _chain("abc")
    tied.c = tied.b
    others = (_chain("abcd"), _chain("ab"), _chain("abc", 5), tied)
    found = [_misfit(net, one, tmp_path) for one in others]
    assert {fix for _, fix in found} == {"gt.export_student(merged, path)"}
    assert [message for message, _ in found] == [
        "the student has no `d.weight`, `d.bias`",
        "2 of its 6 tensors have no key",
        "`a.weight` is [5, 5], the student's `linear_0.w_0` [4, 4], and 5 more",
        "`b.weight` and `c.weight` are one parameter, and two of the student",
    ]


def test_a_layer_of_dynamic_mode_that_was_never_merged_gives_its_own_weights(
    tmp_path: Path,
) -> None:
    layer, scope = _chain(), paddle.static.Scope()
    net = gt.from_layer(layer, [(4,)])
    paddle.save(layer.state_dict(), str(tmp_path / "layer.pdparams"))

    with paddle.static.scope_guard(scope):
        with pytest.warns(UserWarning, match="GT247") as said:
            found = gt.export_student(net, tmp_path / "student")
        assert _refused(net, tmp_path / "x", scope=scope).help == (
            "gt.export_student(merged, path)"
        )
        gt.load_parameters(net, tmp_path / "student.pdparams")
        assert len(gt.export_student(net, tmp_path / "again").report) == 0
        held = scope.find_var(net.parameters["a.weight"]).get_tensor()
        held.set(np.array(held) + 1, paddle.CPUPlace())
        assert len(gt.export_student(net, tmp_path / "trained").report) == 0

    assert [one.filename for one in said] == [__file__]
    assert [one.message for one in found.report] == [
        "exported 6 parameters of `Chain`: the global Scope has none"
    ]
    wanted = (tmp_path / "layer.pdparams").read_bytes()
    assert [(tmp_path / f"{name}.pdparams").read_bytes() for name in ("student", "again")] == [
        wanted,
        wanted,
    ]


class Wrapped(nn.Layer):
    """Has a part that is called `layer`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        return self.layer(x)


class Shifted(nn.Layer):
    """Has a buffer that is in no state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 3)
        self.register_buffer("shift", paddle.ones([3]), persistable=False)

    def forward(self, x: Any) -> Any:
        return self.body(x) + self.shift


@pytest.mark.parametrize(
    ("make", "keys"),
    [
        (Wrapped, ["layer.weight", "layer.bias"]),
        (Shifted, ["body.weight", "body.bias"]),
        (Half, ["weight"]),
    ],
)
def test_the_state_dict_is_that_of_the_layer_bit_by_bit(
    make: Any, keys: list[str], tmp_path: Path
) -> None:
    layer, scope = make(), paddle.static.Scope()
    net = gt.from_layer(layer, [(4,)])
    copy_layer_tensors(layer, scope)

    gt.export_student(net, tmp_path / "student", layer=layer, scope=scope)

    found = paddle.load(str(tmp_path / "student.pdparams"))
    assert list(found) == keys
    for key, value in layer.state_dict().items():
        assert found[key].dtype == value.dtype
        assert found[key].numpy().tobytes() == value.numpy().tobytes()


def test_a_program_without_an_answer_asks_for_it(tmp_path: Path) -> None:
    paddle.enable_static()
    main = paddle.static.Program()
    with paddle.static.program_guard(main):
        paddle.static.data("x", [2, 3])

    assert _refused(main, tmp_path / "student").code == "GT631"


@pytest.mark.slow
def test_a_legacy_student_is_exported_alike(tmp_path: Path) -> None:
    assert legacy.exported(str(tmp_path)) == legacy.EXPORTED


@pytest.mark.slow
def test_paddle_2_6_exports_alike(tmp_path: Path, on_paddle26: Callable[..., str]) -> None:
    said = on_paddle26("tests.training.legacy", "exported", str(tmp_path))
    assert json.loads(said) == legacy.EXPORTED


@pytest.mark.pir
@pytest.mark.slow
def test_an_lstm_teaches_another_which_is_exported_after_training(tmp_path: Path) -> None:
    teacher = gt.from_layer(lambda: Recurrent(16), [("x", (6, 4))], train=False)
    student = gt.from_layer(Recurrent, [("x", (6, 4))])
    paddle.enable_static()
    scope, theirs = paddle.static.Scope(), paddle.static.Scope()
    run(teacher.startup, theirs, {})
    run(student.startup, scope, {})
    merged = gt.merge(teacher, student, {"x": "x"}, scope=scope, teacher_scope=theirs)
    with paddle.static.program_guard(merged.program, student.startup):
        loss = gt.losses.l2(merged.teacher(teacher.fetches[0]), merged.student(student.fetches[0]))
        gt.minimize(paddle.optimizer.Adam(0.01), loss)
    run(student.startup, scope, {})
    batch = {"x": np.random.RandomState(0).randn(2, 6, 4).astype("float32")}
    (before,) = run(merged.program, scope, batch, loss)
    gt.export_student(merged, tmp_path / "student")
    (after,) = run(merged.program, scope, batch, loss)
    assert after < before
    executor = paddle.static.Executor()
    model, feeds, fetches = paddle.static.load_inference_model(str(tmp_path / "student"), executor)
    assert feeds == ["x"]
    (answer,) = executor.run(model, feed=batch, fetch_list=fetches)
    paddle.disable_static()
    layer = Recurrent()
    assert layer.set_state_dict(paddle.load(str(tmp_path / "student.pdparams"))) == ([], [])
    layer.eval()
    np.testing.assert_allclose(answer, layer(paddle.to_tensor(batch["x"])).numpy(), 1e-5, 1e-6)
