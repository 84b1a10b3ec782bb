"""One network as other Programs: batch, size, saved and loaded, legacy, in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import paddle
import pytest

from graphtool.graph import Graph, ProgramKind
from graphtool.matching import Kind, suggest_pairs
from graphtool.sources import read
from graphtool.sources.layers import Network, from_layer
from tests.matching.families import CASES, graph_of
from tests.matching.families.cases import Net
from tests.matching.rewrites import kind_names

Make: TypeAlias = "Callable[[Net], Graph]"
Numbered: TypeAlias = "tuple[Kind, tuple[str, int] | str, tuple[str, int] | str]"

_FIXTURES = Path(__file__).parents[1] / "fixtures"
_BY_NAME = {case.name: case for case in CASES}
_RESIDUAL = "a deep residual network teaches a shallow one"
_MOBILE = "grouped residual teaches depthwise-separable"
_DENSE = "dense teaches squeeze"
_BERT = "BERT teaches one of half its depth that trains"
_FPN = "an anchor-free detector teaches one with a lighter backbone and head"
_UNET = "a wide U-Net teaches a narrow one"
_YOLO = "a YOLO teaches a narrow one"
_DEEPLAB = "DeepLab teaches one on a mobile backbone, both with an auxiliary head"
_CRNN = "a CRNN teaches a narrow one, at any width"


def _id(name: str) -> str:
    return name.replace(" ", "_")


def _numbered(teacher: Graph, student: Graph) -> list[Numbered]:
    """Return the suggested pairs by what made their Values, and the how many-th that is."""
    ours, theirs = (
        {name: number for number, name in kind_names(graph).items()} for graph in (teacher, student)
    )
    return [
        (
            pair.kind,
            ours.get(pair.teacher.name, pair.teacher.name),
            theirs.get(pair.student.name, pair.student.name),
        )
        for pair in suggest_pairs(teacher, student)
    ]


def _check(name: str, make: Make) -> None:
    """Compare the pairs of two networks that were made otherwise with those they have."""
    case = _BY_NAME[name]
    wanted = _numbered(graph_of(case.teacher), graph_of(case.student))

    assert len(wanted) >= 5
    assert _numbered(make(case.teacher), make(case.student)) == wanted


def _built(net: Net, inputs: Sequence[Any] | None = None) -> Network:
    return from_layer(net.make, net.inputs if inputs is None else inputs, train=net.mode == "train")


def _in_batches_of_four(net: Net) -> Graph:
    return _built(net, [_with_batch(feed) for feed in net.inputs]).graph


def _with_batch(feed: Any) -> Any:
    name, shape, dtype = feed if isinstance(feed[0], str) else ("image", feed, "float32")
    return paddle.static.InputSpec((4, *shape), dtype, name)


@pytest.mark.nightly
@pytest.mark.parametrize("name", [_RESIDUAL, _BERT], ids=_id)
def test_a_known_batch_changes_no_pair(name: str) -> None:
    _check(name, _in_batches_of_four)


def _larger(net: Net) -> Graph:
    inputs: Sequence[Any] = net.inputs
    return _built(net, [(depth, 2 * height, 2 * width) for depth, height, width in inputs]).graph


@pytest.mark.nightly
@pytest.mark.parametrize("name", [_MOBILE, _FPN], ids=_id)
def test_images_of_twice_the_size_change_no_pair(name: str) -> None:
    _check(name, _larger)


def _legacy(net: Net) -> Graph:
    with paddle.pir_utils.OldIrGuard():
        graph = _built(net).graph
    assert graph.kind is ProgramKind.LEGACY
    return graph


# Paddle 3.3.1 builds no attention and no GELU in legacy Programs.
@pytest.mark.nightly
@pytest.mark.parametrize("name", [_RESIDUAL, _DENSE, _UNET], ids=_id)
def test_the_legacy_form_has_the_same_pairs(name: str) -> None:
    _check(name, _legacy)


def _loaded(net: Net, folder: Path) -> tuple[Graph, Graph]:
    """Save a network for inference; return the file, and the Program that Paddle makes of it."""
    network = _built(net)
    feeds, fetches = (
        [network.value(name) for name in names] for names in (network.feeds, network.fetches)
    )
    path = str(folder / "model")
    paddle.enable_static()
    executor: Any = paddle.static.Executor(paddle.CPUPlace())
    executor.run(network.startup)
    paddle.static.save_inference_model(path, feeds, fetches, executor, program=network.program)
    program: Any = paddle.static.load_inference_model(path, executor)
    paddle.disable_static()
    return read(f"{path}.json"), read(program[0])


@pytest.mark.nightly
@pytest.mark.parametrize("name", [_BERT, _CRNN], ids=_id)
def test_the_file_and_what_is_loaded_from_it_have_the_same_pairs(name: str, tmp_path: Path) -> None:
    case = _BY_NAME[name]
    teacher, student = (_loaded(net, tmp_path) for net in (case.teacher, case.student))
    wanted = _numbered(graph_of(case.teacher), graph_of(case.student))

    assert len(wanted) >= 5
    assert _numbered(teacher[0], student[0]) == wanted
    assert _numbered(teacher[1], student[1]) == wanted


def _loss_of_means(network: Network) -> Any:
    means = [paddle.mean(network.value(name)) for name in network.fetches]
    return sum(means[1:], means[0])


def _half_of_it(network: Network) -> Any:
    return 0.5 * _loss_of_means(network)


_LOSSES: Mapping[str, Callable[[Network], Any]] = {"mean": _loss_of_means, "half": _half_of_it}


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "loss"),
    [(_RESIDUAL, "half"), (_DENSE, "mean"), (_DEEPLAB, "mean"), (_YOLO, "mean")],
    ids=_id,
)
def test_loss_gradients_and_optimizer_change_no_pair(name: str, loss: str) -> None:
    def in_training(net: Net) -> Graph:
        network = _built(net)
        paddle.enable_static()
        with paddle.static.program_guard(network.program, network.startup):
            paddle.optimizer.Momentum(0.1).minimize(_LOSSES[loss](network))
        paddle.disable_static()
        return read(network.program)

    _check(name, in_training)


def test_files_of_all_releases_and_forms_have_the_same_pairs() -> None:
    files = ("3.0.0/cnn.json", "3.3.1/cnn.json", "2.6.2/cnn.pdmodel", "3.3.1-legacy/cnn.pdmodel")
    first, *others = (read(_FIXTURES / file) for file in files)
    wanted = _numbered(first, first)

    assert len(wanted) >= 3
    assert all(ours == theirs for _, ours, theirs in wanted)
    for other in others:
        assert _numbered(first, other) == wanted
        assert _numbered(other, first) == wanted
