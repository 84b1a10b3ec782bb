"""One network as other Programs: batch, size, saved and loaded, legacy, in training."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
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


def _known_batch(factory: Factory, shape: Sequence[int]) -> Graph:
    return _built(factory, shape, batch=4).graph


def _twice_as_large(factory: Factory, shape: Sequence[int]) -> Graph:
    depth, height, width = shape
    return _built(factory, (depth, 2 * height, 2 * width)).graph


def _legacy(factory: Factory, shape: Sequence[int]) -> Graph:
    with paddle.pir_utils.OldIrGuard():
        graph = _built(factory, shape).graph
    assert graph.kind is ProgramKind.LEGACY
    return graph


def _saved(factory: Factory, shape: Sequence[int], *, loaded: bool = False) -> Graph:
    network = _built(factory, shape)
    ends = [[network.value(x) for x in names] for names in (network.feeds, network.fetches)]
    paddle.enable_static()
    executor: Any = paddle.static.Executor(paddle.CPUPlace())
    executor.run(network.startup)
    with TemporaryDirectory() as folder:
        path = f"{folder}/model"
        paddle.static.save_inference_model(path, *ends, executor, program=network.program)
        program: Any = paddle.static.load_inference_model(path, executor)
        return read(program[0]) if loaded else read(f"{path}.json")


def _trained(factory: Factory, shape: Sequence[int], *, scale: float | None = None) -> Graph:
    network = _built(factory, shape)
    paddle.enable_static()
    with paddle.static.program_guard(network.program, network.startup):
        means = [paddle.mean(network.value(name)) for name in network.fetches]
        loss = sum(means[1:], means[0])
        paddle.optimizer.Momentum(0.1).minimize(loss if scale is None else scale * loss)
    return read(network.program)


# How networks are made otherwise, and which.
_OTHERWISE: Mapping[str, tuple[Callable[[Factory, Sequence[int]], Graph], Sequence[str]]] = {
    "a known batch": (_known_batch, ("residual", "encoder")),
    "images of twice the size": (_twice_as_large, ("residual", "pyramid")),
    # Paddle 3.3.1 builds no attention and no GELU in legacy Programs.
    "legacy": (_legacy, ("residual", "dense", "segmenter")),
    "a file": (_saved, ("encoder", "residual")),
    "loaded from a file": (functools.partial(_saved, loaded=True), ("encoder", "residual")),
    "loss, gradients, optimizer": (_trained, ("residual", "dense", "pyramid", "encoder")),
    "half of a loss": (
        functools.partial(_trained, scale=0.5),
        ("residual", "dense", "pyramid", "encoder"),
    ),
}


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("otherwise", "name"),
    [(otherwise, name) for otherwise, (_, names) in _OTHERWISE.items() for name in names],
)
def test_networks_made_otherwise_have_the_same_pairs(otherwise: str, name: str) -> None:
    *factories, shape = _NETWORKS[name]
    teacher, student = (_OTHERWISE[otherwise][0](factory, shape) for factory in factories)
    paddle.disable_static()

    assert _numbered(teacher, student) == _wanted(name)


def test_files_of_all_releases_and_forms_have_the_same_pairs() -> None:
    files = ("3.0.0/cnn.json", "3.3.1/cnn.json", "2.6.2/cnn.pdmodel", "3.3.1-legacy/cnn.pdmodel")
    first, *others = (read(_FIXTURES / file) for file in files)
    wanted = _numbered(first, first)

    assert len(wanted) >= 3
    assert all(teacher == student for _, teacher, student in wanted)
    for other in others:
        assert _numbered(first, other) == wanted
        assert _numbered(other, first) == wanted
