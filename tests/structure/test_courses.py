"""The way down and up through a network, and what a network is read as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import paddle
import pytest
from paddle import nn
from paddle.nn import functional

from graphtool.structure import Stage, analyse
from tests.networks import computed

pytestmark = pytest.mark.slow


def conv(x: Any, width: int, stride: int = 1) -> Any:
    return functional.relu(nn.Conv2D(x.shape[1], width, 3, stride, 1)(x))


def residual(x: Any, width: int, dilation: int = 1) -> Any:
    inner = functional.relu(nn.Conv2D(x.shape[1], width, 3, padding=dilation, dilation=dilation)(x))
    inner = nn.Conv2D(width, width, 3, padding=dilation, dilation=dilation)(inner)
    return functional.relu(
        inner + (x if x.shape[1] == width else nn.Conv2D(x.shape[1], width, 1)(x))
    )


def u_net(x: Any) -> Any:
    first = conv(x, 4)
    second = conv(functional.max_pool2d(first, 2), 8)
    x = conv(functional.max_pool2d(second, 2), 16)
    for skip in (second, first):
        x = nn.Conv2DTranspose(x.shape[1], skip.shape[1], 2, 2)(x)
        x = conv(paddle.concat([skip, x], 1), skip.shape[1])
    return nn.Conv2D(4, 5, 1)(x)


def diffusion(x: Any, time: Any) -> Any:
    def block(x: Any, width: int) -> Any:
        hint = nn.Linear(8, width)(time).unsqueeze([-1, -2])
        return residual(nn.Conv2D(x.shape[1], width, 3, padding=1)(x) + hint, width)

    x, skips = nn.Conv2D(3, 8, 3, padding=1)(x), []
    for width, stride in ((8, 2), (16, 1)):
        for _ in range(2):
            x = block(x, width)
            skips.append(x)
        if stride > 1:
            x = nn.Conv2D(width, width, 3, stride, 1)(x)
            skips.append(x)
    x = block(block(x, 16), 16)
    for width, count in ((16, 3), (8, 2)):
        for _ in range(count):
            x = block(paddle.concat([x, skips.pop()], 1), width)
        if width == 16:
            x = nn.Conv2D(16, 16, 3, padding=1)(functional.interpolate(x, scale_factor=2))
    return nn.Conv2D(8, 3, 3, padding=1)(x)


def generator(code: Any) -> Any:
    x = functional.relu(nn.Linear(16, 128)(code)).reshape([-1, 8, 4, 4])
    for _ in range(3):
        x = functional.relu(nn.Conv2DTranspose(8, 8, 4, 2, 1)(x))
    return functional.tanh(nn.Conv2D(8, 3, 3, padding=1)(x))


def larger(x: Any) -> Any:
    first = x = nn.Conv2D(3, 8, 3, padding=1)(x)
    for _ in range(6):
        x = x + nn.Conv2D(8, 8, 3, padding=1)(conv(x, 8))
    x = nn.Conv2D(8, 8, 3, padding=1)(x) + first
    return nn.Conv2D(2, 3, 3, padding=1)(functional.pixel_shuffle(x, 2))


def dilated(x: Any) -> Any:
    x = conv(x, 8, stride=2)
    for width, dilation in ((8, 1), (16, 2), (32, 4)):
        x = residual(residual(x, width, dilation), width, dilation)
    return nn.Linear(32, 5)(functional.adaptive_avg_pool2d(x.clip(1e-6) ** 3, 1).flatten(1))


def signal(x: Any) -> Any:
    for width in (4, 8, 16):
        x = functional.relu(nn.Conv1D(x.shape[1], width, 5, 2, 2)(x))
        x = functional.relu(x + nn.Conv1D(width, width, 3, padding=1)(x))
    return nn.Linear(16, 5)(x.mean(-1))


def translator(source: Any, target: Any) -> Any:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32), 3)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 2, 32), 2)
    source, target = nn.Linear(16, 16)(source), nn.Linear(16, 16)(target)
    return nn.Linear(16, 40)(decoder(target, encoder(source)))


def cascade(x: Any) -> Any:
    x = nn.Conv2D(3, 4, 3, padding=1)(x)
    for _ in range(3):
        x = paddle.concat([x, residual(residual(x, 8), 8)], 1)
    return nn.Conv2D(2, 3, 3, padding=1)(functional.pixel_shuffle(conv(x, 8), 2))


def autoencoder(x: Any) -> Any:
    for width in (4, 8):
        x = conv(x, width, stride=2)
    x = nn.Linear(4, 512)(nn.Linear(512, 4)(x.flatten(1))).reshape([-1, 8, 8, 8])
    for width in (4, 4):
        x = functional.relu(nn.Conv2DTranspose(x.shape[1], width, 4, 2, 1)(x))
    return nn.Conv2D(4, 3, 1)(x)


def burst(x: Any, other: Any) -> Any:
    return conv(conv(paddle.concat([x, other], 1), 8), 3)


def separately_projected(x: Any) -> Any:
    x = nn.Linear(16, 16)(x)
    for _ in range(2):
        queries, keys, values = (
            nn.Linear(16, 16)(nn.LayerNorm(16)(x)).reshape([0, 9, 2, 8]).transpose([0, 2, 1, 3])
            for _ in range(3)
        )
        scores = functional.softmax(queries.matmul(keys, transpose_y=True))
        x = x + nn.Linear(16, 16)(scores.matmul(values).transpose([0, 2, 1, 3]).flatten(2))
    return nn.Linear(16, 5)(x.mean(1))


@pytest.mark.parametrize(
    ("forward", "shapes", "description"),
    [
        (u_net, [(3, 32, 32)], "U-Net: 3 stages down, 2 up"),
        (diffusion, [(3, 16, 16), (8,)], "U-Net: 2 stages down, the middle, 2 up"),
        (generator, [(16,)], "encoder and decoder: 1 stage down, 2 up"),
        (larger, [(3, 16, 16)], "1 stage of 7 blocks"),
        (cascade, [(3, 16, 16)], "1 stage of 4 blocks"),
        (autoencoder, [(3, 32, 32)], "encoder and decoder: 2 stages down, 2 up"),
        (burst, [(3, 16, 16), (3, 16, 16)], "1 stage of 1 block"),
        (separately_projected, [(9, 16)], "transformer: 2 layers"),
        (dilated, [(3, 32, 32)], "3 stages"),
        (signal, [(1, 64)], "3 stages"),
        (translator, [(9, 16), (7, 16)], "transformer: 3 encoder layers, 2 decoder layers"),
    ],
)
def test_a_network_is_read_as(
    forward: Callable[..., Any], shapes: list[tuple[int, ...]], description: str
) -> None:
    assert analyse(computed(forward, *shapes)).description == description


def test_stages_up_end_where_the_next_enlargement_begins() -> None:
    structure = analyse(computed(u_net, (3, 32, 32)))

    def shapes(stages: tuple[Stage, ...]) -> list[Any]:
        return [structure.graph.values[stage.end].shape for stage in stages]

    assert shapes(structure.course.down) == [(-1, 4, 32, 32), (-1, 8, 16, 16), (-1, 16, 8, 8)]
    assert shapes(structure.course.up) == [(-1, 8, 16, 16), (-1, 4, 32, 32)]


def test_images_are_told_from_class_scores() -> None:
    cases = (diffusion, (3, 16, 16), (8,)), (generator, (16,)), (larger, (3, 16, 16))
    images = [analyse(computed(forward, *shapes)) for forward, *shapes in cases]

    assert all(structure.answers_image for structure in images)
    assert not analyse(computed(u_net, (3, 32, 32))).answers_image


def test_a_power_after_the_last_block_is_no_part_of_it() -> None:
    structure = analyse(computed(dilated, (3, 32, 32)))

    assert structure.flow.steps[structure.stages[-1].end].kind == "relu"


def test_the_maps_of_one_dimension_keep_their_layout() -> None:
    structure = analyse(computed(signal, (1, 64)))

    ends = [structure.graph.values[stage.end].shape for stage in structure.stages]
    assert ends == [(-1, 4, 32), (-1, 8, 16), (-1, 16, 8)]


def test_a_decoder_has_scores_of_its_own_and_across() -> None:
    decoder, encoder = analyse(computed(translator, (9, 16), (7, 16))).encoders

    assert (len(decoder.scores), len(decoder.cross_scores)) == (2, 2)
    assert (len(encoder.scores), len(encoder.cross_scores)) == (3, 0)
