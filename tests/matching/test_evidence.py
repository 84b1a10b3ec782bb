"""Evidence from data: the numbers, what outliers do, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from graphtool.diagnostics import GraphtoolError, Severity
from graphtool.matching import suggest_pairs
from graphtool.matching.evidence import Evidence, Similarity, gather
from graphtool.matching.weighing import names_to_measure, rerank
from graphtool.selectors import find
from graphtool.sources.layers import Network, from_layer
from graphtool.structure import analyse
from tests.matching import evidence_networks as networks
from tests.matching.evidence_networks import Array, Loud, Residual, Small
from tests.merging.networks import build
from tests.networks import vision

IMAGES = np.random.default_rng(0).normal(size=(40, 3, 16, 16)).astype("float32")
MODULE = "tests.matching.evidence_networks"


def small(seed: int = 1) -> Network:
    paddle.disable_static()
    paddle.seed(seed)
    return from_layer(Small(), [("x", (3, 16, 16))], train=True)


@pytest.fixture(scope="module")
def network() -> Network:
    return small()


@pytest.fixture(scope="module")
def other() -> Network:
    return small(seed=2)


def main_lines(*sides: Any) -> tuple[Sequence[str], Sequence[str]]:
    teacher, student = (analyse(side.graph).main_line for side in sides)
    return teacher, student


def gathered(*arguments: Any, **options: Any) -> Evidence:
    *_, found = gather(*arguments, **options)
    return found


def measured(teacher: Network, student: Network, samples: Any, **options: Any) -> Evidence:
    return gathered(teacher, student, main_lines(teacher, student), samples, **options)


def outputs(network: Network, names: Sequence[str], images: Array) -> list[Array]:
    """Run a network in eval mode as Paddle does, without what is tested here."""
    layer = network.layer
    layer.eval()
    x = paddle.to_tensor(images)
    first = nn.functional.relu(layer.norm(layer.first(x)))
    second = nn.functional.relu(layer.second(first))
    found = {
        (8, 16): first,
        (16, 8): second,
        (16, None): second.mean([2, 3]),
        (5, None): layer.head(second.mean([2, 3])),
    }
    layer.train()
    shapes = [network.graph.values[name].shape or () for name in names]
    return [found[s[1], s[2] if len(s) == 4 else None].numpy() for s in shapes]


def pooled(features: Array) -> Array:
    """Take means over a 4 × 4 grid, by reshaping."""
    if features.ndim == 2:
        return features.astype(float)
    count, channels, side, _ = features.shape
    grid = features.astype(float).reshape(count, channels, 4, side // 4, 4, side // 4)
    return grid.mean((3, 5)).reshape(count, -1)


def hsic(one: Array, other: Array) -> float:
    """Compute HSIC₁ as Song et al. 2012 write it."""
    n = len(one)
    left, right = (x @ x.T * (1 - np.eye(n)) for x in (one, other))
    ones = np.ones(n)
    sums = (ones @ left @ ones) * (ones @ right @ ones) / ((n - 1) * (n - 2))
    mixed = 2 / (n - 2) * (ones @ left @ right @ ones)
    return float(np.trace(left @ right) + sums - mixed) / (n * (n - 3))


def cka(ours: Sequence[Array], theirs: Sequence[Array]) -> float:
    cross, one, other = (
        sum(hsic(a, b) for a, b in zip(x, y, strict=True))
        for x, y in ((ours, theirs), (ours, ours), (theirs, theirs))
    )
    return cross / (one * other) ** 0.5


def test_scores_are_minibatch_cka_as_its_paper_defines_it(network: Network, other: Network) -> None:
    names = main_lines(network, other)
    found = gathered(network, other, names, IMAGES, batch_size=10)
    slices = [IMAGES[start : start + 10] for start in (0, 10, 20, 30)]
    left, right = (
        [[pooled(one) for one in outputs(side, wanted, images)] for images in slices]
        for side, wanted in zip((network, other), names, strict=True)
    )

    assert (found.batches, found.samples, len(found.scores)) == (4, 40, 16)
    for row, ours in enumerate(names[0]):
        for column, theirs in enumerate(names[1]):
            direct = cka([batch[row] for batch in left], [batch[column] for batch in right])
            assert found.score(ours, theirs) == pytest.approx(direct, abs=2e-5)


@pytest.mark.slow
def test_a_network_is_wholly_like_itself_and_scores_do_not_change_from_run_to_run(
    network: Network,
) -> None:
    first, second = (measured(network, network, "random", batches=2) for _ in range(2))
    names = main_lines(network, network)[0]

    assert [first.score(name, name) for name in names] == pytest.approx([1.0] * len(names))
    assert first.scores == second.scores
    assert [found.code for found in first.report] == ["GT383"]


@pytest.mark.slow
def test_large_batches_are_compared_in_parts_of_128_samples_at_most(network: Network) -> None:
    images = np.random.default_rng(3).normal(size=(140, 3, 16, 16)).astype("float32")
    whole = measured(network, network, [images])
    parts = measured(network, network, [images[:70], images[70:]])

    assert (whole.batches, whole.samples) == (1, 140)
    assert list(whole.scores) == list(parts.scores)
    found = [score.cka for score in whole.scores.values()]
    assert found == pytest.approx([score.cka for score in parts.scores.values()], abs=1e-6)


def blocks(network: Network) -> list[str]:
    count = len(network.layer.blocks)
    return [find(network.graph, f"blocks.{place}").name for place in range(count)]


def partners_of_blocks(teacher: Residual, student: Residual, samples: Array) -> list[int]:
    """Return the teacher block that each student block is most like."""
    sides = [from_layer(net, [(1, 8, 8)], train=False) for net in (teacher, student)]
    ours, theirs = map(blocks, sides)
    found = gathered(sides[0], sides[1], (ours, theirs), samples)
    return [ours.index(found.best(name, ours) or "") for name in theirs]


@pytest.mark.slow
def test_a_wider_copy_of_each_block_is_most_like_that_block() -> None:
    paddle.seed(0)
    teacher = networks.scattered(Residual())
    images = np.random.default_rng(1).normal(size=(64, 1, 8, 8)).astype("float32")

    student = networks.widened(teacher, jitter=0.2)

    assert partners_of_blocks(teacher, student, images) == [0, 1, 2, 3, 4, 5]


@pytest.mark.nightly
def test_after_training_each_block_is_most_like_the_one_that_it_was() -> None:
    paddle.seed(0)
    teacher = Residual()
    assert networks.trained(teacher, epochs=4) > 0.9
    images, _ = networks.digits()
    wide, short = networks.widened(teacher, jitter=0.5), networks.shortened(teacher, (0, 2, 3, 5))
    assert networks.trained(wide, epochs=2, rate=1e-3) > 0.9
    assert networks.trained(short, epochs=2, rate=1e-3) > 0.9

    assert partners_of_blocks(teacher, wide, images[1400:]) == [0, 1, 2, 3, 4, 5]
    assert partners_of_blocks(teacher, short, images[1400:]) == [0, 2, 3, 5]


def loud(volume: float, seed: int) -> Network:
    paddle.disable_static()
    paddle.seed(seed)
    return from_layer(Loud(volume), [("x", (33,))], train=False)


@pytest.mark.pir
@pytest.mark.slow
def test_one_loud_channel_makes_unlike_maps_alike_and_is_named() -> None:
    samples = np.random.default_rng(0).normal(size=(128, 33)).astype("float32")
    sides = loud(100.0, 1), loud(100.0, 2)
    names = tuple([find(side.graph, "concat_0").name] for side in sides)
    found = gathered(*sides, (names[0], names[1]), samples)
    score = found.scores["concat_0", "concat_0"]

    assert score.cka > 0.99
    assert score.trimmed is not None
    assert score.trimmed < 0.75
    (said,) = [one for one in found.report if "teacher" in one.message]
    assert (said.code, said.severity) == ("GT382", Severity.WARNING)
    assert said.notes == ("`concat_0`: channel 24 of 25 has 99% of its variance",)
    assert "channel 24 of 25" in found.remarks("concat_0", "concat_0")[0]

    quiet = gathered(loud(1.0, 1), loud(1.0, 2), (["concat_0"], ["concat_0"]), samples)
    assert quiet.scores["concat_0", "concat_0"].cka == pytest.approx(score.trimmed, abs=0.1)
    assert not quiet.report


REFUSED: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "no source": ("x.csv", {}, "GT370", "`x.csv` is not a .npy, .npz"),
    "no file": ("none.npy", {}, "GT370", "No such file"),
    "shape": (
        IMAGES[:, :, :8],
        {},
        "GT372",
        "feed `x` of the teacher: wanted [?, 3, 16, 16] float32, given [32, 3, 8, 16] float32",
    ),
    "bytes": (IMAGES.astype("uint8"), {}, "GT372", "given [32, 3, 16, 16] uint8"),
    "other feeds": ({"y": IMAGES, "z": IMAGES}, {}, "GT256", "no samples for `x` of the teacher"),
    "one sample": (IMAGES[:1], {}, "GT372", "has 1 sample: unbiased CKA takes at least 4"),
    "three at a time": (IMAGES, {"batch_size": 3}, "GT248", "a whole number from 4"),
    "no batches": (IMAGES, {"batches": 0}, "GT248", "`batches` is `0`"),
    "no module": ("no_such_module:batches", {}, "GT370", "No module named 'no_such_module'"),
    "no function": (f"{MODULE}:nothing", {}, "GT370", "has no attribute 'nothing'"),
    "nothing": (f"{MODULE}:empty", {}, "GT370", "yields no batch"),
    "fails": (f"{MODULE}:failing", {}, "GT370", "raises: RuntimeError: the disk is gone"),
    "lists": (f"{MODULE}:labelled", {}, "GT370", "gives `list`, which is neither"),
    "lengths": ({"x": IMAGES, "label": IMAGES[:7]}, {}, "GT370", "`x` 40, `label` 7"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_samples_that_can_not_be_measured_are_refused(case: str, network: Network) -> None:
    samples, options, code, text = REFUSED[case]
    with pytest.raises(GraphtoolError) as raised:
        measured(network, network, samples, **options)

    (found,) = raised.value.report
    assert found.code == code
    assert text in found.message


@pytest.mark.parametrize("source", ["none.npy", "x.csv"])
def test_a_source_that_is_none_is_refused_before_the_networks_are_read(source: str) -> None:
    with pytest.raises(GraphtoolError) as raised:
        suggest_pairs("no_network.json", "no_network.json", evidence=source)
    with pytest.raises(GraphtoolError) as in_gather:
        gathered("no_network.json", "no_network.json", ([], []), source)

    (found,) = raised.value.report
    assert found.code == {"none.npy": "GT370", "x.csv": "GT370"}[source]
    assert in_gather.value.report == raised.value.report


def test_a_file_of_python_objects_is_not_unpickled(tmp_path: Path, network: Network) -> None:
    for name, save in (("x.npy", np.save), ("x.npz", np.savez)):
        save(tmp_path / name, np.array([{}], dtype=object))  # pyright: ignore
        with pytest.raises(GraphtoolError, match="GT370"):
            measured(network, network, tmp_path / name)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_the_first_sample_that_is_no_number_is_named(number: float, network: Network) -> None:
    images = IMAGES.copy()
    images[17, 0, 0, 0] = number
    with pytest.raises(GraphtoolError, match="batch 3, sample 2, both from 1") as raised:
        measured(network, network, images, batch_size=8)

    (found,) = raised.value.report
    assert (found.code, found.where[0].value) == ("GT372", "x")


def test_weights_that_are_no_numbers_are_named_though_a_relu_hides_them() -> None:
    broken = small()
    weight = broken.layer.second.weight
    weight.set_value(np.full(weight.shape, np.nan, "float32"))
    with pytest.raises(GraphtoolError, match="the parameters have a NaN") as raised:
        measured(broken, broken, IMAGES)

    assert raised.value.report.errors[0].where[0].value == weight.name


def test_numbers_too_large_on_the_way_are_found_where_they_turn_into_nan(
    network: Network,
) -> None:
    huge = small()
    # No order of the sums helps: all that is added to infinity is positive, and 0 * inf is NaN.
    for layer, number in ((huge.layer.second, 3e38), (huge.layer.head, 0.0)):
        layer.weight.set_value(np.full(layer.weight.shape, number, "float32"))
    names = main_lines(network, huge)
    with pytest.raises(GraphtoolError, match="the feature maps have a NaN") as raised:
        gathered(network, huge, names, 1e4 * IMAGES)

    assert raised.value.report.errors[0].where[0].value == names[1][-1]


def test_suggested_pairs_are_weighed_by_evidence_which_a_graph_can_not_give(
    network: Network, other: Network
) -> None:
    pairs = suggest_pairs(network, other, evidence=IMAGES, batches=1)
    found = measured(network, other, IMAGES, batches=1)
    first = pairs.pairs[0]

    assert first.cka == round(found.scores[first.teacher.name, first.student.name].cka, 4)
    assert all(pair.why[-1].endswith(" on 32 samples") for pair in pairs)
    with pytest.raises(GraphtoolError, match="the student is a Graph, which cannot run"):
        suggest_pairs(network, other.graph, evidence=IMAGES)


@pytest.mark.slow
def test_a_map_that_is_the_same_for_all_samples_has_no_score(network: Network) -> None:
    dead = small()
    dead.layer.second.bias.set_value(np.full([16], -1e4, "float32"))
    found = measured(network, dead, IMAGES)
    first, *others = main_lines(network, dead)[1]

    assert {student for _, student in found.scores} == {first}
    assert [(one.code, one.severity) for one in found.report] == [("GT380", Severity.WARNING)]
    assert all(f"`{name}`" in found.report.diagnostics[0].message for name in others)


class Recurrent(nn.Layer):
    """Has a state of dropout that holds nothing in dynamic mode."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.head = nn.GRU(4, 8), nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        return self.head(self.recurrent(x)[0].mean(1))


