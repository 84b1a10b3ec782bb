"""Multiply-adds and parameters against counts that don't come from graphtool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import paddle
import pytest
from paddle import nn

from graphtool.structure import analyse
from tests.networks import PlainConvolutions, built, computed, vision


def counted_by_hooks(name: str) -> int:
    """Count multiply-adds in dynamic graph: elements that come out times weights per element."""
    paddle.disable_static()
    net: Any = getattr(paddle.vision.models, name)()
    net.eval()
    total = 0

    def count(layer: Any, _: Any, result: Any) -> None:
        nonlocal total
        outputs = layer.weight.shape[0 if isinstance(layer, nn.Conv2D) else 1]
        per_element = int(layer.weight.size) // outputs
        total += int(result.size) * per_element

    for layer in net.sublayers():
        if isinstance(layer, (nn.Conv2D, nn.Linear)):
            layer.register_forward_post_hook(count)
    net(paddle.zeros([1, 3, 224, 224]))
    return total


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v1",
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("resnet50", "mobilenet_v3_small")),
    ],
)
def test_multiply_adds_equal_a_count_by_forward_hooks(name: str) -> None:
    structure = analyse(vision(name))

    assert structure.multiply_adds == counted_by_hooks(name)
    assert structure.is_cost_exact


@pytest.mark.slow
def test_vgg16_has_the_multiply_adds_of_a_count_by_hand() -> None:
    sides = [224] * 2 + [112] * 2 + [56] * 3 + [28] * 3 + [14] * 3
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    convolutions = sum(
        side * side * before * after * 9
        for side, before, after in zip(sides, widths[:-1], widths[1:], strict=True)
    )
    linear = 25088 * 4096 + 4096 * 4096 + 4096 * 1000

    assert analyse(vision("vgg16")).multiply_adds == convolutions + linear == 15_470_264_320


@pytest.mark.slow
def test_unknown_sides_give_the_same_fractions_and_say_that_they_are_nominal() -> None:
    known, unknown = analyse(vision("mobilenet_v1")), analyse(vision("mobilenet_v1", -1))

    assert not unknown.is_cost_exact
    for one, other in zip(known.stages, unknown.stages, strict=True):
        assert known.cost_fraction(one.end) == pytest.approx(
            unknown.cost_fraction(other.end), abs=1e-9
        )


@pytest.mark.slow
def test_parameters_are_those_of_the_layer_without_running_statistics() -> None:
    structure = analyse(vision("resnet50"))

    assert structure.parameters == 25_557_032
    assert structure.running_statistics == 53_120


def test_attention_costs_two_products_and_four_projections() -> None:
    length, width, inner = 10, 32, 64
    layer = lambda: nn.TransformerEncoderLayer(width, 4, inner)  # noqa: E731
    structure = analyse(built(layer, [length, width]))

    projections = 4 * length * width * width
    products = 2 * length * length * width
    assert structure.multiply_adds == projections + products + 2 * length * width * inner


@pytest.mark.parametrize(
    ("slots", "places", "expected"),
    [
        (("Bias", "Mean", "Scale", "Variance", "X"), (4, 1, 3, 2, 0), 2 * 4 * 8),
        (("Scale", "X"), (3, 0), 0),
    ],
)
@pytest.mark.slow
def test_running_statistics_of_a_legacy_program_are_found_by_slot(
    slots: tuple[str, ...], places: tuple[int, ...], expected: int
) -> None:
    graph = built(lambda: PlainConvolutions([8, 8]), [3, 16, 16])
    named = {
        name: replace(x, slots=slots, operands=tuple(x.operands[place] for place in places))
        if x.kind == "batch_norm"
        else x
        for name, x in graph.operators.items()
    }

    assert analyse(replace(graph, operators=named)).running_statistics == expected


def weight(*shape: int) -> Any:
    return paddle.create_parameter(list(shape), "float32")


def recurrent(x: Any) -> Any:
    return nn.Linear(16, 4)(nn.GRU(8, 16)(x)[0])


@pytest.mark.parametrize(
    ("forward", "shape", "count"),
    [
        (lambda x: nn.Linear(32, 16)(x.reshape([-1, 32])), [64, 32], 64 * 32 * 16),
        (lambda x: paddle.matmul(weight(7, 12), x), [12, 9], 7 * 12 * 9),
        (lambda x: paddle.addmm(weight(1, 5), x, weight(16, 5)), [16], 16 * 5),
        (lambda x: paddle.einsum("blc,cd->bld", x, weight(32, 16)), [10, 32], 10 * 32 * 16),
        pytest.param(
            *(recurrent, [10, 8], 10 * 3 * (16 * 8 + 16 * 16) + 10 * 16 * 4), marks=pytest.mark.pir
        ),
    ],
)
def test_products_of_any_form_are_counted_by_their_factors(
    forward: Callable[[Any], Any], shape: list[int], count: int
) -> None:
    structure = analyse(computed(forward, shape))

    assert structure.multiply_adds == count
    assert structure.is_cost_exact


@pytest.mark.pir
def test_what_is_not_counted_is_listed_and_makes_the_number_inexact() -> None:
    def branching(x: Any) -> Any:
        first, second = nn.Linear(8, 8), nn.Linear(8, 8)
        return paddle.static.nn.cond(paddle.mean(x) > 0, lambda: first(x), lambda: second(x))

    structure = analyse(computed(branching, [8]))

    assert structure.costs.uncounted == {"if": 1}
    assert not structure.is_cost_exact
