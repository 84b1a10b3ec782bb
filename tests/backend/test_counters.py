"""A layer that is added to a network gets names that the network does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import paddle
import pytest
from paddle import nn

from graphtool.merging.folder import load_merged, save_merged
from graphtool.sources.layers import from_layer
from graphtool.training import for_training
from tests.merging import networks
from tests.merging.networks import merge_built, small


def _added(program: Any) -> tuple[list[str], list[str]]:
    """Add a layer; return the parameters' names before and those of the layer."""
    before = [value.name for value in program.global_block().all_parameters()]
    with paddle.static.program_guard(program, paddle.static.Program()):
        layer = nn.Linear(8, 8)
        layer(paddle.static.data("more", [-1, 8]))
    return before, [layer.weight.name, layer.bias.name]


@pytest.fixture(autouse=True)
def fresh_counters() -> Any:
    """Count names from 0, whatever ran before."""
    paddle.enable_static()
    with paddle.utils.unique_name.guard():
        yield


@pytest.mark.pir
def test_after_a_merge() -> None:
    teacher, student = small(networks.plain, "image"), small(networks.plain)
    merge_built(teacher, student)
    before, new = _added(student.program)
    assert "linear_1.w_0" in before
    assert new == ["linear_2.w_0", "linear_2.b_0"]


@pytest.mark.pir
def test_after_a_merge_of_legacy_programs() -> None:
    teacher, student = (
        small(lambda x: nn.Linear(8, 5)(x), name, kind="legacy") for name in ("image", "data")
    )
    merge_built(teacher, student)
    with student.mode():
        before, new = _added(student.program)
    assert "linear_0.w_0" in before
    assert new[0].startswith("linear_1.w_")


def test_after_loading_a_merged_program(tmp_path: Path) -> None:
    teacher, student = small(networks.plain, "image"), small(networks.plain)
    merged = merge_built(teacher, student)
    save_merged(merged, tmp_path / "out")
    with paddle.utils.unique_name.guard():
        loaded = load_merged(tmp_path / "out", scope=paddle.static.Scope())
        before, new = _added(loaded.program)
    assert not {*before} & {*new}


@pytest.mark.pir
def test_of_a_network_from_a_layer_and_of_one_made_trainable_again() -> None:
    paddle.disable_static()
    network = from_layer(lambda: nn.Linear(8, 8), [(8,)])
    paddle.enable_static()
    assert _added(network.program) == (
        ["linear_0.b_0", "linear_0.w_0"],
        ["linear_1.w_0", "linear_1.b_0"],
    )
    built = small(networks.plain)
    with paddle.utils.unique_name.guard():
        before, new = _added(for_training(built.program).program)
    assert not {*before} & {*new}


def test_under_a_prefix_of_its_own_a_guard_counts_for_itself() -> None:
    student, teacher = small(networks.plain), small(networks.plain, "image")
    with paddle.utils.unique_name.guard("more_"):
        merge_built(teacher, student)
        before, new = _added(student.program)
    assert not {*before} & {*new}
