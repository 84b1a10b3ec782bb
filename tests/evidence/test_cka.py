"""CKA on data: its numbers, which pairs are reranked by it, and what pairs then say."""

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
from graphtool.evidence import Evidence, names_to_measure, rerank, suggest_pairs
from graphtool.sources.layers import Network
from tests.evidence.networks import (
    IMAGES,
    Array,
    diagnostic,
    gathered,
    main_lines,
    measured,
    small,
)
from tests.networks import vision

ROOT = Path(__file__).parents[2]


def pooled(layer: Any, names: Sequence[str], network: Network, images: Array) -> list[Array]:
    """Run a Small in eval mode as Paddle does, and take means over a 4 × 4 grid by reshaping."""
    layer.eval()
    first = nn.functional.relu(layer.norm(layer.first(paddle.to_tensor(images))))
    second = nn.functional.relu(layer.second(first))
    mean = second.mean([2, 3])
    by_width = {8: first, 16: second, 5: layer.head(mean)}
    layer.train()
    maps: list[Array] = []
    for name in names:
        shape = network.graph.values[name].shape or ()
        features = mean if shape == (-1, 16) else by_width[shape[1]]
        count, channels, *sides = features.shape
        grid = features.numpy().astype(float)
        if sides:
            side = sides[0] // 4
            grid = grid.reshape(count, channels, 4, side, 4, side).mean((3, 5))
        maps.append(grid.reshape(count, -1))
    return maps