@pytest.mark.pir
def test_recurrent_layers_of_dynamic_mode_are_measured() -> None:
    paddle.disable_static()
    recurrent = from_layer(Recurrent(), [("x", (6, 4))], train=False)
    found = measured(recurrent, recurrent, "random", batches=1, allow_random=True)
    name = find(recurrent.graph, "head").name

    assert found.score(name, name) == pytest.approx(1.0)


@pytest.mark.pir
def test_values_without_a_map_for_each_sample_are_left_out_and_said(network: Network) -> None:
    wanted = ["conv2d_0", "dropout_0:1", "conv2d_0.w_0"]
    graph = network.graph
    names = [name for name in graph.values if name in wanted or name.endswith(".w_0")]
    found = gathered(network, network, (["conv2d_0", *names], ["conv2d_0"]), IMAGES)

    assert list(found.scores) == [("conv2d_0", "conv2d_0")]
    assert {one.code for one in found.report} == {"GT380"}


@pytest.mark.slow
def test_random_weights_are_an_error_unless_they_are_allowed(network: Network) -> None:
    fresh = from_layer(paddle.vision.models.LeNet(), [("x", (1, 28, 28))], train=False)
    names = main_lines(fresh, network)[0]
    with pytest.raises(GraphtoolError, match="one number throughout") as raised:
        gathered(fresh, fresh, (names, names), "random")
    code, inputs = "paddle.vision.models:LeNet", (["1,28,28"], ())
    with pytest.raises(GraphtoolError, match="one number throughout"):
        gathered(code, fresh, (names, names), "random", inputs=inputs)
    allowed = gathered(fresh, fresh, (names, names), "random", batches=1, allow_random=True)

    assert raised.value.report.errors[0].code == "GT376"
    said = [one for one in allowed.report if one.code == "GT376"]
    assert [one.severity for one in said] == [Severity.WARNING] * 2
    assert allowed.scores


