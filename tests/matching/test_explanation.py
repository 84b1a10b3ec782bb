"""Any pair taken apart: what it is made of, what speaks against it, what fits better."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import paddle
import pytest

from graphtool.diagnostics import PairError, ReadError, UsageError
from graphtool.matching import Kind, explain_pair
from graphtool.matching.score import Scorer
from graphtool.structure import Structure, analyse
from tests.networks import (
    Encoder,
    PlainConvolutions,
    built,
    convolved_before_its_classifier,
    vision,
)


@pytest.mark.pir
@pytest.mark.slow
def test_a_suggested_pair_is_nearest_to_itself_and_its_parts_sum_to_its_score() -> None:
    found = explain_pair(vision("resnet50"), vision("mobilenet_v1"), "relu_39=relu_22")

    assert found.is_suggested
    assert (found.pair.rank, found.pair.kind) == (4, Kind.STAGE)
    assert found.nearest == found.pair
    assert found.against == ()
    assert sum(part.weight for part in found.parts) == pytest.approx(1, abs=1e-9)
    score = sum(part.weight * part.agreement for part in found.parts)
    assert found.pair.score == pytest.approx(score, abs=5e-4)


@pytest.mark.pir
@pytest.mark.slow
def test_few_pairs_fit_better_than_the_end_of_a_stage_and_most_fit_worse() -> None:
    found = explain_pair(vision("resnet50"), vision("mobilenet_v1"), "relu_39=relu_22")

    maps = len([x for x in found.suggested.teacher.values.values() if x.rank == 4])
    assert found.among <= maps * len(found.suggested.student.values)
    assert found.better < found.among / 50


def features(structure: Structure) -> list[str]:
    return [name for name in structure.flow.steps if name in structure.flow.features]


@pytest.mark.parametrize("student", ["mobilenet_v1", "encoder"])
@pytest.mark.slow
def test_all_pairs_are_counted_as_each_is_scored_and_much_faster(student: str) -> None:
    other = vision(student) if student != "encoder" else built(lambda: Encoder(4), [7, 16])
    comparison = Scorer(analyse(vision("resnet50")), analyse(other))
    ours, theirs = features(comparison.teacher), features(comparison.student)
    started = perf_counter()
    fits = [comparison.fit(left, right) for left in ours for right in theirs]
    one_by_one = perf_counter() - started
    wanted = {least: sum(fit > least for fit in fits) for least in sorted(set(fits))[::20]}
    # The first also imports numpy.
    comparison.better(0.5, ours, theirs)
    started = perf_counter()
    found = {least: comparison.better(least, ours, theirs) for least in wanted}
    at_once = (perf_counter() - started) / len(wanted)

    assert found == wanted
    assert at_once < one_by_one / 5


@pytest.mark.pir
@pytest.mark.slow
def test_an_equal_shape_in_another_stage_is_called_a_coincidence() -> None:
    # One network has a stage more and an input twice as large.
    teacher = built(lambda: PlainConvolutions([8, 32]), [3, 32, 32])
    student = built(lambda: PlainConvolutions([8, 16, 32]), [3, 64, 64])
    found = explain_pair(teacher, student, "relu_3=relu_5")

    assert (found.pair.teacher.shape, found.pair.student.shape) == ((-1, 32, 8, 8),) * 2
    assert found.pair.warnings[0] == (
        "the shapes are equal by coincidence: 1/4 of the input in the teacher, 1/8 in the student"
    )


@pytest.mark.pir
@pytest.mark.slow
def test_a_pair_that_crosses_suggested_ones_names_them() -> None:
    found = explain_pair(vision("resnet50"), vision("mobilenet_v1"), "relu_48=relu_6")

    assert not found.is_suggested
    assert "it crosses pair 4, `relu_39` with `relu_22`" in found.against
    assert found.better > found.among / 10


@pytest.mark.pir
def test_what_lies_inside_a_block_is_told_with_the_output_of_the_block() -> None:
    found = explain_pair(vision("resnet50"), vision("mobilenet_v1"), "relu_37=relu_22")

    assert found.against == (
        "the teacher's `relu_37` lies inside a block, whose output is `relu_39`",
    )
    assert found.nearest is not None
    assert found.nearest.teacher.name == "relu_39"


@pytest.mark.pir
@pytest.mark.slow
def test_what_lies_behind_the_last_block_is_said_to_end_none() -> None:
    network = built(convolved_before_its_classifier, [3, 64, 64])
    found = explain_pair(network, network, "relu_3=concat_2")

    assert found.against[-1] == "the teacher's `relu_3` ends no block: it leads to `flatten_0`"


class Certain(Encoder):
    """An encoder whose classifier answers with probabilities."""

    def forward(self, x: Any) -> Any:
        return paddle.nn.functional.softmax(super().forward(x))


@pytest.mark.pir
@pytest.mark.slow
def test_probabilities_are_told_with_their_logits() -> None:
    teacher, student = built(lambda: Certain(2), [7, 16]), built(lambda: Encoder(2), [7, 16])
    found = explain_pair(teacher, student, "softmax_2=add_17")

    assert found.against[-1] == "the teacher's are probabilities: losses take the logits, `add_17`"


@pytest.mark.pir
def test_layers_and_module_paths_name_the_ends_too() -> None:
    found = explain_pair(vision("resnet50"), vision("mobilenet_v1"), ("layer3.5", "relu_22"))

    assert found.pair.teacher.name == "relu_39"


@pytest.mark.parametrize("pair", ["relu_39", "=relu_22", "relu_39=", "="])
def test_what_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(PairError, match="is not a pair"):
        explain_pair(vision("resnet50"), vision("mobilenet_v1"), pair)


@pytest.mark.parametrize("pair", [3, None, ("relu_39",), ("relu_39", 3), b"relu_39=relu_22"])
def test_what_is_neither_text_nor_two_names_is_refused(pair: Any) -> None:
    with pytest.raises(UsageError, match=r"GT248.*`pair` is"):
        explain_pair(vision("resnet50"), vision("mobilenet_v1"), pair)


@pytest.mark.pir
def test_unknown_names_and_parameters_are_refused() -> None:
    with pytest.raises(ReadError, match="no Value is called `relu_99`"):
        explain_pair(vision("resnet50"), vision("mobilenet_v1"), "relu_99=relu_22")
    for pair, role in (("conv2d_0.w_0=relu_22", "teacher"), ("relu_48=conv2d_0.w_0", "student")):
        with pytest.raises(PairError, match="is not a feature map but a parameter") as raised:
            explain_pair(vision("resnet50"), vision("mobilenet_v1"), pair)
        assert raised.value.report.errors[0].where[0].role == role


@pytest.mark.pir
def test_an_answer_is_in_no_role_like_that_of_a_stage() -> None:
    found = explain_pair(vision("resnet18"), vision("resnet18"), "add_8=relu_16")
    roles = {part.name: (part.teacher, part.student, part.agreement) for part in found.parts}

    assert roles["role"] == ("logits", "stage end", 0.0)
