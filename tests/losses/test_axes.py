"""The softmax of a loss is taken over the classes, wherever they are, however it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

import graphtool as gt
from graphtool import losses
from tests.losses import reference
from tests.losses.merges import inside, sizes
from tests.merging.networks import Built, build

pytestmark = pytest.mark.pir

IMAGE = {"image": np.random.default_rng(2).normal(size=(2, 3, 6, 6)).astype("float32")}
LOSSES = ("soft_label", "kl", "lskd")


def segmenter(width: int, *, last: bool = False) -> Built:
    """Build a network of 19 classes for each place: `add_1`, at full size `bilinear_interp_0`."""

    def forward(image: Any) -> Any:
        x, layout = (image.transpose([0, 2, 3, 1]), "NHWC") if last else (image, "NCHW")
        for before, after in ((3, width), (width, 19)):
            bias = paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, 1.0))
            layer = nn.Conv2D(before, after, 1, data_format=layout, bias_attr=bias)
            x = nn.functional.relu(layer(x)) if after == width else layer(x)
        return nn.functional.interpolate(x, size=[12, 12], mode="bilinear", data_format=layout)

    return build(forward, ("image", [-1, 3, 6, 6], "float32"))


def merged_of(teacher: Built, student: Built, feed: str = "image") -> gt.Merged:
    return gt.merge(
        teacher.program,
        student.program,
        {feed: feed},
        scope=student.scope,
        teacher_scope=teacher.scope,
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.slow
def test_a_loss_by_name_its_pair_and_an_axis_that_is_said_are_one_number(
    loss: str,
    last: bool,  # noqa: FBT001
) -> None:
    student = segmenter(4, last=last)
    merged, axis = merged_of(segmenter(8, last=last), student), 3 if last else 1
    name, build = "bilinear_interp_0", losses.BY_NAME[loss]
    with inside(student):
        ends = merged.teacher(name), merged.student(name)
        told = {loss: {"axis": axis}}
        built = [
            build(name, name),
            build(*ends),
            build(name, name, axis=axis),
            build(name, name, axis=axis - 4),
            build(name, name, axis=np.int64(axis)),
            gt.distill_loss(merged, [(name, name, loss)]).total,
            gt.distill_loss(merged, [(name, name, loss)], options=told).total,
            gt.distill_loss(
                merged, [(name, name, loss)], options={loss: {"axis": np.int64(axis)}}
            ).total,
            build(*(paddle.scale(end, 1.0) for end in ends), axis=axis),
        ]
    *values, theirs, ours = student.run(IMAGE, *built, *ends)

    assert theirs.shape == ((2, 12, 12, 19) if last else (2, 19, 12, 12))
    wanted = getattr(reference, loss)(theirs, ours, axis=axis)
    np.testing.assert_allclose(values, [wanted] * len(built), rtol=2e-5)
    assert wanted > 1e-3


def test_maps_in_two_layouts_are_compared_by_their_classes() -> None:
    student = segmenter(4, last=True)
    merged = merged_of(segmenter(8), student)
    with inside(student):
        total = gt.distill_loss(merged, [("add_1", "add_1", "kl")]).total
        called = losses.kl("add_1", "add_1")
        ends = merged.teacher("add_1"), merged.student("add_1")
    *values, theirs, ours = student.run(IMAGE, total, called, *ends)

    wanted = reference.kl(np.moveaxis(theirs, 1, -1), ours)
    np.testing.assert_allclose(values, [wanted] * 2, rtol=2e-5)


def test_an_end_of_ones_own_has_the_axis_of_the_other() -> None:
    """What is computed of a Value by hand has no layers that say it; the teacher's has."""
    student = segmenter(4)
    merged = merged_of(segmenter(8), student)
    with inside(student):
        theirs, ours = merged.teacher("add_1"), merged.student("add_1") * 2.0
        value, *ends = student.run(IMAGE, losses.kl("add_1", ours), theirs, ours)

    wanted = reference.kl(*ends, axis=1)
    np.testing.assert_allclose(value, wanted, rtol=2e-5)


BY_HAND: dict[str, tuple[Any, int]] = {
    "divided": (lambda end: end / 2, 1),
    "cut": (lambda end: end[:, :, :3], 1),
    "resized": (lambda end: nn.functional.interpolate(end, size=[3, 4]), 1),
    "transposed": (lambda end: end.transpose([0, 2, 3, 1]), 3),
    "merged places": (lambda end: end.reshape([0, 19, -1]), 1),
}


@pytest.mark.parametrize("how", BY_HAND)
def test_what_is_computed_of_both_ends_by_hand_keeps_the_axis(how: str) -> None:
    student, (compute, axis) = segmenter(4), BY_HAND[how]
    merged = merged_of(segmenter(8), student)
    with inside(student):
        ends = compute(merged.teacher("add_1")), compute(merged.student("add_1"))
        loss = losses.kl(*ends)
    value, theirs, ours = student.run(IMAGE, loss, *ends)

    assert theirs.shape[axis] == 19
    wanted = reference.kl(theirs, ours, axis=axis)
    np.testing.assert_allclose(value, wanted, rtol=2e-5)


def behind(width: int, head: Any) -> Built:
    """Build a convolution of some width with a head behind it, which makes the answer."""

    def forward(image: Any) -> Any:
        return head(nn.functional.relu(nn.Conv2D(3, width, 1)(image)), width)

    return build(forward, ("image", [-1, 3, 6, 6], "float32"))


def weight_first(x: Any, width: int) -> Any:
    weight: Any = paddle.create_parameter([19, width], "float32")
    return weight @ x.flatten(2)