@pytest.mark.pir
@pytest.mark.slow
def test_a_callable_counts_as_loaded_where_it_loads_its_weights(network: Network) -> None:
    names = main_lines(network, network)[0]
    inputs = ["3,16,16"]
    found = gathered(
        f"{MODULE}:loaded", network, (names, names), f"{MODULE}:batches", inputs=(inputs, ())
    )

    assert (found.batches, found.samples) == (4, 32)
    same = gathered(small(seed=3), network, (names, names), f"{MODULE}:batches")
    assert found.scores == same.scores


def with_label(x: Any, label: Any) -> Any:
    loss = nn.functional.cross_entropy(Small()(x), label)
    paddle.optimizer.Adam(1e-3).minimize(loss)
    return loss


@pytest.mark.slow
def test_a_training_program_runs_in_test_mode_without_its_label_and_stays_as_it_was() -> None:
    built = build(with_label, ("x", [-1, 3, 16, 16], "float32"), ("label", [-1, 1], "int64"))
    paddle.disable_static()
    before = [op.name() for op in built.program.global_block().ops]
    held = bytes_of(built.scope)
    pairs = suggest_pairs(built.program, built.program)
    scopes = (built.scope, built.scope)
    found = gathered(built.program, built.program, names_to_measure(pairs), IMAGES, scopes=scopes)

    assert bytes_of(built.scope) == held
    assert [op.name() for op in built.program.global_block().ops] == before
    # Dropout would make the two ends differ.
    assert [found.score(pair.teacher.name, pair.student.name) for pair in pairs] == pytest.approx(
        [1.0] * len(pairs)
    )
    assert paddle.in_dynamic_mode()


