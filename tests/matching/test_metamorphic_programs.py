"""One network as other Programs: batch, size, saved and loaded, legacy, in training."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import paddle
import pytest
from paddle import nn
from paddle.vision import models

from graphtool.graph import Graph, ProgramKind
from graphtool.matching import Kind, suggest_pairs
from graphtool.sources import read
from graphtool.sources.layers import Network, from_layer
from tests.matching.rewrites import kind_names
from tests.networks import Encoder, Pyramid, Segmenter

Factory: TypeAlias = "Callable[[], nn.Layer]"
Numbered: TypeAlias = "tuple[Kind, tuple[str, int] | str, tuple[str, int] | str]"

_FIXTURES = Path(__file__).parents[1] / "fixtures"
_IMAGE = (3, 64, 64)
# A teacher, a student, and their input without the batch.
_NETWORKS: Mapping[str, tuple[Factory, Factory, tuple[int, ...]]] = {
    "residual": (
        functools.partial(models.resnet18, num_classes=10),
        functools.partial(models.mobilenet_v1, scale=0.25, num_classes=10),
        _IMAGE,
    ),
    "dense": (
        functools.partial(models.densenet121, num_classes=10),
        functools.partial(models.squeezenet1_1, num_classes=10),
        _IMAGE,
    ),
    "encoder": (functools.partial(Encoder, 4), functools.partial(Encoder, 2, 16), (12, 16)),
    "pyramid": (functools.partial(Pyramid, 16), functools.partial(Pyramid, 8), _IMAGE),
    "segmenter": (functools.partial(Segmenter, 16), functools.partial(Segmenter, 8), _IMAGE),
}


def _built(factory: Factory, shape: Sequence[int], batch: int | None = None) -> Network:
    spec = paddle.static.InputSpec([batch, *shape], "float32", "x")
    return from_layer(factory, [spec], train=False)


def _numbered(teacher: Graph, student: Graph) -> list[Numbered]:
    """Return the suggested pairs by what made their Values, and the how many-th that is."""
    teacher_names, student_names = (
        {name: number for number, name in kind_names(graph).items()} for graph in (teacher, student)
    )
    return [
        (
            pair.kind,
            teacher_names.get(pair.teacher.name, pair.teacher.name),
            student_names.get(pair.student.name, pair.student.name),
        )
        for pair in suggest_pairs(teacher, student)
    ]


@functools.cache
def _wanted(name: str) -> list[Numbered]:
    *factories, shape = _NETWORKS[name]
    teacher, student = (_built(factory, shape).graph for factory in factories)
    found = _numbered(teacher, student)
    assert len(found) >= 3
    return found


def _check(name: str, make: Callable[[Factory, Sequence[int]], Graph]) -> None:
    """Compare the pairs of two networks that were made otherwise with those they have."""
    *factories, shape = _NETWORKS[name]
    teacher, student = (make(factory, shape) for factory in factories)

    assert _numbered(teacher, student) == _wanted(name)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["residual", "encoder"])
def test_a_known_batch_changes_no_pair(name: str) -> None:
    _check(name, lambda factory, shape: _built(factory, shape, batch=4).graph)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["residual", "pyramid"])
def test_images_of_twice_the_size_change_no_pair(name: str) -> None:
    def twice_as_large(factory: Factory, shape: Sequence[int]) -> Graph:
        depth, height, width = shape
        return _built(factory, (depth, 2 * height, 2 * width)).graph

    _check(name, twice_as_large)


# Paddle 3.3.1 builds no attention and no GELU in legacy Programs.
@pytest.mark.nightly
@pytest.mark.parametrize("name", ["residual", "dense", "segmenter"])
def test_the_legacy_form_has_the_same_pairs(name: str) -> None:
    def legacy(factory: Factory, shape: Sequence[int]) -> Graph:
        with paddle.pir_utils.OldIrGuard():
            graph = _built(factory, shape).graph
        assert graph.kind is ProgramKind.LEGACY
        return graph

    _check(name, legacy)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["encoder", "residual"])
@pytest.mark.parametrize("form", ["file", "loaded"])
def test_the_file_and_what_is_loaded_from_it_have_the_same_pairs(
    name: str, form: str, tmp_path: Path
) -> None:
    def saved(factory: Factory, shape: Sequence[int]) -> Graph:
        network = _built(factory, shape)
        feeds, fetches = (
            [network.value(name) for name in names] for names in (network.feeds, network.fetches)
        )
        path = str(tmp_path / "model")
        paddle.enable_static()
        executor: Any = paddle.static.Executor(paddle.CPUPlace())
        executor.run(network.startup)
        paddle.static.save_inference_model(path, feeds, fetches, executor, program=network.program)
        program: Any = paddle.static.load_inference_model(path, executor)
        paddle.disable_static()
        return read(program[0]) if form == "loaded" else read(f"{path}.json")

    _check(name, saved)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["residual", "dense", "pyramid", "encoder"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_loss_gradients_and_optimizer_change_no_pair(name: str, scale: float) -> None:
    def in_training(factory: Factory, shape: Sequence[int]) -> Graph:
        network = _built(factory, shape)
        paddle.enable_static()
        with paddle.static.program_guard(network.program, network.startup):
            means = [paddle.mean(network.value(name)) for name in network.fetches]
            loss = sum(means[1:], means[0])
            paddle.optimizer.Momentum(0.1).minimize(loss if scale == 1 else scale * loss)
        paddle.disable_static()
        return read(network.program)

    _check(name, in_training)


def test_files_of_all_releases_and_forms_have_the_same_pairs() -> None:
    files = ("3.0.0/cnn.json", "3.3.1/cnn.json", "2.6.2/cnn.pdmodel", "3.3.1-legacy/cnn.pdmodel")
    first, *others = (read(_FIXTURES / file) for file in files)
    wanted = _numbered(first, first)

    assert len(wanted) >= 3
    assert all(teacher == student for _, teacher, student in wanted)
    for other in others:
        assert _numbered(first, other) == wanted
        assert _numbered(other, first) == wanted
