"""Whole recipes in published forms, and the taps of each pair."""

from __future__ import annotations

import pytest

from graphtool.diagnostics import PairError, UsageError
from graphtool.matching import Kind, PairSet, suggest_pairs
from graphtool.structure import Tap
from tests.networks import Encoder, built, vision


def parts(pairs: PairSet) -> list[tuple[str, str, str, float]]:
    return [(pair.teacher.name, pair.student.name, pair.loss, pair.weight) for pair in pairs]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("logits", [("add_16", "add_0", "kl", 0.9)]),
        ("features", [("relu_48", "relu_26", "similarity", 3000.0)]),
        (
            "attention",
            [
                ("relu_48", "relu_26", "attention", 1000.0),
                ("relu_39", "relu_22", "attention", 1000.0),
                ("relu_21", "relu_10", "attention", 1000.0),
                ("relu_9", "relu_6", "attention", 1000.0),
            ],
        ),
        ("fitnet", [("relu_21", "relu_10", "hint", 100.0)]),
        (
            "overhaul",
            [
                ("add_15", "batch_norm_26", "hint", 1.0),
                ("add_12", "batch_norm_22", "hint", 1.0),
                ("add_6", "batch_norm_10", "hint", 1.0),
                ("add_2", "batch_norm_6", "hint", 1.0),
            ],
        ),
    ],
)
def test_forms_for_resnet50_and_mobilenet_v1(
    form: str, expected: list[tuple[str, str, str, float]]
) -> None:
    pairs = suggest_pairs(vision("resnet50"), vision("mobilenet_v1"), recipe=form)

    assert parts(pairs) == expected
    assert [pair.rank for pair in pairs] == list(range(1, len(expected) + 1))


def test_the_form_for_transformers_takes_all_layers_at_equal_weights() -> None:
    pairs = suggest_pairs(
        built(lambda: Encoder(4), [7, 16]), built(lambda: Encoder(2), [7, 16]), recipe="transformer"
    )

    assert [pair.kind for pair in pairs] == [Kind.HIDDEN_STATE] * 3 + [Kind.ATTENTION] * 2
    assert {(pair.loss, pair.weight) for pair in pairs} == {
        ("hidden_state", 1.0),
        ("attention_scores", 1.0),
    }


def test_minilm_compares_what_the_last_attention_multiplies() -> None:
    teacher, student = built(lambda: Encoder(4), [7, 16]), built(lambda: Encoder(2), [7, 16])
    pairs = suggest_pairs(teacher, student, recipe="minilm")

    # 4 heads of 8 channels each, for 7 places.
    assert [pair.teacher.shape for pair in pairs] == [(-1, 4, 7, 8)] * 3
    assert {pair.loss for pair in pairs} == {"attention_relation"}
    layers = [pair.teacher.module or "" for pair in pairs]
    assert all("TransformerEncoderLayer_3" in module for module in layers)


def test_a_form_that_the_networks_have_nothing_for_is_refused() -> None:
    with pytest.raises(PairError, match="`transformer` pairs layers of a transformer"):
        suggest_pairs(vision("resnet18"), vision("mobilenet_v1"), recipe="transformer")


@pytest.mark.parametrize(
    "wrong", [{"recipe": "nonsense"}, {"tap": "nowhere"}, {"limit": "3"}, {"limit": True}]
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        suggest_pairs(vision("resnet18"), vision("mobilenet_v1"), **wrong)  # pyright: ignore[reportArgumentType]


def test_alternatives_are_the_other_taps_of_the_same_block() -> None:
    pair = suggest_pairs(vision("resnet50"), vision("resnet18")).pairs[2]

    assert (pair.teacher.layer, pair.teacher.op) == ("layer4.2", "pd_op.relu")
    assert [(x.tap, x.teacher.name, x.student.layer) for x in pair.alternatives] == [
        (Tap.BEFORE_ACTIVATION, "add_15", "layer4.1"),
        (Tap.BEFORE_NORM, "conv2d_52", "layer4.1.conv2"),
        (Tap.LAST_CONVOLUTION, "conv2d_52", "layer4.1.conv2"),
    ]


@pytest.mark.parametrize("tap", list(Tap))
def test_a_tap_moves_the_maps_of_stages_and_nothing_else(tap: Tap) -> None:
    plain = suggest_pairs(vision("resnet50"), vision("resnet18"))
    moved = suggest_pairs(vision("resnet50"), vision("resnet18"), tap=tap)

    for before, after in zip(plain.pairs[:6], moved.pairs[:6], strict=True):
        others = {x.tap: x.teacher.name for x in before.alternatives}
        assert after.teacher.name == others.get(tap, before.teacher.name)


def test_blocks_without_an_activation_keep_their_output_and_that_is_told() -> None:
    pairs = suggest_pairs(vision("mobilenet_v2"), vision("mobilenet_v2"), tap=Tap.AFTER_ACTIVATION)

    assert [found.code for found in pairs.report] == ["GT306"]