def bytes_of(scope: Any) -> dict[str, bytes]:
    tensors = {name: scope.find_var(name).get_tensor() for name in scope.local_var_names()}
    return {name: np.array(held).tobytes() for name, held in tensors.items() if held.shape()}


@pytest.mark.pir
@pytest.mark.slow
def test_a_saved_model_has_the_scores_of_the_network_that_it_was_saved_from(
    network: Network, tmp_path: Path
) -> None:
    spec = [paddle.static.InputSpec([-1, 3, 16, 16], "float32", "x")]
    network.layer.eval()
    paddle.jit.save(network.layer, str(tmp_path / "net"), input_spec=spec)
    network.layer.train()
    path = tmp_path / "net.json"
    np.savez(tmp_path / "x.npz", x=IMAGES, label=np.zeros(40))
    names = names_to_measure(suggest_pairs(path, network))
    found = gathered(path, network, names, tmp_path / "x.npz")

    assert found.scores == gathered(network, network, names, {"x": IMAGES}).scores
    (tmp_path / "net.pdiparams").unlink()
    with pytest.raises(GraphtoolError, match="GT376"):
        gathered(path, network, names, tmp_path / "x.npz")


def scored(pairs: Any, score: Callable[[str, str], float]) -> Evidence:
    ours, theirs = names_to_measure(pairs)
    scores = {(a, b): Similarity(score(a, b)) for a in ours for b in theirs}
    return Evidence(batches=1, samples=32, scores=scores)