def weight_last(x: Any, width: int) -> Any:
    weight: Any = paddle.create_parameter([width, 19], "float32")
    return x.flatten(2).matmul(weight, transpose_x=True)


@pytest.mark.parametrize(("head", "axis"), [(weight_first, 1), (weight_last, 2)])
def test_a_product_has_its_classes_where_its_weight_stands(head: Any, axis: int) -> None:
    student = behind(4, head)
    merged, name = merged_of(behind(8, head), student), "matmul_0"
    with inside(student):
        built = losses.kl(name, name), gt.distill_loss(merged, [(name, name, "kl")]).total
        ends = merged.teacher(name), merged.student(name)
    *values, theirs, ours = student.run(IMAGE, *built, *ends)

    assert theirs.shape[axis] == 19
    wanted = reference.kl(theirs, ours, axis=axis)
    np.testing.assert_allclose(values, [wanted] * 2, rtol=2e-5)


def test_a_layer_over_the_width_of_a_map_says_no_axis_of_classes() -> None:
    def head(x: Any, width: int) -> Any:
        return nn.Linear(6, 5)(nn.Conv2D(width, 19, 1)(x))

    student = behind(4, head)
    merged_of(behind(8, head), student)
    with inside(student), pytest.raises(gt.PairError) as refused:
        losses.kl("matmul_0", "matmul_0")

    assert [found.code for found in refused.value.report] == ["GT336"]


def tokens_as_a_map(x: Any, width: int) -> Any:
    tokens = nn.Linear(width, 19)(x.flatten(2).transpose([0, 2, 1]))
    return tokens.transpose([0, 2, 1]).reshape([-1, 19, 6, 6])


def attributes(x: Any, width: int) -> Any:
    return nn.Linear(width, 12)(x.mean([2, 3])).reshape([-1, 3, 4])


@pytest.mark.parametrize(("head", "axis"), [(tokens_as_a_map, 1), (attributes, 2)])
def test_pairs_of_outputs_that_are_suggested_are_never_refused(
    head: Any, axis: int, tmp_path: Path
) -> None:
    student = behind(4, head)
    merged = merged_of(behind(8, head), student)
    networks = merged.plan.teacher, merged.plan.student
    pairs = gt.suggest_pairs(*networks, recipe="logits")
    gt.write_recipe(pairs, tmp_path / "pairs.toml")
    (pair,) = pairs
    assert pair.loss == "kl"
    assert not gt.check_pairs(pairs, *networks).errors
    with inside(student):
        built = [
            gt.distill_loss(merged, given).parts[f"kl_{pair.student.name}"]
            for given in (pairs, tmp_path / "pairs.toml")
        ]
        ends = merged.teacher(pair.teacher.name), merged.student(pair.student.name)
    *values, theirs, ours = student.run(IMAGE, *built, *ends)

    wanted = reference.kl(theirs, ours, axis=axis)
    np.testing.assert_allclose(values, [wanted] * 2, rtol=2e-5)


def guessed(width: int) -> Built:
    """Build a network whose answer is split from what is fed: no layer says what an axis is."""

    def forward(tokens: Any) -> Any:
        scale = paddle.create_parameter([4, 7], "float32")
        hidden = nn.Linear(4, width)(tokens.reshape([-1, 4])).sum()
        return tokens * scale.sum() + hidden

    return build(forward, ("tokens", [-1, 7, 4], "float32"))


def test_where_nothing_says_the_axis_a_pair_is_refused_until_it_is_said() -> None:
    student = guessed(4)
    merged = merged_of(guessed(8), student, "tokens")
    name = next(reversed([name for name in merged.plan.student.values if name.startswith("add")]))
    pairs = [(name, name, "kl")]
    (told,) = gt.check_pairs(pairs, merged.plan.teacher, merged.plan.student).errors
    with inside(student):
        before = sizes(student)
        with pytest.raises(gt.PairError) as refused:
            gt.distill_loss(merged, pairs)
        with pytest.raises(gt.PairError) as by_hand:
            losses.kl(name, name)
        assert sizes(student) == before
    (found,) = refused.value.report.errors
    (alone,) = by_hand.value.report

    assert told.code == found.code == alone.code == "GT336"
    assert alone.message.endswith("[-1, 7, 4], is unknown")
    assert alone.help == f'gt.losses.kl("teacher_{name}", "{name}", axis=2)'
    assert found.help == 'gt.distill_loss(merged, pairs, options={"kl": {"axis": 2}})'
    for axis in (1, 2, -1):
        options = {"kl": {"axis": axis}}
        assert not gt.check_pairs(
            pairs, merged.plan.teacher, merged.plan.student, options=options
        ).errors
        with inside(student):
            total = gt.distill_loss(merged, pairs, options=options).total
            ends = merged.teacher(name), merged.student(name)
        feed = {"tokens": np.random.default_rng(1).normal(size=(3, 7, 4)).astype("float32")}
        value, theirs, ours = student.run(feed, total, *ends)
        wanted = reference.kl(theirs, ours, axis=axis)
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 4, -4, 1.0, "1", True])
def test_an_axis_is_one_of_the_values_and_not_the_batch(axis: Any) -> None:
    student = segmenter(4)
    merged = merged_of(segmenter(8), student)
    with inside(student):
        with pytest.raises(gt.UsageError) as single:
            losses.kl("add_1", "add_1", axis=axis)
        with pytest.raises(gt.PairError) as whole:
            gt.distill_loss(merged, [("add_1", "add_1", "kl")], options={"kl": {"axis": axis}})

    for report in (single.value.report, whole.value.report):
        assert [found.code for found in report] == ["GT347"]
        assert "wanted the axis of the classes, from 1 to 3, or None" in report.errors[0].message