def hsic(teacher: Array, student: Array) -> float:
    """Compute HSIC₁ as Song et al. 2012 write it."""
    n = len(teacher)
    k, l = (x @ x.T * (1 - np.eye(n)) for x in (teacher, student))  # noqa: E741  # as they do
    ones = np.ones(n)
    sums = (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    mixed = 2 / (n - 2) * (ones @ k @ l @ ones)
    return float(np.trace(k @ l) + sums - mixed) / (n * (n - 3))


def cka(teacher: Sequence[Array], student: Sequence[Array]) -> float:
    cross, teachers, students = (
        sum(map(hsic, x, y))
        for x, y in ((teacher, student), (teacher, teacher), (student, student))
    )
    return cross / (teachers * students) ** 0.5


def test_scores_are_minibatch_cka_as_its_paper_defines_it(network: Network) -> None:
    other = small(seed=2)
    names = main_lines(network, other)
    slices = [IMAGES[start : start + 10] for start in (0, 10, 20, 30)]
    found = gathered(network, other, names, slices)
    teacher, student = (
        [pooled(side.layer, wanted, side, images) for images in slices]
        for side, wanted in zip((network, other), names, strict=True)
    )

    assert (found.batches, found.samples, len(found.scores)) == (4, 40, 16)
    for row, of_teacher in enumerate(names[0]):
        for column, of_student in enumerate(names[1]):
            direct = cka([batch[row] for batch in teacher], [batch[column] for batch in student])
            assert found.scores[of_teacher, of_student] == pytest.approx(direct, abs=2e-5)


@pytest.mark.slow
def test_a_network_is_wholly_like_itself_and_random_samples_are_the_same_each_time(
    network: Network,
) -> None:
    first, second = (measured("random", network, batches=2) for _ in range(2))

    same = [first.scores[name, name] for name in main_lines(network, network)[0]]
    assert same == pytest.approx([1.0] * len(same))
    assert first.scores == second.scores
    assert [found.code for found in first.report] == ["GT383"]


@pytest.mark.slow
def test_large_batches_are_compared_in_parts_of_128_samples_at_most(network: Network) -> None:
    images = np.random.default_rng(3).normal(size=(140, 3, 16, 16)).astype("float32")
    whole = measured([images], network)
    parts = measured([images[:70], images[70:]], network)

    assert (whole.batches, whole.samples) == (1, 140)
    assert whole.scores == pytest.approx(parts.scores, abs=1e-6)


@pytest.mark.slow
def test_a_map_that_is_the_same_for_all_samples_has_no_score(network: Network) -> None:
    dead = small()
    dead.layer.second.bias.set_value(np.full([16], -1e4, "float32"))
    found = measured(IMAGES, network, dead)
    first, *others = main_lines(network, dead)[1]

    assert {student for _, student in found.scores} == {first}
    assert [(one.code, one.severity) for one in found.report] == [("GT380", Severity.WARNING)]
    assert all(f"`{name}`" in found.report.diagnostics[0].message for name in others)


@pytest.mark.pir
def test_values_without_a_map_for_each_sample_are_left_out_with_a_note(network: Network) -> None:
    names = [name for name in network.graph.values if name.endswith(".w_0")]
    found = gathered(network, network, (["conv2d_0", *names], ["conv2d_0"]), IMAGES)

    assert list(found.scores) == [("conv2d_0", "conv2d_0")]
    assert {one.code for one in found.report} == {"GT380"}


def test_numbers_too_large_on_the_way_are_found_where_they_turn_into_nan(
    network: Network,
) -> None:
    huge = small()
    # No order of the sums helps: all that is added to infinity is positive, and 0 * inf is NaN.
    for layer, number in ((huge.layer.second, 3e38), (huge.layer.head, 0.0)):
        layer.weight.set_value(np.full(layer.weight.shape, number, "float32"))
    with pytest.raises(GraphtoolError, match="the feature maps have a NaN") as raised:
        measured(1e4 * IMAGES, network, huge)

    assert diagnostic(raised.value).where[0].value == main_lines(network, huge)[1][-1]


def test_suggested_pairs_have_their_cka_and_say_so(network: Network) -> None:
    other = small(seed=2)
    pairs = suggest_pairs(network, other, evidence=IMAGES, batches=1)
    found = gathered(network, other, names_to_measure(pairs), IMAGES, batches=1)

    for pair in pairs:
        score = found.scores[pair.teacher.name, pair.student.name]
        assert (pair.cka, pair.why[-1]) == (round(score, 4), f"CKA {score:.2f} on 32 samples")
    everything = suggest_pairs(network, other, evidence=IMAGES, batches=10**30)
    assert everything[0].why[-1].endswith(" on 32 samples")


def scored(pairs: Any, score: Callable[[str, str], float]) -> Evidence:
    teachers, students = names_to_measure(pairs)
    scores = {(one, other): score(one, other) for one in teachers for other in students}
    return Evidence(batches=1, samples=32, scores=scores)


@pytest.mark.pir
@pytest.mark.parametrize(
    ("pair", "scores", "other"),
    [
        ("relu_16", {"relu_16": 0.6}, None),
        ("relu_16", {"relu_16": 0.4, "relu_4": 0.49}, None),
        ("relu_16", {"relu_4": 0.9}, "`relu_4` of stage 1: CKA 0.90"),
        # The end of its own block does not speak against the last convolution.
        ("conv2d_19", {"relu_16": 0.9}, None),
        ("conv2d_19", {"relu_16": 0.9, "relu_4": 0.8}, "`relu_4` of stage 1: CKA 0.80"),
        ("conv2d_19", {"relu_16": 0.9, "relu_0": 0.7}, "`relu_0` of the stem: CKA 0.70"),
    ],
)
def test_a_pair_is_warned_of_where_another_stage_of_the_teacher_is_more_alike(
    pair: str, scores: dict[str, float], other: str | None
) -> None:
    pairs = suggest_pairs(vision("resnet18"), vision("resnet18"))
    found = rerank(pairs, scored(pairs, lambda teacher, _: scores.get(teacher, 0.4)))
    (place,) = [place for place, one in enumerate(pairs) if one.teacher.name == pair]
    said = f"on data the student's Value is more like the teacher's {other}, 0.40 here"

    assert [one.teacher.name for one in found] == [one.teacher.name for one in pairs]
    assert found[place].cka == scores.get(pair, 0.4)
    assert found[place].warnings == ((said,) if other else ())


@pytest.mark.pir
def test_of_two_pairs_that_fit_as_well_in_one_stage_the_more_alike_comes_first() -> None:
    pairs = suggest_pairs(vision("resnet18"), vision("resnet18"))
    last = next(pair for pair in pairs if pair.teacher.name == "relu_16")
    other = replace(last, rank=last.rank + 1, student=pairs[-1].student)
    liked = other.student.name
    evidence = scored(pairs, lambda _, student: 0.9 if student == liked else 0.8)
    tied = rerank(replace(pairs, pairs=(last, other)), evidence)
    apart = rerank(replace(pairs, pairs=(last, replace(other, score=last.score - 0.01))), evidence)

    assert [(pair.rank, pair.student.name) for pair in tied] == [
        (last.rank, liked),
        (other.rank, last.student.name),
    ]
    assert [pair.student for pair in apart] == [last.student, other.student]


LEGACY = """
import zlib, contextlib, sys
import numpy as np, paddle
from graphtool.evidence import suggest_pairs
from tests.evidence.networks import IMAGES, Small
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
pairs = suggest_pairs(sys.argv[1] + ".pdmodel", program, evidence=IMAGES)
print(len(pairs) > 3, {pair.cka for pair in pairs}, len(pairs.report))
"""


def legacy_scores(interpreter: str, folder: Path) -> str:
    command = [interpreter, "-c", LEGACY, str(folder / "net")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_a_legacy_file_is_wholly_like_the_training_program_that_it_comes_from(
    tmp_path: Path,
) -> None:
    assert legacy_scores(sys.executable, tmp_path) == "True {1.0} 0"


@pytest.mark.slow
def test_paddle_2_6_measures_legacy_networks_too(tmp_path: Path, paddle26: str) -> None:
    assert legacy_scores(paddle26, tmp_path) == "True {1.0} 0"