@pytest.fixture(scope="module")
def teacher() -> Network:
    paddle.disable_static()
    return from_layer(Residual((2, 1)), [(1, 8, 8)], train=False)


@pytest.mark.slow
def test_evidence_warns_of_another_stage_and_leaves_the_order_as_it_is(teacher: Network) -> None:
    pairs = suggest_pairs(teacher, teacher)
    first, last = blocks(teacher)[0], blocks(teacher)[-1]
    found = rerank(pairs, scored(pairs, lambda ours, _: 0.9 if ours == first else 0.4))

    assert [pair.teacher.name for pair in found] == [pair.teacher.name for pair in pairs]
    (warned,) = [pair for pair in found if pair.teacher.name == last]
    assert warned.cka == 0.4
    assert warned.why[-1] == "CKA 0.40 on 32 samples"
    assert len(warned.warnings) == 1
    assert (
        f"more like the teacher's `{first}` of stage 1: CKA 0.90, 0.40 here" in warned.warnings[0]
    )


@pytest.mark.pir
def test_the_end_of_its_own_block_does_not_speak_against_the_last_convolution() -> None:
    pairs = suggest_pairs(vision("resnet18"), vision("resnet18"))
    (pair,) = [one for one in pairs if one.why[0].startswith("last convolution")]
    assert (pair.teacher.layer, pair.why[0][:32]) == (
        "layer4.1.conv2",
        "last convolution of stage 4 of 4",
    )
    said = "on data the student's Value is more like the teacher's"
    for scores, what in (
        ({"relu_16": 0.9, "relu_4": 0.8}, "`relu_4` of stage 1: CKA 0.80"),
        ({"relu_16": 0.9, "relu_0": 0.7}, "`relu_0` of the stem: CKA 0.70"),
    ):
        found = rerank(pairs, scored(pairs, lambda ours, _, known=scores: known.get(ours, 0.4)))
        assert found[pair.rank - 1].warnings == (f"{said} {what}, 0.40 here",)


