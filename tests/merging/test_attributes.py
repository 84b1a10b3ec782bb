"""What `ParamAttr` says of a parameter holds after a folder and a Layer as it did before."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import paddle
import pytest
from paddle import ParamAttr, nn
from paddle.regularizer import L1Decay, L2Decay

from graphtool.diagnostics import Severity
from graphtool.merging import Merged
from graphtool.merging.folder import load_merged, save_merged
from graphtool.sources.layers import from_layer
from tests.merging.networks import array_in, merge_built, run, samples, small

KINDS = ["pir", "legacy"]


class Own(L2Decay):
    """A regularizer of the user's own."""


def student(x: Any) -> Any:
    first = nn.Linear(
        8,
        6,
        weight_attr=ParamAttr("slow", learning_rate=0.1, regularizer=L2Decay(0.5)),
        bias_attr=ParamAttr("frozen", trainable=False),
    )
    second = nn.Linear(
        6,
        5,
        weight_attr=ParamAttr("still", learning_rate=0.0),
        bias_attr=ParamAttr("sparse", need_clip=False, regularizer=L1Decay(0.25)),
    )
    return second(nn.BatchNorm1D(6)(first(x)))


def mode(kind: str) -> Any:
    return paddle.pir_utils.OldIrGuard() if kind == "legacy" else nullcontext()


def merged_with(student: Any) -> tuple[Merged, Any]:
    theirs, ours = small(lambda x: nn.Linear(8, 5)(x), "image"), small(student)
    merged = merge_built(theirs, ours)
    return merged, ours.scope


def said(program: Any) -> dict[str, tuple[Any, ...]]:
    return {
        held.name: (
            held.trainable,
            held.stop_gradient,
            (held.optimize_attr or {}).get("learning_rate", 1.0),
            held.need_clip,
            str(held.regularizer),
        )
        for held in program.global_block().all_parameters()
    }


def steps(merged: Merged, scope: Any) -> dict[str, bytes]:
    """Train for two steps, gradients clipped, and return all parameters."""
    startup = paddle.static.Program()
    with paddle.static.program_guard(merged.program, startup):
        loss = (merged.student(_output(merged)) ** 2).mean()
        paddle.optimizer.SGD(0.5).minimize(loss)
    run(startup, scope, {})
    for _ in range(2):
        run(merged.program, scope, {"data": samples()}, loss)
    names = said(merged.program)
    return {name: array_in(scope, name).tobytes() for name in names}


def _output(merged: Merged) -> str:
    graph = merged.before.graph
    return next(name for name in reversed(graph.values) if graph.producer(name))


@pytest.mark.pir
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_a_folder_keeps_it_and_what_is_loaded_trains_alike(kind: str, tmp_path: Path) -> None:
    with mode(kind):
        merged, scope = merged_with(student)
        save_merged(merged, tmp_path / "out")
        other = paddle.static.Scope()
        loaded = load_merged(tmp_path / "out", scope=other)

        assert said(loaded.program) == said(merged.program)
        assert said(loaded.program)["slow"] == (True, False, 0.1, True, "L2Decay, coeff=0.500000")
        assert said(loaded.program)["sparse"][3:] == (False, "L1Decay, coeff=0.250000")
        assert said(loaded.program)["batch_norm1d_0.w_1"][:2] == (False, True)
        before = array_in(other, "still").tobytes()
        found = steps(loaded, other)
        assert found == steps(merged, scope)
        assert found["still"] == before


@pytest.mark.pir
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_folder_cannot_keep_is_said(kind: str, tmp_path: Path) -> None:
    with mode(kind):
        merged, _ = merged_with(
            lambda x: nn.Linear(8, 5, weight_attr=ParamAttr("mine", regularizer=Own(0.1)))(x)
        )
        save_merged(merged, tmp_path / "out")
        (found,) = load_merged(tmp_path / "out", scope=paddle.static.Scope()).report

    assert (found.code, found.severity) == ("GT617", Severity.WARNING)
    assert found.message == "the folder could not keep the regularizer `Own` of `mine`"


def test_a_layer_of_dynamic_mode_keeps_it() -> None:
    attribute = ParamAttr(learning_rate=0.1, need_clip=False, regularizer=Own(0.5))
    layer = nn.Linear(8, 5, weight_attr=attribute)
    net = from_layer(layer, [(8,)])

    held = {value.name: value for value in net.program.global_block().all_parameters()}
    weight = held[net.parameters["weight"]]

    assert weight.optimize_attr == {"learning_rate": 0.1}
    assert weight.need_clip is False
    assert weight.regularizer is layer.weight.regularizer
    assert held[net.parameters["bias"]].optimize_attr == {"learning_rate": 1.0}
