"""Adapters bring the student's Values to the teacher's shape, under names of their own."""

from __future__ import annotations

from typing import Any

import networkx
import numpy as np
import paddle
import pytest

import graphtool as gt
from graphtool.losses import adapters
from tests.losses.networks import Merged, convolutions, images, merged
from tests.networks import Encoder, PlainConvolutions

Array = Any


@pytest.fixture(scope="module")
def net() -> Merged:
    """Two networks that all refusals share: they leave them as they were."""
    return convolutions()


def codes(error: pytest.ExceptionInfo[gt.GraphtoolError]) -> list[str]:
    return [found.code for found in error.value.report]


def pooled(maps: Array, height: int, width: int) -> Array:
    """Adaptive pooling by its definition: the mean from floor to ceiling of each border."""
    rows, columns = maps.shape[2:]
    out = np.zeros((*maps.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            top, left = i * rows // height, j * columns // width
            bottom, right = -(-(i + 1) * rows // height), -(-(j + 1) * columns // width)
            out[:, :, i, j] = maps[:, :, top:bottom, left:right].mean((2, 3))
    return out


@pytest.mark.pir
@pytest.mark.slow
def test_conv1x1_mixes_channels_as_numpy_does_and_starts_without_bias() -> None:
    net = convolutions()
    with net.building():
        adapted = adapters.conv1x1("relu_3", 5, name="middle")
    net.start()
    weight, bias = (net.tensor(f"graphtool_adapter_middle.{end}") for end in "wb")
    found, maps = net.run(images(), adapted, net.merged.student("relu_3"))

    assert weight.shape == (5, 16, 1, 1)
    assert bias.tolist() == [0.0] * 5
    assert np.abs(weight).max() <= (6 / (16 + 5)) ** 0.5
    wanted = np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], maps)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.pir
@pytest.mark.slow
def test_linear_projects_vectors_tokens_and_pooled_maps() -> None:
    net = merged(lambda: Encoder(2), lambda: Encoder(2), (12, 16))
    with net.building():
        tokens = net.merged.student("layer_norm_3")
        vectors = net.merged.student("mean_0")
        maps = paddle.unsqueeze(vectors, [2, 3])
        values = [adapters.linear(value, 7, name="head") for value in (tokens, vectors, maps)]
    net.start()
    feed = {"image": np.random.default_rng(0).random((4, 12, 16), dtype="float32")}
    *found, given, pooled_given = net.run(feed, *values, tokens, vectors)
    weights = [net.tensor(f"graphtool_adapter_{name}.w") for name in ("head", "head_2", "head_3")]

    assert [value.shape for value in found] == [(4, 12, 7), (4, 7), (4, 7)]
    assert [weight.shape for weight in weights] == [(32, 7)] * 3
    inputs = given, pooled_given, pooled_given
    for array, source, weight in zip(found, inputs, weights, strict=True):
        np.testing.assert_allclose(array, source @ weight, rtol=1e-3, atol=1e-5)


@pytest.mark.pir
@pytest.mark.slow
def test_no_two_adapters_and_no_variable_of_program_or_scope_have_one_name() -> None:
    net = convolutions()
    current = paddle.static.Scope()
    net.scope.var("graphtool_adapter_a.w")
    current.var("graphtool_adapter_a_2.b")
    with net.building(), paddle.static.scope_guard(current):
        paddle.static.data("graphtool_adapter_a_3.w", [1])
        paddle.static.create_parameter([1], "float32", name="graphtool_adapter_a_4.b")
        before = {
            parameter.name for parameter in net.merged.program.global_block().all_parameters()
        }
        for _ in range(2):
            adapters.conv1x1("relu_3", 5, name="a")
        adapters.conv1x1("relu_3", 5, name="l2_if_0/1/relu_0:1")
    parameters = net.merged.program.global_block().all_parameters()
    new = {parameter.name for parameter in parameters if parameter.name not in before}

    # A name with a path becomes the name of a file.
    stems = "a_5", "a_6", "l2_if_0_1_relu_0_1"
    assert new == {f"graphtool_adapter_{stem}.{end}" for stem in stems for end in "wb"}
    assert all(parameter.trainable for parameter in parameters if parameter.name in new)


@pytest.mark.pir
@pytest.mark.slow
def test_a_map_shrinks_by_means_and_grows_bilinearly() -> None:
    net = convolutions()
    with net.building():
        value = net.merged.student("relu_3")
        same, small, odd = (adapters.resize(value, size) for size in ((8, 8), (4, 4), (3, 5)))
        large = adapters.resize(value, (8, 16))
    maps, halved, uneven, wide = net.run(images(), value, small, odd, large)

    assert same.is_same(value)
    np.testing.assert_allclose(halved, maps.reshape(4, 16, 4, 2, 4, 2).mean((3, 5)), atol=1e-5)
    np.testing.assert_allclose(uneven, pooled(maps, 3, 5), atol=1e-5)
    # Halfway between its neighbours' centres: three quarters of the nearer, one of the other.
    np.testing.assert_allclose(wide[..., 0], maps[..., 0], atol=1e-5)
    np.testing.assert_allclose(wide[..., 1], 0.75 * maps[..., 0] + 0.25 * maps[..., 1], atol=1e-5)
    np.testing.assert_allclose(wide[..., 2], 0.25 * maps[..., 0] + 0.75 * maps[..., 1], atol=1e-5)


@pytest.mark.pir
@pytest.mark.slow
def test_the_larger_of_two_maps_shrinks_whichever_side_it_is_on() -> None:
    net = convolutions()
    with net.building():
        first = adapters.resize_to_smaller("teacher_relu_1", "relu_3")
        second = adapters.resize_to_smaller("teacher_relu_3", "relu_1")
        values = net.merged.teacher("relu_1"), net.merged.student("relu_1")
    maps = net.run(images(), *values, first[0], second[1])

    assert first[1].is_same(net.merged.student("relu_3"))
    assert second[0].is_same(net.merged.teacher("relu_3"))
    for large, small in zip(maps[:2], maps[2:], strict=True):
        assert small.shape[2:] == (8, 8)
        np.testing.assert_allclose(small, pooled(large, 8, 8), atol=1e-5)


@pytest.mark.slow
def test_where_sizes_are_not_known_the_smaller_is_found_in_each_run() -> None:
    net = merged(
        lambda: PlainConvolutions([4, 8]), lambda: PlainConvolutions([6, 6]), (3, None, None)
    )
    with net.building():
        other = paddle.static.data("other", [-1, 6, -1, -1])
        sides = adapters.resize_to_smaller("teacher_relu_3", other)
        alone = adapters.resize(other, net.merged.student("relu_3"))
        teacher = net.merged.teacher("relu_3")
    for height, width in ((3, 9), (8, 2), (8, 8)):
        given = np.random.default_rng(1).random((4, 6, height, width), dtype="float32")
        feed = {**images(), "other": given}
        maps, left, right, resized = net.run(feed, teacher, *sides, alone)
        smaller = min(height, 8), min(width, 8)

        np.testing.assert_allclose(left, pooled(maps, *smaller), atol=1e-5)
        np.testing.assert_allclose(right, pooled(given, *smaller), atol=1e-5)
        assert resized.shape == (4, 6, 8, 8)


@pytest.mark.pir
@pytest.mark.slow
def test_nothing_of_the_student_reads_an_adapter() -> None:
    net = convolutions()
    with net.building():
        gt.distill_loss(net.merged, net.pairs)
    graph = gt.read(net.merged.program)
    outputs = net.pairs.pairs[0].student.name
    before = networkx.ancestors(graph.nx, outputs)

    assert "conv2d_0.w_0" in before
    assert [name for name in before if "graphtool_adapter" in name] == []
    assert sum("graphtool_adapter" in name for name in graph.values) == 8


FIXED = {
    "the teacher's": lambda net: net.merged.teacher("relu_3"),
    "detached": lambda net: net.merged.student("relu_3").detach(),
    "an input": lambda net: net.merged.student("image"),
}


@pytest.mark.pir
@pytest.mark.parametrize("which", FIXED)
def test_an_adapter_on_a_fixed_value_is_refused(net: Merged, which: str) -> None:
    with net.building():
        value = FIXED[which](net)
        before = net.size()
        with pytest.raises(gt.PairError) as error:
            adapters.conv1x1(value, 5)

    assert codes(error) == ["GT357"]
    assert net.size() == before


@pytest.mark.pir
@pytest.mark.parametrize(
    ("build", "code"),
    [
        (lambda: adapters.conv1x1("flatten_0", 5), "GT357"),
        (lambda: adapters.conv1x1("relu_3", 0), "GT357"),
        (lambda: adapters.linear("relu_3", 2.5), "GT357"),
        (lambda: adapters.resize("flatten_0", (2, 2)), "GT357"),
        (lambda: adapters.resize("relu_3", "flatten_0"), "GT357"),
        (lambda: adapters.resize_to_smaller("teacher_flatten_0", "relu_3"), "GT357"),
        (lambda: adapters.resize("relu_3", (2, 0)), "GT248"),
        (lambda: adapters.resize("relu_3", [7]), "GT248"),
        (lambda: adapters.resize("relu_3", (True, True)), "GT248"),
        (lambda: adapters.conv1x1("relu_99", 5), "GT101"),
        (lambda: adapters.conv1x1(np.zeros((1, 2, 3, 4)), 5), "GT248"),
    ],
)
def test_what_does_not_fit_an_adapter_is_refused_and_nothing_built(
    net: Merged, build: Any, code: str
) -> None:
    before = net.size()
    with net.building(), pytest.raises(gt.GraphtoolError) as error:
        build()

    assert codes(error) == [code]
    assert net.size() == before


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_is_of_low_precision_is_adapted_in_float32(dtype: str) -> None:
    paddle.enable_static()
    program = paddle.static.Program()
    with paddle.static.program_guard(program, paddle.static.Program()):
        maps, vectors = (
            paddle.static.data(*end, dtype) for end in (("m", [-1, 4, 2, 2]), ("v", [-1, 4]))
        )
        maps.stop_gradient = vectors.stop_gradient = False
        values = adapters.conv1x1(maps, 3), adapters.linear(vectors, 3)
    parameters = program.global_block().all_parameters()

    assert [value.dtype for value in (*values, *parameters)] == [paddle.float32] * 6


@pytest.mark.pir
@pytest.mark.slow
def test_channels_that_are_not_known_cannot_be_adapted() -> None:
    net = convolutions()
    with net.building():
        free = paddle.reshape(net.merged.student("relu_3"), [4, -1, 8, 8])
        channels = paddle.static.data("channels", [1], "int32")
        unknown = paddle.slice(free, [1], [0], [channels])
        with pytest.raises(gt.PairError) as error:
            adapters.conv1x1(unknown, 5)

    assert codes(error) == ["GT357"]
    assert "wanted a map of rank 4 whose channels are known" in str(error.value)


@pytest.mark.pir
@pytest.mark.slow
def test_a_value_of_another_program_is_refused(net: Merged) -> None:
    other = convolutions()
    with net.building(), pytest.raises(gt.UsageError) as error:
        adapters.conv1x1(other.merged.student("relu_3"), 5)

    assert codes(error) == ["GT340"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("conv1x1(256->512)+resize", ("conv1x1", (256, 512), True)),
        ("conv1x1", ("conv1x1", None, False)),
        ("linear(8->16)", ("linear", (8, 16), False)),
        ("resize", (None, None, True)),
        ("resize + conv1x1(8 -> 16)", ("conv1x1", (8, 16), True)),
    ],
)
def test_the_text_of_an_adapter_is_read(text: str, wanted: Any) -> None:
    layer, channels, resizes = wanted

    assert adapters.parse_adapter(text) == adapters.Adapter(
        layer=layer, channels=channels, resizes=resizes
    )


@pytest.mark.parametrize(
    "text", ["", "conv3x3", "conv1x1+linear", "resize+resize", "conv1x1(8)", "linear(a->b)", "+"]
)
def test_another_text_is_no_adapter(text: str) -> None:
    with pytest.raises(gt.PairError) as error:
        adapters.parse_adapter(text)

    assert codes(error) == ["GT357"]
    assert f"`{text}`" in str(error.value)