def test_of_two_pairs_that_fit_as_well_in_one_stage_the_more_alike_comes_first(
    teacher: Network,
) -> None:
    pairs = suggest_pairs(teacher, teacher)
    last = next(pair for pair in pairs if pair.teacher.name == blocks(teacher)[-1])
    other = replace(last, rank=last.rank + 1, student=pairs.pairs[0].student)
    tied = replace(pairs, pairs=(last, other))
    liked = other.student.name
    found = rerank(tied, scored(pairs, lambda _, theirs: 0.9 if theirs == liked else 0.8))

    assert [(pair.rank, pair.student.name) for pair in found] == [
        (last.rank, liked),
        (other.rank, last.student.name),
    ]
    apart = replace(pairs, pairs=(last, replace(other, score=last.score - 0.001)))
    assert [pair.student for pair in rerank(apart, scored(pairs, lambda *_: 0.9))] == [
        last.student,
        other.student,
    ]


LEGACY = """
import zlib, contextlib, sys
import numpy as np, paddle
from graphtool.matching.evidence import gather
from graphtool.matching.weighing import names_to_measure
from graphtool.matching import suggest_pairs
from tests.matching.evidence_networks import Small
paddle.enable_static()
paddle.seed(1)
guard = getattr(paddle.pir_utils, "OldIrGuard", contextlib.nullcontext)
with guard():
    program, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(program, startup):
        x = paddle.static.data("x", [-1, 3, 16, 16])
        label = paddle.static.data("label", [-1, 1], "int64")
        logits = Small()(x)
        bare = program.clone(for_test=True)
        loss = paddle.nn.functional.cross_entropy(logits, label).mean()
        paddle.optimizer.SGD(0.1).minimize(loss)
    executor = paddle.static.Executor()
    executor.run(startup)
    paddle.static.save_inference_model(sys.argv[1], [x], [logits], executor, program=bare)
model = sys.argv[1] + ".pdmodel"
images = np.random.default_rng(0).normal(size=(40, 3, 16, 16)).astype("float32")
pairs = suggest_pairs(model, program)
*_, found = gather(model, program, names_to_measure(pairs), images)
scores = [found.score(pair.teacher.name, pair.student.name) for pair in pairs]
print(len(scores) > 3, np.allclose(scores, 1.0), len(found.report))
"""


def legacy_scores(interpreter: str, folder: Path) -> str:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [interpreter, "-c", LEGACY, str(folder / "net")],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
    )
    assert not done.returncode, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_a_legacy_file_is_wholly_like_the_training_program_that_it_comes_from(
    tmp_path: Path,
) -> None:
    assert legacy_scores(sys.executable, tmp_path) == "True True 0"


@pytest.mark.slow
def test_paddle_2_6_measures_legacy_networks_too(tmp_path: Path, paddle26: str) -> None:
    assert legacy_scores(paddle26, tmp_path) == "True True 0"
