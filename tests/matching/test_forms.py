"""Whole recipes in published forms, and the taps of each pair."""

from __future__ import annotations

import functools
from contextlib import suppress
from typing import Any

import pytest
from paddle import nn

from graphtool.checks import check_pairs
from graphtool.diagnostics import PairError, UsageError
from graphtool.graph import Graph
from graphtool.matching import Kind, PairSet, PresetName, suggest_pairs
from graphtool.structure import Tap
from tests.networks import Encoder, PlainConvolutions, built, computed, encoder, vision
from tests.refused import refused

STAGES = (
    *(("relu_48", "relu_26"), ("relu_39", "relu_22")),
    *(("relu_21", "relu_10"), ("relu_9", "relu_6")),
)
# The same ends, before their activations.
BEFORE = (
    *(("add_15", "batch_norm_26"), ("add_12", "batch_norm_22")),
    *(("add_6", "batch_norm_10"), ("add_2", "batch_norm_6")),
)


def parts(pairs: PairSet) -> list[tuple[str, str, str, float]]:
    return [(pair.teacher.name, pair.student.name, pair.loss, pair.weight) for pair in pairs]


@pytest.mark.pir
@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("logits", [("add_16", "add_0", "kl", 0.9)]),
        ("features", [("relu_48", "relu_26", "similarity", 3000.0)]),
        ("attention", [(*ends, "attention", 1000.0) for ends in STAGES]),
        ("fitnet", [("relu_21", "relu_10", "hint", 100.0)]),
        ("overhaul", [(*ends, "hint", 10.0) for ends in BEFORE]),
    ],
)
def test_forms_for_resnet50_and_mobilenet_v1(
    form: str, expected: list[tuple[str, str, str, float]]
) -> None:
    pairs = suggest_pairs(vision("resnet50"), vision("mobilenet_v1"), recipe=form)

    assert parts(pairs) == expected
    assert [pair.rank for pair in pairs] == list(range(1, len(expected) + 1))
    wants_channels = form in {"fitnet", "overhaul"}
    assert all((pair.adapter is not None) is wants_channels for pair in pairs)


@pytest.mark.slow
def test_the_form_for_transformers_takes_all_layers_at_equal_weights() -> None:
    pairs = suggest_pairs(encoder(4), encoder(2), recipe="transformer")

    assert [pair.kind for pair in pairs] == [Kind.HIDDEN_STATE] * 3 + [Kind.ATTENTION] * 2
    assert {(pair.loss, pair.weight) for pair in pairs} == {
        ("hidden_state", 1.0),
        ("attention_scores", 1.0),
    }


@pytest.mark.pir
@pytest.mark.slow
def test_minilm_compares_what_the_last_attention_multiplies() -> None:
    pairs = suggest_pairs(encoder(4), encoder(2), recipe="minilm")

    # 4 heads of 8 channels each, for 7 places.
    assert [pair.teacher.shape for pair in pairs] == [(-1, 4, 7, 8)] * 3
    assert {pair.loss for pair in pairs} == {"attention_relation"}
    layers = [pair.teacher.module or "" for pair in pairs]
    assert all("TransformerEncoderLayer_3" in module for module in layers)


@pytest.mark.slow
def test_what_a_forms_loss_cannot_compare_is_left_out_and_that_is_told() -> None:
    pairs = suggest_pairs(encoder(2, heads=8), encoder(2), recipe="transformer")

    assert [(pair.rank, pair.loss) for pair in pairs] == [(n, "hidden_state") for n in (1, 2, 3)]
    (found,) = pairs.report
    assert found.code == "GT305"
    assert found.message == "`transformer` leaves out 2 pairs that its loss cannot compare"
    assert found.notes == ("the numbers of heads differ: scores cannot be compared one to one",)


@pytest.mark.slow
def test_minilm_takes_other_numbers_of_heads_and_says_which_option_splits_them() -> None:
    pairs = suggest_pairs(encoder(2, heads=8), encoder(2), recipe="minilm")

    assert [pair.loss for pair in pairs] == ["attention_relation"] * 3
    option = 'options={"attention_relation": {"heads": 4}}'
    assert pairs[0].warnings == (
        f"8 against 4 heads: split both anew, distill_loss(..., {option})",
    )


def tokens(x: Any) -> Any:
    """A transformer over the patches of an image, as a ViT."""
    return Encoder(2)(nn.Conv2D(3, 16, 8, 8)(x).flatten(2).transpose([0, 2, 1]))


@pytest.mark.parametrize("form", ["overhaul", "attention", "fitnet"])
@pytest.mark.slow
def test_forms_for_maps_refuse_tokens(form: str) -> None:
    maps_and_tokens, *_ = crossed()
    found = refused(PairError, suggest_pairs, *maps_and_tokens, recipe=form)
    assert "its loss cannot compare these" in found.message
    assert found.notes == ("the lengths differ: Values cannot be compared one to one",)


@functools.cache
def crossed() -> tuple[tuple[Graph, Graph], ...]:
    of_tokens = computed(tokens, [3, 32, 32])
    maps = built(lambda: PlainConvolutions([4, 8, 8], classes=5), [3, 32, 32])
    return (maps, of_tokens), (of_tokens, maps), (encoder(2, heads=8), encoder(2)), (maps, maps)


@pytest.mark.parametrize("form", PresetName)
@pytest.mark.slow
def test_no_form_suggests_what_its_losses_refuse(form: PresetName) -> None:
    suggested = list[str]()
    for teacher, student in crossed():
        with suppress(PairError):
            pairs = suggest_pairs(teacher, student, recipe=form)
            suggested += [pair.loss for pair in pairs]
            options = {"attention_relation": {"heads": 4}}
            assert not check_pairs(pairs, teacher, student, options=options)

    assert suggested


@pytest.mark.slow
def test_logits_of_other_classes_are_no_pair_of_a_form_and_the_reason_is_theirs() -> None:
    teacher, student = (
        built(lambda classes=n: PlainConvolutions([4], classes=classes), [3, 8, 8]) for n in (9, 5)
    )
    found = refused(PairError, suggest_pairs, teacher, student, recipe="logits")
    assert found.code == "GT305"
    assert found.notes == ("9 against 5 classes: the logits cannot be compared one to one",)


def test_a_form_that_the_networks_have_nothing_for_is_refused() -> None:
    with pytest.raises(PairError, match="`transformer` pairs layers of a transformer"):
        suggest_pairs(vision("resnet18"), vision("mobilenet_v1"), recipe="transformer")


@pytest.mark.parametrize(
    "wrong", [{"recipe": "nonsense"}, {"tap": "nowhere"}, {"limit": "3"}, {"limit": True}]
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        suggest_pairs(vision("resnet18"), vision("mobilenet_v1"), **wrong)  # pyright: ignore[reportArgumentType]


@pytest.mark.pir
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


@pytest.mark.slow
def test_blocks_without_an_activation_keep_their_output_and_that_is_told() -> None:
    pairs = suggest_pairs(vision("mobilenet_v2"), vision("mobilenet_v2"), tap=Tap.AFTER_ACTIVATION)

    assert [found.code for found in pairs.report] == ["GT306"]
